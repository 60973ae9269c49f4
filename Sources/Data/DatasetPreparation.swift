// `ress data prepare`: text to a dataset. Text is read once, in pieces; threads turn pieces into tokens, which go to a journal in their
// order, so that a preparation that is cut short goes on where its journal ends. The dataset is written from the journal, aside, and takes
// its name when it is whole: a failure never costs an existing one.

import Dispatch
import Foundation
import HDF5
import RunFolder

#if canImport(Glibc)
  import Glibc
#endif

func fileExists(_ path: String) -> Bool { FileManager.default.fileExists(atPath: path) }

package struct DatasetPreparation {
  /// Files, pipes, or folders whose files are taken in the order of their names: text or rows, packed or not.
  package var sources: [String]
  /// Files that validate; where there are any, nothing of `sources` does.
  package var validationSources: [String] = []
  package var output: String
  package var tokenizer = Tokenizer.byte
  package var task = TaskKind.lm
  /// Bytes up to which the text of a span is filled with paragraphs of other rows; 0: none.
  package var contextBytes = 0
  /// Nodes around a node of a graph at most, itself included.
  package var nodeLimit = 32
  /// The rows of a graph that validate: those whose `split` says so.
  package var validationSplit = "valid"
  package var options = SourceOptions()
  /// Paths that are no text of the sources though they may lie there, and what each one is.
  package var exclusions: [(path: String, what: String)] = []
  package var threads = 1
  /// Share of the text that validates.
  package var validationFraction = 0.05
  package var splitBy = SplitBy.range
  /// Files that the text is shared among, in a folder `output`; 0: one file, of that name.
  package var shards = 0

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
    /// Bytes of text whose tokens an earlier preparation had left.
    package var resumedBytes = 0
    package var emptyRows = 0
    package var badRows = 0
    /// What a task asks, where it is not the next token: examples, and of those to train on ones whose answer stands nowhere.
    package var trainExamples = 0
    package var validationExamples = 0
    package var withoutAnswer = 0
  }

  package init(sources: [String], output: String) {
    self.sources = sources
    self.output = output
  }

  /// Text that threads share at a time, and behind which the journal is committed.
  private static let batchBytes = 16 << 20

  /// Files beside the output that a preparation makes.
  private var ownFiles: [String] {
    [output, output + ".tmp"]
      + ["train", "validation"].flatMap { TokenJournal.paths("\(output).\($0)") }
  }

  /// - Parameters:
  ///   - progress: told bytes read of the files and bytes in all; those of pipes are not known before.
  ///   - note: told what of the sources was left out, a line each.
  package func run(
    progress: (Int, Int) -> Void = { _, _ in }, note: (String) -> Void = { _ in }
  ) throws(DataError) -> Summary {
    // A folder of shards takes the place of an earlier one.
    if let problem = OutputPlace.problem(output) {
      var isFolder: ObjCBool = false
      _ = FileManager.default.fileExists(atPath: output, isDirectory: &isFolder)
      guard shards > 0, isFolder.boolValue else { throw .file(action: "write", path: output, reason: problem) }
      // Refuses a folder that holds anything else.
      _ = try Corpus.files(of: output)
    }
    let parent = (output as NSString).deletingLastPathComponent
    do {
      if !parent.isEmpty { try FileManager.default.createDirectory(atPath: parent, withIntermediateDirectories: true) }
    } catch {
      throw .file(action: "create", path: parent, reason: error.localizedDescription)
    }
    let lock = try PreparationLock(output: output)
    defer { _ = lock }
    let own =
      ownFiles.map { (path: $0, what: "the dataset that is written, or a part of it") }
      + [(PreparationLock.path(of: output), "")] + exclusions
    var validationList: SourceList?
    if !validationSources.isEmpty {
      validationList = try SourceList(validationSources, leavingOut: own)
      try validationList!.look(options)
    }
    var list = try SourceList(
      sources,
      leavingOut: own + (validationList?.files ?? []).map { ($0.path, "a validation file, which is not trained on") })
    (list.notes + (validationList?.notes ?? [])).forEach(note)
    try list.look(options)
    try list.checkField(options, task)
    let files = list.files, validationFiles = validationList?.files ?? []
    if task != .lm {
      guard shards == 0 else {
        throw .file(action: "share", path: output, reason: "shards are for text; examples are in one file")
      }
      let examples = ExamplePreparation(self)
      let summary = try aside(output) { file in
        try describe(file)
        return try examples.write(files, validationFiles, to: file, progress: progress)
      }
      examples.notes.forEach(note)
      return summary
    }
    let reader = DocumentReader(options: options, cutter: TextCutter(tokenizer))
    let total = (files + validationFiles).reduce(0) { $0 + $1.size }
    let train = try journal(files, "train", reader) { progress($0, total) }
    let before = files.reduce(0) { $0 + $1.size }
    let validation =
      validationFiles.isEmpty
      ? nil : try journal(validationFiles, "validation", reader) { progress(before + $0, total) }
    var summary = Summary(
      documents: train.documentCount + (validation?.documentCount ?? 0),
      bytes: train.textBytes + (validation?.textBytes ?? 0),
      resumedBytes: train.resumedBytes + (validation?.resumedBytes ?? 0), emptyRows: reader.tally.empty,
      badRows: reader.tally.bad)
    try reader.tally.check(options)
    reader.tally.notes.forEach(note)
    guard train.textBytes > 0 else {
      for name in ["train", "validation"] { TokenJournal.remove("\(output).\(name)") }
      throw .noText(sources: sources)
    }
    // What is written is what was encoded, whatever happened to the files between.
    for journal in [train, validation] { try journal?.verify() }
    let border =
      validation == nil
      ? try train.border(validationFraction, splitBy, hasSeparators: tokenizer.separator != nil) : train.tokenCount
    let held = validation ?? train
    let heldRange = validation.map { 0..<$0.tokenCount } ?? border..<train.tokenCount
    func finish(_ shard: Int, _ path: String) throws(DataError) {
      try aside(path) { file in
        try describe(file)
        let trained = try write(train, train.share(shard, of: shards, 0..<border), to: file, .train)
        let validating = try write(held, held.share(shard, of: shards, heldRange), to: file, .validation)
        summary.trainTokens += trained.tokens
        summary.validationTokens += validating.tokens
        try file.setAttribute(
          DatasetDigest.name,
          DatasetDigest.of(
            task: task, vocabulary: tokenizer.vocabulary, tokenizer: tokenizer, labels: [],
            lines: trained.lines + validating.lines))
      }
    }
    if shards == 0 {
      try finish(0, output)
    } else {
      try folderAside { folder throws(DataError) in
        for shard in 0..<shards { try finish(shard, "\(folder)/\(Corpus.shardName(shard, of: shards))") }
      }
    }
    // Also what an earlier preparation left, which had validation files.
    for name in ["train", "validation"] { TokenJournal.remove("\(output).\(name)") }
    return summary
  }

  /// Fills a folder beside its place, which it takes when all shards are there. Only a folder of shards is replaced.
  private func folderAside(_ fill: (String) throws(DataError) -> Void) throws(DataError) {
    let aside = output + ".tmp"
    do {
      try? FileManager.default.removeItem(atPath: aside)
      try Durable.makeFolder(aside)
      defer { try? FileManager.default.removeItem(atPath: aside) }
      try fill(aside)
      // The user's other files are none of ours.
      if fileExists(output) { _ = try Corpus.files(of: output) }
      try Durable.replaceFolder(output, by: aside)
    } catch let error as DataError { throw error } catch {
      throw .unreadable("\(error)")
    }
  }

  /// Writes a dataset beside its place, and gives it its name when it is whole.
  private func aside<Result>(
    _ output: String, _ write: (HDF5File) throws -> Result
  ) throws(DataError) -> Result {
    let aside = output + ".tmp"
    defer { unlink(aside) }
    let result: Result
    do {
      let file = try HDF5File.create(aside)
      result = try write(file)
      try file.flush()
    } catch let error as DataError { throw error } catch {
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
    return result
  }

  private func describe(_ file: HDF5File) throws(HDF5Error) {
    try file.setAttribute("ress_dataset_format", Dataset.format)
    if task == .lm { try file.setAttribute("vocabulary", tokenizer.vocabulary) }
    try file.setAttribute("task", task.rawValue)
    try file.setAttribute("sources", (sources + validationSources).joined(separator: "\n"))
    switch tokenizer {
    case .byte: try file.setAttribute("tokenizer", ByteTokenizer.name)
    case .bytePairs:
      try file.setAttribute("tokenizer", "tokenizer.json")
      try file.createList("tokenizer", .bits8).append(tokenizer.stored.utf8.map { Int32($0) })
    }
  }

  // MARK: Text to tokens

  /// The tokens of all files, in their order.
  private func journal(
    _ files: [SourceFile], _ name: String, _ reader: DocumentReader, progress: (Int) -> Void
  ) throws(DataError) -> TokenJournal {
    do {
      let journal = try TokenJournal("\(output).\(name)", key: key(files))
      if journal.resumedPieces > 0 { try journal.verify() }
      var batch: [TextPiece] = [], waiting = 0, pieces = 0, before = 0
      func encode() throws {
        try journal.append(tokens(of: batch), textBytes: waiting, pieces: batch.count)
        (batch, waiting) = ([], 0)
      }
      for file in files {
        try reader.read(file) {
          progress(before + $0)
        } body: { piece in
          pieces += 1
          if pieces <= journal.resumedPieces { return }
          batch.append(piece)
          waiting += piece.bytes.count
          if waiting >= Self.batchBytes { try encode() }
        }
        try file.checkUnchanged()
        before += file.size
        progress(before)
      }
      try encode()
      return journal
    } catch let error as DataError { throw error } catch {
      throw .file(action: "prepare", path: output, reason: "\(error)")
    }
  }

  /// What must be the same for tokens of an earlier preparation to count.
  private func key(_ files: [SourceFile]) -> String {
    // What comes from a pipe is never known to be the same.
    let described = files.map { $0.isStream ? UUID().uuidString : "\($0.path) \($0.size) \($0.modified)" }
    return
      (["cuts 2", options.field ?? SourceOptions.standardField, options.format.rawValue, tokenizer.stored] + described)
      .joined(separator: "\n")
  }

  private func tokens(of batch: [TextPiece]) -> [TokenJournal.Piece] {
    var results = Array(repeating: TokenJournal.Piece(), count: batch.count)
    let lanes = max(1, min(threads, batch.count))
    results.withUnsafeMutableBufferPointer { results in
      nonisolated(unsafe) let results = results
      DispatchQueue.concurrentPerform(iterations: lanes) { lane in
        var encoder = tokenizer.makeEncoder()
        // Neighbours, so that each lane's words are alike.
        for number in lane * batch.count / lanes..<(lane + 1) * batch.count / lanes {
          let piece = batch[number]
          results[number].beginsDocument = piece.beginsDocument
          if piece.beginsDocument, let separator = tokenizer.separator { results[number].tokens.append(separator) }
          encoder.encode(piece.bytes, into: &results[number].tokens)
        }
      }
    }
    return results
  }

  // MARK: Tokens to the dataset

  /// Writes a range of a journal as a split, which begins with a document. Returns its number of tokens, and what its lists add to the
  /// dataset's digest.
  private func write(
    _ journal: TokenJournal, _ range: Range<Int>, to file: HDF5File, _ split: Split
  ) throws -> (tokens: Int, lines: [String]) {
    let tokens = DigestedList(
      try file.createList("\(split.rawValue)/tokens", tokenizer.vocabulary > 1 << 16 ? .bits32 : .bits16))
    let documents = DigestedList(try file.createList("\(split.rawValue)/documents", .bits64))
    guard !range.isEmpty else { return (0, [tokens.line(), documents.line()]) }
    var offsets = journal.documents.filter { range.contains(Int($0)) }
    var shift = -range.lowerBound
    if offsets.first != UInt64(range.lowerBound) {
      // The second part of a document that was cut is one too.
      if let separator = tokenizer.separator {
        try tokens.append([separator])
        shift += 1
      }
      offsets = offsets.map { UInt64(Int($0) + shift) }
      offsets.insert(0, at: 0)
    } else {
      offsets = offsets.map { UInt64(Int($0) + shift) }
    }
    try documents.append(offsets)
    try journal.read(range) { piece in try tokens.append(piece) }
    return (tokens.count, [tokens.line(), documents.line()])
  }
}
