// The list of source files that a user's arguments mean: files, pipes, and folders, whose files are taken in the
// order of their names. Symbolic links are followed. Everything in a folder that is left out is reported.

import Foundation

#if canImport(Glibc)
  import Glibc
#endif

package struct SourceFile: Equatable, Sendable {
  package var path: String
  /// Size on disk, compressed or not; 0 for a pipe.
  package var size: Int
  /// Nanoseconds since 1970.
  var modified = 0
  /// Whether it is a pipe or terminal, which can be read once only.
  var isStream = false
  /// Nil where it is known only when the file is read.
  package var contents: SourceContents?

  init(stream path: String) { (self.path, size, isStream) = (path, 0, true) }

  init(path: String, _ info: stat) {
    self.path = path
    size = Int(info.st_size)
    modified = Int(info.st_mtim.tv_sec) * 1_000_000_000 + Int(info.st_mtim.tv_nsec)
  }

  /// - Throws: where the file has changed since it was found, because the text read may then be a mixture of old
  ///   and new.
  func checkUnchanged() throws(DataError) {
    var info = stat()
    guard !isStream, stat(path, &info) == 0 else { return }
    let now = SourceFile(path: path, info)
    guard now.size == size, now.modified == modified else {
      throw .file(action: "read", path: path, reason: "it changed while it was read; prepare again when it is whole")
    }
  }
}

/// Identifies a file or folder, independently of the path that leads to it.
struct FileIdentity: Hashable {
  let device: UInt64
  let number: UInt64

  init(_ info: stat) { (device, number) = (UInt64(info.st_dev), UInt64(info.st_ino)) }

  /// Nil where nothing exists at the path.
  init?(_ path: String) {
    var info = stat()
    guard stat(path, &info) == 0 else { return nil }
    self.init(info)
  }
}

package struct SourceList {
  package private(set) var files: [SourceFile] = []
  /// Sentences about what was left out.
  package private(set) var notes: [String] = []
  private let excluded: [FileIdentity: String]

  /// - Parameters:
  ///   - sources: as users write them; `-` is standard input.
  ///   - exclusions: paths to leave out, and a description of each; with an empty description it is not reported.
  ///     Paths that do not exist are ignored.
  /// - Throws: where a source does not exist or cannot be used, or where no file is left.
  package init(_ sources: [String], leavingOut exclusions: [(path: String, what: String)] = []) throws(DataError) {
    var excluded: [FileIdentity: String] = [:]
    for (path, what) in exclusions { if let identity = FileIdentity(path) { excluded[identity] = what } }
    self.excluded = excluded
    for source in sources { try add(source) }
    guard !files.isEmpty else {
      throw .noText(sources: sources + notes.filter { $0.contains("left out") }.map { "(\($0))" })
    }
  }

  /// Determines the contents of each file; throws where one is neither text nor rows.
  package mutating func look(_ options: SourceOptions) throws(DataError) {
    for place in files.indices where !files[place].isStream {
      var file = try PackedFile(files[place].path, memory: options.memory)
      files[place].contents = try SourceContents.look(&file, files[place].path, options.format)
    }
  }

  /// - Throws: where the option `--field` has no effect.
  func checkField(_ options: SourceOptions, _ task: TaskKind) throws(DataError) {
    guard let field = options.field else { return }
    guard task == .lm || task == .classify else {
      throw .unreadable("--field \(field): rows of task \(task.rawValue) have fields of fixed names (docs/tasks.md)")
    }
    if files.allSatisfy({ $0.contents == .text }) { throw SourceList.noRows(field) }
  }

  static func noRows(_ field: String) -> DataError {
    .unreadable(
      "--field \(field) names a field of rows, and all that was read is plain text; --format rows reads it as rows")
  }

  private mutating func add(_ source: String) throws(DataError) {
    if PackedFile.isStandardInput(source) { return files.append(SourceFile(stream: source)) }
    var info = stat()
    guard stat(source, &info) == 0 else {
      let isLink = (try? FileManager.default.destinationOfSymbolicLink(atPath: source)) != nil
      throw .file(
        action: "read", path: source,
        reason: errno == ENOENT
          ? isLink ? "it is a link to a path that does not exist" : "no such file or folder"
          : String(cString: strerror(errno)))
    }
    guard info.st_mode & S_IFMT == S_IFDIR else {
      if let what = excluded[FileIdentity(info)] { return notes.append("\(source) is left out: it is \(what)") }
      switch info.st_mode & S_IFMT {
      case S_IFREG:
        if info.st_size == 0 { return notes.append("\(source) is empty") }
        files.append(SourceFile(path: source, info))
      case S_IFIFO, S_IFCHR: files.append(SourceFile(stream: source))
      default: throw .file(action: "read", path: source, reason: "it is neither a file nor a folder nor a pipe")
      }
      return
    }
    var found = Folder(root: source, excluded: excluded)
    try found.walk("", [FileIdentity(info)])
    files += found.files.sorted { $0.key < $1.key }.map { SourceFile(path: source + "/" + $0.key, $0.value) }
    notes += found.summary()
  }
}

