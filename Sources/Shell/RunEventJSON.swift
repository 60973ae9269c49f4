// Events as JSON, one object a line, for programs that follow a run: `ress train --json | jq .loss`.

extension RunEvent {
  package var json: String {
    switch self {
    case .began(let run, let firstStep, let stepCount):
      JSONText.object([
        ("event", .text("began")), ("run", .text(run)), ("first_step", .whole(firstStep)), ("steps", .whole(stepCount)),
      ])
    case .placed(let generation, let parts):
      JSONText.object([
        ("event", .text("placed")), ("generation", .whole(generation)),
        ("workers", .raw("[" + parts.map(\.json).joined(separator: ", ") + "]")),
      ])
    case .stepped(let step, let loss, let rate, let norm, let tokens):
      JSONText.object([
        ("event", .text("step")), ("step", .whole(step)), ("loss", .real(loss)), ("learning_rate", .real(rate)),
        ("gradient_norm", .real(norm)), ("tokens", .whole(tokens)),
      ])
    case .evaluated(let step, let loss):
      JSONText.object([("event", .text("evaluation")), ("step", .whole(step)), ("loss", .real(loss))])
    case .saved(let step, let path):
      JSONText.object([("event", .text("checkpoint")), ("step", .whole(step)), ("path", .text(path))])
    case .said(let sentence): JSONText.object([("event", .text("message")), ("text", .text(sentence))])
    case .ended(let outcome, let reason):
      JSONText.object([("event", .text("ended")), ("outcome", .text(outcome.rawValue)), ("reason", .text(reason))])
    }
  }
}

extension WorkerPart {
  fileprivate var json: String {
    JSONText.object([
      ("name", .text(name)), ("host", .text(host)), ("process", .whole(process)), ("threads", .whole(threads)),
      ("units", .raw("[" + units.map { String($0) }.joined(separator: ", ") + "]")),
      ("experts", .raw("[" + experts.map { String($0) }.joined(separator: ", ") + "]")),
    ])
  }
}

/// Just enough JSON to print: keys in the order given, so that lines compare.
package enum JSONText {
  package enum Value: Sendable {
    case text(String), whole(Int), real(Double), flag(Bool)
    /// JSON already.
    case raw(String)
  }

  package static func object(_ pairs: [(String, Value)]) -> String {
    "{" + pairs.map { quoted($0) + ": " + text($1) }.joined(separator: ", ") + "}"
  }

  private static func text(_ value: Value) -> String {
    switch value {
    case .text(let text): quoted(text)
    case .whole(let number): String(number)
    // JSON has no number for these.
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
