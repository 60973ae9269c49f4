// The workers that are connected. A worker joins with a hello and remains as long as its heartbeats arrive; after a
// silence of `patience` it counts as lost. A worker whose connection was closed counts as lost at once, unless it
// connects again. A dead process is therefore noticed within a second, because its kernel closes the connection; a
// stopped process keeps its connection and has the whole patience.
//
// Workers may be ranks of an MPI launch, a *world*. MPI cannot continue without a rank that died, so the loss of one
// rank is the loss of the world. Its user launches another world, and the run continues there from its newest
// checkpoint.

import Wire

extension Coordinator {
  /// A closed connection may be a short failure; libzmq connects again within this time.
  private static let reconnectWithin = Duration.milliseconds(600)
  /// After the coordinator itself was stopped, it finds connections closed that broke in the meantime. Their workers by
  /// then repeat a message only every three seconds (`ReliableLink.slowestRepeat`), so they get this time to return.
  private static let reconnectAfterSleep = Duration.seconds(4)
  /// The reason that is sent to a rank whose world has lost another rank.
  private static let brokenWorld = "its MPI world has lost a rank, and is given up"

  // MARK: joining

  mutating func join(_ description: WorkerDescription, _ heartbeat: Heartbeat, _ peer: PeerID, _ turn: inout Turn) {
    if let rank = description.mpi, members.isBroken(world: rank.world) {
      return turn.refuse(Coordinator.brokenWorld, to: peer)
    }
    if let reason = objection(to: description, peer) { return turn.refuse(reason, to: peer) }
    if let known = members[peer], known.description.name != description.name {
      return turn.refuse("this process is worker \(known.description.name), and keeps its name", to: peer)
    }
    if members[peer] == nil {
      if let old = members.named(description.name) {
        // A name belongs to one process, the newer one. The older one is dead, or is asked to end now.
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

  /// Why a process is refused as a worker; nil where it is accepted.
  private func objection(to description: WorkerDescription, _ peer: PeerID) -> String? {
    guard description.program == settings.program else {
      return
        "worker \(description.name) is \(description.program), and this coordinator is \(settings.program): all programs of a "
        + "cluster have one version"
    }
    // A process with another key could otherwise take the place of a worker by using its name.
    let joined = members.named(description.name).flatMap { $0.peer != peer ? $0.description : nil }
    let expected = runs.all.lazy.filter(\.phase.hasWorkers).compactMap { run in
      run.generation!.index(named: description.name).flatMap { run.generation!.peer(at: $0) }
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
    for run in runs.all where run.phase.hasWorkers && run.generation!.index(of: description) != nil {
      members.assignAgain(peer, to: run.id)
    }
  }

  /// The new process replaces a worker of the same name that a run still counts on, so the run does not have to wait
  /// for the end of the patience.
  private mutating func replaceNamesake(of description: WorkerDescription, _ turn: inout Turn) {
    for run in runs.all where run.phase.hasWorkers {
      guard let index = run.generation!.index(named: description.name), let gone = run.generation!.peer(at: index),
        gone != description, runs[run.id].worker(index, in: members) == nil
      else { continue }
      runs[run.id].missing(index, "worker \(gone.spoken) was restarted", &members, &turn)
      loseWorld(of: gone, &turn)
    }
  }

  // MARK: hearing

  mutating func heard(_ heartbeat: Heartbeat, from member: Member, _ turn: inout Turn) {
    let peer = member.peer
    // The assignment arrived after the end of its generation, so no run waits for this worker.
    if heartbeat.generation != 0, heartbeat.generation != standing(member).generation {
      turn.send(.stop(generation: heartbeat.generation, reason: "the generation has ended"), to: peer)
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

  /// The generation that a worker belongs to, and how many of its reports were taken in it; 0 where it belongs to none.
  private func standing(_ member: Member) -> (generation: UInt32, noted: Int) {
    guard let id = run(of: member), let generation = runs[id].generation,
      let index = generation.index(of: member.description)
    else { return (0, 0) }
    return (generation.number, index < generation.acknowledged.count ? generation.acknowledged[index] : 0)
  }

  // MARK: time

  mutating func tick(_ turn: inout Turn) {
    for member in members.inOrder {
      if member.lastHeard + patience(of: member) < turn.now {
        let silence = (turn.now - member.lastHeard).spoken
        if let id = run(of: member) { runs[id].lostToSilence = true }
        lose(member, "no message from it arrived for \(silence)", &turn)
      } else if let closed = member.closedAt, closed + reconnectWithin(closed) < turn.now {
        if let id = run(of: member) { runs[id].lostToSilence = false }
        lose(member, "its connection was closed", &turn)
      }
    }
    // Workers of a run that are not connected. After a restart of the coordinator they have the whole patience to
    // return.
    for run in runs.all where run.phase.hasWorkers && run.since + settings.patience < turn.now {
      for (index, worker) in run.generation!.peers.enumerated() where members.worker(worker, of: run.id) == nil {
        runs[run.id].lostToSilence = true
        runs[run.id].missing(index, "worker \(worker.spoken) did not return", &members, &turn)
        loseWorld(of: worker, &turn)
      }
    }
    for id in runs.ids(where: { $0.phase.hasWorkers || !$0.checkpoints.areSettled }) {
      runs[id].keepLedger(&members, &turn)
      runs[id].commitNext(&turn)
    }
  }

  /// The patience for a worker: that of its run, or else the coordinator's.
  private func patience(of member: Member) -> Duration {
    run(of: member).map { runs[$0].patience } ?? settings.patience
  }

  /// How long a worker may take to connect again after its connection was closed.
  private func reconnectWithin(_ closed: Instant) -> Duration {
    guard let wokeAt, closed < wokeAt + Coordinator.reconnectAfterSleep else { return Coordinator.reconnectWithin }
    return Coordinator.reconnectAfterSleep
  }

  // MARK: losing

  /// - Parameter mayReturn: whether the worker is asked to send a hello again. Otherwise it is sent the reason, and
  ///   ends: two processes of one name would take the name from each other for ever.
  mutating func lose(_ member: Member, _ reason: String, mayReturn: Bool = true, _ turn: inout Turn) {
    turn.log("worker \(member.description.spoken) is lost: \(reason)")
    // A rank cannot return, because its world cannot continue.
    let isAlone = member.description.mpi == nil
    if mayReturn && isAlone {
      turn.send(.unknownWorker, to: member.peer)
    } else {
      turn.refuse("\(reason): \(member.description.spoken)", to: member.peer)
    }
    let id = run(of: member)
    members.remove(member, id.map { runs[$0].name }, reason, at: turn.now)
    if let id, let index = runs[id].generation?.index(of: member.description) {
      runs[id].missing(
        index, "worker \(member.description.spoken) is lost at step \(member.heartbeat.step): \(reason)", &members,
        &turn)
    }
    loseWorld(of: member.description, &turn)
  }

  /// Gives up the other ranks of the worker's world. Each of them is sent the reason, and ends.
  private mutating func loseWorld(of worker: WorkerDescription, _ turn: inout Turn) {
    guard let world = worker.mpi?.world, let others = members.breakWorld(world) else { return }
    for other in others { lose(other, "its MPI world has lost worker \(worker.name)", mayReturn: false, &turn) }
  }
}
