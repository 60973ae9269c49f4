// Lines of JSON, for a file or for standard output.

import Foundation
import RunFolder
import Shell

/// Opens its file at once, so that a path that cannot be written is reported before the work.
final class LineSheet {
  private let path: String?
  private let file: UnsafeMutablePointer<FILE>?

  /// - Parameter path: nil for standard output.
  init(_ path: String?) throws {
    self.path = path
    file = try path.map { path in
      guard let file = fopen(path, "we") else { throw Self.failure(path) }
      return file
    }
  }

  func write(_ line: String) throws {
    guard let file, let path else { return Terminal.print(line) }
    guard fputs(line + "\n", file) >= 0 else { throw Self.failure(path) }
  }

  /// Writes the lines that are still in memory.
  func finish() throws {
    if let file, let path, fflush(file) != 0 { throw Self.failure(path) }
  }

  deinit { if let file { fclose(file) } }

  private static func failure(_ path: String) -> FolderError {
    .system(action: "write", path: path, reason: String(cString: strerror(errno)))
  }
}
