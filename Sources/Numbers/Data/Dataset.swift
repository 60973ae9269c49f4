// A prepared dataset: one HDF5 file with the tokens of its two splits. Sequences are read from the file in small
// pieces, so a dataset may be larger than memory.
//
//   /train/tokens, /validation/tokens        unsigned integers, 16 or 32 bits
//   /train/documents, /validation/documents  index of the first token of each document
//   /tokenizer                               the bytes of a tokenizer.json or tokenizer.model, unless tokens are bytes
//
// Each chunk of a list has a checksum, so that damage by a disk is detected when the chunk is read.

import Configuration
import Foundation
import HDF5

/// A problem with a dataset or with the text that one is prepared from.
package enum DataError: Error, Equatable, CustomStringConvertible {
  case missing(path: String)
  case notADataset(path: String, reason: String)
  case tokenOutOfRange(path: String, split: String, offset: Int, token: Int32, vocabulary: Int)
  case unreadable(String)
  case noText(sources: [String])
  case tooSmall(path: String, split: String, tokens: Int, needed: Int)
  case noExamples(path: String, split: String)
  case unlike(path: String, first: String, what: String, values: [String])
  case file(action: String, path: String, reason: String)
  /// A row of JSON that cannot be used; `place` is FILE:LINE.
  case badRow(place: String, problem: String)
  /// A file of another kind than text or rows.
  case foreign(path: String, what: String, advice: String)
  /// Another process is preparing this output.
  case busy(output: String, who: String)

  package var description: String {
    switch self {
    case .missing(let path): "\(path) does not exist; make it with: ress data prepare FILE… --out \(path)"
    case .notADataset(let path, let reason): "\(path) is not a dataset of ress: \(reason)"
    case .tokenOutOfRange(let path, let split, let offset, let token, let vocabulary):
      "\(path): token \(token) at offset \(offset) of the \(split) split is outside the vocabulary of \(vocabulary); "
        + "the file is damaged, prepare it again"
    case .unreadable(let reason): reason
    case .noText(let sources): "there is no text in \(sources.joined(separator: ", "))"
    case .tooSmall(let path, let split, let tokens, let needed):
      "\(path): the \(split) split holds \(tokens) tokens, and one sequence needs \(needed); "
        + "prepare more text or lower data.sequence_length"
    case .noExamples(let path, let split): "\(path): the \(split) split holds no examples"
    case .unlike(let path, let first, let what, let values):
      "\(path) and \(first) cannot be read together: they differ in \(what) (\(values.joined(separator: "; ")))"
    case .file(let action, let path, let reason): "cannot \(action) \(path): \(reason)"
    case .badRow(let place, let problem): "\(place): \(problem)"
    case .foreign(let path, let what, let advice):
      "\(path) is \(what); \(advice.replacing("FILE", with: path))"
    case .busy(let output, let who):
      "\(output) is being prepared by \(who); wait until it ends, or name another --out"
    }
  }
}

package enum Split: String, Sendable, CaseIterable { case train, validation }

