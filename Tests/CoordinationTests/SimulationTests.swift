// The coordinator and its workers as they are in production, over links that lose, double, delay and reorder, with processes
// that crash, hang and come back, a coordinator that is killed between its store and its answers, a disk that is slow and
// sometimes full, clocks that stand still because a process or the whole machine was stopped, and users who pause, resume and scale.
// One seed is one story.
//
// A seed that fails tells itself again, with all that happened:   RESS_SEED=4711 scripts/test.sh --filter SimulationTests
// More seeds than in every test run:                              RESS_SEEDS=100000 scripts/test.sh --filter SimulationTests

import Configuration
import Coordination
import Dispatch
import Foundation
import Synchronization
import Testing
import Wire

@Suite struct SimulationTests {
  @Test func `whatever dies, no step is lost, doubled or undone, and every run ends, on hundreds of seeds`() {
    let environment = ProcessInfo.processInfo.environment
    if let seed = environment["RESS_SEED"].flatMap({ UInt64($0) }) {
      var story = Story(seed: seed, isTold: true)
      let problem = story.play()
      print(story.log.joined(separator: "\n"))
      #expect(problem == nil, "seed \(seed)")
      return
    }
    let count = environment["RESS_SEEDS"].flatMap { Int($0) } ?? 500
    let found = Mutex<(problems: [String], reached: Set<String>)>(([], []))
    DispatchQueue.concurrentPerform(iterations: count) { index in
      var story = Story(seed: UInt64(index) + 1)
      let problem = story.play()
      let reached = story.reached
      found.withLock {
        if let problem { $0.problems.append("seed \(index + 1): \(problem)") }
        $0.reached.formUnion(reached)
      }
    }
    let (problems, reached) = found.withLock { $0 }
    #expect(problems.count == 0, "\(problems.sorted().prefix(5).joined(separator: "\n"))")
    // The schedules must reach every kind of event, or they prove little.
    let kinds: Set<String> = [
      "worker crash", "worker hang", "coordinator crash", "crash between store and answer", "from memory",
      "from checkpoint", "again from the seed", "halt", "pause", "resume", "scale", "disk full", "finished", "replay",
      "missing record", "left out",
      "missing record", "coordinator stopped", "machine stopped", "worker cannot write",
    ]
    #expect(kinds.subtracting(reached) == [], "not reached: \(kinds.subtracting(reached))")
  }
}

extension SimulationTests {
  @Test func `a coordinator that is only stopped, and a machine that is paused, cost no worker and no step`() {
    let environment = ProcessInfo.processInfo.environment
    if let seed = environment["RESS_CALM_SEED"].flatMap({ UInt64($0) }) {
      var story = Story(seed: seed, isTold: true, isCalm: true)
      let problem = story.play() ?? story.calmProblem
      print(story.log.joined(separator: "\n"))
      #expect(problem == nil, "seed \(seed)")
      return
    }
    let found = Mutex<(problems: [String], reached: Set<String>)>(([], []))
    let count = environment["RESS_SEEDS"].flatMap { Int($0) } ?? 60
    DispatchQueue.concurrentPerform(iterations: count) { index in
      var story = Story(seed: UInt64(index) + 1, isCalm: true)
      let problem = story.play() ?? story.calmProblem
      let reached = story.reached
      found.withLock {
        if let problem { $0.problems.append("seed \(index + 1): \(problem)") }
        $0.reached.formUnion(reached)
      }
    }
    let (problems, reached) = found.withLock { $0 }
    #expect(problems.isEmpty, "\(problems.sorted().prefix(5).joined(separator: "\n"))")
    #expect(Set(["coordinator stopped", "machine stopped"]).subtracting(reached).isEmpty)
  }
}

private struct Draw {
  var state: UInt64
  mutating func below(_ limit: Int) -> Int {
    state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
    return Int((state >> 33) % UInt64(limit))
  }
  mutating func chance(_ perThousand: Int) -> Bool { below(1000) < perThousand }
}

/// Either direction's message.
private enum Words {
  case request(Request)
  case reply(Reply)
}

