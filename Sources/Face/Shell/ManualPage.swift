// ress(1), from the descriptions: `ress man | man -l -`. The macros are man(7)'s.

package enum ManualPage {
  package static func text(_ commands: [CommandDescription], version: String) -> String {
    var lines = [
      ".TH RESS 1 \"\" \"ress \(version)\" \"User Commands\"", ".SH NAME",
      "ress \\- train recurrent mixture-of-experts language models on one machine or many", ".SH SYNOPSIS",
      ".B ress", ".I COMMAND", "[\\fIARGUMENTS\\fR] [\\fIOPTIONS\\fR]", ".SH COMMANDS",
    ]
    for command in commands {
      lines.append(".SS ress \(escaped(command.name))" + command.arguments.map { " " + escaped($0.usage) }.joined())
      for paragraph in HelpPage.paragraphs(command.discussion) {
        switch paragraph {
        case .text(let text): lines += [".PP", escaped(text)]
        case .table(let rows): lines += [".PP", ".nf"] + rows.map { escaped(String($0)) } + [".fi"]
        }
      }
      for argument in command.arguments { lines += [".TP", ".I \(escaped(argument.name))", escaped(argument.meaning)] }
      for option in command.options {
        let standard = option.defaultText.map { " Default: \($0)." } ?? ""
        lines += [".TP", ".B \(escaped(option.usage))", escaped(option.meaning + standard)]
      }
      for example in command.examples {
        lines += [".PP", escaped(example.meaning), ".PP", ".nf", ".RS", escaped(example.command), ".RE", ".fi"]
      }
    }
    lines += [
      ".SH EXIT STATUS",
      "0 done, 1 failed, 2 wrong use, 3 the run cannot be placed, 130 SIGINT, 143 SIGTERM, 129 SIGHUP.", ".SH SEE ALSO",
      "docs/configuration.md lists every key of a configuration.",
    ]
    return lines.joined(separator: "\n")
  }

  /// Escapes the characters that have a meaning in roff.
  private static func escaped(_ text: String) -> String {
    let plain = text.replacing("\\", with: "\\e").replacing("-", with: "\\-")
    return plain.hasPrefix(".") || plain.hasPrefix("'") ? "\\&" + plain : plain
  }
}
