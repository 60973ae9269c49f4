// Which checkpoints are removed when there are more than are to be kept.

import Configuration
import Foundation
import RunFolder
import Testing

#if canImport(Glibc)
  import Glibc
#endif

@Suite final class RetentionTests {
  private let folder = NSTemporaryDirectory() + "ress-retention-" + UUID().uuidString

  init() throws { try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true) }
  deinit { try? FileManager.default.removeItem(atPath: folder) }

  private func save(step: Int, validation: Double? = nil) throws {
    let aside = CheckpointFolder.unfinished(folder, step: step, generation: 1)
    try FileManager.default.createDirectory(atPath: aside, withIntermediateDirectories: true)
    try "weights at \(step)".write(toFile: aside + "/model.h5", atomically: false, encoding: .utf8)
    let (digest, byteCount) = try SHA256.ofFile(aside + "/model.h5")
    var manifest = CheckpointManifest(
      run: "r", runIdentifier: "1", step: step, configuration: RunConfiguration(), loss: 1,
      files: [.init(name: "model.h5", byteCount: byteCount, sha256: digest)], writer: "test", created: "now",
      generation: 1)
    manifest.validationLoss = validation
    _ = try CheckpointFolder.commit(manifest, folder: folder)
  }

  @Test func `the checkpoints with the smallest validation losses are kept, and a link names the best`() throws {
    let losses: [Double?] = [5, 2, nil, 3, 2, .nan, 4]
    for (index, loss) in losses.enumerated() {
      try save(step: 10 * (index + 1), validation: loss)
      try CheckpointFolder.linkBest(folder)
      _ = try CheckpointFolder.retain(folder, newest: 1, every: 0, best: 2)
    }
    #expect(CheckpointFolder.steps(folder) == [20, 50, 70])
    let best = try CheckpointFolder.resolve(folder + "/best")
    #expect(best.path == folder + "/step-00000020" && best.manifest.validationLoss == 2)
    #expect(try CheckpointFolder.resolve(folder + "/best/").path == best.path)
    // Newest first, whatever is linked.
    #expect(try CheckpointFolder.newest(folder)?.manifest.step == 70)
    // The run continues from an older step: what is set aside is not the best any more.
    _ = try CheckpointFolder.setAside(folder, after: 0)
    try CheckpointFolder.linkBest(folder)
    #expect(throws: (any Error).self) { try FileManager.default.destinationOfSymbolicLink(atPath: folder + "/best") }
    try "mine".write(toFile: folder + "/best", atomically: false, encoding: .utf8)
    try save(step: 80, validation: 1)
    #expect(throws: FolderError.self) { try CheckpointFolder.linkBest(folder) }
    #expect(try String(contentsOfFile: folder + "/best", encoding: .utf8) == "mine")
  }

  @Test func `a folder into which an ending worker still writes is removed`() throws {
    for round in 0..<20 {
      let aside = "\(folder)/step-\(round).tmp"
      try FileManager.default.createDirectory(atPath: aside, withIntermediateDirectories: true)
      let ended = DispatchSemaphore(value: 0)
      Thread.detachNewThread {
        for file in 0..<500 {
          let descriptor = open("\(aside)/shard-\(file)", O_CREAT | O_WRONLY, 0o600)
          if descriptor >= 0 { close(descriptor) }
          rename("\(aside)/shard-\(file)", "\(aside)/whole-\(file)")
        }
        ended.signal()
      }
      try Durable.removeFolder(aside)
      ended.wait()
      #expect(access(aside, F_OK) != 0, "round \(round)")
    }
  }

  @Test func `the newest checkpoints and every n-th step are kept, the others are removed`() throws {
    for step in stride(from: 10, through: 100, by: 10) { try save(step: step) }
    #expect(try CheckpointFolder.retain(folder, newest: 0, every: 0).isEmpty)
    let removed = try CheckpointFolder.retain(folder, newest: 2, every: 30)
    #expect(CheckpointFolder.steps(folder) == [30, 60, 90, 100])
    #expect(removed.count == 6 && removed[0] == "step-00000010")
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder).allSatisfy { !$0.hasSuffix(".tmp") })
  }

  @Test func `the newest checkpoint that verifies is always kept, whatever is damaged`() throws {
    var state: UInt64 = 3
    func draw(_ limit: Int) -> Int {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return Int((state >> 33) % UInt64(limit))
    }
    for round in 0..<150 {
      try? FileManager.default.removeItem(atPath: folder)
      try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
      for step in 1...(1 + draw(6)) { try save(step: step) }
      for step in CheckpointFolder.steps(folder) where draw(2) == 0 {
        try Data([UInt8(draw(256))]).write(
          to: URL(filePath: CheckpointFolder.finished(folder, step: step) + "/model.h5"))
      }
      let before = try CheckpointFolder.newest(folder)?.manifest.step
      _ = try CheckpointFolder.retain(folder, newest: 1 + draw(3), every: draw(3))
      #expect(try CheckpointFolder.newest(folder)?.manifest.step == before, "round \(round)")
    }
  }

  @Test func `uncommitted saves of earlier generations are removed, those of this one are kept`() throws {
    for generation in UInt32(1)...3 {
      let aside = CheckpointFolder.unfinished(folder, step: 7, generation: generation)
      try FileManager.default.createDirectory(atPath: aside, withIntermediateDirectories: true)
    }
    try CheckpointFolder.removeUnfinished(folder, before: 3)
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder) == ["step-00000007.g3.tmp"])
  }

  @Test func `a proof reads back to the same bits, and a damaged one is ignored`() throws {
    try save(step: 5)
    let path = CheckpointFolder.finished(folder, step: 5)
    #expect(CheckpointFolder.readProof(path) == nil)
    let proof = ResumeProof(step: 6, loss: 0.1 + 0.2, gradientNorm: 1 / 3)
    try CheckpointFolder.writeProof(proof, in: path)
    #expect(CheckpointFolder.readProof(path) == proof)
    #expect(try CheckpointFolder.verify(path).step == 5, "a proof is no part of what is verified")
    let place = path + "/proof.json"
    let text = try String(contentsOfFile: place, encoding: .utf8)
    try text.replacingOccurrences(of: "0.3000", with: "0.3001").write(toFile: place, atomically: false, encoding: .utf8)
    #expect(CheckpointFolder.readProof(path) == nil)
  }

  @Test func `metrics missing after a crash are added, a torn line is removed, and another curve is kept`() throws {
    let metrics = MetricsFile(folder: folder)
    let lines = (1...4).map { "{\"step\":\($0)}" }
    for line in lines[..<2] { try metrics.append(line) }
    let file = try FileHandle(forWritingTo: URL(filePath: metrics.path))
    try file.seekToEnd()
    try file.write(contentsOf: Data("{\"st".utf8))
    try metrics.complete(lines)
    #expect(try String(contentsOfFile: metrics.path, encoding: .utf8) == lines.joined(separator: "\n") + "\n")
    try metrics.append("{\"step\":9}")
    try metrics.complete(lines)
    #expect(try String(contentsOfFile: metrics.path, encoding: .utf8).hasSuffix("{\"step\":9}\n"))
  }

  @Test func `missing lines of metrics are written again, after lines from before the store`()
    throws
  {
    let metrics = MetricsFile(folder: folder)
    let lines = (5...12).map { "{\"step\":\($0),\"loss\":1}" }
    let earlier = (1...4).map { "{\"step\":\($0),\"loss\":9}" }
    for missing in [[0], [3], [7], [0, 1, 2, 3, 4, 5, 6, 7], [2, 4, 5]] {
      unlink(metrics.path)
      for line in earlier { try metrics.append(line) }
      for (index, line) in lines.enumerated() where !missing.contains(index) { try metrics.append(line) }
      #expect(try metrics.complete(lines))
      #expect(
        try String(contentsOfFile: metrics.path, encoding: .utf8) == (earlier + lines).joined(separator: "\n") + "\n")
      #expect(try !metrics.complete(lines), "nothing is missing now")
    }
  }

  @Test func `a file that cannot be read is an error, and not an empty one`() throws {
    let metrics = MetricsFile(folder: folder)
    try FileManager.default.createDirectory(atPath: metrics.path, withIntermediateDirectories: false)
    for attempt in [{ try metrics.append("{}") }, { _ = try metrics.complete(["{}"]) }, { try metrics.cut(after: 1) }] {
      do {
        try attempt()
        Issue.record("a folder was taken for a file")
      } catch { #expect("\(error)".hasSuffix("metrics.jsonl: Is a directory"), "\(error)") }
    }
  }

  @Test func `the error for a folder that cannot be created has the reason`() throws {
    try Data().write(to: URL(filePath: folder + "/file"))
    try Durable.makeFolder(folder + "/a/b/c")
    try Durable.makeFolder(folder + "/a/b/c")
    func reason(_ path: String) -> String {
      do { try Durable.makeFolder(path) } catch { return "\(error)" }
      return "no error"
    }
    #expect(reason(folder + "/file").hasSuffix("a file with that name exists"))
    #expect(reason(folder + "/file/x").hasSuffix("a part of its path is a file"))
    // No folder can be created in /proc, not even by root.
    #expect(
      reason("/proc/none/x").contains("No such file or directory") && !reason("/proc/none/x").contains("no error"))
    #expect(
      reason("/sys/kernel/none/x").hasSuffix("Operation not permitted")
        || reason("/sys/kernel/none/x").hasSuffix("Read-only file system")
        || reason("/sys/kernel/none/x").hasSuffix("Permission denied"))
  }

  @Test func `a lock has one holder at a time, and names it`() throws {
    let path = folder + "/lock"
    var lock: FileLock? = try FileLock(path, holder: "process 1 on here")
    #expect(throws: LockError.held(by: "process 1 on here")) { _ = try FileLock(path, holder: "me") }
    withExtendedLifetime(lock) {}
    lock = nil
    lock = try FileLock(path, holder: "me")
    // A file that was removed is no longer the lock.
    unlink(path)
    let fresh = try FileLock(path, holder: "you")
    #expect(throws: LockError.held(by: "you")) { _ = try FileLock(path, holder: "me") }
    withExtendedLifetime((lock, fresh)) {}
    #expect(throws: LockError.self) { _ = try FileLock(folder, holder: "me") }
  }
}
