// A worker of a simulation. It trains by the rules of `RunJob`: a step is complete when the contributions of all have
// arrived, a copy must be at its mirror before the next one is made, and a checkpoint is written from the copy.

import Configuration
import Coordination
import Wire

extension Simulation {
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
      if let live = process.live, !isBeginning(assignment, live) { process.live = nil }
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
      if let assignment = process.assignment, process.hasBegun, !process.isHalted, assignment.roster.count > 1,
        process.step > 0
      {
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
    guard process.hasBegun, !process.isHalted, process.step < Simulation.steps else { return }
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
    let copies = assignment.roster.count > 1 && next.isMultiple(of: Simulation.mirrorEvery) && next < Simulation.steps
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
    let hasDiverged = process.leftOut > Simulation.skipAtMost
    if hasDiverged && !stops.contains(next) { problem = "\(peer) stops by itself after step \(next)" }
    let isLast = next == Simulation.steps
    let isHalt = (!halts.isEmpty && !isLast) || hasDiverged
    if copies { copy(&process) }
    if isLast || next.isMultiple(of: Simulation.saveEvery) || (isHalt && (hasDiverged || halts.contains(true))) {
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

  /// Whether a generation begins with the state of a live shard.
  func isBeginning(_ assignment: Assignment, _ live: HeldShard) -> Bool {
    guard case .memory(let state) = assignment.start else { return false }
    return live.run == assignment.run && live.generation == state.generation && live.step == state.step
  }
}
