// The cluster of one seed: the production coordinator, and workers with the production session that keep the order of
// things and compute nothing. `play` lets it run until all runs have ended, and returns what did not hold.
//
//   Simulation+Trouble.swift      what goes wrong: crashes, stopped clocks, users
//   Simulation+Network.swift      links that lose, double and delay packets
//   Simulation+Worker.swift       a worker's part in a step, its copies and checkpoints
//   Simulation+Coordinator.swift  the coordinator's actions: its store and its disk

import Configuration
import Coordination
import Wire

struct Draw {
  var state: UInt64
  mutating func below(_ limit: Int) -> Int {
    state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
    return Int((state >> 33) % UInt64(limit))
  }
  mutating func chance(_ perThousand: Int) -> Bool { below(1000) < perThousand }
}

/// Either direction's message.
enum SimulatedMessage {
  case request(Request)
  case reply(Reply)
}

/// One seed's cluster.
struct Simulation {
  struct Packet {
    var at: Instant
    var peer: PeerID
    var toCoordinator: Bool
    var header: LinkHeader
    var message: SimulatedMessage?
  }

  /// A worker process: the production session, and training that keeps the order of things and computes nothing.
  struct Process {
    var name: String
    var session: WorkerSession
    var link: ReliableLink<SimulatedMessage>
    var assignment: Assignment?
    var readyAt: Instant?
    var hasBegun = false
    /// Steps applied; nil outside of a generation.
    var step = 0
    /// When its part of the next step is computed.
    var computedAt: Instant?
    var hasContributed = false
    var halt: Bool?
    var isHalted = false
    var own: [HeldShard] = []
    var mirrored: [HeldShard] = []
    var live: HeldShard?
    /// Its copy on the way to its mirror, and when it arrives.
    var underWay: (shard: HeldShard, to: String, at: Instant)?
    /// The shard that was sent to the mirror and not copied here yet, because the state has not changed since.
    var uncopied: HeldShard?
    /// Steps in a row that were not applied.
    var leftOut = 0
    var exited = false
    var frozenUntil: Instant
    var progress = 0
    /// A part of a checkpoint that could not be written, when it is tried again, and what is said after it.
    var unsaved: (step: Int, at: Instant)?
    var afterSave: Report?
    /// Steps it has computed of each run.
    var known: [RunID: Set<Int>] = [:]

    var held: [HeldShard] { own + mirrored + (live.map { [$0] } ?? []) }
  }

  /// What a place of a generation has given for a step, and when it arrives at each other place.
  struct Contribution {
    var halt: Bool?
    var arrives: [Int: Instant]
  }

  struct Key: Hashable {
    var generation: UInt32
    var step: Int
    var place: Int
  }

  static let steps = 12
  static let mirrorEvery = 2
  static let saveEvery = 4
  static let skipAtMost = 2
  let isTold: Bool
  var log: [String] = []
  var reached: Set<String> = []
  var draw: Draw
  var now = Instant(nanoseconds: 0)
  var coordinator: Coordinator?
  var coordinatorBack: Instant?
  /// The coordinator's process is stopped until then; what happens meanwhile waits for it.
  var coordinatorStoppedUntil: Instant?
  var waitingEvents: [Event] = []
  var waitingPackets: [Packet] = []
  /// Nothing breaks; clocks stand still.
  let isCalm: Bool
  var trouble = Instant(nanoseconds: 0) + .seconds(8)
  var crashesAfterStore = false
  var births: UInt64 = 0
  var coordinatorBirths: UInt64 = 0
  /// The coordinator's side of each link.
  var links: [PeerID: ReliableLink<SimulatedMessage>] = [:]
  var processes: [PeerID: Process] = [:]
  var packets: [Packet] = []
  /// Disk work that is under way, for the coordinator of that birth.
  var disk: [(at: Instant, birth: UInt64, event: Event)] = []
  var committed: [RunID: Set<Int>] = [:]
  var contributions: [Key: Contribution] = [:]
  // The store.
  var records: [RunID: [UInt8]] = [:]
  var order: [RunID] = []
  var counters: [UInt8]?
  var events: [RunID: [RunEvent]] = [:]
  var problem: String?
  /// Steps that cannot be applied, on any worker; and those after which a run must therefore stop.
  let leftOut: Range<Int>
  let stops: Set<Int>
  /// What the manifests of checkpoints say of that.
  var leftOutOf: [RunID: [Int: Int]] = [:]
  /// Runs that have paused since their last new step.
  var paused: Set<RunID> = []
  let loss: Int
  let faults: Int
  let users: Int

