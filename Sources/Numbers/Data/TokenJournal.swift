// The journal of a preparation: tokens that are already encoded, in plain files beside the output. What was
// committed survives the death of the process, and a later preparation of the same text with the same options
// continues from it.
//
//   D.h5.train.tokens      32 bits a token
//   D.h5.train.documents   64 bits a document: its first token
//   D.h5.train.progress    JSON: how much of both is committed, checksums, and what they were made from

import Configuration
import Checksum
import Foundation

#if canImport(Glibc)
  import Glibc
#endif

/// The order of writes makes a commit: tokens and documents are appended and flushed first, and the small progress
/// file, which has their number and checksums, is replaced last by a rename. After a crash in between, the files are
/// longer than the progress file says, and the surplus is cut off when the journal is opened.
final class TokenJournal {
  struct Piece {
    var tokens: [Int32] = []
    var beginsDocument = false
  }

  private struct Progress: Codable {
    var key: String
    var pieces = 0
    var textBytes = 0
    var tokens = 0
    var documents = 0
    var checksum: UInt32 = 0
    var documentsChecksum: UInt32 = 0
  }

  private let tokensPath: String
  private let documentsPath: String
  private let progressPath: String
  private let descriptor: Int32
  private let documentsDescriptor: Int32
  private var progress: Progress
  /// Index of the first token of each document.
  private(set) var documents: [UInt64] = []
  /// Number of pieces whose tokens were already in the journal.
  let resumedPieces: Int
  let resumedBytes: Int

  var tokenCount: Int { progress.tokens }
  var textBytes: Int { progress.textBytes }
  var documentCount: Int { documents.count }

  /// The journal's files: tokens, documents, and progress.
  static func paths(_ path: String) -> [String] { [".tokens", ".documents", ".progress"].map { path + $0 } }