/// One seed's cluster.
private struct Story {
  struct Packet {
    var at: Instant
    var peer: PeerID
    var toCoordinator: Bool
    var header: LinkHeader
    var message: Words?
  }

  /// A worker process: the production session, and training that keeps the order of things and computes nothing.
  struct Process {
    var name: String
    var session: WorkerSession
    var link: ReliableLink<Words>
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
  var links: [PeerID: ReliableLink<Words>] = [:]
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
    leftOut = leavesOut && !isCalm ? first..<min(first + 1 + draw.below(6), Story.steps) : 0..<0
    var stops: Set<Int> = []
    var count = 0
    for step in leftOut {
      count += 1
      guard count > Story.skipAtMost else { continue }
      stops.insert(step)
      // Somebody has resumed it then.
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
      var submission = Cluster.submission(name, workers: 1 + draw.below(3), minimum: 1, steps: Story.steps)
      submission.configuration.checkpoint.every = Story.saveEvery
      submission.configuration.cluster.mirrorEvery = Story.mirrorEvery
      submission.configuration.training.skipAtMost = Story.skipAtMost
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
          // Trouble lasts as long as before where no clock went on. A coordinator that is stopped stands still in that time: only the
          // end is put off, or stops within stops would put off the end of the trouble for ever.
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
      if steps != Array(1...Story.steps) { return "steps \(steps)" }
      if committed[run]?.contains(Story.steps) != true { return "finished without its last checkpoint" }
    }
    if order.count != names.count { return "\(names.count) runs were submitted, and \(order.count) are known" }
    // Afterwards every worker is idle again.
    for _ in 0..<300 {
      now = now + .milliseconds(40)
      turn()
    }
    for process in processes.values where !process.exited && process.assignment != nil {
      return "\(process.name) still works on generation \(process.assignment!.generation)"
    }
    return problem
  }

  // MARK: trouble

  /// What would not happen if no clock had stood still.
  var calmProblem: String? {
    for run in order {
      for event in events[run]! {
        switch event {
        case .said(let sentence) where sentence.contains("computed again"): return sentence
        case .state(_, let reason) where reason.contains("lost") || reason.contains("did not come back"): return reason
        default: break
        }
      }
    }
    return nil
  }

  /// The coordinator's process is stopped for a while, or the whole machine is. Returns for how long every clock stood still.
  mutating func stopClock() -> Duration {
    let duration = Duration.milliseconds(1500 + draw.below(20_000))
    if draw.chance(500) {
      tell("the machine is stopped for \(duration)")
      reached.insert("machine stopped")
      now = now + duration
      return duration
    }
    guard coordinator != nil, coordinatorStoppedUntil == nil else { return .zero }
    tell("the coordinator is stopped for \(duration)")
    reached.insert("coordinator stopped")
    coordinatorStoppedUntil = now + duration
    return duration
  }

  mutating func start(_ name: String) {
    births += 1
    let peer = PeerID("\(name)-\(births)")
    var description = Cluster.worker(name)
    description.process = Int(births)
    description.incarnation = births
    processes[peer] = Process(
      name: name, session: WorkerSession(description, endpoint: "ipc:///c", joinWithin: .seconds(300), at: now),
      link: ReliableLink(incarnation: 1000 + births), frozenUntil: now)
    tell("\(peer) starts")
  }

  mutating func startCoordinator() {
    coordinatorBirths += 1
    coordinatorBack = nil
    links = [:]
    var fresh = Coordinator(seed: coordinatorBirths, patience: .seconds(2), program: "ress test")
    tell("coordinator \(coordinatorBirths) starts")
    do {
      let actions = try fresh.restore(records: order.compactMap { records[$0] }, counters: counters, at: now)
      coordinator = fresh
      run(actions)
    } catch { problem = "the store cannot be read: \(error)" }
  }

  mutating func crashCoordinator() {
    coordinator = nil
    coordinatorStoppedUntil = nil
    waitingEvents = []
    waitingPackets = []
    crashesAfterStore = false
    coordinatorBack = now + .milliseconds(100 + draw.below(2500))
    reached.insert("coordinator crash")
    tell("coordinator crashes")
  }

