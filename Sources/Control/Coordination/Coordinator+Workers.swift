// Which workers are here. A worker joins by saying hello and stays as long as it is heard: after `patience` of silence it is lost. One
// whose connection was closed is lost at once, unless it comes back over another: that is how a dead process is found within
// a second, while a stopped one, whose kernel keeps the connection, has the whole patience.
//
// Workers may be ranks of an MPI launch, a *world*. MPI cannot go on without a rank that died, so a world that loses one is lost whole; its
// user launches another, and the run goes on with that, from its newest checkpoint.

import Wire

extension Coordinator {
  /// A closed connection may be a short failure; libzmq connects again within this.
  private static let reconnectWithin = Duration.milliseconds(600)
  /// A coordinator that was stopped finds connections closed that broke in the meantime; their workers, which repeat a message only every
  /// three seconds by then (`ReliableLink.slowestRepeat`), have this long.
  private static let reconnectAfterSleep = Duration.seconds(4)
  /// What a rank is told whose world has lost another.
  private static let brokenWorld = "its MPI world has lost a rank, and is given up"

  // MARK: joining

  mutating func join(_ description: WorkerDescription, _ heartbeat: Heartbeat, _ peer: PeerID, _ turn: inout Turn) {
    if let place = description.mpi, members.isBroken(world: place.world) {
      return turn.refuse(Coordinator.brokenWorld, to: peer)
    }
    if let reason = objection(to: description, peer) { return turn.refuse(reason, to: peer) }
    if let known = members[peer], known.description.name != description.name {
      return turn.refuse("this process is worker \(known.description.name), and keeps its name", to: peer)
    }
    if members[peer] == nil {
      if let old = members.named(description.name) {
        // One name, one process: the newer one is right; the older one is dead or is told so now.
        lose(old, "another process took its name", mayReturn: false, &turn)
      }
      add(description, peer, &turn)
    }
    members[peer]!.description = description
    members[peer]!.heartbeat = heartbeat
    let (generation, noted) = standing(members[peer]!)
    let keep = generation == heartbeat.generation ? generation : 0
    turn.send(
      .welcome(
        worker: members[peer]!.id, patienceSeconds: settings.patience.inSeconds, asked: heartbeat.generation,
        keep: keep, noted: noted), to: peer)
    replaceNamesake(of: description, &turn)
    if let member = members[peer], let id = run(of: member) { runs[id].synchronize(member, &members, &turn) }
  }

  /// Why a process may not be a worker here; nil where it may.
  private func objection(to description: WorkerDescription, _ peer: PeerID) -> String? {
    guard description.program == settings.program else {
      return
        "worker \(description.name) is \(description.program), and this coordinator is \(settings.program): all programs of a "
        + "cluster have one version"
    }
    // A process with another key could otherwise take the place of a worker by using its name.
    let joined = members.named(description.name).flatMap { $0.peer != peer ? $0.description : nil }
    let expected = runs.all.lazy.filter(\.phase.hasWorkers).compactMap { run in
      run.generation!.place(named: description.name).flatMap { run.generation!.peer(at: $0) }
    }
    guard ([joined].compactMap { $0 } + expected).allSatisfy({ $0.publicKey == description.publicKey }) else {
      return "the name \(description.name) belongs to a worker with another key; give this one another with --name"
    }
    return nil
  }

  private mutating func add(_ description: WorkerDescription, _ peer: PeerID, _ turn: inout Turn) {
    counters.worker += 1
    members.add(Member(id: WorkerID(counters.worker), peer: peer, description: description, at: turn.now))
    let threads =
      switch description.threads {
      case 0: "its share of the cores"
      case 1: "1 thread"
      default: "\(description.threads) threads"
      }
    turn.log("worker \(description.spoken) joined: \(threads), \(description.fingerprint)")
    for run in runs.all where run.phase.hasWorkers && run.generation!.place(of: description) != nil {
      members.assignAgain(peer, to: run.id)
    }
  }

  /// A run that counts on a process of the same name, which is gone, need not wait until its silence is long enough.
  private mutating func replaceNamesake(of description: WorkerDescription, _ turn: inout Turn) {
    for run in runs.all where run.phase.hasWorkers {
      guard let place = run.generation!.place(named: description.name), let gone = run.generation!.peer(at: place),
        gone != description, runs[run.id].worker(place, in: members) == nil
      else { continue }
      runs[run.id].missing(place, "worker \(gone.spoken) was started anew", &members, &turn)
      loseWorld(of: gone, &turn)
    }
  }