  /// Opens the journal, or begins a new one where there is none, where it was made from other text or options, or
  /// where its files are shorter than was committed.
  ///
  /// - Parameter key: describes text and options; a journal with another key is not continued.
  init(_ path: String, key: String) throws(DataError) {
    let paths = TokenJournal.paths(path)
    (tokensPath, documentsPath, progressPath) = (paths[0], paths[1], paths[2])
    let sum = key.utf8.withContiguousStorageIfAvailable { crc32c(UnsafeRawBufferPointer($0)) } ?? 0
    let key = "\(key.utf8.count) \(sum) \(key.prefix(1000))"
    var found = FileManager.default.contents(atPath: progressPath).flatMap {
      try? JSON.decode(Progress.self, from: $0)
    }
    func size(_ path: String) -> Int {
      (try? FileManager.default.attributesOfItem(atPath: path))?[.size] as? Int ?? 0
    }
    if let there = found,
      there.key != key || !(0...size(tokensPath) / 4).contains(there.tokens)
        || !(0...size(documentsPath) / 8).contains(there.documents) || there.pieces < 0 || there.textBytes < 0
    {
      found = nil
    }
    progress = found ?? Progress(key: key)
    (resumedPieces, resumedBytes) = (progress.pieces, progress.textBytes)
    descriptor = open(tokensPath, O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
    documentsDescriptor = open(documentsPath, O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
    guard descriptor >= 0, ftruncate(descriptor, off_t(progress.tokens * 4)) == 0 else { throw failure(tokensPath) }
    guard documentsDescriptor >= 0, ftruncate(documentsDescriptor, off_t(progress.documents * 8)) == 0 else {
      throw failure(documentsPath)
    }
    documents = Array(repeating: 0, count: progress.documents)
    let got = documents.withUnsafeMutableBytes { pread(documentsDescriptor, $0.baseAddress, $0.count, 0) }
    guard got == progress.documents * 8 else { throw failure(documentsPath) }
  }

  deinit {
    close(descriptor)
    close(documentsDescriptor)
  }

  private func failure(_ path: String) -> DataError {
    .file(action: "write", path: path, reason: String(cString: strerror(errno)))
  }

  /// Appends the tokens of pieces, flushes them to disk, and commits them by replacing the progress file.
  func append(_ pieces: [Piece], textBytes: Int, pieces count: Int) throws(DataError) {
    guard count > 0 else { return }
    for piece in pieces {
      if piece.beginsDocument { documents.append(UInt64(progress.tokens)) }
      progress.checksum = piece.tokens.withUnsafeBytes { crc32c($0, continuing: progress.checksum) }
      try write(piece.tokens, to: descriptor, at: progress.tokens * 4, tokensPath)
      progress.tokens += piece.tokens.count
    }
    let fresh = Array(documents[progress.documents...])
    progress.documentsChecksum = TokenJournal.sum(fresh, progress.documentsChecksum)
    try write(
      fresh, to: documentsDescriptor, at: progress.documents * 8, documentsPath)
    progress.documents = documents.count
    progress.pieces += count
    progress.textBytes += textBytes
    guard fsync(descriptor) == 0, fsync(documentsDescriptor) == 0 else { throw failure(tokensPath) }
    do {
      try Data(JSON.encode(progress)).write(to: URL(filePath: progressPath), options: .atomic)
    } catch {
      throw .file(action: "write", path: progressPath, reason: error.localizedDescription)
    }
  }

  private func write<Value: BitwiseCopyable>(
    _ values: [Value], to descriptor: Int32, at start: Int, _ path: String
  ) throws(DataError) {
    let count = values.count * MemoryLayout<Value>.stride
    var done = 0
    while done < count {
      let written = values.withUnsafeBytes {
        pwrite(descriptor, $0.baseAddress! + done, count - done, off_t(start + done))
      }
      if written < 0 && errno == EINTR { continue }
      guard written > 0 else { throw failure(path) }
      done += written
    }
  }

  /// Index of the first token that is used for validation: the text's last `fraction`, cut exactly (`range`) or at
  /// the next beginning of a document (`documents`).
  func border(
    _ fraction: Double, _ splitBy: DatasetPreparation.SplitBy, hasSeparators: Bool
  ) throws(DataError) -> Int {
    guard fraction > 0, tokenCount > 0 else { return tokenCount }
    let each = hasSeparators ? 1 : 0
    // Separators do not count as text.
    let text = tokenCount - documentCount * each
    let train = text - Int(Double(text) * fraction)
    func textBefore(_ document: Int) -> Int { Int(documents[document]) - document * each }
    switch splitBy {
    case .range:
      guard train < text else { return tokenCount }
      let last = documents.indices.last { textBefore($0) <= train } ?? 0
      // A border at the beginning of a document is before its separator.
      return textBefore(last) == train ? Int(documents[last]) : Int(documents[last]) + each + train - textBefore(last)
    case .documents:
      guard documentCount > 1 else { return tokenCount }
      let first = documents.indices.first { $0 > 0 && textBefore($0) >= train } ?? documentCount - 1
      return Int(documents[first])
    }
  }

  /// A shard's part of a range: equal numbers of tokens, with the border moved to the beginning of a document where
  /// there is one.
  func share(_ shard: Int, of shards: Int, _ range: Range<Int>) -> Range<Int> {
    guard shards > 1 else { return range }
    func cut(_ number: Int) -> Int {
      if number == 0 || number == shards { return number == 0 ? range.lowerBound : range.upperBound }
      func even(_ number: Int) -> Int { range.lowerBound + range.count * number / shards }
      let last = documents.last { $0 <= UInt64(even(number)) }.map { Int($0) }
      return last.flatMap { $0 > even(number - 1) ? $0 : nil } ?? even(number)
    }
    return cut(shard)..<cut(shard + 1)
  }

  /// Passes on a range in pieces.
  func read(_ range: Range<Int>, _ body: ([Int32]) throws -> Void) throws {
    var place = range.lowerBound
    var buffer = [Int32](repeating: 0, count: 1 << 20)
    while place < range.upperBound {
      let count = min(buffer.count, range.upperBound - place)
      if buffer.count != count { buffer = Array(repeating: 0, count: count) }
      let got = buffer.withUnsafeMutableBytes { pread(descriptor, $0.baseAddress, count * 4, off_t(place * 4)) }
      guard got == count * 4 else {
        throw DataError.file(
          action: "read", path: tokensPath, reason: got < 0 ? String(cString: strerror(errno)) : "it was truncated")
      }
      try body(buffer)
      place += count
    }
  }

  /// Throws where the tokens on disk differ from those that were written.
  func verify() throws(DataError) {
    var sum: UInt32 = 0
    do {
      try read(0..<tokenCount) { piece in sum = piece.withUnsafeBytes { crc32c($0, continuing: sum) } }
    } catch let error as DataError { throw error } catch { throw .unreadable("\(error)") }
    guard sum == progress.checksum else {
      throw .file(
        action: "continue with", path: tokensPath,
        reason: "its tokens differ from those that were written; remove it and prepare again")
    }
    guard TokenJournal.sum(documents, 0) == progress.documentsChecksum else {
      throw .file(
        action: "continue with", path: documentsPath,
        reason: "its documents differ from those that were written; remove it and prepare again")
    }
  }

  private static func sum(_ offsets: [UInt64], _ before: UInt32) -> UInt32 {
    offsets.withUnsafeBytes { crc32c($0, continuing: before) }
  }

  static func remove(_ path: String) {
    // The progress file first: without it the other files have no meaning.
    for path in paths(path).reversed() { unlink(path) }
  }
}
