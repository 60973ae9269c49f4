// The digest of a dataset: SHA-256 over the numbers of all its lists and over what determines how they are read.
// `ress data prepare` computes it while it writes and stores it in the file. A file of an older program has none;
// it is identified by its sizes and by samples of its lists.

import Foundation
import HDF5
import RunFolder

/// A list being written, with a digest of its numbers. Numbers enter the digest with 32 or 64 bits, independently
/// of their width on disk.
final class DigestedList {
  private let list: HDF5List
  private let sum = SHA256.Running()

  init(_ list: HDF5List) { self.list = list }

  var count: Int { list.count }

  func append(_ values: [Int32]) throws(HDF5Error) {
    values.withUnsafeBytes { sum.add($0) }
    try list.append(values)
  }

  func append(_ values: [UInt64]) throws(HDF5Error) {
    values.withUnsafeBytes { sum.add($0) }
    try list.append(values)
  }

  /// The list's name, its length and the digest. Nothing can be appended afterwards.
  func line() -> String { "\(list.name) \(list.count) \(sum.digest())" }
}

enum DatasetDigest {
  /// The attribute in which the digest is stored.
  static let name = "digest"

  /// - Parameter lines: `DigestedList.line` of all lists, in the order in which they are written.
  static func of(task: TaskKind, vocabulary: Int, tokenizer: Tokenizer, labels: [String], lines: [String]) -> String {
    let head = ["ress dataset", task.rawValue, "\(vocabulary)", tokenizer.digest] + labels.map { "label \($0)" }
    return "sha256:" + SHA256.of(Array((head + lines).joined(separator: "\n").utf8))
  }

  /// For a file without a digest: reads a limited number of pieces of each list, evenly spread, and its end.
  static func sample(_ file: HDF5File, _ head: [String]) throws(HDF5Error) -> String {
    let sum = SHA256.Running()
    func add(_ text: String) { Array(text.utf8).withUnsafeBytes { sum.add($0) } }
    add(head.joined(separator: "\n"))
    for split in Split.allCases {
      for name in [
        "tokens", "documents", "targets", "bags", "questions", "answers", "answer_starts", "relations",
        "relation_starts",
      ] {
        let name = "\(split.rawValue)/\(name)"
        guard file.contains(name) else { continue }
        let list = try file.openList(name)
        add("\n\(name) \(list.count)\n")
        let size = min(Self.piece, list.count), last = list.count - size
        for number in 0..<min(Self.pieces, (list.count + Self.piece - 1) / Self.piece) {
          var values = [UInt64](repeating: 0, count: size)
          try list.read(
            from: number == Self.pieces - 1 ? last : min(last, number * (list.count / Self.pieces)), into: &values)
          values.withUnsafeBytes { sum.add($0) }
        }
      }
    }
    return "sample:" + sum.digest()
  }

  private static let piece = 1 << 12, pieces = 32
}
