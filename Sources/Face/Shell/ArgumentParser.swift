// From the words of a command line to a command with its values. Small and strict: every value that a command reads was
// checked here, and an unknown word is an error that names the nearest known one.

import Configuration

/// An invalid command line. Exit code 2.
package struct UsageError: Error, Equatable, CustomStringConvertible {
  package var message: String
  /// The command to ask for help about; nil where the command itself is unknown.
  package var command: String?

  package init(_ message: String, command: String? = nil) {
    self.message = message
    self.command = command
  }

  package var description: String {
    let page = command.map { "ress \($0) --help" } ?? "ress help"
    return "\(message)\nTry '\(page)'."
  }
}

/// What a command line asks for.
package enum Invocation {
  case run(Command, of: CommandDescription)
  /// Print this and end with code 0.
  case help(String)
  case version
}

/// The words of a command line after the command's name, taken apart.
private struct ParsedWords {
  /// The words that are not options, in order.
  var words: [String] = []
  /// By the option's name; a flag, and an optional value that was left out, is an empty text.
  var values: [String: [String]] = [:]
}

package struct ArgumentParser: Sendable {
  let commands: [CommandDescription]

  package init(_ commands: [CommandDescription] = CommandTable.all) { self.commands = commands }

  /// `words` without the program's name.
  package func parse(_ words: [String]) throws(UsageError) -> Invocation {
    guard let first = words.first else {
      throw UsageError("no command is given; the commands are: \(names.joined(separator: ", "))")
    }
    switch first {
    case "--version", "version": return .version
    case "--help", "-h": return .help(HelpPage.overview(commands))
    case "help": return .help(try help(about: Array(words.dropFirst())))
    default: break
    }
    if first.hasPrefix("-") { throw UsageError("options come after the command, but '\(first)' comes first") }
    let (command, rest) = try command(in: words)
    guard let command else { return .help(HelpPage.group(first, commands)) }
    if rest.prefix(while: { $0 != "--" }).contains(where: { $0 == "--help" || $0 == "-h" }) {
      return .help(HelpPage.command(command))
    }
    let parsed = try parsedWords(of: command, rest)
    return .run(command.command(OptionReader(words: parsed.words, values: parsed.values)), of: command)
  }

  private var names: [String] {
    var seen: [String] = []
    for command in commands {
      let first = String(command.name.prefix { $0 != " " })
      if !seen.contains(first) { seen.append(first) }
    }
    return seen
  }

  private func help(about words: [String]) throws(UsageError) -> String {
    if words.isEmpty { return HelpPage.overview(commands) }
    let (command, _) = try command(in: words + ["--help"])
    return command.map(HelpPage.command) ?? HelpPage.group(words[0], commands)
  }

  /// The command that the words begin with, and the words after it; no command where only a group's help is asked for.
  private func command(in words: [String]) throws(UsageError) -> (CommandDescription?, [String]) {
    // The longest match first: `data tokenizer train` before `data tokenizer`.
    let matching = commands.filter { words.starts(with: $0.words) }
    if let command = matching.max(by: { $0.words.count < $1.words.count }) {
      return (command, Array(words.dropFirst(command.words.count)))
    }
    var depth = 0
    while depth < words.count, commands.contains(where: { $0.words.starts(with: words[...depth]) }) { depth += 1 }
    guard depth > 0 else { throw UsageError("unknown command '\(words[0])'\(hint(words[0], names))") }
    let group = words[..<depth].joined(separator: " ")
    var next: [String] = []
    for command in commands where command.words.starts(with: words[..<depth]) {
      let word = command.words[depth]
      if !next.contains(word) { next.append(word) }
    }
    guard words.count > depth else {
      throw UsageError("'\(group)' needs one of: \(next.joined(separator: ", "))", command: words[0])
    }
    if words[depth] == "--help" || words[depth] == "-h" { return (nil, []) }
    throw UsageError("unknown command '\(group) \(words[depth])'\(hint(words[depth], next))", command: words[0])
  }

  // MARK: Options and arguments

  private func parsedWords(of command: CommandDescription, _ words: [String]) throws(UsageError) -> ParsedWords {
    var parsed = ParsedWords()
    var rest = words[...]
    while let word = rest.popFirst() {
      if word == "--" {
        parsed.words += rest
        break
      }
      if word.hasPrefix("-") && word != "-" {
        try readOption(word, of: command, &rest, into: &parsed)
      } else {
        parsed.words.append(word)
      }
    }
    try check(parsed, of: command)
    return parsed
  }

  private func readOption(
    _ word: String, of command: CommandDescription, _ rest: inout ArraySlice<String>, into parsed: inout ParsedWords
  ) throws(UsageError) {
    let parts = word.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
    // The only short option: `logs -f`.
    let name = parts[0] == "-f" && command.option(named: "--follow") != nil ? "--follow" : parts[0]
    let attached = parts.count == 2 ? parts[1] : nil
    guard let option = command.option(named: name) else {
      throw UsageError(
        "unknown option '\(name)' of '\(command.name)'\(hint(name, command.options.map(\.name)))", command: command.name
      )
    }
    if let before = parsed.values[name], !before.isEmpty, !option.repeats {
      throw UsageError("\(name) is given twice", command: command.name)
    }
    let value: String
    switch option.value {
    case .none:
      if attached != nil { throw UsageError("\(name) takes no value", command: command.name) }
      value = ""
    case .optionalText:
      let needed = command.arguments.filter { $0.count != .optional }.count
      if let attached {
        if attached.isEmpty { throw UsageError("\(name)= needs a value after the '='", command: command.name) }
        value = attached
      } else if parsed.words.count >= needed, let next = rest.first, !next.hasPrefix("-") {
        value = rest.removeFirst()
      } else {
        value = ""
      }
    case .text, .whole, .real, .choice:
      if let attached {
        value = attached
      } else if let next = rest.first, !next.hasPrefix("--") {
        value = rest.removeFirst()
      } else {
        throw UsageError("\(name) needs a value: \(option.usage)", command: command.name)
      }
    }
    if let complaint = Self.complaint(about: value, option) { throw UsageError(complaint, command: command.name) }
    parsed.values[name, default: []].append(value)
  }

  private static func complaint(about value: String, _ option: OptionDescription) -> String? {
    switch option.value {
    case .none, .optionalText: return nil
    // An unset variable leaves an empty word (`--store "$STORE"`); only some texts may be empty.
    case .text(let placeholder):
      return value.isEmpty && placeholder != "TEXT"
        ? "\(option.name) needs a value, but it is empty: \(option.usage)" : nil
    case .choice(let names):
      if names.contains(value) { return nil }
      let hint = NearestName.hint(for: value, among: names)
      return "\(option.name) must be one of \(names.joined(separator: ", ")), not '\(value)'\(hint)"
    case .whole(_, let range):
      if let number = Int(value), range.contains(number) { return nil }
      let bounds =
        range.upperBound == .max ? "of at least \(range.lowerBound)" : "from \(range.lowerBound) to \(range.upperBound)"
      return "\(option.name) must be a whole number \(bounds), not '\(value)'"
    case .real(_, let range):
      if let number = Double(value), range.contains(number) { return nil }
      return "\(option.name) must be a number from \(Format.short(range.lowerBound)) to "
        + "\(Format.short(range.upperBound)), not '\(value)'"
    }
  }

  private func check(_ parsed: ParsedWords, of command: CommandDescription) throws(UsageError) {
    let needed = command.arguments.filter { $0.count != .optional }
    if parsed.words.count < needed.count {
      let missing = needed[parsed.words.count]
      throw UsageError("\(missing.name) is missing: \(missing.meaning)", command: command.name)
    }
    let takesMany = command.arguments.contains { if case .oneOrMore = $0.count { true } else { false } }
    if !takesMany, parsed.words.count > command.arguments.count {
      throw UsageError("'\(parsed.words[command.arguments.count])' is one word too many", command: command.name)
    }
    for option in command.options where option.isRequired && parsed.values[option.name] == nil {
      throw UsageError("\(option.usage) is missing: \(option.meaning)", command: command.name)
    }
  }

  private func hint(_ word: String, _ candidates: [String]) -> String {
    NearestName.hint(for: word, among: candidates)
  }
}