/// The files in a folder and its subfolders.
private struct Folder {
  let root: String
  let excluded: [FileIdentity: String]
  /// By their paths relative to the root.
  private(set) var files: [String: stat] = [:]
  private var notes: [String] = []
  private var hidden: [String] = []
  private var empty: [String] = []

  init(root: String, excluded: [FileIdentity: String]) { (self.root, self.excluded) = (root, excluded) }

  /// Most entries that are reported by name; of more, only the number is reported.
  private static let mostNamed = 20

  func summary() -> [String] {
    func several(_ names: [String], _ one: String, _ many: String) -> [String] {
      guard let first = names.min() else { return [] }
      let more = names.count == 1 ? "" : ", …"
      return ["\(root): \(names.count) \(names.count == 1 ? one : many) left out (\(first)\(more))"]
    }
    let more =
      notes.count > Self.mostNamed ? ["\(root): \(notes.count - Self.mostNamed) more are left out likewise"] : []
    return Array(notes.sorted().prefix(Self.mostNamed)) + more
      + several(hidden, "hidden file or folder is", "hidden files and folders are")
      + several(empty, "empty file is", "empty files are")
  }

  /// - Parameters:
  ///   - below: the folder's path relative to the root.
  ///   - above: the folder and those that lead to it, to detect cycles of links.
  mutating func walk(_ below: String, _ above: Set<FileIdentity>) throws(DataError) {
    let folder = below.isEmpty ? root : root + "/" + below
    for name in try names(folder) {
      let inside = below.isEmpty ? name : below + "/" + name, path = root + "/" + inside
      if name.hasPrefix(".") {
        hidden.append(inside)
        continue
      }
      var info = stat()
      guard stat(path, &info) == 0 else {
        guard errno == ENOENT || errno == ELOOP else {
          throw .file(action: "read", path: path, reason: String(cString: strerror(errno)))
        }
        notes.append("\(path) is left out: it is a link to a path that does not exist")
        continue
      }
      let identity = FileIdentity(info)
      if let what = excluded[identity] {
        if !what.isEmpty { notes.append("\(path) is left out: it is \(what)") }
        continue
      }
      switch info.st_mode & S_IFMT {
      case S_IFDIR:
        if above.contains(identity) {
          notes.append("\(path) is left out: it is a link to a folder that it lies in")
        } else {
          try walk(inside, above.union([identity]))
        }
      case S_IFREG: if info.st_size == 0 { empty.append(inside) } else { files[inside] = info }
      default: notes.append("\(path) is left out: it is neither a file nor a folder")
      }
    }
  }

  private mutating func names(_ folder: String) throws(DataError) -> [String] {
    guard let stream = opendir(folder) else {
      throw .file(action: "read", path: folder, reason: String(cString: strerror(errno)))
    }
    defer { closedir(stream) }
    var names: [String] = []
    while let entry = readdir(stream) {
      let bytes = withUnsafeBytes(of: &entry.pointee.d_name) { Array($0.prefix { $0 != 0 }) }
      if bytes == [0x2E] || bytes == [0x2E, 0x2E] { continue }
      if let name = String(validating: bytes, as: UTF8.self) {
        names.append(name)
      } else {
        notes.append("\(folder)/\(String(decoding: bytes, as: UTF8.self)) is left out: its name is not UTF-8")
      }
    }
    return names
  }
}
