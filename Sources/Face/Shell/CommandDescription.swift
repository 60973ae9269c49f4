// The description of a command, as a value: its arguments, options and examples. The parser, the help pages, the manual
// page, the completion and the hints for mistyped words all use it. The arguments and options come from the command's
// `CommandOptions`.

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
  /// The command with the values of a command line that the parser has checked.
  let command: @Sendable (OptionReader) -> Command

  /// - Parameter command: the case of `Command` that carries the options.
  package init<Options: CommandOptions>(
    _ name: String, _ command: @escaping @Sendable (Options) -> Command, summary: String, discussion: String,
    examples: [CommandExample]
  ) {
    var described = OptionReader()
    _ = Options(&described)
    self.init(name, summary, discussion, described, examples) { line in
      var line = line
      return command(Options(&line))
    }
  }

  /// A command without arguments and options.
  package init(
    _ name: String, _ command: Command, summary: String, discussion: String, examples: [CommandExample]
  ) {
    self.init(name, summary, discussion, OptionReader(), examples) { _ in command }
  }

  private init(
    _ name: String, _ summary: String, _ discussion: String, _ described: OptionReader, _ examples: [CommandExample],
    _ command: @escaping @Sendable (OptionReader) -> Command
  ) {
    self.name = name
    words = name.split(separator: " ").map { String($0) }
    self.summary = summary
    self.discussion = discussion
    arguments = described.arguments
    options = described.options
    self.examples = examples
    self.command = command
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

  init(_ name: String, _ count: Count, _ meaning: String) {
    self.name = name
    self.count = count
    self.meaning = meaning
  }

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
    /// `--resume` or `--resume=CHECKPOINT`. The next word is the value only if the command already has all the
    /// arguments it needs.
    case optionalText(String)
  }

  package let name: String
  package let value: Value
  package let meaning: String
  /// The default value, as help shows it.
  package let defaultText: String?
  package let isRequired: Bool
  package let repeats: Bool

  init(
    _ name: String, _ value: Value, defaultText: String? = nil, isRequired: Bool = false, repeats: Bool = false,
    _ meaning: String
  ) {
    precondition(name.hasPrefix("--"), "option '\(name)'")
    self.name = name
    self.value = value
    self.meaning = meaning
    self.defaultText = defaultText
    self.isRequired = isRequired
    self.repeats = repeats
  }

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
