// The folders that runs may use (`ress coordinator --root`), asked at the moment of use. A name that was looked at before can lead elsewhere
// a moment later: a folder of the path is replaced by a symbolic link. So a file is opened first, and then the kernel is asked where the
// open file lies; and a folder that is written to is opened once and reached by its descriptor from then on.

import Foundation

#if canImport(Glibc)
  import Glibc
#endif

package struct Boundary: Equatable, Sendable {
  /// Folders as the operator wrote them; none: every place is allowed.
  package let roots: [String]

  package init(_ roots: [String]) { self.roots = roots }

  /// Every place is allowed.
  package static let none = Boundary([])

  /// Whether a place, links followed, lies in one of the folders.
  package func contains(_ real: String) -> Bool {
    roots.isEmpty
      || roots.contains { root in
        guard let root = Boundary.resolved(root) else { return false }
        return root == "/" || real == root || real.hasPrefix(root + "/")
      }
  }

  /// For readers of files that ask where one lies; nil where every place is allowed.
  package var question: ((String) -> Bool)? { roots.isEmpty ? nil : { contains($0) } }

  private static func resolved(_ path: String) -> String? {
    guard let real = realpath(path, nil) else { return nil }
    defer { free(real) }
    return String(cString: real)
  }

  /// Where an open file or folder lies.
  fileprivate static func place(of descriptor: Int32) -> String? {
    var bytes = [CChar](repeating: 0, count: Int(PATH_MAX))
    let count = readlink("/proc/self/fd/\(descriptor)", &bytes, bytes.count)
    return count > 0 ? String(decoding: bytes.prefix(count).map { UInt8(bitPattern: $0) }, as: UTF8.self) : nil
  }

  /// Throws where what is open lies outside.
  fileprivate func check(_ descriptor: Int32, _ path: String) throws(FolderError) {
    guard !roots.isEmpty else { return }
    guard let place = Boundary.place(of: descriptor), contains(place) else {
      throw .outside(path: path, roots: roots)
    }
  }

  /// Opens a regular file to read; the caller closes the descriptor. Nil where there is no file of that name.
  package func openFile(_ path: String) throws(FolderError) -> Int32? {
    // Without O_NONBLOCK a named pipe would keep the caller waiting for a writer.
    let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    if descriptor < 0 && errno == ENOENT { return nil }
    guard descriptor >= 0 else { throw Durable.fail("read", path) }
    do throws(FolderError) {
      try check(descriptor, path)
      var about = stat()
      guard fstat(descriptor, &about) == 0, about.st_mode & S_IFMT == S_IFREG else {
        throw .system(action: "read", path: path, reason: "it is not a regular file")
      }
    } catch {
      close(descriptor)
      throw error
    }
    return descriptor
  }

  /// A file's bytes; nil where there is none of that name.
  package func contents(of path: String) throws(FolderError) -> Data? {
    guard let descriptor = try openFile(path) else { return nil }
    defer { close(descriptor) }
    return Data(try Durable.read(from: descriptor, path))
  }

  /// Does `body` with a name of the folder that nobody can point elsewhere meanwhile. Errors name the folder as the caller did.
  /// - Parameter makes: whether the folder, and those above it, are made where they are missing.
  package func within<Result>(
    _ folder: String, makes: Bool = false, _ body: (PinnedFolder) throws(FolderError) -> Result
  ) throws(FolderError) -> Result {
    let pinned = try PinnedFolder(folder, self, makes: makes)
    do throws(FolderError) { return try body(pinned) } catch { throw pinned.spoken(error) }
  }
}

/// A folder that was opened, and is reached by its descriptor as long as this lives. Where every place is allowed it is its name alone.
package final class PinnedFolder: Sendable {
  /// As the caller named it, for messages.
  package let name: String
  /// As files in it are named to the system.
  package let path: String
  private let descriptor: Int32

  package init(_ name: String, _ boundary: Boundary, makes: Bool = false) throws(FolderError) {
    self.name = name
    guard !boundary.roots.isEmpty else {
      if makes { try Durable.makeFolder(name) }
      (path, descriptor) = (name, -1)
      return
    }
    let descriptor = try PinnedFolder.open(name, boundary, makes: makes)
    (path, self.descriptor) = ("/proc/self/fd/\(descriptor)", descriptor)
  }

  deinit { if descriptor >= 0 { close(descriptor) } }

  private static func open(_ name: String, _ boundary: Boundary, makes: Bool) throws(FolderError) -> Int32 {
    let flags = O_DIRECTORY | O_CLOEXEC | O_RDONLY
    var missing: [String] = []
    var above = name
    var descriptor = Glibc.open(above, flags)
    while descriptor < 0, errno == ENOENT, makes, above != "/", !above.isEmpty {
      missing.insert((above as NSString).lastPathComponent, at: 0)
      above = (above as NSString).deletingLastPathComponent
      descriptor = Glibc.open(above.isEmpty ? "." : above, flags)
    }
    guard descriptor >= 0 else {
      if errno == ENOENT { throw .missing(path: name, hint: "") }
      throw Durable.fail("open the folder", name)
    }
    do throws(FolderError) {
      try boundary.check(descriptor, name)
      for part in missing {
        guard mkdirat(descriptor, part, 0o755) == 0 || errno == EEXIST else {
          throw Durable.fail("create the folder", name)
        }
        // A link that somebody put there in between is not followed.
        let next = openat(descriptor, part, flags | O_NOFOLLOW)
        guard next >= 0 else { throw Durable.fail("open the folder", name) }
        close(descriptor)
        descriptor = next
      }
      return descriptor
    } catch {
      close(descriptor)
      throw error
    }
  }

  /// A text about files in the folder, as the caller knows them.
  package func spoken(_ text: String) -> String {
    descriptor < 0 ? text : text.replacing(path + "/", with: name + "/").replacing(path, with: name)
  }

  package func spoken(_ error: FolderError) -> FolderError {
    switch error {
    case .system(let action, let path, let reason, let code):
      .system(action: spoken(action), path: spoken(path), reason: spoken(reason), code: code)
    case .damaged(let path, let problem): .damaged(path: spoken(path), problem: spoken(problem))
    case .missing(let path, let hint): .missing(path: spoken(path), hint: spoken(hint))
    case .inUse(let path, let holder): .inUse(path: spoken(path), holder: holder)
    case .outside(let path, let roots): .outside(path: spoken(path), roots: roots)
    }
  }
}
