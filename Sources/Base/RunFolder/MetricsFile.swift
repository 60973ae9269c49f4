// `metrics.jsonl` in a run's folder: one JSON object per line, for every step and evaluation. It holds one curve:
// when a run resumes, lines of steps that will be computed again are removed first. `router.jsonl` holds the
// router's statistics in the same way.
//
// The coordinator's store has the same records. Lines that could not be written (a full disk, no file descriptors,
// an unavailable file system) are written later from there (`complete`).

import Configuration
import Foundation

#if canImport(Glibc)
  import Glibc
#endif

package struct MetricsFile {
  package let path: String

  package init(folder: String) { path = folder + "/metrics.jsonl" }
  package init(routerIn folder: String) { path = folder + "/router.jsonl" }

  /// Appends a line and passes it to the kernel. A line that cannot be written completely is removed, so that the
  /// file holds whole lines.
  package func append(_ line: String) throws(FolderError) {
    // A symbolic link or named pipe of that name is an error.
    let descriptor = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0o644)
    guard descriptor >= 0 else { throw Durable.fail("append to", path) }
    defer { close(descriptor) }
    let before = lseek(descriptor, 0, SEEK_END)
    do throws(FolderError) { try Durable.write(Array((line + "\n").utf8), into: descriptor, path) } catch {
      if before >= 0 { _ = ftruncate(descriptor, before) }
      throw error
    }
  }

  /// Makes the file end with `lines`, which are all lines that the store has, after the lines of earlier steps in
  /// the file.
  ///
  /// Where the file's last line is neither one of `lines` nor of an earlier step, the file belongs to another curve
  /// and is kept; only an incomplete last line is removed. Returns whether anything was missing.
  @discardableResult
  package func complete(_ lines: [String]) throws(FolderError) -> Bool {
    let data = try Durable.read(path, followsLinks: false, orWhereMissing: [])
    let end = data.lastIndex(of: UInt8(ascii: "\n")).map { $0 + 1 } ?? 0
    let there = data[..<end].split(separator: UInt8(ascii: "\n")).map { String(decoding: $0, as: UTF8.self) }
    let known = Set(lines)
    let firstStep = lines.first.map(MetricsFile.step) ?? .max
    let earlier = there.prefix { MetricsFile.step($0) < firstStep && !known.contains($0) }
    let isOurs = earlier.count == there.count || known.contains(there.last!)
    let wanted = isOurs ? earlier + lines : there[...]
    guard Array(wanted) != there || end < data.count else { return false }
    try Durable.write(wanted.flatMap { Array(($0 + "\n").utf8) }, to: path)
    return true
  }

  /// The step of a line; every line begins with it.
  private static func step(_ line: String) -> Int {
    let prefix = "{\"step\":"
    guard line.hasPrefix(prefix) else { return .max }
    return Int(line.dropFirst(prefix.count).prefix { $0.isNumber }) ?? .max
  }

  /// Keeps the lines of steps up to `step` and removes all others, including an incomplete last line.
  package func cut(after step: Int) throws(FolderError) {
    let data = try Durable.read(path, followsLinks: false, orWhereMissing: [])
    struct Line: Decodable { var step: Int }
    var kept: [UInt8] = []
    for line in data.split(separator: UInt8(ascii: "\n")) {
      guard let record = try? JSON.decode(Line.self, from: line), record.step <= step else { continue }
      kept += line
      kept.append(UInt8(ascii: "\n"))
    }
    guard kept.count != data.count else { return }
    try Durable.write(kept, to: path)
  }
}
