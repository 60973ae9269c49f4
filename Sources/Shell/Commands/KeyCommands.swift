// The descriptions of `ress keys …`.

extension CommandDescription {
  private static let folderNote = """
    Keys are in the folder RESS_KEYS, else ~/.config/ress. Connections that leave the machine use them; where RESS_KEYS is set, all do, and
    RESS_KEYS=none speaks in the clear.
    """

  package static let keysNew = CommandDescription(
    "keys new", summary: "make the key that this user or machine proves itself with",
    discussion: folderNote,
    options: [OptionDescription("--force", "Replace the key that is there.")],
    examples: [
      CommandExample("ress keys new", "Once a user, or a machine; where all share a home, once for all."),
      CommandExample("ress keys new --force", "After the old one was stolen; revoke that."),
    ])

  package static let keysShow = CommandDescription(
    "keys show", summary: "print the public key, for others to allow or trust", discussion: folderNote,
    examples: [
      CommandExample("ress keys show", "40 letters."),
      CommandExample("ress keys show > /shared/coordinator.pub", "For others to trust."),
    ])

  private static let keyArgument = ArgumentDescription("KEY", "A public key, or a file that holds one.")

  package static let keysAllow = CommandDescription(
    "keys allow", summary: "let a key in at the coordinator of this folder",
    discussion: """
      Roles: `worker` computes; `read` looks at runs; `submit` also submits runs and changes its own; `admin` does anything. A coordinator that runs
      knows of it within a second. The coordinator's own key may do anything.
      """,
    arguments: [keyArgument],
    options: [
      OptionDescription(
        "--role", .choice(["worker", "read", "submit", "admin"]), standard: "submit", "What it may do."),
      OptionDescription("--name", .text("NAME"), standard: "the key", "What lists and logs call it."),
    ],
    examples: [
      CommandExample("ress keys allow /shared/alice.pub --name alice", "Alice may submit runs."),
      CommandExample("ress keys allow /shared/node3.pub --name node3 --role worker", "A machine that computes."),
    ])

  package static let keysTrust = CommandDescription(
    "keys trust", summary: "say which coordinator commands and workers must find", discussion: folderNote,
    arguments: [keyArgument],
    examples: [
      CommandExample("ress keys trust /shared/coordinator.pub", "Nobody else can pass for it."),
      CommandExample("ress keys trust coordinator.pub", "From a file that was copied here."),
    ])

  package static let keysRevoke = CommandDescription(
    "keys revoke", summary: "let a key in no more, and cut its connections", discussion: folderNote,
    arguments: [ArgumentDescription("WHO", "A name, or a key, of `ress keys list`.")],
    examples: [
      CommandExample("ress keys revoke alice", "All keys of that name."),
      CommandExample("ress keys revoke node3", "A run of that worker goes on without it."),
    ])

  package static let keysList = CommandDescription(
    "keys list", summary: "list the keys that may come in", discussion: folderNote, options: [.json],
    examples: [
      CommandExample("ress keys list", "Names, roles and keys."),
      CommandExample("ress keys list --json", "The same for a program."),
    ])
}
