// `ress config show`, `ress config reference`, `ress doctor`, `ress completion` and `ress man`.

import Configuration

package struct ConfigShowOptions: CommandOptions {
  package let configuration: String
  package let set: [ConfigurationOverride]

  package init(_ line: inout OptionReader) {
    configuration = line.argument("CONFIG", "A run's configuration.")
    set = line.set()
  }
}

extension CommandDescription {
  package static let configShow = CommandDescription(
    "config show", Command.configShow, summary: "check a configuration and print all of it",
    discussion: """
      Reads a configuration as `ress train` does, and prints it with all defaults filled in and every key explained. The output is itself a
      valid configuration.
      """,
    examples: [
      CommandExample("ress config show configs/demo.yaml", "Every key with its value and meaning."),
      CommandExample(
        "ress config show configs/demo.yaml --set model.width=64 > my.yaml", "Start a configuration of your own."),
    ])

  package static let configReference = CommandDescription(
    "config reference", Command.configReference, summary: "print docs/configuration.md",
    discussion:
      "Prints the page that lists every key of a configuration, with defaults, ranges and meanings, as Markdown.",
    examples: [
      CommandExample("ress config reference | less", "Read it."),
      CommandExample("ress config reference > docs/configuration.md", "Bring the repository's page up to date."),
    ])

  package static let doctor = CommandDescription(
    "doctor", Command.doctor, summary: "check this machine",
    discussion: """
      Prints library versions, the processor and its speed, memory, disk and sockets, with a remedy for everything that would stop or slow a
      run. Ends with code 1 if runs cannot work on this machine.
      """,
    examples: [
      CommandExample("ress doctor", "The table, with remedies."),
      CommandExample("ress doctor --json", "The same as JSON."),
    ])

  package static let completion = CommandDescription(
    "completion", Command.completion, summary: "print completion for the shell",
    discussion:
      "Prints a script that completes commands, options and their choices in bash, and in zsh after `autoload -U bashcompinit && bashcompinit`.",
    examples: [
      CommandExample(
        "ress completion > ~/.local/share/bash-completion/completions/ress", "Install it for all new shells."),
      CommandExample("ress completion | less", "Read it."),
    ])

  package static let man = CommandDescription(
    "man", Command.man, summary: "print the manual page",
    discussion: "Prints the manual page ress(1) in the format of man, with all commands and options.",
    examples: [
      CommandExample("ress man | man -l -", "Read it."),
      CommandExample("ress man > /usr/local/share/man/man1/ress.1", "Install it for `man ress`."),
    ])
}