  /// Something bad.
  mutating func strike() {
    let alive = processes.keys.sorted().filter { !processes[$0]!.exited }
    switch draw.below(7) {
    case 0, 1, 2:
      guard !alive.isEmpty else { return start("w\(draw.below(3))") }
      let victim = alive[draw.below(alive.count)], name = processes[victim]!.name
      crash(victim)
      if draw.chance(700) { start(name) }
    case 3:
      guard !alive.isEmpty else { return }
      reached.insert("worker hang")
      let victim = alive[draw.below(alive.count)]
      let until = now + .milliseconds(draw.below(4000))
      processes[victim]!.frozenUntil = until
    case 4: if coordinator != nil { crashCoordinator() }
    case 5: crashesAfterStore = true
    default: start("w\(draw.below(4))")
    }
  }

  mutating func crash(_ peer: PeerID) {
    tell("\(peer) crashes")
    reached.insert("worker crash")
    let process = processes.removeValue(forKey: peer)!
    // What it had given and was still under way arrives at some and not at others.
    if let assignment = process.assignment {
      for key in contributions.keys.sorted(by: { ($0.step, $0.place) < ($1.step, $1.place) })
      where key.generation == assignment.generation && key.place == assignment.index {
        for (place, arrival) in contributions[key]!.arrives.sorted(by: { $0.key < $1.key })
        where arrival > now {
          if draw.chance(500) { contributions[key]!.arrives[place] = nil }
        }
      }
    }
    if draw.chance(700), coordinator != nil { coordinate(.disconnected(peer)) }
  }

  mutating func ask(_ names: [String]) {
    guard coordinator != nil else { return }
    let name = names[draw.below(names.count)]
    switch draw.below(3) {
    case 0:
      reached.insert("pause")
      coordinate(.received(Cluster.client, .change(run: name, .pause)))
    case 1: coordinate(.received(Cluster.client, .change(run: name, .resume)))
    default:
      reached.insert("scale")
      coordinate(.received(Cluster.client, .change(run: name, .scale(workers: 1 + draw.below(3)))))
    }
  }

  /// Trouble is over: three workers are there, and what rests is resumed.
  mutating func settle(_ names: [String]) {
    if coordinator == nil && coordinatorBack == nil { coordinatorBack = now }
    if isCalm { return }
    let living = Set(processes.values.filter { !$0.exited }.map(\.name))
    for index in 0..<3 where !living.contains("w\(index)") { start("w\(index)") }
    for (index, run) in order.enumerated() where coordinator != nil && draw.chance(50) {
      if let state = state(run), state == .paused || state == .failed || state == .cancelled {
        reached.insert("resume")
        coordinate(.received(Cluster.client, .change(run: index < names.count ? names[index] : "", .resume)))
      }
    }
  }

  // MARK: the network

  mutating func turn() {
    if let back = coordinatorBack, back <= now { startCoordinator() }
    if let until = coordinatorStoppedUntil, until <= now {
      coordinatorStoppedUntil = nil
      let events = waitingEvents
      waitingEvents = []
      // The clock first: it is a thread of its own that reads the sockets.
      coordinate(.tick)
      for event in events { coordinate(event) }
      // A connection keeps the order.
      let packets = waitingPackets
      waitingPackets = []
      for packet in packets { deliver(packet) }
    }
    let due = packets.filter { $0.at <= now }.sorted { $0.at < $1.at }
    packets.removeAll { $0.at <= now }
    for packet in due { deliver(packet) }
    for peer in processes.keys.sorted() {
      guard var process = processes[peer], !process.exited, process.frozenUntil <= now else { continue }
      var heartbeat = Heartbeat(generation: process.assignment?.generation ?? 0, step: process.step)
      heartbeat.hasBegun = process.hasBegun
      heartbeat.held = process.held
      process.progress += 1
      heartbeat.progress = process.progress
      for effect in process.session.tick(heartbeat, at: now) { apply(effect, &process, peer) }
      work(&process, peer)
      for sending in process.link.tick(at: now) { carry(sending, peer, toCoordinator: true) }
      processes[peer] = process
    }
    let finished = disk.filter { $0.at <= now }
    disk.removeAll { $0.at <= now }
    for (_, birth, event) in finished {
      if case .committed(let run, let step, _) = event { committed[run, default: []].insert(step) }
      if birth == coordinatorBirths, coordinator != nil { coordinate(event) }
    }
    guard coordinatorStoppedUntil == nil else { return }
    if coordinator != nil { coordinate(.tick) }
    for peer in links.keys.sorted() {
      let due = links[peer]!.tick(at: now)
      for sending in due { carry(sending, peer, toCoordinator: false) }
    }
  }