  // MARK: hearing

  mutating func heard(_ heartbeat: Heartbeat, from member: Member, _ turn: inout Turn) {
    let peer = member.peer
    // An assignment that arrived after its generation was over: no run waits for this worker there.
    if heartbeat.generation != 0, heartbeat.generation != standing(member).generation {
      turn.send(.stop(generation: heartbeat.generation, reason: "the generation is over"), to: peer)
    }
    members[peer]!.hear(heartbeat, at: turn.now)
    if let id = run(of: member) {
      let run = runs[id]
      let strays =
        (run.phase.isTraining || run.phase.isHalting) && heartbeat.generation != run.generation?.number
      members[peer]!.strayedAt = strays ? member.strayedAt ?? turn.now : nil
      runs[id].heard(members[peer]!, &members, &turn)
    } else {
      members[peer]!.strayedAt = nil
    }
    let (generation, noted) = standing(members[peer]!)
    turn.send(.alive(generation: generation, noted: noted), to: peer)
  }

  /// The generation that a worker is counted on for, and how many of its reports were taken in it; 0 for none.
  private func standing(_ member: Member) -> (generation: UInt32, noted: Int) {
    guard let id = run(of: member), let generation = runs[id].generation,
      let place = generation.place(of: member.description)
    else { return (0, 0) }
    return (generation.number, place < generation.noted.count ? generation.noted[place] : 0)
  }

  // MARK: time

  mutating func tick(_ turn: inout Turn) {
    for member in members.inOrder {
      if member.lastHeard + patience(of: member) < turn.now {
        let silence = (turn.now - member.lastHeard).spoken
        if let id = run(of: member) { runs[id].lostToSilence = true }
        lose(member, "nothing was heard of it for \(silence)", &turn)
      } else if let closed = member.closedAt, closed + reconnectWithin(closed) < turn.now {
        if let id = run(of: member) { runs[id].lostToSilence = false }
        lose(member, "its connection was closed", &turn)
      }
    }
    // Workers that a run counts on and that are not here: after a restart of the coordinator, they have the patience to come back.
    for run in runs.all where run.phase.hasWorkers && run.since + settings.patience < turn.now {
      for (place, worker) in run.generation!.peers.enumerated() where members.worker(worker, of: run.id) == nil {
        runs[run.id].lostToSilence = true
        runs[run.id].missing(place, "worker \(worker.spoken) did not come back", &members, &turn)
        loseWorld(of: worker, &turn)
      }
    }
    for id in runs.ids(where: { $0.phase.hasWorkers || !$0.checkpoints.areSettled }) {
      runs[id].keepLedger(&members, &turn)
      runs[id].commitNext(&turn)
    }
  }

  /// The run's own, where it works for one.
  private func patience(of member: Member) -> Duration {
    run(of: member).map { runs[$0].patience } ?? settings.patience
  }

  /// How long a worker may take to connect again after its connection was closed.
  private func reconnectWithin(_ closed: Instant) -> Duration {
    guard let wokeAt, closed < wokeAt + Coordinator.reconnectAfterSleep else { return Coordinator.reconnectWithin }
    return Coordinator.reconnectAfterSleep
  }

  // MARK: losing

  /// - Parameter mayReturn: the worker is told to say hello again. One that may not is told the reason instead: two processes of one name
  ///   would otherwise take it from each other for ever.
  mutating func lose(_ member: Member, _ reason: String, mayReturn: Bool = true, _ turn: inout Turn) {
    turn.log("worker \(member.description.spoken) is lost: \(reason)")
    // A rank cannot come back: its world is over.
    let isAlone = member.description.mpi == nil
    turn.refuse(
      mayReturn && isAlone ? Coordinator.unknownWorker : "\(reason): \(member.description.spoken)", to: member.peer)
    let id = run(of: member)
    members.remove(member, id.map { runs[$0].name }, reason, at: turn.now)
    if let id, let place = runs[id].generation?.place(of: member.description) {
      runs[id].missing(
        place, "worker \(member.description.spoken) is lost at step \(member.heartbeat.step): \(reason)", &members,
        &turn)
    }
    loseWorld(of: member.description, &turn)
  }

  /// Gives up the other ranks of the world that a worker was in; each is told, and ends.
  private mutating func loseWorld(of worker: WorkerDescription, _ turn: inout Turn) {
    guard let world = worker.mpi?.world, let others = members.breakWorld(world) else { return }
    for other in others { lose(other, "its MPI world has lost worker \(worker.name)", mayReturn: false, &turn) }
  }
}
