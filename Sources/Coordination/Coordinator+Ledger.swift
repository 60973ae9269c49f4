// Who is late, in what, by how long. A run never just stands there: a worker that everyone waits for is named at half the
// patience and replaced when it is over; one that is much slower than the others is let go when that makes the run faster;
// experts move when the time that saves is worth the bytes.

import Configuration
import Wire

extension Coordinator {
  /// Much slower: so many times the median of the others.
  private static let slow = 4.0
  /// A move of experts must save this share of a step.
  private static let worthwhile = 0.03
  /// Every worker must have waited for another for this long in the coordinator's own time: several heartbeats.
  private static let deadlockedFor = Duration.seconds(1)
  /// Steps of a generation before its loads are trusted.
  private static let settledSteps = 30
  /// Bytes a second between hosts that are assumed before any were measured: a tenth of a gigabit.
  private static let assumedBandwidth = 12.5e6

  mutating func keepLedger(_ id: RunID, _ turn: inout Turn) {
    guard let index = index(of: id) else { return }
    let run = runs[index]
    switch run.record.phase {
    case .loading, .training, .halting, .collecting: break
    case .idle, .preparing, .waiting, .saving: return
    }
    let workers = run.record.roster.indices.compactMap { place in member(run, place).map { (place, $0) } }
    nameLate(index, workers, &turn)
    for (place, worker) in workers where !run.record.generation!.finished.contains(place) {
      if let since = worker.strayedAt, since + run.patience < turn.now, run.record.generation!.halted[place] == nil {
        return missing(
          id, place,
          "worker \(worker.description.spoken) has not worked for the run for \((turn.now - since).spoken), though it is heard",
          &turn)
      }
      // Its heart beats, and nothing moves: a dead file system, say. One that is silent has its own rule.
      let isHeard = worker.lastHeard + run.patience / 4 > turn.now
      let still = turn.now - max(worker.progressAt, run.since)
      let isWorking =
        worker.heartbeat.waiting == nil && worker.heartbeat.generation == run.record.generation!.number
        && run.record.generation!.halted[place] == nil
        && !(run.record.phase == .loading && run.record.generation!.ready.contains(place))
      // A disk or a line that moves nothing for so long is gone.
      if worker.heartbeat.waiting != nil, worker.heartbeat.waitingFor.isEmpty,
        worker.heartbeat.waitingSeconds > 20 * run.patience.inSeconds
      {
        members[worker.peer]!.aside[id] = turn.now + run.patience * 20
        return missing(
          id, place, "worker \(worker.description.spoken) waits for \(worker.heartbeat.waiting!) in vain", &turn)
      }
      if isWorking && isHeard && still > run.patience {
        members[worker.peer]!.aside[id] = turn.now + run.patience * 20
        let waiting = workers.filter { $0.1.heartbeat.waitingFor.contains(place) }.map(\.1.description.name)
        let others = waiting.isEmpty ? "" : ", and \(waiting.joined(separator: ", ")) wait for it"
        // It may never answer, so nobody waits for what it holds.
        members[worker.peer]!.run = nil
        turn.add(
          .send(worker.peer, .stop(generation: run.record.generation!.number, reason: "it made no progress")))
        return missing(
          id, place,
          "worker \(worker.description.spoken) has done nothing for \(still.spoken) in step \(worker.heartbeat.step + 1), though it is heard\(others)",
          &turn)
      }
    }
    // All wait for each other: a message was lost, which should not happen, and must not hang.
    let generation = run.record.generation!
    let unready = workers.filter { place, _ in run.record.phase == .training || !generation.ready.contains(place) }
    let waitAll = unready.allSatisfy { _, worker in
      !worker.heartbeat.waitingFor.isEmpty && worker.heartbeat.waitingSeconds > run.patience.inSeconds
    }
    guard run.record.phase == .training || run.record.phase == .loading, workers.count == run.record.roster.count,
      !unready.isEmpty, waitAll
    else {
      runs[index].deadlockedSince = nil
      return
    }
    // Workers that were paused together with their machine say so too, once, before they go on.
    let since = runs[index].deadlockedSince ?? turn.now
    runs[index].deadlockedSince = since
    if since + Coordinator.deadlockedFor < turn.now {
      runs[index].deadlockedSince = nil
      recover(id, "every worker waits for another", &turn)
    }
  }

