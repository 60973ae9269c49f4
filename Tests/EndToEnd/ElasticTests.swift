// A cluster of real processes whose members join, leave, stop and die. Every run is compared with the undisturbed
// curve, and every run ends by itself.

import Foundation
import TestSupport
import Testing

#if canImport(Glibc)
  import Glibc
#endif

@Suite(.serialized) final class ElasticTests {
  private let place: Workplace
  private let curve: [String]
  /// A run long enough for faults in the middle of it.
  private static let long = ["--set", "training.steps=150", "--set", "checkpoint.every=50"]

  init() throws {
    place = try Workplace()
    let whole = try place.run(["train", "run.yaml", "--threads", "1", "--set", "run=whole"] + Self.long)
    #expect(whole.code == 0, "\(whole.output)\(whole.errors)")
    curve = place.curve("whole")
    #expect(curve.count == 158)
  }

  private func submit(_ cluster: TestCluster, _ run: String, workers: Int, _ more: String...) throws {
    let submitted = try place.run(
      ["submit", "run.yaml", "--coordinator", cluster.address, "--workers", "\(workers)", "--set", "run=\(run)"]
        + Self.long + more)
    #expect(submitted.code == 0, "\(submitted.errors)")
  }

  /// Waits for the run's end and compares it with the undisturbed one. Returns its events.
  @discardableResult
  private func expectSameEnd(_ cluster: TestCluster, _ run: String) throws -> String {
    let logs = try place.start(["logs", run, "-f", "--coordinator", cluster.address])
    let code = logs.exitCode(within: 90)
    #expect(code == 0, "\(logs.output)\n\(cluster.logs)")
    #expect(place.curve(run) == curve, "\(logs.output)")
    let compared = try place.run(["checkpoint", "diff", "checkpoints/whole", "checkpoints/\(run)"])
    #expect(compared.code == 0, "\(compared.output)\(compared.errors)")
    return logs.output
  }

  @Test(arguments: [
    ("auto", "memory", "memory"), ("travel", "memory", "disk"), ("copy", "memory", "memory"),
    ("copy", "messages", "disk"),
  ])
  func `a killed worker is noticed at once, the others continue from their copies, and a new one joins`(
    experts: String, way: String, copies: String
  ) throws {
    let cluster = try TestCluster(place)
    try cluster.start("a", "b", "c")
    try place.hold(at: 140)
    try submit(
      cluster, "hurt", workers: 3, "--set", "checkpoint.every=0", "--set", "cluster.experts=\(experts)",
      "--set", "cluster.same_machine=\(way)", "--set", "cluster.state_copies=\(copies)")
    #expect(place.reaches("hurt", 25), "\(cluster.logs)")
    if experts != "auto" {
      let shares = cluster.workers["a"]!.output.contains("exchange gradients and parameters in shared memory")
      #expect(shares == (experts == "copy" && way == "memory"), "\(cluster.logs)")
    }
    cluster.kill("b")
    try cluster.start("d")
    #expect(waitUntil(30) { cluster.workers["d"]!.output.contains("joined the coordinator") }, "\(cluster.logs)")
    try place.release()
    let story = try expectSameEnd(cluster, "hurt")
    #expect(story.contains("worker b (") && story.contains("in the workers' memory"), "\(story)")
    #expect(story.contains("d joins") || story.contains("3 workers load from step"), "\(story)")
  }

  @Test func `a stopped worker is reported, replaced after patience_seconds, and rejoins when it continues`() throws {
    let cluster = try TestCluster(place, patience: 1.5)
    try cluster.start("a", "b")
    try place.hold(at: 80)
    try submit(cluster, "frozen", workers: 2, "--set", "cluster.patience_seconds=1.5")
    #expect(place.reaches("frozen", 15), "\(cluster.logs)")
    cluster.signal("b", SIGSTOP)
    // The other worker goes beyond every step that both have computed.
    try place.hold(at: 120)
    #expect(place.reaches("frozen", 110), "\(cluster.logs)")
    cluster.signal("b", SIGCONT)
    try place.release()
    let story = try expectSameEnd(cluster, "frozen")
    #expect(story.contains("worker b (") && story.contains("has been silent for"), "\(story)")
    #expect(waitUntil(20) { cluster.workers["b"]!.output.components(separatedBy: "joined the coordinator").count > 2 })
  }