  mutating func deliver(_ packet: Packet) {
    if packet.toCoordinator {
      guard coordinator != nil else { return }
      if coordinatorStoppedUntil != nil { return waitingPackets.append(packet) }
      var link = links[packet.peer] ?? ReliableLink(incarnation: coordinatorBirths)
      let (arrival, answers) = link.receive(packet.header, packet.message, at: now)
      links[packet.peer] = link
      for sending in answers { carry(sending, packet.peer, toCoordinator: false) }
      if case .request(let request)? = arrival.delivered { coordinate(.received(packet.peer, request)) }
    } else if var process = processes[packet.peer], !process.exited, process.frozenUntil <= now {
      let (arrival, answers) = process.link.receive(packet.header, packet.message, at: now)
      for sending in answers { carry(sending, packet.peer, toCoordinator: true) }
      if arrival.peerRestarted {
        for effect in process.session.coordinatorRestarted(at: now) { apply(effect, &process, packet.peer) }
      }
      if case .reply(let reply)? = arrival.delivered {
        for effect in process.session.receive(reply, at: now) { apply(effect, &process, packet.peer) }
      }
      processes[packet.peer] = process
    }
  }

  mutating func carry(_ packet: ReliableLink<Words>.Packet, _ peer: PeerID, toCoordinator: Bool) {
    guard !draw.chance(loss) else { return }
    for _ in 0..<(draw.chance(50) ? 2 : 1) {
      packets.append(
        Packet(
          at: now + .milliseconds(1 + draw.below(90)), peer: peer, toCoordinator: toCoordinator, header: packet.header,
          message: packet.message))
    }
  }

  // MARK: a worker

  mutating func say(_ report: Report, _ process: inout Process, _ peer: PeerID) {
    guard let generation = process.assignment?.generation else { return }
    for effect in process.session.report(report, generation: generation) { apply(effect, &process, peer) }
  }

  mutating func apply(_ effect: WorkerSession.Effect, _ process: inout Process, _ peer: PeerID) {
    switch effect {
    case .send(let request):
      let sendings = process.link.send(.request(request), at: now)
      for sending in sendings { carry(sending, peer, toCoordinator: true) }
    case .assigned(let assignment):
      if let old = process.assignment, !process.isHalted, process.hasBegun {
        problem = "\(peer) was given generation \(assignment.generation) in the middle of \(old.generation)"
      }
      if isTold {
        tell("\(peer) is assigned generation \(assignment.generation), place \(assignment.index), \(assignment.start)")
      }
      check(assignment)
      process.assignment = assignment
      (process.hasBegun, process.isHalted, process.halt) = (false, false, nil)
      (process.computedAt, process.hasContributed, process.underWay, process.uncopied) = (nil, false, nil, nil)
      if let live = process.live {
        if case .memory(let state) = assignment.start, live.run == assignment.run, live.generation == state.generation,
          live.step == state.step
        {
        } else {
          process.live = nil
        }
      }
      (process.unsaved, process.afterSave) = (nil, nil)
      process.step = assignment.firstStep
      process.readyAt = now + .milliseconds(draw.below(600))
    case .begin(let generation, let leftOut, _):
      process.leftOut = leftOut
      if process.assignment?.generation != generation { problem = "\(peer) was told to begin generation \(generation)" }
      process.hasBegun = true
      process.live = nil
      process.computedAt = now + .milliseconds(draw.below(200))
      if process.step > 0 { copy(&process) }
    case .halt(_, let saving, _): process.halt = saving || process.halt == true
    case .stop(let generation, let reason):
      if process.assignment?.generation != generation { problem = "\(peer) was told to stop generation \(generation)" }
      tell("\(peer) stops generation \(generation): \(reason)")
      // The state is whole between two updates, and is kept.
      if let assignment = process.assignment, process.hasBegun, !process.isHalted, assignment.roster.count > 1, process.step > 0 {
        process.live = shard(process)
      }
      process.assignment = nil
      (process.hasBegun, process.isHalted, process.readyAt, process.computedAt) = (false, false, nil, nil)
      (process.unsaved, process.afterSave) = (nil, nil)
      (process.underWay, process.uncopied) = (nil, nil)
    case .exit(let reason):
      tell("\(peer) exits: \(reason)")
      process.exited = true
    case .rewrite, .log: break
    }
  }

