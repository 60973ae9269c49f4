// The description of a command, as a value: its arguments, options and examples. The parser, the help pages and the hints for
// mistyped words all use it, so an option that is not described does not exist.

package struct CommandDescription: Sendable {
  /// One or more words: `train`, `data prepare`, `data tokenizer train`.
  package let name: String
  let words: [String]
  /// A short phrase for the list of commands.
  package let summary: String
  /// What it does and when to use it, in a few lines.
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
  /// The kind of value of the option; the texts are its name in help: `--workers N`.
  package enum Value: Sendable {
    case none
    case text(String)
    case whole(String, ClosedRange<Int>)
    case real(String, ClosedRange<Double>)
    case choice([String])
    /// `--resume` or `--resume=CHECKPOINT`. The next word is the value only if the command already has all the arguments it needs.
    case optionalText(String)
  }

  package let name: String
  package let value: Value
  package let meaning: String
  /// The default value, as help shows it.
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
