// The data of a run: one dataset, the shards of one, or a mixture of several.
//
// The shards of a dataset are files `shard-00003-of-00008.h5` in a folder. Each name contains the number of shards,
// so a missing shard is noticed, and a run cannot train on seven eighths of its data by mistake.

import Configuration
import Foundation
import RunFolder

/// All parts have one task, tokenizer and list of classes; opening fails where they differ.
package struct Corpus {
  /// One dataset of a mixture, with its share of training.
  package struct Part {
    package let path: String
    package let weight: Double
    /// Its files: a single one, or all shards in order.
    package let datasets: [Dataset]
  }

  /// The paths as the configuration names them.
  package let path: String
  package let parts: [Part]
  package let vocabulary: Int
  package let tokenizer: Tokenizer
  package let task: TaskKind
  package let labels: [String]

  /// Opens one dataset.
  package init(path: String) throws(DataError) { try self.init([(path, 1)]) }

  /// Opens the data of a run.
  /// - Parameter isAllowed: whether a file at a path may be read, called with symbolic links resolved; nil permits
  ///   all.
  package init(_ data: DataConfiguration, isAllowed: ((String) -> Bool)? = nil) throws(DataError) {
    try self.init(
      data.mixture.isEmpty ? [(data.path, 1)] : data.mixture.map { ($0.path, $0.weight) }, isAllowed: isAllowed)
  }

  /// Size of a run's vocabulary: the configured one, or else that of its data.
  package static func vocabulary(
    of configuration: RunConfiguration, isAllowed: ((String) -> Bool)? = nil
  ) throws(DataError) -> Int {
    if let vocabulary = configuration.model.vocabulary { return vocabulary }
    return try Corpus(configuration.data, isAllowed: isAllowed).vocabulary
  }

  /// - Throws: a `DataError` of a part, or `.unlike` where two parts differ in task, tokenizer or classes.
  package init(
    _ weighted: [(path: String, weight: Double)], isAllowed: ((String) -> Bool)? = nil
  ) throws(DataError) {
    var parts: [Part] = []
    for (path, weight) in weighted {
      var datasets: [Dataset] = []
      for file in try Corpus.files(of: path) { datasets.append(try Dataset(path: file, isAllowed: isAllowed)) }
      parts.append(Part(path: path, weight: weight, datasets: datasets))
    }
    path = weighted.map(\.path).joined(separator: ", ")
    let all = parts.flatMap(\.datasets)
    guard let first = all.first else { throw .missing(path: path) }
    for other in all.dropFirst() {
      func refuse(_ what: String, _ a: String, _ b: String) -> DataError {
        .unlike(path: other.path, first: first.path, what: what, values: [b, a])
      }
      if other.task != first.task { throw refuse("task", first.task.rawValue, other.task.rawValue) }
      if other.tokenizer.stored != first.tokenizer.stored {
        throw refuse("tokenizer", first.tokenizer.summary, other.tokenizer.summary)
      }
      if other.labels != first.labels {
        throw refuse("classes", first.labels.joined(separator: ", "), other.labels.joined(separator: ", "))
      }
    }
    self.parts = parts
    vocabulary = all.map(\.vocabulary).max()!
    (tokenizer, task, labels) = (first.tokenizer, first.task, first.labels)
  }

  /// Number of classes that a model of it needs.
  package var classCount: Int { parts[0].datasets[0].classCount }

  /// Identifies the contents, independently of where they are: a digest of the dataset, or of all shards and parts
  /// with their weights.
  package func identity() throws(DataError) -> DataIdentity {
    var lines: [String] = []
    for part in parts {
      for dataset in part.datasets { lines.append("\(parts.count > 1 ? part.weight : 1) \(try dataset.digest())") }
    }
    let whole =
      lines.count == 1
      ? try parts[0].datasets[0].digest() : "sha256:" + SHA256.of(Array(lines.joined(separator: "\n").utf8))
    return DataIdentity(dataset: whole, tokenizer: tokenizer.digest)
  }

  // MARK: Shards

  package static func shardName(_ index: Int, of count: Int) -> String {
    func digits(_ number: Int) -> String { String(repeating: "0", count: max(0, 5 - "\(number)".count)) + "\(number)" }
    return "shard-\(digits(index))-of-\(digits(count)).h5"
  }

  /// The file itself, or the shards in the folder.
  package static func files(of path: String) throws(DataError) -> [String] {
    var isFolder: ObjCBool = false
    guard FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) else { throw .missing(path: path) }
    guard isFolder.boolValue else { return [path] }
    let names: [String]
    do { names = try FileManager.default.contentsOfDirectory(atPath: path) } catch {
      throw .file(action: "read", path: path, reason: error.localizedDescription)
    }
    let counts = Set(names.compactMap { shardCount($0) })
    guard let count = counts.first else {
      throw .notADataset(path: path, reason: "the folder holds no shards, such as \(shardName(0, of: 2))")
    }
    guard counts.count == 1 else {
      throw .notADataset(
        path: path,
        reason: "the folder holds shards of several datasets (of "
          + counts.sorted().map { "\($0)" }.joined(separator: " and of ") + ")")
    }
    let missing = (0..<count).map { shardName($0, of: count) }.filter { !names.contains($0) }
    guard missing.isEmpty else {
      let more = missing.count > 3 ? " and \(missing.count - 3) more" : ""
      throw .notADataset(path: path, reason: "\(missing.prefix(3).joined(separator: ", "))\(more) missing")
    }
    return (0..<count).map { path + "/" + shardName($0, of: count) }
  }

  /// The number of shards according to the name of one; nil for other names.
  private static func shardCount(_ name: String) -> Int? {
    guard let match = name.wholeMatch(of: /shard-(\d{5,9})-of-(\d{5,9})\.h5/), let index = Int(match.1),
      let count = Int(match.2), index < count, name == shardName(index, of: count)
    else { return nil }
    return count
  }
}
