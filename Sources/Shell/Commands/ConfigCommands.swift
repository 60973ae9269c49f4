// The descriptions of `ress config show`, `ress config reference` and `ress doctor`.

extension CommandDescription {
  package static let configShow = CommandDescription(
    "config show", summary: "check a configuration and print it whole",
    discussion: """
      Reads a configuration as `ress train` would, and prints it with every default filled in and every key explained. The output is a
      configuration itself.
      """,
    arguments: [ArgumentDescription("CONFIG", "A run's configuration.")],
    options: [.set],
    examples: [
      CommandExample("ress config show configs/demo.yaml", "Every key, with its value and what it means."),
      CommandExample(
        "ress config show configs/demo.yaml --set model.width=64 > my.yaml", "Begin a configuration of your own."),
    ])

  package static let configReference = CommandDescription(
    "config reference", summary: "print docs/configuration.md",
    discussion:
      "Prints the page that lists every key of a configuration, with defaults, ranges and meanings, as Markdown.",
    examples: [
      CommandExample("ress config reference | less", "Read it."),
      CommandExample("ress config reference > docs/configuration.md", "Bring the repository's page up to date."),
    ])

  package static let doctor = CommandDescription(
    "doctor", summary: "check this machine",
    discussion: """
      Prints library versions, the processor and its speed, memory, disk and sockets, and what to do about what would stop or slow a run. Ends with code 1
      where a run could not work.
      """,
    options: [.json],
    examples: [
      CommandExample("ress doctor", "The table, and what to do."),
      CommandExample("ress doctor --json", "The same for a program."),
    ])

  package static let completion = CommandDescription(
    "completion", summary: "print completion for the shell",
    discussion:
      "Completes commands, options and their choices in bash, and in zsh behind `autoload -U bashcompinit && bashcompinit`.",
    examples: [
      CommandExample("ress completion > ~/.local/share/bash-completion/completions/ress", "For every shell to come."),
      CommandExample("ress completion | less", "Read it."),
    ])

  package static let man = CommandDescription(
    "man", summary: "print the manual page", discussion: "ress(1) for man, with all commands and options.",
    examples: [
      CommandExample("ress man | man -l -", "Read it."),
      CommandExample("ress man > /usr/local/share/man/man1/ress.1", "For man ress."),
    ])
}