  /// A line about each silence and each wait, once, at half the patience.
  private mutating func nameLate(
    _ index: Int, _ workers: [(Int, Member)], _ turn: inout Turn
  ) {
    let half = runs[index].patience.inSeconds / 2
    let id = runs[index].id
    func say(_ key: String, _ sentence: String) {
      if runs[index].said.insert(key).inserted { tell(id, .said(sentence), &turn) }
    }
    for (place, worker) in workers {
      let name = worker.description.name
      let silence = (turn.now - worker.lastHeard).inSeconds
      if silence > half {
        say(
          "silent \(place) \(worker.heartbeat.step)",
          "step \(worker.heartbeat.step + 1): worker \(worker.description.spoken) has been silent for \((turn.now - worker.lastHeard).spoken)"
        )
      }
      if let waiting = worker.heartbeat.waiting, worker.heartbeat.waitingSeconds > half {
        let seconds = Duration.nanoseconds(Int64(worker.heartbeat.waitingSeconds * 1e9)).spoken
        say(
          "waits \(place) \(worker.heartbeat.step)",
          "step \(worker.heartbeat.step + 1): worker \(name) has waited \(seconds) for \(waiting)")
      }
    }
  }

  /// Takes a step's times and loads into account.
  mutating func weigh(_ id: RunID, _ record: StepRecord, _ turn: inout Turn) {
    guard let index = index(of: id) else { return }
    let fade = 0.9
    func faded(_ old: [Double], _ new: [Double]) -> [Double] {
      old.count == new.count ? zip(old, new).map { fade * $0 + (1 - fade) * $1 } : new
    }
    runs[index].busy = faded(runs[index].busy, record.busy)
    runs[index].record.expertLoads = faded(runs[index].record.expertLoads, record.loads.map { Double($0) })
    let seconds = runs[index].record.stepSeconds
    runs[index].record.stepSeconds =
      runs[index].generationSteps > 1 && seconds > 0 ? fade * seconds + (1 - fade) * record.seconds : record.seconds
    if let sent = record.sent, !sent.isEmpty {
      let mean = sent.reduce(0, +) / Double(sent.count)
      runs[index].record.sentBytes = runs[index].record.sentBytes.map { fade * $0 + (1 - fade) * mean } ?? mean
    }
    keepPromise(index, record, &turn)
    guard runs[index].record.phase == .training, runs[index].record.wish == nil else { return }
    letSlowGo(index, &turn)
    moveExperts(index, &turn)
  }

  private mutating func letSlowGo(_ index: Int, _ turn: inout Turn) {
    let run = runs[index]
    guard run.busy.count > 1, run.busy.count == run.record.roster.count, run.generationSteps > 3 else { return }
    for place in run.busy.indices {
      let others = run.busy.indices.filter { $0 != place }.map { run.busy[$0] }.sorted()
      let median = others[others.count / 2]
      guard run.busy[place] > Coordinator.slow * median else {
        runs[index].slowSince[place] = nil
        continue
      }
      let since = runs[index].slowSince[place] ?? turn.now
      runs[index].slowSince[place] = since
      let factor = Double(Int(10 * run.busy[place] / median)) / 10
      let worker = run.record.roster[place].worker
      let sentence = "worker \(worker.spoken) computes \(factor) times as long as the others"
      if runs[index].said.insert("slow \(place)").inserted { tell(run.id, .said(sentence), &turn) }
      let spare = members.values.contains {
        $0.run == nil && $0.description.fingerprint == worker.fingerprint && $0.aside[run.id] == nil
          && isReachable($0.description, from: run)
      }
      guard since + run.patience < turn.now,
        spare || run.busy.count > run.record.configuration.cluster.minimumWorkers, let member = member(run, place)
      else { continue }
      members[member.peer]!.aside[run.id] = turn.now + run.patience * 20
      runs[index].record.wish = .renew(reason: sentence + " and is put aside")
      return
    }
  }

