// Events as JSON, one object a line, for programs that follow a run: `ress train --json | jq .loss`.
// Steps and evaluations have the keys that metrics.jsonl has.

import Wire

extension RunEvent {
  package var jsonLine: String {
    switch self {
    case .began(let name, let firstStep, let steps, let checkpoint):
      JSONText.object([
        ("event", .text("began")), ("run", .text(name)), ("first_step", .whole(firstStep)), ("steps", .whole(steps)),
        ("checkpoint", .init(checkpoint)),
      ])
    case .state(let state, let reason):
      JSONText.object([("event", .text("state")), ("state", .text(state.rawValue)), ("reason", .text(reason))])
    case .placed(let generation, let roster):
      JSONText.object([
        ("event", .text("placed")), ("generation", .whole(Int(generation))),
        ("workers", JSONText.list(of: roster.map { .raw($0.json) })),
      ])
    case .stepped(let record):
      JSONText.object([
        ("event", .text("step")), ("step", .whole(record.step)), ("loss", .real(record.loss)),
        ("task", .real(record.task)), ("smooth", .real(record.smooth)), ("balance", .real(record.balance)),
        ("router_z", .real(record.routerZ)), ("gradient_norm", .real(record.gradientNorm)),
        ("learning_rate", .real(record.learningRate)), ("tokens", .whole(record.tokens)),
        ("seconds", .real(record.seconds)), ("time", .init(record.time)),
        ("loads", JSONText.list(record.loads)),
        ("busy", JSONText.list(record.busy)), ("stall", .real(record.stall)),
        ("skipped", .init(record.skipped)),
      ])
    case .evaluated(let record):
      JSONText.object([
        ("event", .text("evaluation")), ("step", .whole(record.step)), ("validation_loss", .real(record.loss)),
        ("sequences", .whole(record.sequences)), ("time", .init(record.time)),
        ("metrics", MetricText.json(record.metrics)),
      ])
    case .examined(let record): JSONText.object([("event", .text("router"))] + record.fields)
    case .saved(let step, let path):
      JSONText.object([("event", .text("checkpoint")), ("step", .whole(step)), ("path", .text(path))])
    case .said(let sentence): JSONText.object([("event", .text("message")), ("text", .text(sentence))])
    }
  }
}

extension RosterEntry {
  fileprivate var json: String {
    JSONText.object([
      ("name", .text(worker.name)), ("host", .text(worker.host)), ("process", .whole(worker.process)),
      ("threads", .whole(worker.threads)), ("units", JSONText.list(units)), ("experts", JSONText.list(experts)),
    ])
  }
}

extension RouterRecord {
  /// The keys of `router.jsonl`.
  package var fields: [(String, JSONText.Value)] {
    [
      ("step", .whole(step)), ("active", .whole(active)),
      ("loads", JSONText.list(of: loads.map { JSONText.list($0) })), ("entropy", JSONText.list(entropy)),
      ("bias", JSONText.list(of: bias.map { JSONText.list($0) })), ("truncation", JSONText.list(truncation)),
      ("time", .init(time)),
    ]
  }
}

/// JSON output only, with keys in the given order, so that lines can be compared.
package enum JSONText {
  package enum Value: Sendable {
    case text(String), whole(Int), real(Double), flag(Bool)
    /// JSON already.
    case raw(String)

    package static let null = Value.raw("null")

    // A missing value is null.
    package init(_ text: String?) { self = text.map { .text($0) } ?? .null }
    package init(_ number: Int?) { self = number.map { .whole($0) } ?? .null }
    package init(_ number: Double?) { self = number.map { .real($0) } ?? .null }
  }

  package static func object(_ pairs: [(String, Value)]) -> String {
    "{" + pairs.map { quoted($0) + ": " + text($1) }.joined(separator: ", ") + "}"
  }

  package static func list(of values: [Value]) -> Value {
    .raw("[" + values.map(text).joined(separator: ", ") + "]")
  }

  package static func list(_ numbers: some Sequence<Int>) -> Value { list(of: numbers.map { .whole($0) }) }
  package static func list(_ numbers: [Double]) -> Value { list(of: numbers.map { .real($0) }) }
  package static func list(_ texts: [String]) -> Value { list(of: texts.map { .text($0) }) }

  private static func text(_ value: Value) -> String {
    switch value {
    case .text(let text): quoted(text)
    case .whole(let number): String(number)
    // JSON has no such numbers.
    case .real(let number): number.isFinite ? String(number) : "null"
    case .flag(let flag): String(flag)
    case .raw(let json): json
    }
  }

  private static func quoted(_ text: String) -> String {
    var result = "\""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"": result += "\\\""
      case "\\": result += "\\\\"
      case "\n": result += "\\n"
      case "\r": result += "\\r"
      case "\t": result += "\\t"
      case _ where scalar.value < 0x20:
        result += "\\u00" + (scalar.value < 16 ? "0" : "") + String(scalar.value, radix: 16)
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result + "\""
  }
}
