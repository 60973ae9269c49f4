// Rejects requests with values far outside any real range, so that later arithmetic in the coordinator cannot
// overflow and no message can fill its memory or its store.

extension Request {
  /// Why the request is refused, independently of the coordinator's state; nil where it is acceptable.
  package var problem: String? {
    var check = RangeCheck()
    switch self {
    case .hello(let worker, let heartbeat):
      check.whole(worker.threads, "threads", 0...1_000_000)
      check.whole(worker.process, "process", 0...Int(Int32.max))
      check.text(worker.name, "name")
      check.text(worker.host, "host")
      check.text(worker.fingerprint, "fingerprint")
      check.text(worker.dataAddress, "dataAddress")
      if let address = worker.localAddress { check.text(address, "localAddress") }
      check.whole(worker.sharedMemory ?? 0, "sharedMemory", 0...Int(Int32.max))
      if let place = worker.mpi {
        check.whole(place.size, "mpi.size", 1...1_000_000)
        check.whole(place.rank, "mpi.rank", 0...min(max(1, place.size), 1_000_000) - 1)
      }
      check.heartbeat(heartbeat)
    case .heartbeat(let heartbeat): check.heartbeat(heartbeat)
    case .report(_, let number, let report):
      check.whole(number, "number")
      check.report(report)
    case .follow(_, let after): check.whole(after, "after")
    case .change(_, .abandon(let reason)): check.text(reason, "reason")
    case .change(_, .scale(let workers)): check.whole(workers, "workers", 1...1_000_000)
    case .change(_, .repair(let step, _, let shards)):
      check.whole(step, "step")
      for shard in shards { check.whole(shard, "shards", 0...1_000_000) }
    // The configuration of a submission has rules of its own, which the coordinator checks separately.
    case .submit(let submission):
      if let forecast = submission.forecast { check.forecast(forecast) }
      if let key = submission.key { check.text(key, "key") }
      check.whole(submission.notes?.count ?? 0, "notes", 0...RangeCheck.noteLimit)
      for note in submission.notes ?? [] { check.text(note, "notes") }
    case .goodbye, .status, .describe, .change(_, .cancel), .change(_, .pause), .change(_, .resume): break
    }
    return check.problem
  }
}

/// Collects the first value out of range.
private struct RangeCheck {
  /// The first problem that was found.
  var problem: String?

  /// Limit of steps, tokens and bytes: far more than real runs have, and small enough for sums of many to fit an Int.
  static let counted = 0...1 << 50
  /// Limit of the tokens that one expert gets in a step; a sum over a whole list of experts still fits.
  static let loaded = 0...1 << 40
  static let textLimit = 1024
  static let listLimit = 1 << 16
  static let noteLimit = 16

  mutating func whole(_ value: Int, _ name: String, _ range: ClosedRange<Int> = RangeCheck.counted) {
    if problem == nil, !range.contains(value) { problem = "\(name) is \(value)" }
  }

  mutating func seconds(_ value: Double, _ name: String) {
    // A comparison with NaN is false, so NaN is rejected too.
    if problem == nil, !(0...1e9).contains(value) { problem = "\(name) is \(value)" }
  }

  mutating func text(_ value: String, _ name: String) {
    if problem == nil, value.isEmpty || value.utf8.count > Self.textLimit {
      problem = "\(name) has \(value.utf8.count) bytes"
    }
  }

  mutating func list(_ count: Int, _ name: String) {
    if problem == nil, count > Self.listLimit { problem = "\(name) has \(count) entries" }
  }

  mutating func heartbeat(_ heartbeat: Heartbeat) {
    whole(heartbeat.step, "step")
    whole(heartbeat.progress, "progress", 0...Int.max)
    whole(heartbeat.memoryBytes, "memoryBytes")
    seconds(heartbeat.waitingSeconds, "waitingSeconds")
    list(heartbeat.waitingFor.count, "waitingFor")
    for place in heartbeat.waitingFor { whole(place, "waitingFor") }
    held(heartbeat.held)
  }

  mutating func forecast(_ forecast: Forecast) {
    seconds(forecast.stepSeconds ?? 0, "stepSeconds")
    seconds(forecast.waitSeconds ?? 0, "waitSeconds")
    for bytes in [forecast.memoryBytes, forecast.sentBytes, forecast.checkpointBytes] { whole(bytes ?? 0, "forecast") }
  }

  mutating func held(_ shards: [HeldShard]) {
    list(shards.count, "held")
    for shard in shards {
      whole(shard.step, "held.step")
      whole(shard.index, "held.index", 0...1_000_000)
      whole(shard.count, "held.count", 1...1_000_000)
    }
  }

  mutating func report(_ report: Report) {
    switch report {
    case .stepDone(let record):
      whole(record.step, "step", 1...Self.counted.upperBound)
      whole(record.tokens, "tokens")
      seconds(record.seconds, "seconds")
      seconds(record.stall, "stall")
      list(record.loads.count, "loads")
      list(record.busy.count, "busy")
      for load in record.loads { whole(load, "loads", Self.loaded) }
      for busy in record.busy { seconds(busy, "busy") }
      list(record.sent?.count ?? 0, "sent")
      for bytes in record.sent ?? [] where problem == nil {
        if !(0...0x1p50).contains(bytes) { problem = "sent is \(bytes)" }
      }
    case .evaluated(let record):
      whole(record.step, "step")
      whole(record.sequences, "sequences")
    case .examined(let record):
      whole(record.step, "step", 1...Self.counted.upperBound)
      whole(record.active, "active", 0...1_000_000)
      list(record.loads.count * max(1, record.experts), "loads")
      list(record.truncation.count, "truncation")
      for load in record.loads.joined() { whole(load, "loads", Self.loaded) }
      let isTable =
        record.loads.allSatisfy { $0.count == record.experts } && record.bias.allSatisfy { $0.count == record.experts }
        && record.entropy.count == record.loads.count && record.bias.count <= record.loads.count
        && record.pools.map { $0.count == record.loads.count && $0.allSatisfy(record.loads.indices.contains) } ?? true
      if problem == nil, !isTable { problem = "the router record has rows of different lengths" }
    case .measured(let line):
      seconds(line.latencySeconds, "latencySeconds")
      if problem == nil, !(1...1e15).contains(line.bytesPerSecond) {
        problem = "bytesPerSecond is \(line.bytesPerSecond)"
      }
    case .saved(let step, let files):
      whole(step, "step")
      list(files.count, "files")
      for file in files { whole(file.byteCount, "byteCount") }
    case .saveFailed(let step, _): whole(step, "step")
    case .halted(let step, let shards):
      whole(step, "step")
      held(shards)
    case .disagreed(let disagreement):
      whole(disagreement.step, "step")
      whole(disagreement.unit, "unit")
      list(disagreement.voters.count, "voters")
      for voter in disagreement.voters { whole(voter, "voters") }
      if problem == nil, disagreement.hashes.count != disagreement.voters.count {
        problem = "\(disagreement.hashes.count) hashes of \(disagreement.voters.count) voters"
      }
    case .reads(let data): for digest in [data.dataset, data.tokenizer] { if let digest { text(digest, "data") } }
    case .ready, .lacking, .folderUnseen, .finished, .failed: break
    }
  }
}
