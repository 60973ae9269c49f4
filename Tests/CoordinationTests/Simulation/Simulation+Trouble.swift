// What goes wrong in a simulation: processes crash and hang, clocks stand still, users pause, resume and scale.

import Configuration
import Coordination
import Wire

extension Simulation {
  /// What would not happen if no clock had stood still.
  var calmProblem: String? {
    for run in order {
      for event in events[run]! {
        switch event {
        case .said(let sentence) where sentence.contains("computed again"): return sentence
        case .state(_, let reason) where reason.contains("lost") || reason.contains("did not return"): return reason
        default: break
        }
      }
    }
    return nil
  }

  /// The coordinator's process is stopped for a while, or the whole machine is. Returns for how long every clock stood
  /// still.
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
}
