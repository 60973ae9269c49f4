// A model whose embedding has several owners, trained by real processes: workers die and join, the run is resumed with
// another number of them, and what the commands show has whole tensors.

import Checkpoint
import Foundation
import TestSupport
import Testing

@Suite(.serialized) final class DividedTensorProcessTests {
  private let place: Workplace
  private let curve: [String]
  /// An embedding of 640,000 values, in which there are 9 borders.
  private static let large = [
    "--set", "model.vocabulary=20000", "--set", "data.sequence_length=16", "--set", "training.steps=24", "--set",
    "training.evaluate_every=0", "--set", "checkpoint.every=8",
  ]

  init() throws {
    place = try Workplace()
    let whole = try place.run(
      ["train", "run.yaml", "--workers", "1", "--threads", "1", "--set", "run=whole"] + Self.large)
    #expect(whole.code == 0, "\(whole.output)\(whole.errors)")
    curve = place.curve("whole")
    #expect(curve.count >= 24)
  }

  private func expectSameEnd(_ run: String, _ record: String) throws {
    #expect(place.curve(run) == curve, "\(record)")
    let compared = try place.run(["checkpoint", "diff", "checkpoints/whole", "checkpoints/\(run)"])
    #expect(compared.code == 0, "\(compared.output)\(compared.errors)")
  }

  @Test func `after a worker was killed and another one has joined, the curve is that of a single worker`() throws {
    let cluster = try TestCluster(place)
    try cluster.start("a", "b", "c")
    try place.hold(at: 20)
    let submitted = try place.run(
      ["submit", "run.yaml", "--coordinator", cluster.address, "--workers", "3", "--set", "run=hurt"] + Self.large + [
        "--set", "checkpoint.every=0", "--set", "cluster.mirror_every=2",
      ])
    #expect(submitted.code == 0, "\(submitted.errors)")
    #expect(place.reaches("hurt", 5), "\(cluster.logs)")
    cluster.kill("b")
    try cluster.start("d")
    try place.release()
    let logs = try place.start(["logs", "hurt", "-f", "--coordinator", cluster.address])
    #expect(logs.exitCode(within: 240) == 0, "\(logs.output)\n\(cluster.logs)")
    #expect(logs.output.contains("in the workers' memory"), "\(logs.output)")
    #expect(!logs.output.contains("rows-from"))
    try expectSameEnd("hurt", cluster.logs)
  }

  @Test func `a run of three workers resumes on two, and the commands show and export whole tensors`() throws {
    let sets = Self.large + ["--threads", "1", "--set", "run=three"]
    let training = try place.run(["train", "run.yaml", "--workers", "3"] + sets)
    #expect(training.code == 0, "\(training.output)\(training.errors)")
    try expectSameEnd("three", training.output)
    // As if the run had been killed after step 8.
    for step in [16, 24] { try FileManager.default.removeItem(atPath: place.files("three", step: step)) }
    let first = "checkpoints/three/step-00000008"
    let shown = try place.run(["checkpoint", "show", first, "--tensors"])
    #expect(shown.code == 0 && shown.output.contains("20000 × 32"), "\(shown.output)\(shown.errors)")
    #expect(!shown.output.contains("rows-from"), "\(shown.output)")
    let resumed = try place.run(["train", "run.yaml", "--workers", "2", "--resume"] + sets)
    #expect(resumed.code == 0, "\(resumed.output)\(resumed.errors)")
    try expectSameEnd("three", resumed.output)
    let verified = try place.run(["checkpoint", "verify", "checkpoints/three"])
    #expect(verified.code == 0, "\(verified.output)\(verified.errors)")
    for run in ["whole", "three"] {
      let exported = try place.run(["checkpoint", "export", "checkpoints/\(run)", "--out", run + ".safetensors"])
      #expect(exported.code == 0, "\(exported.output)\(exported.errors)")
    }
    func values(_ run: String) throws -> [Float] {
      try SafetensorsReader("\(place.path)/\(run).safetensors").read("embed.weight", shape: [20_000, 32])
    }
    #expect(try values("whole") == values("three"))
  }
}
