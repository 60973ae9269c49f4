// The coordinator and its workers as they are in production, over links that lose, double and delay, with workers that crash,
// hang and come back, and a disk that is slow and sometimes full. One seed is one story; a failing one tells itself again.

import Configuration
import Coordination
import Testing
import Wire

@Suite struct SimulationTests {
  @Test func `every run ends and says why, and a finished one has lost nothing, on 600 seeds`() {
    var ends: [RunState: Int] = [:]
    for seed in UInt64(1)...600 {
      var story = Story(seed: seed)
      if let problem = story.play() {
        Issue.record("seed \(seed): \(problem)")
        return
      }
      ends[story.state!, default: 0] += 1
    }
    // The schedules must reach every ending, or they prove little.
    #expect(ends[.finished, default: 0] > 100 && ends[.failed, default: 0] > 100, "\(ends)")
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

  /// A worker process: the production session, and a job that only counts.
  struct Process {
    var name: String
    var session: WorkerSession
    var link: ReliableLink<Words>
    var assignment: Assignment?
    var readyAt: Instant?
    var step = 0
    var isTraining = false
    var nextStep: Instant?
    var exited = false
    var frozenUntil: Instant
    var stopped: Set<UInt32> = []
  }

  static let steps = 6
  var draw: Draw
  var now = Instant(nanoseconds: 0)
  var coordinator = Coordinator(seed: 7, patience: .seconds(3), program: "test")
  /// The coordinator's side of each link.
  var links: [PeerID: ReliableLink<Words>] = [:]
  var processes: [PeerID: Process] = [:]
  var packets: [Packet] = []
  var disk: [(at: Instant, event: Event)] = []
  var births: UInt64 = 0
  var events: [RunEvent] = []
  var finishedBy: Set<String> = []
  var committed: [Int] = []
  var loss: Int
  var faults: Int

  init(seed: UInt64) {
    draw = Draw(state: seed &* 0x9E37_79B9)
    loss = draw.below(250)
    faults = draw.below(4)
  }

  var state: RunState? {
    events.reversed().lazy.compactMap { if case .state(let state, _) = $0 { state } else { nil } }.first
  }

  /// Nil where everything held, else what did not.
  mutating func play() -> String? {
    for index in 0..<3 { start("w\(index)") }
    var submission = Cluster.submission("run", workers: 2, steps: Story.steps)
    submission.configuration.checkpoint.every = 3
    coordinate(.received(Cluster.client, .submit(submission)))
    coordinate(.received(Cluster.client, .follow(run: "run")))
    var cancelled = false
    while now < Instant(nanoseconds: 0) + .seconds(90) {
      now = now + .milliseconds(20)
      if draw.below(400) < faults { strike() }
      if let problem = turn() { return problem }
      if state?.isEnd == true { break }
      if !cancelled && now > Instant(nanoseconds: 0) + .seconds(60) {
        cancelled = true
        coordinate(.received(Cluster.client, .cancel(run: "run")))
      }
    }
    guard case .state(let last, let reason)? = events.last, last.isEnd else {
      return "the run never ended: \(events.last as Any)"
    }
    if reason.isEmpty { return "no reason was given" }
    if last == .finished {
      if finishedBy.count != 2 { return "finished, though \(finishedBy) alone had ended" }
      if committed.last != Story.steps { return "finished without its last checkpoint: \(committed)" }
      let steps = events.compactMap { if case .stepped(let record) = $0 { record.step } else { nil } }
      if steps != Array(1...Story.steps) { return "steps \(steps)" }
    }
    // Afterwards the network is whole: every worker is idle again, or gone.
    loss = 0
    for _ in 0..<1000 {
      now = now + .milliseconds(20)
      if let problem = turn() { return problem }
    }
    for process in processes.values where !process.exited && process.assignment != nil {
      return "\(process.name) still works on generation \(process.assignment!.generation)"
    }
    return nil
  }

  mutating func start(_ name: String) {
    births += 1
    let peer = PeerID("\(name)-\(births)")
    var description = Cluster.worker(name)
    description.process = Int(births)
    processes[peer] = Process(
      name: name, session: WorkerSession(description, endpoint: "ipc:///c", joinWithin: .seconds(30), at: now),
      link: ReliableLink(incarnation: 1000 + births), frozenUntil: now)
  }

  /// Something bad.
  mutating func strike() {
    let alive = processes.keys.sorted().filter { !processes[$0]!.exited }
    guard !alive.isEmpty else { return start("w\(draw.below(3))") }
    let victim = alive[draw.below(alive.count)]
    switch draw.below(3) {
    case 0:
      let name = processes[victim]!.name
      processes[victim] = nil
      if draw.chance(700) { start(name) }
    case 1: processes[victim]!.frozenUntil = now + .milliseconds(draw.below(6000))
    default: start(processes[victim]!.name)
    }
  }

  mutating func turn() -> String? {
    let due = packets.filter { $0.at <= now }.sorted { $0.at < $1.at }
    packets.removeAll { $0.at <= now }
    for packet in due {
      if packet.toCoordinator {
        var link = links[packet.peer] ?? ReliableLink(incarnation: 1)
        let (arrival, answers) = link.receive(packet.header, packet.message, at: now)
        links[packet.peer] = link
        for sending in answers { carry(sending, to: packet.peer) }
        if case .request(let request)? = arrival.delivered {
          // Its last words count, also where the process is gone by now.
          if case .finished = request { finishedBy.insert(packet.peer.description) }
          coordinate(.received(packet.peer, request))
        }
      } else if var process = processes[packet.peer], !process.exited, process.frozenUntil <= now {
        let (arrival, answers) = process.link.receive(packet.header, packet.message, at: now)
        for sending in answers { carry(sending, from: packet.peer) }
        if case .reply(let reply)? = arrival.delivered {
          for effect in process.session.receive(reply, at: now) {
            if let problem = apply(effect, &process, packet.peer) { return problem }
          }
        }
        processes[packet.peer] = process
      }
    }
    for peer in processes.keys.sorted() {
      var process = processes[peer]!
      guard !process.exited, process.frozenUntil <= now else { continue }
      let heartbeat = Heartbeat(generation: process.assignment?.generation ?? 0, step: process.step)
      for effect in process.session.tick(heartbeat, at: now) {
        if let problem = apply(effect, &process, peer) { return problem }
      }
      work(&process, peer)
      for sending in process.link.tick(at: now) { carry(sending, from: peer) }
      processes[peer] = process
    }
    let ready = disk.filter { $0.at <= now }
    disk.removeAll { $0.at <= now }
    for (_, event) in ready { coordinate(event) }
    coordinate(.tick)
    for peer in links.keys.sorted() {
      let due = links[peer]!.tick(at: now)
      for sending in due { carry(sending, to: peer) }
    }
    return nil
  }

  /// The counting job.
  mutating func work(_ process: inout Process, _ peer: PeerID) {
    guard let assignment = process.assignment else { return }
    let generation = assignment.generation
    func say(_ request: Request) {
      let packets = process.link.send(.request(request), at: now)
      for sending in packets { carry(sending, from: peer) }
    }
    if let readyAt = process.readyAt, readyAt <= now {
      process.readyAt = nil
      if draw.chance(20) {
        say(.failed(generation: generation, reason: "no such dataset"))
      } else {
        say(.ready(generation: generation))
      }
    }
    guard process.isTraining, let next = process.nextStep, next <= now else { return }
    process.step += 1
    process.nextStep = now + .milliseconds(50 + draw.below(400))
    if assignment.index == 0 { say(.stepDone(generation: generation, record(process.step))) }
    if process.step % 3 == 0 { say(.saved(generation: generation, step: process.step, files: [])) }
    if process.step == Story.steps {
      say(.finished(generation: generation))
      process.isTraining = false
    }
  }

  mutating func apply(_ effect: WorkerSession.Effect, _ process: inout Process, _ peer: PeerID) -> String? {
    switch effect {
    case .send(let request):
      let packets = process.link.send(.request(request), at: now)
      for sending in packets { carry(sending, from: peer) }
    case .assigned(let assignment):
      if let old = process.assignment {
        return "\(process.name) was given generation \(assignment.generation) in the middle of \(old.generation)"
      }
      process.assignment = assignment
      process.step = 0
      process.readyAt = now + .milliseconds(draw.below(1500))
    case .begin(let generation):
      if process.assignment?.generation != generation {
        return "\(process.name) was told to begin generation \(generation)"
      }
      process.isTraining = true
      process.nextStep = now + .milliseconds(draw.below(300))
    case .stop(let generation, _):
      if process.assignment?.generation != generation {
        return "\(process.name) was told to stop generation \(generation)"
      }
      process.assignment = nil
      process.isTraining = false
    case .exit: process.exited = true
    case .log: break
    }
    return nil
  }

  mutating func coordinate(_ event: Event) {
    for action in coordinator.step(event, at: now) {
      switch action {
      case .send(Cluster.client, let reply): if case .event(let event) = reply { events.append(event) }
      case .send(let peer, let reply):
        var link = links[peer] ?? ReliableLink(incarnation: 1)
        let packets = link.send(.reply(reply), at: now)
        links[peer] = link
        for sending in packets { carry(sending, to: peer) }
      case .prepareRun(let run, _):
        let later = now + .milliseconds(draw.below(500))
        disk.append((later, .prepared(run, .ready(folder: "/f", checkpoint: nil, firstStep: 0, notes: []))))
      case .commit(let run, let manifest, _):
        let later = now + .milliseconds(draw.below(800))
        if draw.chance(30) {
          disk.append((later, .commitFailed(run, step: manifest.step, reason: "no space left on device")))
        } else {
          committed.append(manifest.step)
          disk.append((later, .committed(run, step: manifest.step, path: "/f")))
        }
      case .record, .log: break
      }
    }
  }

  mutating func carry(_ packet: ReliableLink<Words>.Packet, from peer: PeerID) {
    put(Packet(at: now, peer: peer, toCoordinator: true, header: packet.header, message: packet.message))
  }

  mutating func carry(_ packet: ReliableLink<Words>.Packet, to peer: PeerID) {
    put(Packet(at: now, peer: peer, toCoordinator: false, header: packet.header, message: packet.message))
  }

  mutating func put(_ packet: Packet) {
    guard !draw.chance(loss) else { return }
    for _ in 0..<(draw.chance(50) ? 2 : 1) {
      var copy = packet
      copy.at = now + .milliseconds(1 + draw.below(60))
      packets.append(copy)
    }
  }
}
