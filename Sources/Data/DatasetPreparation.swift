// `ress data prepare`: text files to a dataset. Files are read in pieces and written as they come; the dataset is made aside
// and takes its name when it is whole, so that a failure never costs an existing one.

import Foundation
import HDF5

#if canImport(Glibc)
  import Glibc
#endif

func fileExists(_ path: String) -> Bool { FileManager.default.fileExists(atPath: path) }

package struct DatasetPreparation {
  /// Files, or folders whose files are taken in the order of their names.
  package var sources: [String]
  package var output: String
  /// Share of the text that validates.
  package var validationFraction = 0.05
  package var splitBy = SplitBy.range

  package enum SplitBy: String, CaseIterable, Sendable {
    /// The last part of the text validates, wherever a document happens to be cut.
    case range
    /// Whole documents validate: the last ones, at least one, as long as one is left to train on.
    case documents
  }

  package struct Summary: Equatable, Sendable {
    package var documents = 0
    package var bytes = 0
    package var trainTokens = 0
    package var validationTokens = 0
  }

  package init(sources: [String], output: String) {
    self.sources = sources
    self.output = output
  }

  /// Bytes read at a time.
  private static let pieceSize = 1 << 20

  /// `progress` is told bytes done and bytes in all.
  package func run(progress: (Int, Int) -> Void = { _, _ in }) throws(DataError) -> Summary {
    let files = try expand()
    let total = files.reduce(0) { $0 + $1.size }
    guard total > 0 else { throw .noText(sources: sources) }
    let aside = output + ".tmp"
    let parent = (output as NSString).deletingLastPathComponent
    do {
      if !parent.isEmpty { try FileManager.default.createDirectory(atPath: parent, withIntermediateDirectories: true) }
    } catch {
      throw .file(action: "create", path: parent, reason: error.localizedDescription)
    }
    defer { unlink(aside) }
    var summary = Summary()
    do throws(HDF5Error) {
      let file = try HDF5File.create(aside)
      try file.setAttribute("ress_dataset_format", Dataset.format)
      try file.setAttribute("tokenizer", ByteTokenizer.name)
      try file.setAttribute("vocabulary", ByteTokenizer.vocabulary)
      try file.setAttribute("sources", sources.joined(separator: "\n"))
      var writers: [Split: SplitWriter] = [:]
      for split in Split.allCases { writers[split] = try SplitWriter(file, split) }
      let borders = validationBorders(files.map(\.size))
      var done = 0
      for (source, border) in zip(files, borders) {
        var split = border > 0 ? Split.train : .validation
        try writers[split]!.beginDocument()
        summary.documents += 1
        var read = 0
        do throws(DataError) {
          try source.forEachPiece(DatasetPreparation.pieceSize) { piece throws(HDF5Error) in
            var rest = piece[...]
            if split == .train && read + rest.count > border {
              try writers[.train]!.append(rest.prefix(border - read))
              rest = rest.dropFirst(border - read)
              split = .validation
              try writers[.validation]!.beginDocument()
            }
            try writers[split]!.append(rest)
            read += piece.count
            progress(done + read, total)
          }
        } catch {
          throw HDF5Error.object(path: source.path, name: "text", reason: "\(error)")
        }
        done += read
      }
      summary.bytes = done
      summary.trainTokens = writers[.train]!.tokens.count
      summary.validationTokens = writers[.validation]!.tokens.count
      try file.flush()
    } catch {
      throw .file(action: "prepare", path: output, reason: "\(error)")
    }
    let descriptor = open(aside, O_RDONLY)
    if descriptor >= 0 {
      fsync(descriptor)
      close(descriptor)
    }
    guard rename(aside, output) == 0 else {
      throw .file(action: "rename \(aside) to", path: output, reason: String(cString: strerror(errno)))
    }
    return summary
  }

  /// For each file, the byte from which on it validates; its size where all of it trains.
  private func validationBorders(_ sizes: [Int]) -> [Int] {
    let total = sizes.reduce(0, +)
    let train = total - Int(Double(total) * validationFraction)
    guard validationFraction > 0 else { return sizes }
    switch splitBy {
    case .range:
      var before = 0
      return sizes.map { size in
        defer { before += size }
        return max(0, min(size, train - before))
      }
    case .documents:
      guard sizes.count > 1 else { return sizes }
      var before = 0
      var firstValidating = sizes.count - 1
      for (index, size) in sizes.enumerated() {
        if before >= train && index > 0 {
          firstValidating = min(firstValidating, index)
        }
        before += size
      }
      return sizes.enumerated().map { $0.offset < firstValidating ? $0.element : 0 }
    }
  }

  private struct Source {
    var path: String
    var size: Int

    func forEachPiece(_ size: Int, _ body: ([UInt8]) throws(HDF5Error) -> Void) throws(DataError) {
      let descriptor = open(path, O_RDONLY | O_CLOEXEC)
      guard descriptor >= 0 else {
        throw .file(action: "read", path: path, reason: String(cString: strerror(errno)))
      }
      defer { close(descriptor) }
      var buffer = [UInt8](repeating: 0, count: size)
      while true {
        let count = read(descriptor, &buffer, size)
        if count < 0 && errno == EINTR { continue }
        guard count >= 0 else { throw .file(action: "read", path: path, reason: String(cString: strerror(errno))) }
        guard count > 0 else { return }
        do throws(HDF5Error) { try body(Array(buffer[..<count])) } catch { throw .unreadable("\(error)") }
      }
    }
  }

  /// The files that the sources name, folders opened, each with its size.
  private func expand() throws(DataError) -> [Source] {
    var files: [Source] = []
    let manager = FileManager.default
    for source in sources {
      var isFolder: ObjCBool = false
      guard manager.fileExists(atPath: source, isDirectory: &isFolder) else {
        throw .file(action: "read", path: source, reason: "no such file or folder")
      }
      let names: [String]
      if isFolder.boolValue {
        let inside = (manager.enumerator(atPath: source)?.allObjects as? [String]) ?? []
        names = inside.filter { !$0.split(separator: "/").contains { $0.hasPrefix(".") } }.sorted().map {
          source + "/" + $0
        }
      } else {
        names = [source]
      }
      for name in names {
        guard let attributes = try? manager.attributesOfItem(atPath: (name as NSString).resolvingSymlinksInPath),
          attributes[.type] as? FileAttributeType == .typeRegular
        else { continue }
        files.append(Source(path: name, size: attributes[.size] as? Int ?? 0))
      }
    }
    return files.filter { $0.size > 0 }
  }
}

/// Appends one split's tokens, in batches.
private final class SplitWriter {
  let tokens: HDF5List
  private let documents: HDF5List

  init(_ file: HDF5File, _ split: Split) throws(HDF5Error) {
    tokens = try file.createList("\(split.rawValue)/tokens", .bits16)
    documents = try file.createList("\(split.rawValue)/documents", .bits64)
  }

  func beginDocument() throws(HDF5Error) {
    try documents.append([UInt64(tokens.count)])
    try tokens.append([ByteTokenizer.separator])
  }

  func append(_ bytes: ArraySlice<UInt8>) throws(HDF5Error) { try tokens.append(bytes.map { Int32($0) }) }
}
