// Who is here. A worker joins by saying hello and stays as long as it is heard: `patience` of silence and it is lost. One
// whose connection was closed is lost at once, unless it comes back over another: that is how a dead process is found within
// a second, while a stopped one, whose kernel keeps the connection, has the whole patience.

import Wire

extension Coordinator {
  /// A closed connection may be a moment's trouble; libzmq connects again within this.
  private static let reconnectWithin = Duration.milliseconds(600)
  /// A coordinator that has just woken up finds connections closed that broke while it slept; their workers, which say nothing again
  /// for up to three seconds (`ReliableLink.slowestRepeat`), have this long.
  private static let reconnectAfterSleep = Duration.seconds(4)

  mutating func join(
    _ description: WorkerDescription, _ heartbeat: Heartbeat, _ peer: PeerID, _ turn: inout Turn
  ) {
    if let place = description.mpi, brokenWorlds.contains(place.world) {
      return turn.add(.send(peer, .refused(reason: Coordinator.brokenWorld)))
    }
    if let reason = objection(to: description, peer) { return turn.add(.send(peer, .refused(reason: reason))) }
    if members[peer] == nil {
      if let old = members.values.first(where: { $0.description.name == description.name }) {
        // One name, one process: the newer one is right, the older one is a ghost or is about to learn it.
        lose(old, "another process took its name", mayReturn: false, &turn)
      }
      counters.worker += 1
      gone.removeAll { $0.description.name == description.name }
      members[peer] = Member(
        id: WorkerID(counters.worker), peer: peer, description: description, joinedAt: turn.now, lastHeard: turn.now,
        progressAt: turn.now)
      let threads =
        switch description.threads {
        case 0: "its share of the cores"
        case 1: "1 thread"
        default: "\(description.threads) threads"
        }
      turn.add(.log("worker \(description.spoken) joined: \(threads), \(description.fingerprint)"))
      for run in runs where run.record.phase.hasWorkers && run.record.generation!.peers.contains(description) {
        members[peer]!.run = run.id
      }
    }
    members[peer]!.description = description
    members[peer]!.heartbeat = heartbeat
    let (generation, noted) = standing(peer)
    let keep = generation == heartbeat.generation ? generation : 0
    turn.add(
      .send(
        peer,
        .welcome(
          worker: members[peer]!.id, patienceSeconds: patience.inSeconds, asked: heartbeat.generation, keep: keep,
          noted: noted)))
    // The run that counted on a process that is gone need not wait for its silence.
    for run in runs where run.record.phase.hasWorkers {
      guard let place = run.record.generation!.peers.firstIndex(where: { $0.name == description.name }),
        run.record.generation!.peers[place] != description, member(run, place) == nil
      else { continue }
      let gone = run.record.generation!.peers[place]
      missing(run.id, place, "worker \(gone.spoken) was started anew", &turn)
      loseWorld(of: gone, &turn)
    }
    synchronize(peer, &turn)
  }

  /// Why a process may not be a worker here; nil where it may.
  private func objection(to description: WorkerDescription, _ peer: PeerID) -> String? {
    guard description.program == program else {
      return
        "worker \(description.name) is \(description.program), and this coordinator is \(program): all programs of a "
        + "cluster have one version"
    }
    // Whoever has another key could otherwise take the place of a worker by saying its name.
    let namesakes =
      members.values.filter { $0.peer != peer }.map(\.description)
      + runs.filter(\.record.phase.hasWorkers).flatMap { $0.record.generation!.peers }
    guard namesakes.allSatisfy({ $0.name != description.name || $0.publicKey == description.publicKey }) else {
      return "the name \(description.name) belongs to a worker with another key; give this one another with --name"
    }
    return nil
  }

  /// Tells a worker that came back what it may not have heard.
  private mutating func synchronize(_ peer: PeerID, _ turn: inout Turn) {
    guard let member = members[peer], let id = member.run, let index = index(of: id),
      let generation = runs[index].record.generation, let place = generation.peers.firstIndex(of: member.description)
    else { return }
    let isIn = member.heartbeat.generation == generation.number
    let isHelper = place >= generation.roster.count
    switch runs[index].record.phase {
    case .loading:
      guard !isIn else { return }
      runs[index].record.generation!.ready.remove(place)
      turn.add(.send(peer, .assigned(assignment(runs[index], place))))
    case .training, .halting:
      if isHelper { return release(peer, generation.number, "its part is done", &turn) }
      guard isIn else {
        if !generation.finished.contains(place) && generation.halted[place] == nil {
          missing(id, place, "worker \(member.description.spoken) came back without its generation", &turn)
        }
        return
      }
      if !member.heartbeat.hasBegun { turn.add(.send(peer, begin(runs[index]))) }
      if runs[index].record.phase == .halting { turn.add(.send(peer, halt(runs[index]))) }
    case .collecting:
      if isIn {
        turn.add(.send(peer, .stop(generation: generation.number, reason: runs[index].record.reason)))
      } else {
        collected(id, place, &turn)
      }
    case .idle, .preparing, .waiting, .saving: break
    }
  }