  private mutating func moveExperts(_ index: Int, _ turn: inout Turn) {
    let run = runs[index]
    let record = run.record
    let model = record.configuration.model
    let workers = record.roster.count
    guard workers > 1, model.routedExperts > 0, record.expertLoads.count == model.expertCount,
      run.generationSteps >= Coordinator.settledSteps, run.generationSteps.isMultiple(of: 10),
      record.generation!.promise.map({ $0.steps >= PlacementPromise.measuredSteps }) ?? true
    else { return }
    var owners = [Int](repeating: 0, count: model.expertCount)
    for (place, entry) in record.roster.enumerated() { for expert in entry.experts { owners[expert] = place } }
    let placed = ExpertPlacement.place(loads: record.expertLoads, owners: owners, workers: workers)
    let moved = owners.indices.count { owners[$0] != placed[$0] }
    guard moved > 0 else { return }
    let training = record.configuration.training
    let tokens = record.roster.map {
      Double($0.units.count * training.unitSequences * record.configuration.data.sequenceLength)
    }
    let expected = StepCost(model).predict(
      seconds: record.stepSeconds, tokens: tokens, loads: record.expertLoads, owners: owners, newOwners: placed,
      recurrence: model.steps)
    let saved = record.stepSeconds - expected
    let bytes = Double(moved * 3 * 3 * model.width * model.expertWidth * 4)
    let cost = run.changeSeconds + bytes / Coordinator.assumedBandwidth
    let left = Double(training.steps - record.step)
    guard saved > Coordinator.worthwhile * run.moveCaution * record.stepSeconds, saved * left > 2 * cost else { return }
    runs[index].record.generation!.promise = PlacementPromise(
      stepSecondsBefore: record.stepSeconds, stepSecondsExpected: expected)
    func milliseconds(_ seconds: Double) -> String { "\(Int(seconds * 1000 + 0.5)) ms" }
    runs[index].record.wish = .renew(
      reason:
        "\(moved) expert\(moved == 1 ? " moves" : "s move") (\(Int(bytes / 1e3)) kB): a step of \(milliseconds(record.stepSeconds)) should take "
        + "\(milliseconds(expected))")
  }

  /// Says how a move of experts turned out.
  private mutating func keepPromise(_ index: Int, _ record: StepRecord, _ turn: inout Turn) {
    // The first steps of a generation warm up, and those of the old one do not count.
    guard var promise = runs[index].record.generation?.promise, runs[index].record.phase == .training,
      runs[index].record.wish == nil, runs[index].generationSteps > 5, promise.steps < PlacementPromise.measuredSteps
    else { return }
    promise.steps += 1
    promise.seconds += record.seconds
    runs[index].record.generation!.promise = promise
    guard promise.steps == PlacementPromise.measuredSteps else { return }
    let actual = promise.seconds / Double(promise.steps)
    // Where moves do not bring what they should, something else decides the pace, and the next one must promise more.
    let isKept = promise.stepSecondsBefore - actual > (promise.stepSecondsBefore - promise.stepSecondsExpected) / 2
    runs[index].moveCaution = isKept ? max(1, runs[index].moveCaution / 2) : min(64, runs[index].moveCaution * 2)
    func milliseconds(_ seconds: Double) -> String { "\(Int(seconds * 1000 + 0.5)) ms" }
    tell(
      runs[index].id,
      .said(
        "since experts moved, a step takes \(milliseconds(actual)); "
          + "\(milliseconds(promise.stepSecondsExpected)) were expected, \(milliseconds(promise.stepSecondsBefore)) it took before"
      ), &turn)
  }
}
