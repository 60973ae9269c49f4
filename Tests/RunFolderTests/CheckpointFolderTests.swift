// Which folders count as checkpoints.

import Configuration
import Foundation
import RunFolder
import Testing

#if canImport(Glibc)
  import Glibc
#endif

@Suite final class CheckpointFolderTests {
  private let folder = NSTemporaryDirectory() + "ress-run-" + UUID().uuidString

  init() throws { try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true) }
  deinit { try? FileManager.default.removeItem(atPath: folder) }

  private func message(_ body: () throws -> Void) -> String {
    do { try body() } catch { return "\(error)" }
    return "no error"
  }

  /// A checkpoint with two files.
  @discardableResult
  private func save(step: Int, content: String = "weights") throws -> String {
    let aside = CheckpointFolder.unfinished(folder, step: step, generation: 0)
    try FileManager.default.createDirectory(atPath: aside, withIntermediateDirectories: true)
    let files = try ["model.h5", "shard-0000-of-0001.h5"].map { name in
      try (content + " of \(name) at \(step)").write(toFile: aside + "/" + name, atomically: false, encoding: .utf8)
      let (digest, byteCount) = try SHA256.ofFile(aside + "/" + name)
      return CheckpointManifest.File(name: name, byteCount: byteCount, sha256: digest)
    }
    return try CheckpointFolder.commit(manifest(step, files), folder: folder)
  }

  private func manifest(_ step: Int, _ files: [CheckpointManifest.File]) -> CheckpointManifest {
    CheckpointManifest(
      run: "r", runIdentifier: "1", step: step, configuration: RunConfiguration(), loss: .nan, files: files,
      writer: "test",
      created: "now")
  }

  @Test func `SHA-256 gives the published digests`() throws {
    for (text, digest) in [
      ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
      ("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
      (String(repeating: "a", count: 1_000_000), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"),
    ] {
      try text.write(toFile: folder + "/x", atomically: false, encoding: .utf8)
      #expect(try SHA256.ofFile(folder + "/x") == (digest, text.utf8.count))
    }
  }

  @Test func `a committed checkpoint verifies, and steps are listed in order`() throws {
    for step in [200, 3, 1000] { try save(step: step) }
    try FileManager.default.createDirectory(atPath: folder + "/step-7", withIntermediateDirectories: true)
    try FileManager.default.createDirectory(atPath: folder + "/step-00000009.tmp", withIntermediateDirectories: true)
    #expect(CheckpointFolder.steps(folder) == [3, 200, 1000])
    #expect(try CheckpointFolder.verify(folder + "/step-00000200").step == 200)
    #expect(try CheckpointFolder.newest(folder)?.manifest.step == 1000)
    #expect(try CheckpointFolder.resolve(folder + "/step-00000003/").manifest.step == 3)
    #expect(try CheckpointFolder.resolve(folder).manifest.step == 1000)
  }

  @Test func `a commit is refused where a file is missing or too short, and there is no new checkpoint`() throws {
    let aside = CheckpointFolder.unfinished(folder, step: 5, generation: 0)
    try FileManager.default.createDirectory(atPath: aside, withIntermediateDirectories: true)
    let file = CheckpointManifest.File(name: "a.h5", byteCount: 3, sha256: "")
    #expect(
      message { _ = try CheckpointFolder.commit(manifest(5, [file]), folder: folder) }.contains("a.h5 does not exist"))
    try "xx".write(toFile: aside + "/a.h5", atomically: false, encoding: .utf8)
    #expect(
      message { _ = try CheckpointFolder.commit(manifest(5, [file]), folder: folder) }.contains(
        "2 bytes where the worker wrote 3"))
    #expect(CheckpointFolder.steps(folder).isEmpty)
  }

  @Test func `saving a step again replaces its checkpoint completely`() throws {
    try save(step: 5, content: "old")
    let path = try save(step: 5, content: "new")
    #expect(try CheckpointFolder.verify(path).step == 5)
    #expect(try String(contentsOfFile: path + "/model.h5", encoding: .utf8).hasPrefix("new"))
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder) == ["step-00000005"])
  }

  @Test func `where folders cannot be exchanged, a damaged one is replaced by renames or stays complete`() throws {
    func make(_ name: String, _ content: String) throws -> String {
      let path = folder + "/" + name
      try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
      try content.write(toFile: path + "/model.h5", atomically: false, encoding: .utf8)
      return path
    }
    func content(_ path: String) -> String? { try? String(contentsOfFile: path + "/model.h5", encoding: .utf8) }
    for code in [EINVAL, ENOSYS] {
      let (old, fresh) = (try make("old", "damaged"), try make("fresh", "whole"))
      try Durable.replaceFolder(old, by: fresh) { _, _ in
        errno = code
        return -1
      }
      #expect(content(old) == "whole")
      #expect(try FileManager.default.contentsOfDirectory(atPath: folder) == ["old"])
    }
    let fresh = try make("fresh", "newer")
    #expect(
      message {
        try Durable.replaceFolder(folder + "/old", by: fresh) { _, _ in
          errno = EIO
          return -1
        }
      }.contains("exchange"))
    #expect(content(folder + "/old") == "whole" && content(fresh) == "newer")
  }

  @Test func `checkpoints after the one that a run returns to are set aside and not deleted`() throws {
    for step in [10, 20, 30] { try save(step: step) }
    #expect(
      try CheckpointFolder.setAside(folder, after: 10) == ["step-00000020.aside", "step-00000030.aside"])
    #expect(CheckpointFolder.steps(folder) == [10])
    try save(step: 20, content: "other weights")
    #expect(try CheckpointFolder.setAside(folder, after: 10) == ["step-00000020.aside-2"])
    #expect(try CheckpointFolder.verify(folder + "/step-00000020.aside").step == 20)
    #expect(try CheckpointFolder.setAside(folder, after: 10) == [])
  }

  @Test func `unfinished saves are removed, and nothing else is`() throws {
    try save(step: 5)
    try FileManager.default.createDirectory(
      atPath: folder + "/step-00000006.tmp/deep", withIntermediateDirectories: true)
    try "x".write(toFile: folder + "/metrics.jsonl", atomically: false, encoding: .utf8)
    #expect(try CheckpointFolder.removeUnfinished(folder) == ["step-00000006.tmp"])
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder).sorted() == ["metrics.jsonl", "step-00000005"])
  }

  @Test func `a flipped byte, a truncated or a missing file is found anywhere, and named`() throws {
    let path = try save(step: 5)
    for name in ["model.h5", "shard-0000-of-0001.h5"] {
      let place = path + "/" + name
      let whole = FileManager.default.contents(atPath: place)!
      for offset in whole.indices {
        var damaged = whole
        damaged[offset] ^= 0x10
        try damaged.write(to: URL(filePath: place))
        #expect(message { _ = try CheckpointFolder.verify(path) }.contains("\(name) is damaged: its SHA-256"))
      }
      for count in 0..<whole.count {
        try whole.prefix(count).write(to: URL(filePath: place))
        #expect(message { _ = try CheckpointFolder.verify(path) }.contains("\(name) is damaged: \(count) bytes where"))
      }
      try FileManager.default.removeItem(atPath: place)
      #expect(message { _ = try CheckpointFolder.verify(path) }.contains("\(name) is missing"))
      try whole.write(to: URL(filePath: place))
    }
    #expect(try CheckpointFolder.verify(path).step == 5)
  }

  @Test
  func `a folder whose manifest is missing, damaged, foreign or names outside files is not a checkpoint`()
    throws
  {
    let path = try save(step: 5)
    let place = path + "/manifest.json"
    let whole = try String(contentsOfFile: place, encoding: .utf8)
    func expect(_ text: String?, _ part: String) throws {
      if let text {
        try text.write(toFile: place, atomically: false, encoding: .utf8)
        // An attacker who writes a manifest can also write its checksum.
        let sums = try String(contentsOfFile: path + "/SHA256SUMS", encoding: .utf8).split(separator: "\n").dropLast()
        try (sums + ["\(SHA256.of(Array(text.utf8)))  manifest.json"]).joined(separator: "\n").appending("\n")
          .write(toFile: path + "/SHA256SUMS", atomically: false, encoding: .utf8)
      } else {
        try FileManager.default.removeItem(atPath: place)
      }
      let said = message { _ = try CheckpointFolder.verify(path) }
      #expect(said.contains(part), "\(said)")
      #expect(try CheckpointFolder.newest(folder) == nil)
    }
    try expect(String(whole.prefix(whole.count / 2)), "it is not a manifest in JSON")
    try expect(
      whole.replacingOccurrences(of: "\"format\" : 2", with: "\"format\" : 3"),
      "format 3, and this program reads format 2")
    try expect(
      whole.replacingOccurrences(of: "\"step\" : 5", with: "\"step\" : \"five\""),
      "fields are missing or of another type")
    try expect(whole.replacingOccurrences(of: "\"model.h5\"", with: "\"../model.h5\""), "it names a file '../model.h5'")
    try expect("{}", "it is not a manifest in JSON")
    try expect(nil, "it has no readable manifest.json")
  }

  @Test func `newer checkpoints that are damaged are skipped, with the reasons`() throws {
    for step in [1, 2, 3] { try save(step: step) }
    try FileManager.default.removeItem(atPath: folder + "/step-00000003/manifest.json")
    try Data([1]).write(to: URL(filePath: folder + "/step-00000002/model.h5"))
    let newest = try CheckpointFolder.newest(folder)
    #expect(newest?.manifest.step == 1)
    #expect(newest?.skipped.count == 2)
    #expect(newest?.skipped[0].contains("step-00000003 is passed over") == true)
    #expect(newest?.skipped[1].contains("model.h5 is damaged") == true)
  }

  @Test func `a file in the place of a folder is an error that names it`() throws {
    try "x".write(toFile: folder + "/file", atomically: false, encoding: .utf8)
    #expect(message { try Durable.makeFolder(folder + "/file") }.contains("a file with that name exists"))
  }

  @Test func `metrics keep one curve, without steps to be recomputed and without incomplete lines`() throws {
    let metrics = MetricsFile(folder: folder)
    for step in 1...5 { try metrics.append("{\"step\":\(step),\"loss\":2.5}") }
    try metrics.append("{\"step\":5,\"validation_loss\":2.0}")
    let handle = FileHandle(forWritingAtPath: metrics.path)!
    handle.seekToEndOfFile()
    handle.write(Data("{\"step\":6,\"lo".utf8))
    handle.closeFile()
    try metrics.cut(after: 5)
    #expect(try String(contentsOfFile: metrics.path, encoding: .utf8).split(separator: "\n").count == 6)
    try metrics.cut(after: 3)
    let lines = try String(contentsOfFile: metrics.path, encoding: .utf8).split(separator: "\n")
    #expect(lines.count == 3 && lines.last == "{\"step\":3,\"loss\":2.5}")
    try metrics.cut(after: 0)
    #expect(try String(contentsOfFile: metrics.path, encoding: .utf8).isEmpty)
  }
}