  /// One owner a unit and an expert.
  mutating func check(_ assignment: Assignment) {
    let units = assignment.roster.flatMap { Array($0.units) }
    let experts = assignment.roster.flatMap(\.experts).sorted()
    if units != Array(0..<assignment.configuration.training.unitCount) { problem = "units \(units)" }
    if experts != Array(0..<assignment.configuration.model.expertCount) { problem = "experts \(experts)" }
  }

  mutating func work(_ process: inout Process, _ peer: PeerID) {
    guard let assignment = process.assignment else { return }
    if let arrival = process.underWay, arrival.at <= now { arrive(arrival.shard, at: arrival.to, &process) }
    if let readyAt = process.readyAt, readyAt <= now, load(assignment, &process, peer) {
      process.readyAt = nil
      if !assignment.isHelper {
        if assignment.recorded < assignment.firstStep {
          for step in assignment.recorded + 1...assignment.firstStep
          where process.known[assignment.run]?.contains(step) == true {
            reached.insert("missing record")
            say(.stepDone(stepRecord(step)), &process, peer)
          }
        }
        say(.ready, &process, peer)
      }
    }
    if let unsaved = process.unsaved, unsaved.at <= now {
      process.unsaved = nil
      saved(unsaved.step, &process, peer)
      if let farewell = process.afterSave { say(farewell, &process, peer) }
      process.afterSave = nil
    }
    guard process.hasBegun, !process.isHalted, process.step < Story.steps else { return }
    if !process.hasContributed, let computed = process.computedAt, computed <= now { contribute(&process) }
    guard process.hasContributed, isComplete(process) else { return }
    finishStep(&process, peer)
  }

  /// Whether the state that the assignment names is there. A worker that should hold it and does not reports that.
  mutating func load(_ assignment: Assignment, _ process: inout Process, _ peer: PeerID) -> Bool {
    guard case .memory(let state) = assignment.start else {
      if case .fresh = assignment.start {
        if assignment.generation > 1 { reached.insert("again from the seed") }
      } else {
        reached.insert("from checkpoint")
      }
      return true
    }
    reached.insert("from memory")
    for (index, holder) in state.holders.enumerated() {
      let shard = HeldShard(
        run: assignment.run, generation: state.generation, index: index, count: state.holders.count, step: state.step)
      if holder == assignment.index {
        if !process.held.contains(shard) {
          process.readyAt = nil
          say(.lacking(reason: "\(shard) is not here"), &process, peer)
          return false
        }
      } else if !processes.values.contains(where: {
        $0.assignment?.generation == assignment.generation && $0.assignment?.index == holder && $0.held.contains(shard)
      }) {
        // It waits: the holder is late, or gone, which the coordinator will find.
        return false
      }
    }
    return true
  }

  mutating func contribute(_ process: inout Process) {
    // The copy of this worker's state must have arrived before the others may change theirs.
    guard process.underWay == nil else { return }
    let assignment = process.assignment!
    process.hasContributed = true
    var arrives: [Int: Instant] = [:]
    for place in assignment.roster.indices {
      arrives[place] = place == assignment.index ? now : now + .milliseconds(draw.below(120))
    }
    contributions[Key(generation: assignment.generation, step: process.step + 1, place: assignment.index)] =
      Contribution(halt: process.halt, arrives: arrives)
  }

