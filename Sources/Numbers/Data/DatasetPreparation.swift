// `ress data prepare`: turns text into a dataset.
//
// Text is read once, in pieces. Threads turn the pieces into tokens, which are appended in order to a journal
// (`TokenJournal`), so that an interrupted preparation continues where its journal ends. The dataset is then
// written from the journal, under a temporary name, and renamed when it is complete: a failure never damages an
// existing dataset.

import Dispatch
import Foundation
import HDF5
import RunFolder

#if canImport(Glibc)
  import Glibc
#endif

func fileExists(_ path: String) -> Bool { FileManager.default.fileExists(atPath: path) }

package struct DatasetPreparation {
  /// Files, pipes, or folders whose files are read in the order of their names: text or rows, compressed or not.
  package var sources: [String]
  /// Files for validation. Where there are any, no text of `sources` is used for validation.
  package var validationSources: [String] = []
  package var output: String
  package var tokenizer = Tokenizer.byte
  package var task = TaskKind.lm
  /// Size in bytes up to which the context of a span task is filled with paragraphs of other rows; 0 for no
  /// filling.
  package var contextBytes = 0
  /// Most nodes of an example of a graph task, including the node itself.
  package var nodeLimit = 32
  /// Value of the field `split` of the nodes that validate.
  package var validationSplit = "valid"
  /// Whether relations between tokens are read from the rows, or made of them.
  package var readsRelations = false
  package var options = SourceOptions()
  /// Paths that are not used even if they are in a source folder, with a description of each.
  package var exclusions: [(path: String, what: String)] = []
  package var threads = 1
  /// Share of the text that is used for validation.
  package var validationFraction = 0.05
  package var splitBy = SplitBy.range
  /// Number of shards, in a folder `output`; 0 writes one file of that name.
  package var shards = 0

  package enum SplitBy: String, CaseIterable, Sendable {
    /// The last part of the text validates, wherever that divides a document.
    case range
    /// Whole documents validate: the last ones, at least one, while at least one is left for training.
    case documents
  }

  package struct Summary: Equatable, Sendable {
    package var documents = 0
    package var bytes = 0
    package var trainTokens = 0
    package var validationTokens = 0
    /// Bytes of text whose tokens an earlier, interrupted preparation had left.
    package var resumedBytes = 0
    package var emptyRows = 0
    package var badRows = 0
    /// For tasks other than the next token: numbers of examples, and of training examples whose answer does not
    /// occur in their text.
    package var trainExamples = 0
    package var validationExamples = 0
    package var withoutAnswer = 0
    /// Relations between tokens in both splits, counted in both directions, and the number of their kinds.
    package var relations = 0
    package var relationKinds = 0
  }

  package init(sources: [String], output: String) {
    self.sources = sources
    self.output = output
  }

  /// Bytes of text that threads encode at a time; after each batch the journal is committed.
  private static let batchBytes = 16 << 20

  /// Files that a preparation creates.
  private var ownFiles: [String] {
    [output, output + ".tmp"]
      + ["train", "validation"].flatMap { TokenJournal.paths("\(output).\($0)") }
  }

  /// Why the options do not fit the task; nil where they do. `run` throws it. A command asks before it calls `run`,
  /// because for its user this is wrong use and not a failure.
  package var conflict: String? {
    if readsRelations, !task.hasRelations {
      let others = TaskKind.allCases.filter(\.hasRelations).map(\.rawValue).joined(separator: ", ")
      return "rows of task \(task.rawValue) have no relations; those of these tasks can have them: \(others)"
    }
    if shards > 0, task != .lm { return "shards are for text; the examples of task \(task.rawValue) are in one file" }
    return nil
  }

  /// - Parameters:
  ///   - progress: called with the bytes read of the files, and their total; the sizes of pipes are not known in
  ///     advance.
  ///   - note: called with a line for each thing in the sources that was left out.
  package func run(
    progress: (Int, Int) -> Void = { _, _ in }, note: (String) -> Void = { _ in }
  ) throws(DataError) -> Summary {
    if let conflict { throw .unreadable(conflict) }
    // A folder of shards replaces an earlier one.
    if let problem = OutputPlace.problem(output) {
      var isFolder: ObjCBool = false
      _ = FileManager.default.fileExists(atPath: output, isDirectory: &isFolder)
      guard shards > 0, isFolder.boolValue else { throw .file(action: "write", path: output, reason: problem) }
      // Throws if the folder contains anything else.
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
    // Checks that the journal's tokens are those that were encoded, whatever happened to its files meanwhile.
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
    // Also removes files that an earlier preparation with validation files has left.
    for name in ["train", "validation"] { TokenJournal.remove("\(output).\(name)") }
    return summary
  }

  /// Fills a temporary folder, which is renamed when all shards are in it. Only a folder of shards is replaced.
  private func folderAside(_ fill: (String) throws(DataError) -> Void) throws(DataError) {
    let aside = output + ".tmp"
    do {
      try? FileManager.default.removeItem(atPath: aside)
      try Durable.makeFolder(aside)
      defer { try? FileManager.default.removeItem(atPath: aside) }
      try fill(aside)
      // A folder with other files of the user is not replaced.
      if fileExists(output) { _ = try Corpus.files(of: output) }
      try Durable.replaceFolder(output, by: aside)
    } catch let error as DataError { throw error } catch {
      throw .unreadable("\(error)")
    }
  }

  /// Writes a dataset under a temporary name, and renames it when it is complete.
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
    try file.setAttribute("tokenizer", tokenizer.fileName ?? ByteTokenizer.name)
    if !tokenizer.isByte { try file.createList("tokenizer", .bits8).append(tokenizer.stored.map { Int32($0) }) }
  }

  // MARK: Text to tokens

  /// The tokens of all files, in order.
  private func journal(
    _ files: [SourceFile], _ name: String, _ reader: DocumentReader, progress: (Int) -> Void
  ) throws(DataError) -> TokenJournal {
    do {
      let journal = try TokenJournal("\(output).\(name)", key: key(files))
      if journal.resumedPieces > 0 { try journal.verify() }
      var batch: [TextPiece] = [], waiting = 0, pieces = 0, before = 0
      func encode() throws {
        try journal.append(try tokens(of: batch), textBytes: waiting, pieces: batch.count)
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

  /// Identifies the inputs. Tokens of an earlier preparation are used only where it is the same.
  private func key(_ files: [SourceFile]) -> String {
    // The contents of a pipe cannot be known to be the same, so they get a random key.
    let described = files.map { $0.isStream ? UUID().uuidString : "\($0.path) \($0.size) \($0.modified)" }
    return
      (["cuts 3", options.field ?? SourceOptions.standardField, options.format.rawValue, tokenizer.digest] + described)
      .joined(separator: "\n")
  }

  private func tokens(of batch: [TextPiece]) throws(TokenizerError) -> [TokenJournal.Piece] {
    var results = Array(repeating: TokenJournal.Piece(), count: batch.count)
    let lanes = max(1, min(threads, batch.count))
    var problems = [TokenizerError?](repeating: nil, count: lanes)
    results.withUnsafeMutableBufferPointer { results in
      problems.withUnsafeMutableBufferPointer { problems in
        nonisolated(unsafe) let results = results
        nonisolated(unsafe) let problems = problems
        DispatchQueue.concurrentPerform(iterations: lanes) { lane in
          var encoder = tokenizer.makeEncoder()
          // Each lane encodes adjacent pieces, so that its words are similar and its cache of pieces is effective.
          for number in lane * batch.count / lanes..<(lane + 1) * batch.count / lanes {
            let piece = batch[number]
            results[number].beginsDocument = piece.beginsDocument
            if piece.beginsDocument, let separator = tokenizer.separator { results[number].tokens.append(separator) }
            encoder.encode(piece.bytes, continues: !piece.beginsDocument, into: &results[number].tokens)
          }
          problems[lane] = encoder.problem
        }
      }
    }
    if let problem = problems.lazy.compactMap({ $0 }).first { throw problem }
    return results
  }

  // MARK: Tokens to the dataset

  /// Writes a range of a journal as a split, which always begins with a document. Returns the number of tokens, and
  /// the lines of its lists for the digest.
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
      // The range begins inside a document, whose second part becomes a document of its own.
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
