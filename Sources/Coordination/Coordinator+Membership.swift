// Who is here. A worker joins by saying hello and stays as long as it is heard: `patience` of silence and it is lost, and so
// is what it alone held.

import Wire

extension Coordinator {
  mutating func join(_ description: WorkerDescription, _ peer: PeerID, at now: Instant, _ actions: inout [Action]) {
    if var member = members[peer] {
      // The same process says hello again, because our welcome was slow.
      member.description = description
      members[peer] = member
      actions.append(.send(peer, .welcome(worker: member.id, patienceSeconds: patience.inSeconds)))
      return
    }
    if let old = members.values.first(where: { $0.description.name == description.name }) {
      // One name, one process: the newer one is right, the older one is a ghost or is about to learn it.
      lose(old, "another process took its name: \(description.spoken)", mayReturn: false, &actions)
    }
    lastWorker += 1
    let id = WorkerID(lastWorker)
    members[peer] = Member(id: id, peer: peer, description: description, lastHeard: now)
    actions.append(
      .log("worker \(description.spoken) joined: \(description.threads) threads, \(description.fingerprint)"))
    actions.append(.send(peer, .welcome(worker: id, patienceSeconds: patience.inSeconds)))
  }

  mutating func findLost(at now: Instant, _ actions: inout [Action]) {
    for member in members.values.sorted(by: { $0.id < $1.id }) where member.lastHeard + patience < now {
      let silence = (now - member.lastHeard).spoken
      lose(member, "nothing was heard of it for \(silence) (patience is \(patience.spoken))", &actions)
    }
    findStray(at: now, &actions)
    findStandstill(&actions)
  }

  /// A worker that is heard, but for a patience has not worked for the run that counts on it, will not come back to it.
  private mutating func findStray(at now: Instant, _ actions: inout [Action]) {
    for run in runs where run.state == .running {
      for id in run.roster where !run.finished.contains(id) {
        guard let member = member(id), let since = member.strayedAt, since + patience < now else { continue }
        end(
          run.id, .failed,
          "worker \(member.description.spoken) has not worked for the run for \((now - since).spoken), though it is heard",
          &actions)
        break
      }
    }
  }

  /// Notes what a worker says it works for.
  mutating func heard(_ heartbeat: Heartbeat, from peer: PeerID, at now: Instant) {
    guard var member = members[peer] else { return }
    member.heartbeat = heartbeat
    let run = member.run.flatMap { id in runs.first { $0.id == id } }
    let strays = run?.state == .running && heartbeat.generation != run?.generation
    member.strayedAt = strays ? member.strayedAt ?? now : nil
    members[peer] = member
  }

  /// A run in which every worker waits for another has come to a standstill, though all hearts beat: it ends with a line
  /// instead of never.
  private mutating func findStandstill(_ actions: inout [Action]) {
    for run in runs where run.state == .running {
      let workers = run.roster.compactMap { member($0) }
      let waiting = workers.compactMap { worker in
        worker.heartbeat.waiting.map { "\(worker.description.name) waits for \($0)" }
      }
      let shortest = workers.map(\.heartbeat.waitingSeconds).min() ?? 0
      guard waiting.count == run.roster.count, shortest > patience.inSeconds else { continue }
      end(run.id, .failed, "every worker waits for another: " + waiting.joined(separator: ", "), &actions)
    }
  }

  /// A worker that may not return is told why instead of to say hello: two processes of one name would otherwise take it
  /// from each other for ever.
  private mutating func lose(_ member: Member, _ reason: String, mayReturn: Bool = true, _ actions: inout [Action]) {
    members[member.peer] = nil
    actions.append(.log("worker \(member.description.spoken) is lost: \(reason)"))
    actions.append(.send(member.peer, .refused(reason: mayReturn ? Coordinator.unknownWorker : reason)))
    guard let run = member.run else { return }
    let waiting = members.values.sorted { $0.id < $1.id }
      .compactMap { other in other.heartbeat.waiting.map { "\(other.description.name) waits for \($0)" } }
    let ledger = waiting.isEmpty ? "" : "; " + waiting.joined(separator: ", ")
    end(
      run, .failed,
      "worker \(member.description.spoken) is lost at step \(member.heartbeat.step): \(reason)\(ledger)", &actions)
  }

  func member(_ id: WorkerID) -> Member? { members.values.first { $0.id == id } }
}
