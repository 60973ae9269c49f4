// Files of one JSON object a line, packed by gzip or zstd or not.

import Foundation

enum JSONLines {
  /// A line may be as long as this.
  private static let lineLimit = 1 << 30
  private static let readSize = 1 << 20

  /// `books/a.jsonl`, `a.jsonl.gz`
  static func isNamed(_ path: String) -> Bool {
    var name = path.lowercased()
    for ending in [".gz", ".zst"] where name.hasSuffix(ending) { name.removeLast(ending.count) }
    return name.hasSuffix(".jsonl") || name.hasSuffix(".ndjson")
  }

  /// Hands over each object and its place, `FILE:LINE`. `progress` is told how many bytes of the file were read so far.
  static func read(
    _ path: String, progress: (Int) -> Void = { _ in }, body: ([String: Any], String) throws -> Void
  ) throws {
    var file = try PackedFile(path)
    var waiting: [UInt8] = [], number = 0, searched = 0
    var buffer = [UInt8](repeating: 0, count: Self.readSize)
    while true {
      let count = try buffer.withUnsafeMutableBufferPointer { bytes throws(DataError) in try file.read(into: bytes) }
      progress(file.position)
      waiting += buffer[..<count]
      var start = 0
      while let end = waiting[max(start, searched)...].firstIndex(of: 10) {
        number += 1
        try parse(waiting[start..<end], "\(path):\(number)", body)
        start = end + 1
        searched = start
      }
      waiting.removeFirst(start)
      searched = waiting.count
      if count == 0 { break }
      guard waiting.count < Self.lineLimit else {
        throw DataError.unreadable("\(path):\(number + 1): a line of more than \(Self.lineLimit >> 20) MiB")
      }
    }
    if !waiting.isEmpty { try parse(waiting[...], "\(path):\(number + 1)", body) }
  }

  private static func parse(
    _ line: ArraySlice<UInt8>, _ place: String, _ body: ([String: Any], String) throws -> Void
  ) throws {
    if line.allSatisfy({ $0 == 0x20 || $0 == 0x0D || $0 == 0x09 }) { return }
    guard let object = try? JSONSerialization.jsonObject(with: Data(line)) as? [String: Any] else {
      throw DataError.unreadable("\(place): not a JSON object on one line")
    }
    try body(object, place)
  }
}