  @Test
  func `kill -9 of the coordinator at any moment loses nothing, and a follower sees every event`()
    throws
  {
    // The patience must be long enough that no worker counts as lost because the machine is busy.
    let cluster = try TestCluster(place, patience: 60)
    try cluster.start("a", "b")
    try place.hold(at: 120)
    try submit(cluster, "orphan", workers: 2, "--set", "cluster.patience_seconds=60")
    var chance = Chance("moments without a coordinator")
    let follower = try place.start(["logs", "orphan", "-f", "--coordinator", cluster.address])
    for round in 1...3 {
      #expect(place.reaches("orphan", 25 * round), "\(cluster.logs)")
      cluster.coordinator.killAll()
      usleep(UInt32.random(in: 0...400_000, using: &chance))
      try cluster.startCoordinator()
    }
    try place.release()
    let story = try expectSameEnd(cluster, "orphan")
    #expect(follower.exitCode(within: 30) == 0, "\(follower.output)")
    #expect(!story.contains(" is lost") && !story.contains("did not return"), "no worker was ever stopped: \(story)")
    let ids = try cluster.ask("runs", "--json").output
    #expect(ids.contains("\"run\": \"orphan\"") && ids.contains("finished"))
    // Steps are numbered without gaps in the events, whichever worker reported them.
    let told = try cluster.ask("logs", "orphan", "--json").output.split(separator: "\n")
      .filter { $0.contains("\"event\": \"step\"") }
    #expect(told.count == 150)
  }

  @Test func `everything dies at once, is restarted in any order, and the run continues by itself`() throws {
    let cluster = try TestCluster(place, patience: 2)
    try cluster.start("a", "b")
    try place.hold(at: 140)
    try submit(cluster, "dark", workers: 2, "--set", "checkpoint.every=10")
    #expect(place.reaches("dark", 40), "\(cluster.logs)")
    cluster.kill("a")
    cluster.coordinator.killAll()
    cluster.kill("b")
    try place.release()
    try cluster.start("x", "y")
    #expect(waitUntil(20) { cluster.workers["x"]!.output.contains("no answer from") })
    try cluster.startCoordinator()
    let story = try expectSameEnd(cluster, "dark")
    #expect(story.contains("load from the checkpoint of step"), "\(story)")
  }

