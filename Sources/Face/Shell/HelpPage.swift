// Help, from the descriptions. Text is wrapped at 96 columns: readable in a narrow terminal and in a log.

package enum HelpPage {
  private static let width = 96

  /// `ress help`
  package static func overview(_ commands: [CommandDescription]) -> String {
    let table = commands.map { ($0.name, $0.summary) }
    return """
      ress trains recurrent mixture-of-experts language models (ReSSFormer) on one machine or many.

      Usage: ress COMMAND [ARGUMENTS] [OPTIONS]

      Commands:
      \(list(table))

      Start here:
        ress doctor                              check this machine
        ress data prepare book.txt --out d.h5    make a dataset from text
        ress train configs/tiny.yaml --set data.path=d.h5
                                                 train on it, on this machine, for some seconds

      'ress COMMAND --help' explains a command; docs/configuration.md lists every key of a configuration.
      Exit codes: 0 done, 1 failed, 2 wrong use, 3 the run cannot be placed, 130 Ctrl-C, 143 SIGTERM, 129 SIGHUP.
      """
  }

  /// `ress data --help`
  static func group(_ name: String, _ commands: [CommandDescription]) -> String {
    let members = commands.filter { $0.name.hasPrefix(name + " ") }
    return """
      Usage: ress \(name) COMMAND

      Commands:
      \(list(members.map { ($0.name, $0.summary) }))

      'ress \(members[0].name) --help' explains one of them.
      """
  }

  /// `ress train --help`
  package static func command(_ command: CommandDescription) -> String {
    var usage = "ress \(command.name)"
    for argument in command.arguments { usage += " " + argument.usage }
    for option in command.options where option.isRequired { usage += " " + option.usage }
    if command.options.contains(where: { !$0.isRequired }) { usage += " [OPTIONS]" }
    var text = "Usage: \(usage)\n\n\(discussion(command.discussion))\n"
    if !command.arguments.isEmpty {
      text += "\nArguments:\n" + list(command.arguments.map { ($0.name, $0.meaning) }) + "\n"
    }
    var options = command.options.map { option in
      let standard = option.defaultText.map { " Default: \($0)." } ?? ""
      return (option.usage, option.meaning + (option.repeats ? " May be given several times." : "") + standard)
    }
    options.append(("--help", "This page."))
    text += "\nOptions:\n" + list(options) + "\n"
    text += "\nExamples:\n" + command.examples.map { "  \($0.command)\n      \($0.meaning)" }.joined(separator: "\n")
    return text
  }

  /// Two columns, the second wrapped.
  private static func list(_ rows: [(String, String)]) -> String {
    let column = min(32, (rows.map(\.0.count).max() ?? 0) + 4)
    return rows.map { name, meaning in
      var text = "  " + name
      text += text.count + 2 > column ? "\n" + spaces(column) : spaces(column - text.count)
      return text + wrap(meaning, indent: column)
    }.joined(separator: "\n")
  }

  /// A paragraph of a discussion. Paragraphs are separated by empty lines.
  enum Paragraph: Equatable {
    /// In a sentence a single line end is a space.
    case text(String)
    /// Lines that are indented are a table, and stay as they are.
    case table([Substring])
  }

  static func paragraphs(_ text: String) -> [Paragraph] {
    text.split(separator: "\n", omittingEmptySubsequences: false)
      .split(whereSeparator: \.isEmpty)
      .map { lines in
        lines.allSatisfy { $0.hasPrefix("  ") } ? .table(Array(lines)) : .text(lines.joined(separator: " "))
      }
  }

  private static func discussion(_ text: String) -> String {
    paragraphs(text).map { paragraph in
      switch paragraph {
      case .text(let text): wrap(text, indent: 0)
      case .table(let lines): lines.joined(separator: "\n")
      }
    }.joined(separator: "\n\n")
  }

  private static func wrap(_ text: String, indent: Int) -> String {
    var lines: [String] = [""]
    for word in text.split(separator: " ") {
      if !lines[lines.count - 1].isEmpty, lines[lines.count - 1].count + 1 + word.count > width - indent {
        lines.append("")
      }
      lines[lines.count - 1] += (lines[lines.count - 1].isEmpty ? "" : " ") + word
    }
    return lines.joined(separator: "\n" + spaces(indent))
  }

  private static func spaces(_ count: Int) -> String { String(repeating: " ", count: max(0, count)) }
}
