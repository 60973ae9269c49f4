// `metrics.jsonl` in a run's folder: one JSON object a line, steps and evaluations as they happened. It holds one curve: what
// a resume computes again is cut off first. `router.jsonl` beside it holds what the router clinic saw, in the same way.
//
// The coordinator's store has every line too. What could not be written (a full disk, no descriptors, a folder that was gone) is
// written again from there.

import Foundation

#if canImport(Glibc)
  import Glibc
#endif

package struct MetricsFile {
  package let path: String

  package init(folder: String) { path = folder + "/metrics.jsonl" }
  package init(routerIn folder: String) { path = folder + "/router.jsonl" }

  /// Adds a line, and gives it to the kernel before returning. A line that does not fit is taken back: the file holds whole lines.
  package func append(_ line: String) throws(FolderError) {
    // A symbolic link or a named pipe in its place is an error, and not written to.
    let descriptor = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0o644)
    guard descriptor >= 0 else { throw Durable.fail("append to", path) }
    defer { close(descriptor) }
    let before = lseek(descriptor, 0, SEEK_END)
    do throws(FolderError) { try Durable.write(Array((line + "\n").utf8), into: descriptor, path) } catch {
      if before >= 0 { _ = ftruncate(descriptor, before) }
      throw error
    }
  }

  /// Makes the file hold `lines`, all that the store knows, after those of earlier steps that it holds already. Where the file's last
  /// line is none of `lines` and of no earlier step, its curve is another one and stays, but for half a line at its end.
  /// Returns whether anything was missing.
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

  /// The step of a line, with which each begins.
  private static func step(_ line: String) -> Int {
    let prefix = "{\"step\":"
    guard line.hasPrefix(prefix) else { return .max }
    return Int(line.dropFirst(prefix.count).prefix { $0.isNumber }) ?? .max
  }

  /// Keeps the lines of steps up to `step`, drops the rest and any half-written last line.
  package func cut(after step: Int) throws(FolderError) {
    let data = try Durable.read(path, followsLinks: false, orWhereMissing: [])
    struct Line: Decodable { var step: Int }
    let decoder = JSONDecoder()
    var kept: [UInt8] = []
    for line in data.split(separator: UInt8(ascii: "\n")) {
      guard let record = try? decoder.decode(Line.self, from: Data(line)), record.step <= step else { continue }
      kept += line
      kept.append(UInt8(ascii: "\n"))
    }
    guard kept.count != data.count else { return }
    try Durable.write(kept, to: path)
  }
}