  init(seed: UInt64, isTold: Bool = false, isCalm: Bool = false) {
    self.isTold = isTold
    self.isCalm = isCalm
    draw = Draw(state: seed &* 0x9E37_79B9_7F4A_7C15)
    loss = isCalm ? 0 : draw.below(200)
    faults = isCalm ? 0 : draw.below(60)
    users = isCalm ? 0 : draw.below(30)
    let first = 1 + draw.below(8)
    let leavesOut = draw.chance(300)
    leftOut = leavesOut && !isCalm ? first..<min(first + 1 + draw.below(6), Simulation.steps) : 0..<0
    var stops: Set<Int> = []
    var count = 0
    for step in leftOut {
      count += 1
      guard count > Simulation.skipAtMost else { continue }
      stops.insert(step)
      // A user has resumed the run by then.
      count = 0
    }
    self.stops = stops
  }

  func stepRecord(_ step: Int) -> StepRecord {
    var record = record(step, loss: Double(step))
    if leftOut.contains(step) { record.skipped = "the loss is not finite" }
    return record
  }

  mutating func tell(_ line: String) {
    if isTold { log.append("\(now.nanoseconds / 1_000_000) ms: \(line)") }
  }

  func state(_ run: RunID) -> RunState? {
    events[run]?.reversed().lazy.compactMap { if case .state(let state, _) = $0 { state } else { nil } }.first
  }

  /// Nil where everything held, else what did not.
  mutating func play() -> String? {
    startCoordinator()
    for index in 0..<3 { start("w\(index)") }
    let names = draw.chance(300) ? ["one", "two"] : ["one"]
    for (index, name) in names.enumerated() {
      var submission = Cluster.submission(name, workers: 1 + draw.below(3), minimum: 1, steps: Simulation.steps)
      submission.configuration.checkpoint.every = Simulation.saveEvery
      submission.configuration.cluster.mirrorEvery = Simulation.mirrorEvery
      submission.configuration.training.skipAtMost = Simulation.skipAtMost
      submission.configuration.cluster.patienceSeconds = 2
      submission.configuration.cluster.priority = index * draw.below(2)
      submission.key = name
      for _ in 0...draw.below(2) { coordinate(.received(Cluster.client, .submit(submission))) }
    }
    var limit = Instant(nanoseconds: 0) + .seconds(240)
    while now < limit {
      now = now + .milliseconds(40)
      if now < trouble {
        if draw.chance(isCalm ? 15 : 2) {
          // Trouble lasts as long as before where no clock went on. A coordinator that is stopped stands still in that
          // time: only the end is put off, or stops within stops would put off the end of the trouble for ever.
          let before = now
          limit = limit + stopClock()
          trouble = trouble + .nanoseconds(Int64(now.nanoseconds - before.nanoseconds))
        }
        if draw.below(1000) < faults { strike() }
        if draw.below(1000) < users { ask(names) }
      } else {
        settle(names)
      }
      turn()
      if let problem { return problem }
      if now > trouble, order.count == names.count, order.allSatisfy({ state($0) == .finished }) { break }
    }
    for run in order {
      guard state(run) == .finished else {
        return "run \(run) never ended: \(events[run]?.suffix(3) ?? [])"
      }
      reached.insert("finished")
      let steps = events[run]!.compactMap { if case .stepped(let record) = $0 { record.step } else { nil } }
      if steps != Array(1...Simulation.steps) { return "steps \(steps)" }
      if committed[run]?.contains(Simulation.steps) != true { return "finished without its last checkpoint" }
    }
    if order.count != names.count { return "\(names.count) runs were submitted, and \(order.count) are known" }
    // Afterwards every worker is idle again, 12 seconds after the coordinator was last stopped.
    var turns = 300
    while turns > 0 {
      if coordinatorStoppedUntil == nil { turns -= 1 }
      now = now + .milliseconds(40)
      turn()
    }
    for process in processes.values where !process.exited && process.assignment != nil {
      return "\(process.name) still works on generation \(process.assignment!.generation)"
    }
    return problem
  }
}
