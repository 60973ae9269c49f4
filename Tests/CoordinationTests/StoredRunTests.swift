// Stores that older programs have written must load. Tests/Golden/run-records.json has the records of runs in every
// phase as ress 0.1.0 wrote them at commit b46ee7e, when a run was a flat record and its phase a word.

import Configuration
import Coordination
import Foundation
import Testing
import Wire

@Suite struct StoredRunTests {
  /// A coordinator that was started with a store that holds this run alone.
  private func restore(_ name: String) throws -> (Cluster, RunID) {
    let file = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../Golden/run-records.json")
    let records = try #require(JSONSerialization.jsonObject(with: Data(contentsOf: file)) as? [String: [String: Any]])
    let record = try #require(records[name])
    let id = try #require((record["id"] as? String).flatMap { UInt64($0, radix: 16) }.map { RunID($0) })
    var cluster = Cluster()
    cluster.stored[id] = try Array(JSONSerialization.data(withJSONObject: record))
    cluster.counters = Array(#"{"worker": 9, "generation": 9, "submissions": 9, "place": 9}"#.utf8)
    // The events themselves are not needed, only their number.
    let count = try #require(record["eventCount"] as? Int)
    cluster.events[id] = Array(repeating: .said("before"), count: count)
    cluster.restartCoordinator()
    return (cluster, id)
  }

  private func status(_ cluster: inout Cluster) throws -> ClusterStatus.Run {
    cluster.say(.status, from: Cluster.client)
    guard case .status(let status)? = cluster.sent[Cluster.client]?.last else { throw CancellationError() }
    return try #require(status.runs.first)
  }

  private func hello(_ cluster: inout Cluster, _ names: [String], generation: UInt32) -> [PeerID] {
    names.map { name in
      var heartbeat = Heartbeat(generation: generation)
      heartbeat.hasBegun = true
      let peer = PeerID("peer-" + name)
      cluster.say(.hello(Cluster.worker(name), heartbeat), from: peer)
      return peer
    }
  }

  private func kept(_ cluster: Cluster, _ peer: PeerID) -> UInt32? {
    cluster.sent[peer]?.lazy.compactMap { if case .welcome(_, _, _, let keep, _) = $0 { keep } else { nil } }.first
  }

  @Test func `a run whose folder was being looked at is looked at again`() throws {
    var (cluster, run) = try restore("preparing")
    #expect(cluster.preparations.map(\.0) == [run])
    cluster.prepare(run, "run")
    let worker = cluster.join("w0")
    #expect(cluster.assignment(worker) == nil, "it waits for both of its workers")
    _ = cluster.join("w1")
    #expect(cluster.assignment(worker)?.start == .fresh)
  }

  @Test func `a run that waits for workers begins where it was to begin`() throws {
    var (cluster, _) = try restore("waiting for workers, from a checkpoint")
    let workers = [cluster.join("w0"), cluster.join("w1")]
    for worker in workers {
      #expect(cluster.assignment(worker)?.start == .checkpoint(path: "/c"))
      #expect(cluster.assignment(worker)?.firstStep == 3)
    }
  }

  @Test func `workers that were assigned and did not receive it are assigned again`() throws {
    var (cluster, _) = try restore("loading from a checkpoint")
    let worker = cluster.join("w1")
    let assignment = try #require(cluster.assignment(worker))
    #expect(assignment.start == .checkpoint(path: "/c") && assignment.firstStep == 3 && assignment.index == 1)
    #expect(assignment.generation < 9 && cluster.preparations.isEmpty)
  }

  @Test func `workers that were loading from memory are assigned again, with the helper`() throws {
    var (cluster, _) = try restore("loading from memory, with w2 as a helper")
    let peers = ["w0", "w1", "w2"].map { cluster.join($0) }
    #expect(cluster.assignment(peers[2])?.isHelper == true)
    guard case .memory(let state)? = cluster.assignment(peers[0])?.start else {
      Issue.record("\(cluster.assignment(peers[0])?.start as Any)")
      return
    }
    #expect(state.step == 4 && state.holders == [0, 1, 2] && state.units.count == 3)
  }

  @Test func `workers that train keep their generation, and the proof of a checkpoint is still written`() throws {
    var (cluster, run) = try restore("training, the proof of step 4 is awaited")
    let shown = try status(&cluster)
    #expect(shown.state == .running && shown.step == 4 && shown.checkpointStep == 4 && shown.workers == ["w0", "w1"])
    let workers = hello(&cluster, ["w0", "w1"], generation: shown.generation)
    #expect(workers.allSatisfy { kept(cluster, $0) == shown.generation })
    // Three of its reports were taken before.
    cluster.say(
      .report(generation: shown.generation, number: 4, .stepDone(record(5, loss: 5))), from: workers[0])
    #expect(cluster.proofs.map(\.0) == ["/runs/run/step-00000004"])
    #expect(cluster.events[run]!.last == .stepped(record(5, loss: 5)))
  }

  @Test func `a run that was to pause after its step and a checkpoint pauses`() throws {
    var (cluster, run) = try restore("halting for a pause, step 6 is being committed, step 8 saved by w0 alone")
    #expect(cluster.commits.map(\.1.step) == [6])
    let generation = try status(&cluster).generation
    let workers = hello(&cluster, ["w0", "w1"], generation: generation)
    #expect(workers.allSatisfy { cluster.halts($0) == [true] })
    let next = [10, 4]
    let file = CheckpointManifest.File(name: "b", byteCount: 5, sha256: "ab")
    cluster.say(.report(generation: generation, number: next[1], .saved(step: 8, files: [file])), from: workers[1])
    cluster.step(.committed(run, step: 6, path: "/runs/run/step-00000006"))
    #expect(cluster.commits.map(\.1.step) == [6, 8] && cluster.commits[1].1.files.map(\.name) == ["a", "b"])
    cluster.say(.report(generation: generation, number: next[0], .halted(step: 8, held: [])), from: workers[0])
    cluster.say(.report(generation: generation, number: next[1] + 1, .halted(step: 8, held: [])), from: workers[1])
    cluster.step(.committed(run, step: 8, path: "/runs/run/step-00000008"))
    #expect(cluster.story(of: run).last! == (.paused, "paused on request"))
    #expect(workers.allSatisfy { cluster.stops($0) == ["paused on request"] })
  }

  @Test func `a run that waited for the checkpoint of its pause pauses when that is committed`() throws {
    var (cluster, run) = try restore("saving for a pause, step 8 is being committed")
    #expect(cluster.commits.map(\.1.step) == [8])
    cluster.step(.committed(run, step: 8, path: "/runs/run/step-00000008"))
    #expect(cluster.story(of: run).last! == (.paused, "paused on request"))
    cluster.say(.change(run: "run", .resume), from: Cluster.client)
    #expect(cluster.preparations.last?.again == true)
  }

  @Test func `a stored run that is collecting continues after its workers have reported`() throws {
    var (cluster, _) = try restore("collecting")
    let workers = ["w0", "w1", "w2"].map { cluster.join($0) }
    #expect(workers.allSatisfy { cluster.stops($0).isEmpty })
    // None of them holds anything any more.
    #expect(cluster.preparations.map(\.again) == [true])
  }

  @Test func `a run that waits for workers with what they hold takes their memory`() throws {
    var (cluster, run) = try restore("waiting for workers, from memory")
    let generation: UInt32 = 1
    for name in ["w0", "w1"] {
      var heartbeat = Heartbeat()
      heartbeat.held = (0..<2).map { HeldShard(run: run, generation: generation, index: $0, count: 2, step: 5) }
      cluster.say(.hello(Cluster.worker(name), heartbeat), from: PeerID("peer-" + name))
    }
    #expect(cluster.assignment(PeerID("peer-w1"))?.firstStep == 5 && cluster.preparations.isEmpty)
  }

  @Test func `a run that has ended is known and is left alone`() throws {
    var (cluster, run) = try restore("cancelled")
    cluster.wait(.seconds(1))
    #expect(try status(&cluster).state == .cancelled)
    #expect(cluster.preparations.isEmpty && cluster.story(of: run).isEmpty)
  }
}
