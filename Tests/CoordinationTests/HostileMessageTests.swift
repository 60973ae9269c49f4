// Any process that can reach the coordinator's socket can send anything to it. Well-formed messages with wild contents,
// from members and from strangers, at any moment of a run, must never stop it: afterwards it answers, and its store is
// one that a new coordinator takes.

import Configuration
import Coordination
import Foundation
import Testing
import Wire

@Suite struct HostileMessageTests {
  /// What a real client may say now: the mutations start from these.
  private static func honest(_ cluster: Cluster, _ peer: PeerID, number: Int) -> [Request] {
    let generation = cluster.assignment(peer)?.generation ?? 1, run = cluster.assignment(peer)?.run ?? RunID(7)
    var heartbeat = cluster.heartbeat(peer)
    heartbeat.held = [HeldShard(run: run, generation: generation, index: 1, count: 3, step: 3)]
    heartbeat.progress = 5
    let file = CheckpointManifest.File(name: "shard-0000-of-0003.h5", byteCount: 10, sha256: "aa")
    var second = Cluster.submission("other", workers: 1)
    second.key = "key"
    let reports: [Report] = [
      .ready, .stepDone(record(number)), .stepDone(record(3)),
      .evaluated(EvaluationRecord(step: 5, loss: 1, sequences: 4)),
      .examined(
        RouterRecord(
          step: 5, active: 2, loads: [[4, 2, 0], [3, 3, 0]], entropy: [1, 0.5], bias: [[0.1, 0, -0.1]],
          truncation: [0.1, 0.9])),
      .saved(step: 5, files: [file]), .saveFailed(step: 5, reason: "full"), .halted(step: 3, held: heartbeat.held),
      .disagreed(Disagreement(step: 3, unit: 0, voters: [0, 1], hashes: [1, 2])), .lacking(reason: "gone"), .finished,
      .failed(reason: "no"),
    ]
    return reports.map { .report(generation: generation, number: number, $0) } + [
      .hello(Cluster.worker("w0"), heartbeat), .hello(Cluster.worker("new"), heartbeat), .heartbeat(heartbeat),
      .goodbye(reason: "bye"), .submit(second), .follow(run: "run", after: 3), .status, .describe(run: "run"),
      .change(run: "run", .cancel), .change(run: "run", .pause), .change(run: "run", .resume),
      .change(run: "run", .scale(workers: 2)),
      .change(run: "run", .repair(step: 5, generation: generation, shards: [0, 1])),
    ]
  }

  /// A message that may still be one, with other contents.
  private static func mutated(_ request: Request, _ random: inout Dice) -> Request? {
    var text = String(decoding: ControlCodec.encode(request), as: UTF8.self)
    for _ in 0...random.below(3) {
      // Numbers, for the most part: they are what is counted with.
      let numbers = text.ranges(of: /-?[0-9][0-9.e+]*/)
      let strings = text.ranges(of: /"[^"]*"/)
      switch random.below(8) {
      case 0..<5 where !numbers.isEmpty:
        let range = numbers[random.below(numbers.count)]
        text.replaceSubrange(range, with: wild[random.below(wild.count)])
      case 5 where !strings.isEmpty:
        let range = strings[random.below(strings.count)]
        text.replaceSubrange(range, with: ["\"\"", "\"run\"", "\"nan\"", "\"../../x\"", "[]"][random.below(5)])
      case 6:
        let bytes = Array(text.utf8)
        let start = random.below(bytes.count), end = min(bytes.count, start + random.below(12))
        text = String(decoding: bytes[..<start] + bytes[end...], as: UTF8.self)
      default: break
      }
    }
    return try? ControlCodec.decode(Request.self, from: Array(text.utf8))
  }

  private static let wild = [
    "-1", "0", "1", "2", "3", "5", "7", "9223372036854775807", "-9223372036854775808", "9223372036854775806",
    "4294967295",
    "1000000000000", "1e308", "0.5",
  ]

  @Test(arguments: 0..<40)
  func `wild messages never stop a coordinator`(seed: Int) throws {
    var random = Dice(state: UInt64(seed) &* 0x9E37_79B9_7F4A_7C15 &+ 1)
    var understood = 0
    for _ in 0..<4 {
      var cluster = Cluster()
      let (_, workers) = cluster.startRun(Cluster.submission(workers: 3, minimum: 1, steps: 20))
      let strangers = [PeerID("stranger"), Cluster.client]
      for round in 1...150 {
        let peer = random.below(4) == 0 ? strangers[random.below(2)] : workers[random.below(workers.count)]
        let requests = Self.honest(cluster, peer, number: random.below(3) == 0 ? round : 2)
        let request = requests[random.below(requests.count)]
        if let request = random.below(5) == 0 ? request : Self.mutated(request, &random) {
          understood += 1
          cluster.say(request, from: peer)
        }
        if let last = cluster.preparations.last, random.below(4) == 0 {
          cluster.prepare(last.0, last.1.configuration.run, firstStep: random.below(20))
        }
        if random.below(3) == 0 { cluster.wait(.milliseconds(250 * random.below(30)), alive: workers) }
        if random.below(40) == 0 { cluster.restartCoordinator() }
      }
      cluster.sent[Cluster.client] = []
      cluster.say(.status, from: Cluster.client)
      let isAnswered = cluster.sent[Cluster.client]!.contains { if case .status = $0 { true } else { false } }
      #expect(isAnswered)
      cluster.restartCoordinator()
    }
    #expect(understood > 100)
  }
}

/// A small generator: the seed is all there is to a failure.
struct Dice {
  var state: UInt64
  mutating func below(_ limit: Int) -> Int {
    state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
    return Int((state >> 33) % UInt64(limit))
  }
}
