// What a command is, as a value: its arguments, options and examples. The parser, the help pages and the hints for
// mistyped words all read it, so that an option which is not described does not exist.

package struct CommandDescription: Sendable {
  /// One word, or more: `train`, `data prepare`, `data tokenizer train`.
  package let name: String
  let words: [String]
  /// A short phrase for the list of commands.
  package let summary: String
  /// What it does and when one wants it, in a few lines.
  package let discussion: String
  package let arguments: [ArgumentDescription]
  package let options: [OptionDescription]
  package let examples: [CommandExample]

  package init(
    _ name: String, summary: String, discussion: String, arguments: [ArgumentDescription] = [],
    options: [OptionDescription] = [], examples: [CommandExample]
  ) {
    self.name = name
    words = name.split(separator: " ").map { String($0) }
    self.summary = summary
    self.discussion = discussion
    self.arguments = arguments
    self.options = options
    self.examples = examples
  }

  func option(named name: String) -> OptionDescription? { options.first { $0.name == name } }
}

package struct CommandExample: Sendable {
  package let command: String
  package let meaning: String

  package init(_ command: String, _ meaning: String) {
    self.command = command
    self.meaning = meaning
  }
}

/// A word that is not an option: `CONFIG`.
package struct ArgumentDescription: Sendable {
  package enum Count: Sendable { case one, optional, oneOrMore }

  package let name: String
  package let count: Count
  package let meaning: String

  package init(_ name: String, _ count: Count, _ meaning: String) {
    self.name = name
    self.count = count
    self.meaning = meaning
  }

  package init(_ name: String, _ meaning: String) { self.init(name, .one, meaning) }

  var usage: String {
    switch count {
    case .one: name
    case .optional: "[\(name)]"
    case .oneOrMore: "\(name)..."
    }
  }
}

package struct OptionDescription: Sendable {
  /// What follows the option; the texts name it in help: `--workers N`.
  package enum Value: Sendable {
    case none
    case text(String)
    case whole(String, ClosedRange<Int>)
    case real(String, ClosedRange<Double>)
    case choice([String])
    /// `--resume` or `--resume=CHECKPOINT`. A word of its own is taken where the command has all the arguments it needs.
    case optionalText(String)
  }

  package let name: String
  package let value: Value
  package let meaning: String
  /// What holds where the option is not given, as help says it.
  package let standard: String?
  package let isRequired: Bool
  package let repeats: Bool

  package init(
    _ name: String, _ value: Value, standard: String? = nil, isRequired: Bool = false, repeats: Bool = false,
    _ meaning: String
  ) {
    precondition(name.hasPrefix("--"), "option '\(name)'")
    self.name = name
    self.value = value
    self.meaning = meaning
    self.standard = standard
    self.isRequired = isRequired
    self.repeats = repeats
  }

  /// A flag.
  package init(_ name: String, _ meaning: String) { self.init(name, .none, meaning) }

  /// `--workers N`
  var usage: String {
    switch value {
    case .none: name
    case .text(let placeholder), .whole(let placeholder, _), .real(let placeholder, _): "\(name) \(placeholder)"
    case .choice(let names): "\(name) \(names.joined(separator: "|"))"
    case .optionalText(let placeholder): "\(name)[=\(placeholder)]"
    }
  }
}
