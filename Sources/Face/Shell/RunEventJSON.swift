// Events as JSON, one object a line, for programs that follow a run: `ress train --json | jq .loss`.
// Steps and evaluations have the keys that metrics.jsonl has.

import Configuration
import Wire

extension RunEvent {
  package var jsonLine: String { json.line }

  private var json: JSON {
    switch self {
    case .began(let name, let firstStep, let steps, let checkpoint):
      .object([
        ("event", .text("began")), ("run", .text(name)), ("first_step", .whole(firstStep)), ("steps", .whole(steps)),
        ("checkpoint", .init(checkpoint)),
      ])
    case .state(let state, let reason):
      .object([("event", .text("state")), ("state", .text(state.rawValue)), ("reason", .text(reason))])
    case .placed(let generation, let roster):
      .object([
        ("event", .text("placed")), ("generation", .whole(Int(generation))),
        ("workers", .array(roster.map(\.json))),
      ])
    case .stepped(let record):
      .object([
        ("event", .text("step")), ("step", .whole(record.step)), ("loss", .real(record.loss)),
        ("task", .real(record.task)), ("smooth", .real(record.smooth)), ("balance", .real(record.balance)),
        ("router_z", .real(record.routerZ)), ("gradient_norm", .real(record.gradientNorm)),
        ("learning_rate", .real(record.learningRate)), ("tokens", .whole(record.tokens)),
        ("seconds", .real(record.seconds)), ("time", .init(record.time)),
        ("loads", .list(record.loads)),
        ("busy", .list(record.busy)), ("stall", .real(record.stall)),
        ("skipped", .init(record.skipped)),
      ])
    case .evaluated(let record):
      .object([
        ("event", .text("evaluation")), ("step", .whole(record.step)), ("validation_loss", .real(record.loss)),
        ("sequences", .whole(record.sequences)), ("time", .init(record.time)),
        ("metrics", MetricText.json(record.metrics)),
      ])
    case .examined(let record): .object([("event", .text("router"))] + record.fields)
    case .saved(let step, let path):
      .object([("event", .text("checkpoint")), ("step", .whole(step)), ("path", .text(path))])
    case .said(let sentence): .object([("event", .text("message")), ("text", .text(sentence))])
    }
  }
}

extension RosterEntry {
  fileprivate var json: JSON {
    .object([
      ("name", .text(worker.name)), ("host", .text(worker.host)), ("process", .whole(worker.process)),
      ("threads", .whole(worker.threads)), ("units", .list(units)), ("experts", .list(experts)),
    ])
  }
}

extension RouterRecord {
  /// The keys of `router.jsonl`.
  package var fields: [(String, JSON)] {
    [
      ("step", .whole(step)), ("active", .whole(active)),
      ("loads", .array(loads.map { .list($0) })), ("entropy", .list(entropy)),
      ("bias", .array(bias.map { .list($0) })), ("truncation", .list(truncation)),
      ("time", .init(time)),
    ]
  }
}