/// A file that `ress data prepare` has written, open for reading.
package final class Dataset {
  package static let format = 2
  /// The attribute with the number of kinds of relations; a dataset without relations does not have it.
  static let relationKindsName = "relation_kinds"
  /// Format 1 had only byte tokens, and no checksums.
  private static let oldestFormat = 1

  package let path: String
  package let vocabulary: Int
  package let tokenizer: Tokenizer
  package let task: TaskKind
  /// Names of the classes, in the order of their numbers.
  package let labels: [String]
  /// Number of kinds of relations between tokens; 0: the dataset has no relations.
  package let relationKinds: Int
  /// The sources given to `ress data prepare`.
  package let sources: [String]
  /// The digest stored in the file; nil in files of older programs.
  private let keptDigest: String?
  private let isAllowed: ((String) -> Bool)?
  private let splits: [Split: TokenSplit]
  private let examples: [Split: ExampleSplit]

  /// Limit of the vocabulary (docs/limits.md), so that a damaged file cannot demand an enormous embedding table.
  private static let largestVocabulary = 1 << 24

  /// - Parameter isAllowed: whether a file at a path may be read, called with symbolic links resolved; nil permits
  ///   all.
  package init(path: String, isAllowed: ((String) -> Bool)? = nil) throws(DataError) {
    self.path = path
    self.isAllowed = isAllowed
    guard fileExists(path) else { throw .missing(path: path) }
    do throws(HDF5Error) {
      let file = try HDF5File.open(path, isAllowed: isAllowed)
      guard let format = try? file.number("ress_dataset_format") else {
        throw HDF5Error.object(path: path, name: "/", reason: "it has no ress_dataset_format")
      }
      guard (Dataset.oldestFormat...Dataset.format).contains(format) else {
        throw HDF5Error.object(
          path: path, name: "/", reason: "format \(format); this program reads up to \(Dataset.format)")
      }
      vocabulary = try file.number("vocabulary")
      tokenizer = try Dataset.tokenizer(of: file)
      let taskName = (try? file.text("task")) ?? TaskKind.lm.rawValue
      guard let task = TaskKind(rawValue: taskName) else {
        throw HDF5Error.object(path: path, name: "task", reason: "'\(taskName)' is not a task that this program knows")
      }
      self.task = task
      // Datasets of text have no labels.
      let names = task == .lm ? "[]" : try file.text("labels")
      guard let labels = try? JSONDecoder().decode([String].self, from: Data(names.utf8)) else {
        throw HDF5Error.object(
          path: path, name: "labels", reason: "it is not a JSON list of strings; the file is damaged")
      }
      self.labels = labels
      keptDigest = try? file.text(DatasetDigest.name)
      sources = try file.text("sources").utf8.split(separator: 10).map { String(decoding: $0, as: UTF8.self) }
      guard (1...Dataset.largestVocabulary).contains(vocabulary) else {
        throw HDF5Error.object(path: path, name: "vocabulary", reason: "\(vocabulary) tokens")
      }
      relationKinds = file.hasAttribute(Dataset.relationKindsName) ? try file.number(Dataset.relationKindsName) : 0
      guard (0...ModelConfiguration.mostRelationKinds).contains(relationKinds) else {
        throw HDF5Error.object(
          path: path, name: Dataset.relationKindsName,
          reason: "\(relationKinds) kinds of relations; the file is damaged")
      }
      var splits: [Split: TokenSplit] = [:]
      var examples: [Split: ExampleSplit] = [:]
      for split in Split.allCases {
        if task != .lm {
          examples[split] = try ExampleSplit(
            file, split, task, vocabulary: vocabulary, classes: max(labels.count, 1), relationKinds: relationKinds)
        }
        splits[split] = TokenSplit(
          path: path, split: split, vocabulary: vocabulary, tokens: try file.openList("\(split.rawValue)/tokens"),
          documents: try file.openList("\(split.rawValue)/documents"))
      }
      self.splits = splits
      self.examples = examples
    } catch {
      throw .notADataset(path: path, reason: "\(error)")
    }
  }

  /// A digest of the contents (`DatasetDigest`).
  package func digest() throws(DataError) -> String {
    if let keptDigest { return keptDigest }
    do throws(HDF5Error) {
      let head = ["ress dataset", task.rawValue, "\(vocabulary)", tokenizer.digest] + labels.map { "label \($0)" }
      return try DatasetDigest.sample(HDF5File.open(path, isAllowed: isAllowed), head)
    } catch { throw .unreadable("\(error)") }
  }

  package func split(_ split: Split) -> TokenSplit { splits[split]! }
  /// The examples of a split; nil in a dataset of text.
  package func examples(_ split: Split) -> ExampleSplit? { examples[split] }
  /// Number of classes that a model of it needs.
  package var classCount: Int { task == .span ? 2 : max(labels.count, 1) }

  private static func tokenizer(of file: HDF5File) throws(HDF5Error) -> Tokenizer {
    guard try file.text("tokenizer") != ByteTokenizer.name else { return .byte }
    let list = try file.openList("tokenizer")
    var bytes = [Int32](repeating: 0, count: list.count)
    try list.read(from: 0, into: &bytes)
    let stored = bytes.map { UInt8(truncatingIfNeeded: $0) }
    do throws(TokenizerError) { return try Tokenizer(stored: stored, path: file.path + ": tokenizer") } catch {
      throw .object(path: file.path, name: "tokenizer", reason: "\(error)")
    }
  }
}

/// The tokens of one split, cut into sequences of equal length.
package final class TokenSplit {
  private let path: String
  private let split: Split
  private let vocabulary: Int
  private let tokens: HDF5List
  private let documents: HDF5List

  fileprivate init(path: String, split: Split, vocabulary: Int, tokens: HDF5List, documents: HDF5List) {
    self.path = path
    self.split = split
    self.vocabulary = vocabulary
    self.tokens = tokens
    self.documents = documents
  }

  package var tokenCount: Int { tokens.count }
  package var documentCount: Int { documents.count }

  /// Number of sequences of `length` inputs; the token after the inputs is the last target.
  package func sequenceCount(length: Int) -> Int { max(0, (tokens.count - 1) / length) }

  /// The inputs of a sequence and the token after them: `length + 1` tokens.
  package func read(sequence index: Int, length: Int, into buffer: inout [Int32]) throws(DataError) {
    try read(from: index * length, count: length + 1, into: &buffer)
  }

  /// Any range of the split's tokens.
  package func read(from start: Int, count: Int, into buffer: inout [Int32]) throws(DataError) {
    if buffer.count != count { buffer = Array(repeating: 0, count: count) }
    do throws(HDF5Error) { try tokens.read(from: start, into: &buffer) } catch { throw .unreadable("\(error)") }
    for (offset, token) in buffer.enumerated() where token < 0 || token >= vocabulary {
      throw .tokenOutOfRange(
        path: path, split: split.rawValue, offset: start + offset, token: token, vocabulary: vocabulary)
    }
  }

  /// Number of tokens of each document, including its separator.
  package func documentLengths() throws(DataError) -> [Int] {
    let starts = try documentOffsets()
    return zip(starts, starts.dropFirst() + [tokenCount]).map { $1 - $0 }
  }

  /// Index of the first token of each document.
  package func documentOffsets() throws(DataError) -> [Int] {
    var offsets = [UInt64](repeating: 0, count: documents.count)
    do throws(HDF5Error) { try documents.read(from: 0, into: &offsets) } catch { throw .unreadable("\(error)") }
    guard zip(offsets, offsets.dropFirst()).allSatisfy({ $0 <= $1 }), offsets.last ?? 0 <= UInt64(tokens.count) else {
      throw .unreadable(
        "\(path): the documents of the \(split.rawValue) split are not in order; the file is damaged")
    }
    return offsets.map { Int($0) }
  }
}