  func isComplete(_ process: Process) -> Bool {
    let assignment = process.assignment!
    return assignment.roster.indices.allSatisfy { place in
      let key = Key(generation: assignment.generation, step: process.step + 1, place: place)
      return contributions[key]?.arrives[assignment.index].map { $0 <= now } ?? false
    }
  }

  mutating func finishStep(_ process: inout Process, _ peer: PeerID) {
    let assignment = process.assignment!
    let next = process.step + 1
    let copies = assignment.roster.count > 1 && next.isMultiple(of: Story.mirrorEvery) && next < Story.steps
    completeCopy(&process)
    let halts = assignment.roster.indices.compactMap {
      contributions[Key(generation: assignment.generation, step: next, place: $0)]?.halt
    }
    process.step = next
    process.hasContributed = false
    process.computedAt = now + .milliseconds(20 + draw.below(160))
    process.known[assignment.run, default: []].insert(next)
    if assignment.index == 0 { say(.stepDone(stepRecord(next)), &process, peer) }
    process.leftOut = leftOut.contains(next) ? process.leftOut + 1 : 0
    let hasDiverged = process.leftOut > Story.skipAtMost
    if hasDiverged && !stops.contains(next) { problem = "\(peer) stops by itself after step \(next)" }
    let isLast = next == Story.steps
    let isHalt = (!halts.isEmpty && !isLast) || hasDiverged
    if copies { copy(&process) }
    if isLast || next.isMultiple(of: Story.saveEvery) || (isHalt && (hasDiverged || halts.contains(true))) {
      // A newer save takes the place of one that could not be written.
      process.unsaved = nil
      if !isCalm, draw.chance(30) {
        reached.insert("worker cannot write")
        say(.saveFailed(step: next, reason: "no space left on device"), &process, peer)
        process.unsaved = (next, now + .milliseconds(draw.below(3000)))
      } else {
        saved(next, &process, peer)
      }
    }
    var farewell: Report?
    if isLast {
      farewell = .finished
    } else if isHalt {
      reached.insert("halt")
      process.isHalted = true
      process.live = shard(process)
      farewell = .halted(step: next, held: process.held)
      // What the next generation does not need is given up.
      if !halts.contains(true) && !hasDiverged { process.unsaved = nil }
    }
    guard let farewell else { return }
    if process.unsaved != nil { process.afterSave = farewell } else { say(farewell, &process, peer) }
  }

  mutating func saved(_ step: Int, _ process: inout Process, _ peer: PeerID) {
    let assignment = process.assignment!
    let file = CheckpointManifest.File(
      name: "\(assignment.generation) \(step) \(assignment.index)", byteCount: assignment.roster.count, sha256: "")
    say(.saved(step: step, files: [file]), &process, peer)
  }

  func shard(_ process: Process) -> HeldShard {
    let assignment = process.assignment!
    return HeldShard(
      run: assignment.run, generation: assignment.generation, index: assignment.index, count: assignment.roster.count,
      step: process.step)
  }

  mutating func copy(_ process: inout Process) {
    let assignment = process.assignment!
    guard let mirror = assignment.mirror(of: assignment.index) else { return }
    process.uncopied = shard(process)
    process.underWay = (
      shard(process), assignment.roster[mirror].worker.name, now + .milliseconds(20 + draw.below(400))
    )
  }

  mutating func arrive(_ shard: HeldShard, at name: String, _ process: inout Process) {
    guard
      let mirror = processes.keys.sorted().first(where: {
        processes[$0]!.name == name && processes[$0]!.assignment?.generation == shard.generation
      })
    else { return }
    process.underWay = nil
    processes[mirror]!.mirrored.append(shard)
  }

  /// Everyone's copies have arrived at their mirrors: the own copy takes the place of the older ones, before the state
  /// changes.
  func completeCopy(_ process: inout Process) {
    guard let copy = process.uncopied else { return }
    process.uncopied = nil
    func isOld(_ shard: HeldShard) -> Bool { shard.generation < copy.generation || shard.step < copy.step }
    process.own.removeAll(where: isOld)
    process.mirrored.removeAll(where: isOld)
    process.own.append(copy)
  }