  /// Takes in what a worker says of itself.
  mutating func heard(_ heartbeat: Heartbeat, from peer: PeerID, _ turn: inout Turn) {
    guard var member = members[peer] else { return }
    // An assignment that arrived after its generation was over: nobody waits for this worker there.
    if heartbeat.generation != 0, heartbeat.generation != standing(peer).generation {
      turn.add(.send(peer, .stop(generation: heartbeat.generation, reason: "the generation is over")))
    }
    if heartbeat.progress != member.heartbeat.progress || heartbeat.generation != member.heartbeat.generation {
      member.progressAt = turn.now
    }
    member.heartbeat = heartbeat
    let run = member.run.flatMap { index(of: $0) }.map { runs[$0] }
    let generation = run?.record.generation
    let strays =
      run.map { $0.record.phase == .training || $0.record.phase == .halting } == true
      && heartbeat.generation != generation?.number
    member.strayedAt = strays ? member.strayedAt ?? turn.now : nil
    members[peer] = member
    // In whole MiB, so that a worker that fills up does not make the store write at every heartbeat.
    let mebibyte = 1 << 20
    let memory = (heartbeat.memoryBytes + mebibyte - 1) / mebibyte * mebibyte
    if let run, generation?.number == heartbeat.generation, let index = index(of: run.id),
      memory > run.record.memoryBytes ?? 0
    {
      runs[index].record.memoryBytes = memory
    }
    if let run, let generation, run.record.phase == .collecting, heartbeat.generation != generation.number,
      let place = generation.peers.firstIndex(of: member.description)
    {
      collected(run.id, place, &turn)
    }
  }

  mutating func tick(_ turn: inout Turn) {
    for member in members.values.sorted(by: { $0.id < $1.id }) {
      if member.lastHeard + patience(of: member) < turn.now {
        let silence = (turn.now - member.lastHeard).spoken
        if let index = member.run.flatMap({ index(of: $0) }) { runs[index].lostToSilence = true }
        lose(member, "nothing was heard of it for \(silence)", &turn)
      } else if let closed = member.closedAt, closed + reconnectWithin(closed) < turn.now {
        if let index = member.run.flatMap({ index(of: $0) }) { runs[index].lostToSilence = false }
        lose(member, "its connection was closed", &turn)
      }
    }
    for run in runs where run.record.phase.hasWorkers {
      // After a restart, or a hello that never came.
      for place in run.record.generation!.peers.indices where member(run, place) == nil {
        guard run.since + patience < turn.now else { continue }
        let worker = run.record.generation!.peers[place]
        if let index = index(of: run.id) { runs[index].lostToSilence = true }
        missing(run.id, place, "worker \(worker.spoken) did not come back", &turn)
        loseWorld(of: worker, &turn)
      }
    }
    for run in runs {
      keepLedger(run.id, &turn)
      commitNext(run.id, &turn)
    }
  }

  /// How long a worker may take to connect again after its connection was closed.
  private func reconnectWithin(_ closed: Instant) -> Duration {
    guard let wokeAt, closed < wokeAt + Coordinator.reconnectAfterSleep else { return Coordinator.reconnectWithin }
    return Coordinator.reconnectAfterSleep
  }

  /// The run's own, where it works for one.
  private func patience(of member: Member) -> Duration {
    member.run.flatMap { index(of: $0) }.map { runs[$0].patience } ?? patience
  }

  /// A worker that may not return is told why instead of to say hello: two processes of one name would otherwise take it
  /// from each other for ever.
  mutating func lose(
    _ member: Member, _ reason: String, mayReturn: Bool = true, _ turn: inout Turn
  ) {
    turn.add(.log("worker \(member.description.spoken) is lost: \(reason)"))
    // A rank cannot come back: its world is over.
    let isAlone = member.description.mpi == nil
    let told = mayReturn && isAlone ? Coordinator.unknownWorker : "\(reason): \(member.description.spoken)"
    turn.add(.send(member.peer, .refused(reason: told)))
    let run = member.run.flatMap { index(of: $0) }.map { runs[$0] }
    members[member.peer] = nil
    gone.append(Gone(description: member.description, run: run?.record.name, reason: reason, at: turn.now))
    if gone.count > Coordinator.goneLimit { gone.removeFirst() }
    defer { loseWorld(of: member.description, &turn) }
    guard let run, let place = run.record.generation?.peers.firstIndex(of: member.description) else { return }
    missing(
      run.id, place, "worker \(member.description.spoken) is lost at step \(member.heartbeat.step): \(reason)", &turn)
  }

  /// Lets a worker go that its run needs no more.
  mutating func release(_ peer: PeerID, _ generation: UInt32, _ reason: String, _ turn: inout Turn) {
    members[peer]!.run = nil
    members[peer]!.strayedAt = nil
    turn.add(.send(peer, .stop(generation: generation, reason: reason)))
  }
}

extension RunRecord.Phase {
  /// Workers are counted on.
  var hasWorkers: Bool {
    switch self {
    case .loading, .training, .halting, .collecting: true
    case .idle, .preparing, .waiting, .saving: false
    }
  }
}
