// The coordinator of a simulation, with its store and its disk.

import Configuration
import Coordination
import Wire

extension Simulation {
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
