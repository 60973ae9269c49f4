// The folders that runs may use (`ress coordinator --root`), checked when a file is used.
//
// Checking a path before using it is not enough: a moment later a folder of the path may be replaced by a symbolic
// link that leads elsewhere. Therefore a file is opened first, and then the kernel is asked where the open file is
// (/proc/self/fd). A folder that is written to is opened once and afterwards reached through its descriptor
// (`PinnedFolder`).

import Foundation

#if canImport(Glibc)
  import Glibc
#endif

package struct Boundary: Equatable, Sendable {
  /// Folders as the operator wrote them; an empty list permits every place.
  package let roots: [String]

  package init(_ roots: [String]) { self.roots = roots }

  /// Permits every place.
  package static let none = Boundary([])

  /// Whether a path without symbolic links lies in one of the folders.
  package func contains(_ real: String) -> Bool {
    roots.isEmpty
      || roots.contains { root in
        guard let root = Boundary.resolved(root) else { return false }
        return root == "/" || real == root || real.hasPrefix(root + "/")
      }
  }

  /// The same as a function, for readers that take one; nil where every place is permitted.
  package var question: ((String) -> Bool)? { roots.isEmpty ? nil : { contains($0) } }

  private static func resolved(_ path: String) -> String? {
    guard let real = realpath(path, nil) else { return nil }
    defer { free(real) }
    return String(cString: real)
  }

  /// The path of an open file or folder, without symbolic links.
  fileprivate static func place(of descriptor: Int32) -> String? {
    var bytes = [CChar](repeating: 0, count: Int(PATH_MAX))
    let count = readlink("/proc/self/fd/\(descriptor)", &bytes, bytes.count)
    return count > 0 ? String(decoding: bytes.prefix(count).map { UInt8(bitPattern: $0) }, as: UTF8.self) : nil
  }

  /// Throws where an open file or folder is outside of the boundary.
  fileprivate func check(_ descriptor: Int32, _ path: String) throws(FolderError) {
    guard !roots.isEmpty else { return }
    guard let place = Boundary.place(of: descriptor), contains(place) else {
      throw .outside(path: path, roots: roots)
    }
  }

  /// Opens a regular file for reading; the caller closes the descriptor. Nil where no file has that name.
  package func openFile(_ path: String) throws(FolderError) -> Int32? {
    // Without O_NONBLOCK, opening a named pipe would block until a process writes to it.
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

  /// The contents of a file; nil where no file has that name.
  package func contents(of path: String) throws(FolderError) -> Data? {
    guard let descriptor = try openFile(path) else { return nil }
    defer { close(descriptor) }
    return Data(try Durable.read(from: descriptor, path))
  }

  /// Calls `body` with a path of the folder that cannot be redirected meanwhile. Errors name the folder as the
  /// caller did.
  /// - Parameter makes: whether to create the folder and those above it where they are missing.
  package func within<Result>(
    _ folder: String, makes: Bool = false, _ body: (PinnedFolder) throws(FolderError) -> Result
  ) throws(FolderError) -> Result {
    let pinned = try PinnedFolder(folder, self, makes: makes)
    do throws(FolderError) { return try body(pinned) } catch { throw pinned.spoken(error) }
  }
}

/// A folder that is opened once and reached by its descriptor while this object lives. Without a boundary it is
/// only a name.
package final class PinnedFolder: Sendable {
  /// The folder's name as the caller gave it, for messages.
  package let name: String
  /// The folder's path for system calls.
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
        // A symbolic link that was put there in between is not followed.
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

  /// A message with the descriptor's path replaced by the name that the caller used.
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