  @Test func `scaling up and down moves experts and moments while the run continues`() throws {
    let cluster = try TestCluster(place, patience: 60)
    try cluster.start("a", "b", "c")
    try place.hold(at: 60)
    try submit(cluster, "scaled", workers: 1, "--set", "checkpoint.every=0", "--set", "cluster.patience_seconds=60")
    #expect(place.reaches("scaled", 10), "\(cluster.logs)")
    let answer = try cluster.ask("scale", "scaled", "--workers", "3")
    #expect(answer.code == 0, "\(answer.errors)")
    try place.hold(at: 120)
    #expect(place.reaches("scaled", 70), "\(cluster.logs)")
    let second = try cluster.ask("scale", "scaled", "--workers", "2")
    #expect(second.code == 0, "\(second.errors)")
    try place.release()
    let story = try expectSameEnd(cluster, "scaled")
    for workers in 1...3 { #expect(story.contains(" with \(workers) worker") == true, "\(workers): \(story)") }
    #expect(try cluster.ask("scale", "scaled", "--workers", "2").code == 1)
  }

  @Test func `a pause saves and releases the workers, and a resume keeps name, identifier and curve`() throws {
    let cluster = try TestCluster(place, patience: 60)
    try cluster.start("a", "b")
    try place.hold(at: 100)
    try submit(cluster, "paused", workers: 2, "--set", "cluster.patience_seconds=60")
    #expect(place.reaches("paused", 20), "\(cluster.logs)")
    let answer = try cluster.ask("pause", "paused")
    #expect(answer.code == 0, "\(answer.errors)")
    try place.release()
    #expect(try waitUntil(20) { try cluster.ask("runs").output.contains("paused on request") })
    let before = try cluster.ask("runs", "--json").output
    // Another run has the workers meanwhile.
    try submit(cluster, "guest", workers: 2)
    try expectSameEnd(cluster, "guest")
    #expect(try cluster.ask("resume", "paused").code == 0)
    let story = try expectSameEnd(cluster, "paused")
    #expect(story.contains("checkpoint of step"), "\(story)")
    let id = before.firstMatch(of: /"run": "paused", "id": "([0-9a-f]+)"/)?.1
    let after = try cluster.ask("runs", "--json").output
    #expect(id.map { after.contains("\"id\": \"\($0)\"") } == true, "\(before)\(after)")
  }

  @Test func `a worker that computes one bit wrongly is found by the audit, named and excluded`() throws {
    let cluster = try TestCluster(place)
    try cluster.start("a", "b")
    try cluster.start("wrong", environment: ["RESS_FLIP_BIT": "wrong@30"])
    try submit(cluster, "audited", workers: 3, "--set", "cluster.audit=1")
    let story = try expectSameEnd(cluster, "audited")
    #expect(story.contains("computed wrongly and is put aside") && story.contains("worker wrong ("), "\(story)")
  }

  @Test func `a disk that refuses a checkpoint stops no run, and the checkpoint is committed when there is room`()
    throws
  {
    let cluster = try TestCluster(place)
    try cluster.start("a", "b")
    // A file at the path of the checkpoint's folder has the effect of a full disk, and needs no privileges.
    try place.hold(at: 40)
    try submit(cluster, "full", workers: 2)
    #expect(place.reaches("full", 5), "\(cluster.logs)")
    // In any generation, because experts may have moved.
    let blockers = (1...9).map { "\(place.path)/checkpoints/full/step-00000050.g\($0).tmp" }
    for blocker in blockers { try "in the way".write(toFile: blocker, atomically: false, encoding: .utf8) }
    try place.release()
    let sentence = "it tries again while training continues"
    #expect(try waitUntil(30) { try cluster.ask("logs", "full").output.contains(sentence) }, "\(cluster.logs)")
    for blocker in blockers { try? FileManager.default.removeItem(atPath: blocker) }
    let story = try expectSameEnd(cluster, "full")
    #expect(!story.contains("paused"), "\(story)")
  }

  @Test func `a run whose losses are not finite pauses after a checkpoint of the last finite weights`() throws {
    let cluster = try TestCluster(place)
    try cluster.start("a", "b")
    try submit(
      cluster, "wild", workers: 2, "--set", "optimizer.learning_rate=1e30", "--set", "optimizer.warmup_steps=0")
    #expect(try waitUntil(30) { try cluster.ask("runs").output.contains("steps in a row could not be applied") })
    #expect(try waitUntil(10) { try cluster.ask("runs").output.contains("paused") }, "\(cluster.logs)")
    #expect(try place.run(["checkpoint", "verify", "checkpoints/wild"]).code == 0)
    let story = try cluster.ask("logs", "wild").output
    #expect(story.contains(#/was not applied: the (loss|gradient) of unit \d \(training sequence \d+\)/#), "\(story)")
  }

  @Test func `a run that diverges stops at the same step with one and two workers, and is never finished`() throws {
    let wild = ["--set", "optimizer.learning_rate=1e30", "--set", "optimizer.warmup_steps=0", "--set"]
    func stop(_ run: String) -> String? {
      place.curve(run).last.flatMap { $0.firstMatch(of: /"step":(\d+)/).map { String($0.1) } }
    }
    for workers in ["1", "2"] {
      let run = try place.run(
        ["train", "run.yaml", "--workers", workers, "--set", "run=wild\(workers)"]
          + wild + ["training.skip_at_most=3"])
      #expect(
        run.code == 1 && run.output.contains("is paused after step")
          && run.output.contains("4 steps in a row could not"),
        "\(run.output)")
    }
    #expect(place.curve("wild1") == place.curve("wild2") && stop("wild1") != nil)
    // A limit that is never reached does not make it finished either.
    let all = try place.run(
      ["train", "run.yaml", "--set", "run=all", "--set", "training.steps=12"] + wild + ["training.skip_at_most=1000"])
    #expect(
      all.code == 1 && all.output.contains("of 12 steps were not applied, so the run is not finished"), "\(all.output)")
    let again = try place.run(
      ["train", "run.yaml", "--resume", "--set", "run=all", "--set", "training.steps=12"] + wild
        + ["training.skip_at_most=1000"])
    #expect(again.code == 1 && again.output.contains("so the run is not finished"), "\(again.output)")
  }

  @Test func `a run that was paused before its first step starts when it is resumed`() throws {
    let cluster = try TestCluster(place)
    try submit(cluster, "early", workers: 1)
    #expect(try waitUntil(20) { try cluster.ask("runs").output.contains("none is free") })
    #expect(try cluster.ask("pause", "early").code == 0)
    #expect(try cluster.ask("resume", "early").code == 0)
    try cluster.start("a")
    try expectSameEnd(cluster, "early")
  }

  @Test func `events of many pages are shown to the last one`() throws {
    let cluster = try TestCluster(place)
    try cluster.start("a")
    let submitted = try place.run(
      ["submit", "run.yaml", "--coordinator", cluster.address, "--set", "run=long", "--set", "training.steps=1200"]
        + ["--set", "checkpoint.every=0", "--set", "training.evaluate_every=0"])
    #expect(submitted.code == 0)
    #expect(place.reaches("long", 1200, within: 120), "\(cluster.logs)")
    #expect(try waitUntil(20) { try cluster.ask("runs").output.contains("finished") })
    let told = try cluster.ask("logs", "long", "--json").output.split(separator: "\n")
    #expect(told.count { $0.contains("\"event\": \"step\"") } == 1200)
    #expect(told.last?.contains("finished") == true)
    #expect(try cluster.ask("logs", "long").output.contains("step 1200/1200"))
  }

  @Test func `workers that are ended while they read and compute always end in order`() throws {
    let cluster = try TestCluster(place)
    try submit(cluster, "busy", workers: 1, "--set", "training.steps=100000", "--set", "checkpoint.every=1")
    for round in 0..<8 {
      try cluster.start("w")
      let worker = try #require(cluster.workers["w"])
      // Steps of the worker before this one may be recorded until this one has its generation.
      #expect(waitUntil(60) { worker.output.contains("generation ") }, "\(cluster.logs)")
      #expect(place.reaches("busy", place.steps("busy") + 3), "\(cluster.logs)")
      cluster.signal("w", SIGTERM)
      #expect(worker.exitCode(within: 30) == 0, "round \(round): \(worker.output)")
      #expect(!worker.output.contains("damaged") && !worker.output.contains("failed"), "\(worker.output)")
    }
  }

  @Test(.enabled(if: getuid() == 0 && access("/usr/bin/unshare", X_OK) == 0, "a mount needs root and unshare"))
  func `a worker that sees another run folder is found when the run is placed`() throws {
    let cluster = try TestCluster(place)
    try FileManager.default.createDirectory(
      atPath: place.path + "/checkpoints", withIntermediateDirectories: true)
    let mount = "mount -t tmpfs none '\(place.path)/checkpoints' && exec \"$0\" \"$@\""
    let blind = try place.start(
      ["worker", "--coordinator", cluster.address, "--name", "blind", "--listen", "ipc://\(place.path)/d-blind"],
      launcher: ["unshare", "--mount", "sh", "-c", mount])
    try submit(cluster, "apart", workers: 1)
    let logs = try place.start(["logs", "apart", "-f", "--coordinator", cluster.address])
    let code = logs.exitCode(within: 60)
    // In containers root often may not mount.
    guard !blind.output.contains("mount:") && !blind.output.contains("unshare:") else { return }
    #expect(code == 1, "\(logs.output)")
    #expect(
      logs.output.contains("failed: worker blind (")
        && logs.output.contains("checkpoints/apart, the run's folder, is not the folder that the coordinator sees"),
      "\(logs.output)\(blind.output)")
  }

  @Test func `a damaged checkpoint of an active run is rewritten from its workers' memory`() throws {
    let cluster = try TestCluster(place)
    try cluster.start("a", "b")
    try submit(
      cluster, "mended", workers: 2, "--set", "training.steps=2000", "--set", "checkpoint.every=200", "--set",
      "cluster.mirror_every=200")
    // Workers hold copies of the last checkpoint. If experts moved meanwhile, the new generation would not hold them.
    var isMended = false
    for step in stride(from: 200, through: 1800, by: 200) where !isMended {
      let checkpoint = "checkpoints/mended/step-\(String(format: "%08d", step))"
      #expect(waitUntil(60) { FileManager.default.fileExists(atPath: "\(place.path)/\(checkpoint)/manifest.json") })
      for shard in ["shard-0000-of-0002.h5", "shard-0001-of-0002.h5"] {
        let path = "\(place.path)/\(checkpoint)/\(shard)"
        var bytes = try #require(FileManager.default.contents(atPath: path))
        bytes[bytes.count / 2] ^= 4
        try bytes.write(to: URL(filePath: path))
      }
      #expect(try place.run(["checkpoint", "verify", checkpoint]).code == 1)
      let repaired = try cluster.ask("checkpoint", "repair", checkpoint)
      isMended = repaired.code == 0 && repaired.output.contains("is whole again")
      #expect(try isMended == (place.run(["checkpoint", "verify", checkpoint]).code == 0), "\(repaired.errors)")
    }
    #expect(isMended, "\(cluster.logs)")
    let logs = try place.start(["logs", "mended", "-f", "--coordinator", cluster.address])
    #expect(logs.exitCode(within: 60) == 0)
  }

  @Test func `a worker that is ended leaves the run, and the others continue without waiting for a timeout`() throws {
    let cluster = try TestCluster(place, patience: 30)
    try cluster.start("a", "b")
    try place.hold(at: 100)
    try submit(cluster, "left", workers: 2, "--set", "cluster.patience_seconds=30")
    #expect(place.reaches("left", 15), "\(cluster.logs)")
    cluster.signal("b", SIGTERM)
    try place.release()
    #expect(cluster.workers["b"]!.exitCode(within: 20) == 0, "\(cluster.logs)")
    let story = try expectSameEnd(cluster, "left")
    #expect(story.contains("left: it was ended by Terminated (signal 15)"), "\(story)")
  }

  @Test func `a repeated submission is one run, and workers whose coordinator does not return end themselves`() throws {
    let cluster = try TestCluster(place, patience: 1)
    for _ in 1...2 { try submit(cluster, "once", workers: 1, "--key", "mine") }
    #expect(try cluster.ask("runs", "--json").output.split(separator: "\n").count == 1)
    let worker = try place.start([
      "worker", "--coordinator", cluster.address, "--name", "w", "--threads", "1", "--return-within", "2",
    ])
    #expect(place.reaches("once", 5), "\(cluster.logs)")
    cluster.coordinator.killAll()
    #expect(worker.exitCode(within: 30) == 1)
    #expect(worker.output.contains("nothing was heard of the coordinator"), "\(worker.output)")
  }
}
