// A private folder for the sockets of this process, whose paths have at most 107 bytes: below TMPDIR, unless that path
// is too long (Slurm's often is) or not writable.

import Glibc

struct TemporaryFolder {
  let path: String

  /// The longest name that a socket in it has, `worker-4096.socket`, with room to spare.
  private static let nameBytes = 24
  private static let pathBytes = 107

  init(name: String) throws(ProcessError) {
    var refusals: [String] = []
    for parent in Self.parents {
      var template = Array("\(parent)/\(name)-XXXXXX".utf8CString)
      guard template.count + Self.nameBytes <= Self.pathBytes else {
        refusals.append("the path \(parent) is too long for sockets")
        continue
      }
      if mkdtemp(&template) != nil {
        path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        return
      }
      refusals.append("\(parent): \(String(cString: strerror(errno)))")
    }
    throw ProcessError(
      description:
        "cannot create a folder for sockets (\(refusals.joined(separator: "; "))); set TMPDIR to a folder on a local "
        + "disk that can be written, with a path of at most \(Self.pathBytes - Self.nameBytes - name.utf8.count - 8) bytes"
    )
  }

  /// TMPDIR, or /tmp if it is not set or empty.
  static var standard: String {
    getenv("TMPDIR").map { String(cString: $0) }.flatMap { $0.isEmpty ? nil : $0 } ?? "/tmp"
  }

  /// The possible parents, in order of preference.
  private static var parents: [String] {
    var parents = [standard]
    for other in [getenv("XDG_RUNTIME_DIR").map { String(cString: $0) } ?? "", "/tmp", "/dev/shm"]
    where !other.isEmpty && !parents.contains(other) {
      parents.append(other)
    }
    return parents
  }

  /// Removes the folder and the files in it. It contains no folders.
  func remove() {
    if let stream = opendir(path) {
      while let entry = readdir(stream) {
        let name = withUnsafeBytes(of: entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
        if name != ".", name != ".." { unlink("\(path)/\(name)") }
      }
      closedir(stream)
    }
    rmdir(path)
  }
}
