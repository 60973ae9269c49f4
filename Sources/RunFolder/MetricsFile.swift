// `metrics.jsonl` in a run's folder: one JSON object a line, steps and evaluations as they happened. It holds one curve: what
// a resume computes again is cut off first. `router.jsonl` beside it holds what the router clinic saw, in the same way.

import Foundation

#if canImport(Glibc)
  import Glibc
#endif

package struct MetricsFile {
  package let path: String

  package init(folder: String) { path = folder + "/metrics.jsonl" }
  package init(routerIn folder: String) { path = folder + "/router.jsonl" }

  /// Adds a line, and gives it to the kernel before returning.
  package func append(_ line: String) throws(FolderError) {
    // A symbolic link or a named pipe in its place is an error, and not written to.
    let descriptor = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0o644)
    guard descriptor >= 0 else {
      throw .system(action: "append to", path: path, reason: String(cString: strerror(errno)))
    }
    defer { close(descriptor) }
    let bytes = Array((line + "\n").utf8)
    guard write(descriptor, bytes, bytes.count) == bytes.count else {
      throw .system(action: "append to", path: path, reason: String(cString: strerror(errno)))
    }
  }

  /// Appends those of `lines` that follow the file's last whole line: a process that dies loses a tail, never a middle. Where the
  /// file's last line is none of them, its curve is another one and stays as it is.
  package func complete(_ lines: [String]) throws(FolderError) {
    let data = FileManager.default.contents(atPath: path) ?? Data()
    let end = data.lastIndex(of: UInt8(ascii: "\n")).map { $0 + 1 } ?? 0
    let whole = data.prefix(end)
    let last = whole.split(separator: UInt8(ascii: "\n")).last.map { String(decoding: $0, as: UTF8.self) }
    let known = last.map { last in lines.lastIndex(of: last) } ?? -1
    guard let known else { return }
    let missing = lines[(known + 1)...]
    guard !missing.isEmpty || end < data.count else { return }
    try Durable.write(Array(whole) + missing.flatMap { Array(($0 + "\n").utf8) }, to: path)
  }

  /// Keeps the lines of steps up to `step`, drops the rest and any half-written last line.
  package func cut(after step: Int) throws(FolderError) {
    guard let data = FileManager.default.contents(atPath: path) else { return }
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
