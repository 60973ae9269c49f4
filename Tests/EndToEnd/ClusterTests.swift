// Whole runs in real processes, undisturbed and under kill -9, SIGSTOP and damaged files. All are compared with the
// same curve.

import Checkpoint
import Configuration
import Foundation
import TestSupport
import Testing

#if canImport(Glibc)
  import Glibc
#endif

@Suite(.serialized) final class ClusterTests {
  private let place: Workplace
  /// The undisturbed run, with one worker and one thread.
  private let curve: [String]

  init() throws {
    place = try Workplace()
    let whole = try place.run(["train", "run.yaml", "--workers", "1", "--threads", "1"])
    #expect(whole.code == 0, "\(whole.output)\(whole.errors)")
    curve = place.curve("first")
    #expect(curve.count == 42)
  }

  private func expectSameEnd(_ run: String) throws {
    #expect(place.curve(run) == curve)
    let one = try CheckpointReader(place.files("first", step: 40))
    let other = try CheckpointReader(place.files(run, step: 40))
    for name in [
      "model/embed/weight", "model/experts/0003/down", "optimizer/second/attn/query/weight", "model/router/bias",
    ] {
      let shape = try one.shape(of: name)
      var x = [Float](repeating: 0, count: shape.reduce(1, *)), y = x
      try one.read(name, shape: shape, into: &x)
      try other.read(name, shape: shape, into: &y)
      #expect(x == y, "\(name)")
    }
  }

  @Test(arguments: [(2, 1), (3, 1), (1, 2)])
  func `any number of worker processes and threads gives the same losses and weights`(workers: Int, threads: Int) throws
  {
    let finished = try place.run([
      "train", "run.yaml", "--workers", "\(workers)", "--threads", "\(threads)", "--set", "run=other",
    ])
    #expect(finished.code == 0, "\(finished.output)\(finished.errors)")
    try expectSameEnd("other")
  }

  @Test(arguments: ["memory", "messages"])
  func `a coordinator and workers over tcp, started in any order, give the same curve`(way: String) throws {
    // The workers are started first and wait for their coordinator.
    let address = "tcp://127.0.0.1:\(freePorts())"
    let workers = try (1...2).map {
      try place.start(["worker", "--coordinator", address, "--name", "w\($0)", "--threads", "1"])
    }
    let coordinator = try place.start(["coordinator", "--listen", address])
    let finished = try place.run([
      "train", "run.yaml", "--coordinator", address, "--set", "run=tcp", "--set", "cluster.workers=2",
      "--set", "cluster.same_machine=\(way)",
    ])
    #expect(finished.code == 0, "\(finished.output)\(finished.errors)\(coordinator.output)\(workers[0].output)")
    try expectSameEnd("tcp")
  }

  @Test(arguments: [(1, 2), (2, 3), (3, 1), (2, 2)])
  func `kill -9 of everything at a random moment, then resume with other workers, continues the curve to the bit`(
    before: Int, after: Int
  ) throws {
    let run = "killed-\(before)-\(after)"
    let training = try place.start([
      "train", "run.yaml", "--workers", "\(before)", "--threads", "1", "--set", "run=\(run)", "--set",
      "checkpoint.every=3",
    ])
    var chance = Chance(run)
    let moment = Int.random(in: 7...30, using: &chance)
    #expect(waitUntil(60) { place.curve(run).count > moment }, "\(training.output)")
    usleep(UInt32.random(in: 0...20_000, using: &chance))
    training.killAll()
    _ = training.exitCode(within: 10)
    let resumed = try place.run([
      "train", "run.yaml", "--workers", "\(after)", "--threads", "1", "--set", "run=\(run)", "--resume",
    ])
    #expect(resumed.code == 0, "killed after \(moment) lines: \(resumed.output)\(resumed.errors)")
    try expectSameEnd(run)
    let left = try FileManager.default.contentsOfDirectory(atPath: "\(place.path)/checkpoints/\(run)")
    #expect(!left.contains { $0.hasSuffix(".tmp") }, "\(left)")
  }

