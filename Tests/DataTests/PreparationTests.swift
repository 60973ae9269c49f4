// Preparations: only one at a time per output, of everything in the sources and of nothing else.

import Foundation
import Testing

import Data

#if canImport(Glibc)
  import Glibc
#endif

@Suite final class `Preparing a dataset` {
  private let folder = NSTemporaryDirectory() + "ress-prepare-" + UUID().uuidString

  init() throws { try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true) }
  deinit { try? FileManager.default.removeItem(atPath: folder) }

  private func path(_ name: String) -> String { folder + "/" + name }

  private func write(_ name: String, _ text: String) throws {
    let place = path(name)
    try FileManager.default.createDirectory(
      atPath: (place as NSString).deletingLastPathComponent, withIntermediateDirectories: true)
    try text.write(toFile: place, atomically: true, encoding: .utf8)
  }

  private func link(_ name: String, to target: String) throws { #expect(symlink(target, path(name)) == 0) }

  private func preparation(_ sources: String..., output: String = "d.h5") -> DatasetPreparation {
    var preparation = DatasetPreparation(sources: sources.map(path), output: path(output))
    preparation.validationFraction = 0
    return preparation
  }

  private func short(_ text: Any) -> String { "\(text)".replacing(folder + "/", with: "") }

  private func complaint(_ preparation: DatasetPreparation) -> String {
    do { _ = try preparation.run() } catch { return short(error) }
    return "no error"
  }

  private func text(_ split: Split = .train, of output: String = "d.h5") throws -> String {
    let tokens = try Dataset(path: path(output)).split(split)
    var values: [Int32] = []
    try tokens.read(from: 0, count: tokens.tokenCount, into: &values)
    return String(decoding: values.map { $0 == 256 ? UInt8(ascii: "|") : UInt8($0) }, as: UTF8.self)
  }

  // MARK: One at a time

  @Test func `a second preparation of an output is refused with the holder's name, and the first completes`() throws {
    let own = String(repeating: "aaaa bbbb ", count: 400_000), other = String(repeating: "cccc dddd ", count: 400_000)
    try write("a.txt", own)
    try write("b.txt", other)
    var refusals: Set<String> = []
    // Also under another name of the folder.
    try link("same", to: folder)
    var second = preparation("b.txt"), third = preparation("b.txt", output: "same/d.h5")
    (second.threads, third.threads) = (2, 2)
    _ = try preparation("a.txt").run(progress: { _, _ in
      refusals.insert(self.complaint(second))
      refusals.insert(self.complaint(third))
    })
    #expect(refusals.count == 2)
    for refusal in refusals {
      #expect(refusal.contains("d.h5 is being prepared by process \(getpid()) on "), "\(refusal)")
    }
    #expect(try text() == "|" + own)
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder).sorted() == ["a.txt", "b.txt", "d.h5", "same"])
    _ = try second.run()
    #expect(try text() == "|" + other)
  }

  @Test func `a lock file of a dead process does not block a preparation`() throws {
    try write("a.txt", "text")
    try write("d.h5.lock", "process 1 on another machine")
    _ = try preparation("a.txt").run()
    #expect(try text() == "|text")
    #expect(!FileManager.default.fileExists(atPath: path("d.h5.lock")))
  }

  @Test func `tokens that another program changed meanwhile do not become a dataset`() throws {
    try write("a.txt", String(repeating: "some words ", count: 1000))
    try write("b.txt", String(repeating: "more words ", count: 1000))
    var preparation = preparation("a.txt")
    preparation.validationSources = [path("b.txt")]
    let journal = path("d.h5.train.tokens")
    // The training tokens are in the journal when the validation text is read.
    #expect(throws: DataError.self) {
      try preparation.run(progress: { _, _ in
        guard let tokens = FileManager.default.contents(atPath: journal), tokens.count > 1000 else { return }
        let descriptor = open(journal, O_WRONLY)
        pwrite(descriptor, [UInt8(7)], 1, 400)
        close(descriptor)
      })
    }
    #expect(!FileManager.default.fileExists(atPath: path("d.h5")))
  }

  @Test func `a file that changes while it is read is an error`() throws {
    try write("a.txt", String(repeating: "some words ", count: 300_000))
    var isChanged = false
    do {
      _ = try preparation("a.txt").run(progress: { _, _ in
        guard !isChanged else { return }
        isChanged = true
        let descriptor = open(self.path("a.txt"), O_WRONLY | O_APPEND)
        Glibc.write(descriptor, "more", 4)
        close(descriptor)
      })
      Issue.record("prepared")
    } catch { #expect(short(error).contains("a.txt: it changed while it was read")) }
  }

  // MARK: Links and folders

  @Test func `links to files and folders are followed, inside folders and as sources`() throws {
    try write("real/a.txt", "one")
    try write("real/sub/b.txt", "two")
    try write("elsewhere/c.txt", "three")
    try write("d.txt", "four")
    try link("real/linked", to: "../elsewhere")
    try link("real/z.txt", to: "../d.txt")
    try link("rl", to: "real")
    _ = try preparation("rl").run()
    #expect(try text() == "|one|three|two|four")
    _ = try preparation("real").run()
    #expect(try text() == "|one|three|two|four")
  }

  @Test func `a cycle of links ends, and what is left out of a folder is reported`() throws {
    try write("books/a.txt", "one")
    try write("books/sub/b.txt", "two")
    try write("books/empty.txt", "")
    try write("books/.git/x", "hidden")
    try write("books/.DS_Store", "hidden")
    try link("books/sub/up", to: "..")
    try link("books/self", to: "self")
    try link("books/gone", to: "nothing")
    #expect(mkfifo(path("books/pipe"), 0o600) == 0)
    var notes: [String] = []
    _ = try preparation("books").run(note: { notes.append(self.short($0)) })
    #expect(try text() == "|one|two")
    #expect(
      notes.sorted() == [
        "books/gone is left out: it is a link to a path that does not exist",
        "books/pipe is left out: it is neither a file nor a folder",
        "books/self is left out: it is a link to a path that does not exist",
        "books/sub/up is left out: it is a link to a folder that it lies in",
        "books: 1 empty file is left out (empty.txt)",
        "books: 2 hidden files and folders are left out (.DS_Store, …)",
      ])
  }

  @Test func `a dangling link is an error where it is given as a source`() throws {
    try link("gone", to: "nothing")
    #expect(complaint(preparation("gone")) == "cannot read gone: it is a link to a path that does not exist")
    #expect(complaint(preparation("none")) == "cannot read none: no such file or folder")
  }

  // MARK: Train and validation, source and output

  @Test func `a validation file inside the sources is not trained on`() throws {
    try write("books/a.txt", "train")
    try write("books/val.txt", "held")
    try link("books/again.txt", to: "val.txt")
    var preparation = preparation("books")
    preparation.validationSources = [path("val-link")]
    try link("val-link", to: "books/val.txt")
    var notes: [String] = []
    _ = try preparation.run(note: { notes.append(self.short($0)) })
    #expect(try text() == "|train" && text(.validation) == "|held")
    #expect(
      notes.sorted() == [
        "books/again.txt is left out: it is a validation file, which is not trained on",
        "books/val.txt is left out: it is a validation file, which is not trained on",
      ])
    preparation.sources = [path("books/val.txt")]
    #expect(complaint(preparation).contains("it is a validation file"))
  }

  @Test func `an output inside its source folder is never read as text, nor are its temporary files`()
    throws
  {
    try write("books/a.txt", "some text")
    for _ in 0..<2 {
      _ = try preparation("books", output: "books/d.h5").run()
      #expect(try text(of: "books/d.h5") == "|some text")
    }
    for name in [".tmp", ".lock", ".train.tokens", ".train.progress", ".validation.documents"] {
      try write("books/d.h5" + name, "left by a process that was killed")
    }
    var notes: [String] = []
    _ = try preparation("books", output: "books/d.h5").run(note: { notes.append(self.short($0)) })
    #expect(try text(of: "books/d.h5") == "|some text")
    #expect(notes.contains("books/d.h5 is left out: it is the dataset that is written, or a part of it"))
    var sharded = preparation("books", output: "books/shards")
    sharded.shards = 2
    try FileManager.default.removeItem(atPath: path("books/d.h5"))
    for _ in 0..<2 { #expect(try sharded.run().bytes == 9) }
    // Another dataset in the folder is recognised and refused.
    #expect(complaint(preparation("books", output: "other.h5")).contains("is an HDF5 file"))
  }

  @Test func `a tokenizer and its output inside the sources are not read as text`() throws {
    try write("books/a.txt", "some text")
    try write("books/t.json", "{\n\"model\": 1}")
    var preparation = preparation("books")
    #expect(complaint(preparation).contains("t.json is JSON"))
    preparation.exclusions = [(path("books/t.json"), "the tokenizer")]
    #expect(try preparation.run().bytes == 9)
    var training = BytePairTraining()
    try training.read([path("books")], threads: 1, leavingOut: [(path("books/t.json"), "written")])
    #expect(training.pieceCount == 2)
  }

  // MARK: Where a dataset may be written

  @Test func `an output that is a pipe, a device or a folder is refused and not changed`() throws {
    try write("a.txt", "text")
    #expect(mkfifo(path("pipe"), 0o600) == 0)
    try FileManager.default.createDirectory(atPath: path("folder"), withIntermediateDirectories: true)
    try link("to-pipe", to: "pipe")
    var places = ["pipe", "to-pipe"]
    // A device like /dev/null, which only root can create.
    if mknod(path("device"), S_IFCHR | 0o666, 1 << 8 | 3) == 0 { places.append("device") }
    for place in places {
      var before = stat(), after = stat()
      #expect(lstat(path(place), &before) == 0)
      #expect(complaint(preparation("a.txt", output: place)).contains("cannot write \(place): it is a"))
      #expect(lstat(path(place), &after) == 0 && before.st_ino == after.st_ino)
    }
    #expect(complaint(preparation("a.txt", output: "folder")).contains("it is a folder"))
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder).allSatisfy { !$0.contains(".lock") })
  }

  // MARK: Pipes

  @Test func `a pipe is read like a file, and never continues an earlier preparation`() throws {
    #expect(mkfifo(path("pipe"), 0o600) == 0)
    for round in 0..<2 {
      let rows = (0..<50_000).map { "{\"text\": \"row \($0) of \(round)\"}" }
      let place = path("pipe")
      let writer = Thread {
        guard let file = FileHandle(forWritingAtPath: place) else { return }
        try? file.write(contentsOf: Data(rows.joined(separator: "\n").utf8))
        try? file.close()
      }
      writer.start()
      let summary = try preparation("pipe").run()
      #expect(summary.documents == 50_000 && summary.resumedBytes == 0)
      #expect(try text().hasSuffix("|row 49999 of \(round)"))
    }
  }
}