  // MARK: the coordinator

  mutating func coordinate(_ event: Event) {
    guard coordinatorStoppedUntil == nil else { return waitingEvents.append(event) }
    guard let actions = coordinator?.step(event, at: now) else { return }
    run(actions)
  }

  mutating func run(_ actions: [Action]) {
    for action in actions {
      switch action {
      case .store(let changes):
        for change in changes { keep(change) }
        if crashesAfterStore {
          reached.insert("crash between store and answer")
          return crashCoordinator()
        }
      case .send(Cluster.client, _), .sendEvents, .sendStatus, .sendDetails, .record, .prove, .completeMetrics,
        .runCommand,
        .takeFolder,
        .releaseFolder:
        break
      case .send(let peer, let reply):
        var link = links[peer] ?? ReliableLink(incarnation: coordinatorBirths)
        let sendings = link.send(.reply(reply), at: now)
        links[peer] = link
        for sending in sendings { carry(sending, peer, toCoordinator: false) }
      case .prepareRun(let run, _, _, _):
        let newest = committed[run]?.max()
        disk.append(
          (
            now + .milliseconds(draw.below(300)), coordinatorBirths,
            .prepared(
              run,
              .ready(
                .init(
                  folder: "/f", checkpoint: newest.map { "/f/\($0)" }, firstStep: newest ?? 0, proof: nil, notes: [],
                  leftOut: newest.flatMap { leftOutOf[run]?[$0] } ?? 0)))
          ))
      case .commit(let run, let manifest, _): commit(run, manifest)
      case .log(let line), .complain(let line): tell("coordinator: \(line)")
      }
    }
  }

  mutating func commit(_ run: RunID, _ manifest: CheckpointManifest) {
    let parts = manifest.files.map { $0.name.split(separator: " ").compactMap { Int($0) } }
    if parts.contains(where: { $0[0] != Int(manifest.generation) || $0[1] != manifest.step })
      || parts.map({ $0[2] }).sorted() != Array(0..<(manifest.files.first?.byteCount ?? 0))
    {
      problem = "a checkpoint of step \(manifest.step) was made of \(manifest.files.map(\.name))"
    }
    let at = now + .milliseconds(draw.below(500))
    leftOutOf[run, default: [:]][manifest.step] = manifest.leftOut
    if !isCalm, draw.chance(20) {
      reached.insert("disk full")
      disk.append((at, coordinatorBirths, .commitFailed(run, step: manifest.step, reason: "no space left on device")))
    } else {
      disk.append((at, coordinatorBirths, .committed(run, step: manifest.step, path: "/f/\(manifest.step)")))
    }
  }

  mutating func keep(_ change: StoreChange) {
    switch change {
    case .run(let id, let record):
      if records[id] == nil { order.append(id) }
      records[id] = record
    case .forget(let id): problem = "run \(id) was forgotten"
    case .value(_, let value): counters = value
    case .event(let id, let number, let bytes):
      guard let event = try? RecordCodec.decode(RunEvent.self, from: bytes) else {
        return problem = "an event of \(id)"
      }
      if number != (events[id]?.count ?? 0) + 1 { problem = "event \(number) after \(events[id]?.count ?? 0)" }
      if isTold { tell("\(id) event \(number): \(event)") }
      switch event {
      case .state(let state, let reason):
        if reason.isEmpty { problem = "a change without a reason" }
        if state == .paused { paused.insert(id) }
      case .stepped(let record):
        let last = events[id]?.reversed().lazy.compactMap { if case .stepped(let r) = $0 { r.step } else { nil } }.first
        if record.step != (last ?? 0) + 1 { problem = "step \(record.step) was recorded after \(last ?? 0)" }
        if stops.contains(record.step - 1) {
          reached.insert("left out")
          if !paused.contains(id) { problem = "the run did not stop after step \(record.step - 1)" }
        }
        paused.remove(id)
      case .said(let sentence): if sentence.contains("are computed again") { reached.insert("replay") }
      case .began, .placed, .evaluated, .examined, .saved: break
      }
      events[id, default: []].append(event)
    }
  }
}