  @Test func `a run killed before its first checkpoint starts again on resume, with the same curve`() throws {
    let words = ["train", "run.yaml", "--set", "run=early", "--threads", "1", "--set", "checkpoint.every=0"]
    let training = try place.start(words)
    #expect(waitUntil(60) { place.curve("early").count > 4 }, "\(training.output)")
    training.killAll()
    _ = training.exitCode(within: 10)
    let resumed = try place.run(words + ["--resume", "--workers", "2"])
    #expect(
      resumed.code == 0 && resumed.output.contains("begins again at step 0"), "\(resumed.output)\(resumed.errors)")
    try expectSameEnd("early")
  }

  @Test func `a damaged checkpoint is refused by name, an older one is used, and no saved file is changed`()
    throws
  {
    let newest = place.files("first", step: 40)
    let shard = newest + "/shard-0000-of-0001.h5"
    var bytes = FileManager.default.contents(atPath: shard)!
    bytes[bytes.count / 2] ^= 1
    try bytes.write(to: URL(filePath: shard))
    let before = place.contents("checkpoints/first/step-00000040")

    let named = try place.run(["train", "run.yaml", "--set", "run=second", "--resume", newest])
    #expect(named.code == 1)
    #expect(
      (named.output + named.errors).contains("shard-0000-of-0001.h5 is damaged"), "\(named.output)\(named.errors)")
    let shown = try place.run(["checkpoint", "show", newest])
    #expect(shown.code == 1)
    let written = try place.run(["generate", newest, "--prompt", "sea", "--tokens", "3"])
    #expect(written.code == 1 && written.errors.contains("is damaged"), "\(written.errors)")

    // Resuming the run itself uses step 30 and reports it.
    let resumed = try place.run(["train", "run.yaml", "--resume", "--workers", "2"])
    #expect(resumed.code == 0, "\(resumed.output)\(resumed.errors)")
    #expect(resumed.output.contains("is passed over"), "\(resumed.output)")
    #expect(place.curve("first") == curve)
    #expect(place.contents("checkpoints/first/step-00000040") != before)
    #expect(try place.run(["checkpoint", "show", newest]).code == 0)
  }

  @Test func `bad input ends with a clear error and its exit code, and no saved file is changed`() throws {
    // Files that a refused run may change: logs, events, and the name of the last lock holder.
    func isRecord(_ name: String) -> Bool {
      name.hasSuffix(".log") || name.hasPrefix("coordinator.db") || name == "run.lock"
    }
    let before = place.contents("checkpoints/first")
    let text = FileManager.default.contents(atPath: place.path + "/text.h5")
    func expect(_ words: [String], code: Int32, _ parts: String...) throws {
      let finished = try place.run(words)
      let said = finished.output + finished.errors
      #expect(finished.code == code, "\(words): \(said)")
      for part in parts { #expect(said.contains(part), "\(words): \(said)") }
    }
    try expect(["train", "nowhere.yaml"], code: 2, "nowhere.yaml")
    try expect(
      ["train", "run.yaml", "--set", "run=a", "--set", "data.path=missing.h5"], code: 1, "missing.h5 does not exist")
    try expect(
      ["train", "run.yaml", "--set", "run=a", "--set", "data.path=text.txt"], code: 1, "text.txt is not a dataset")
    try expect(
      ["train", "run.yaml", "--set", "run=a", "--set", "data.sequence_length=1000000"], code: 1,
      "lower data.sequence_length")
    try expect(["train", "run.yaml", "--set", "model.widht=8"], code: 2, "did you mean 'width'")
    try expect(["train", "run.yaml"], code: 1, "already holds checkpoints", "--resume")
    try expect(["train", "run.yaml", "--set", "run=never", "--resume"], code: 1, "nothing to resume")
    try expect(
      ["train", "run.yaml", "--resume", "--set", "model.width=16"], code: 1, "cannot be resumed",
      "model.width was 32 and is now 16")
    try expect(
      ["train", "run.yaml", "--resume", "--set", "model.precision=bf16"], code: 1, "cannot be resumed",
      "model.precision was fp32 and is now bf16")
    try expect(["data", "prepare", "text.txt", "--out", "text.h5"], code: 2, "text.h5 exists", "--force")
    try expect(["data", "prepare", "nothing.txt", "--out", "text.h5", "--force"], code: 1, "nothing.txt")
    _ = FileManager.default.createFile(atPath: place.path + "/empty.txt", contents: Data())
    try expect(["data", "prepare", "empty.txt", "--out", "text.h5", "--force"], code: 1, "no text")
    try expect(
      ["worker", "--coordinator", "ipc://\(place.path)/nobody", "--join-within", "1"], code: 1, "no coordinator")
    try expect(["coordinator", "--listen", "tcp://0.0.0.0:4242"], code: 1, "--insecure")
    #expect(
      place.contents("checkpoints/first").filter { !isRecord($0.key) } == before.filter { !isRecord($0.key) })
    #expect(FileManager.default.contents(atPath: place.path + "/text.h5") == text)
  }

  @Test func `a trained model can be listed, shown, evaluated and used to generate text`() throws {
    let listed = try place.run(["checkpoint", "list", "checkpoints/first"])
    #expect(listed.code == 0 && listed.output.contains("step-00000040"))
    let shown = try place.run(["checkpoint", "show", "checkpoints/first", "--tensors"])
    #expect(shown.code == 0 && shown.output.contains("experts/0003/down"), "\(shown.output)")
    let measured = try place.run(["evaluate", "checkpoints/first", "--sequences", "4", "--json"])
    #expect(measured.code == 0, "\(measured.errors)")
    // The sequences of the last step's evaluation give the same value.
    let last = curve.last { $0.contains("validation_loss") }!
    let loss = last.components(separatedBy: "\"validation_loss\":")[1].components(separatedBy: ",")[0]
    #expect(measured.output.contains("\"validation_loss\": \(loss)"), "\(measured.output) \(last)")
    let written = try place.run(["generate", "checkpoints/first", "--prompt", "sea", "--tokens", "20", "--seed", "4"])
    #expect(written.code == 0 && written.output.hasPrefix("sea"))
    #expect(
      try place.run(["generate", "checkpoints/first", "--prompt", "sea", "--tokens", "20", "--seed", "4"]).output
        == written.output)
  }
}
