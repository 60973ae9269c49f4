// The descriptions of `ress keys …`.

extension CommandDescription {
  private static let folderNote = """
    Keys are in the folder RESS_KEYS, by default ~/.config/ress. Connections that leave the machine use them; if RESS_KEYS is set, all
    connections do. RESS_KEYS=none turns encryption off.
    """

  package static let keysNew = CommandDescription(
    "keys new", summary: "make the key pair of this user or machine",
    discussion: folderNote,
    options: [OptionDescription("--force", "Replace an existing key.")],
    examples: [
      CommandExample("ress keys new", "Once for each user or machine; once for all that share a home directory."),
      CommandExample("ress keys new --force", "After the old key was stolen; also revoke the old one."),
    ])

  package static let keysShow = CommandDescription(
    "keys show", summary: "print the public key, for others to allow or trust", discussion: folderNote,
    examples: [
      CommandExample("ress keys show", "A key has 40 characters."),
      CommandExample("ress keys show > /shared/coordinator.pub", "For others to trust."),
    ])

  private static let keyArgument = ArgumentDescription("KEY", "A public key, or a file that holds one.")

  package static let keysAllow = CommandDescription(
    "keys allow", summary: "allow a key to connect to the coordinator of this folder",
    discussion: """
      Roles: `worker` computes; `read` reads the state of runs; `submit` also submits runs and changes its own; `admin` does anything. A running
      coordinator accepts the key within a second. The coordinator's own key may do anything.
      """,
    arguments: [keyArgument],
    options: [
      OptionDescription(
        "--role", .choice(["worker", "read", "submit", "admin"]), standard: "submit", "What it may do."),
      OptionDescription("--name", .text("NAME"), standard: "the key", "The name of the key in lists and logs."),
    ],
    examples: [
      CommandExample("ress keys allow /shared/alice.pub --name alice", "Alice may submit runs."),
      CommandExample("ress keys allow /shared/node3.pub --name node3 --role worker", "A machine that computes."),
    ])

  package static let keysTrust = CommandDescription(
    "keys trust", summary: "name the coordinator that commands and workers trust", discussion: folderNote,
    arguments: [keyArgument],
    examples: [
      CommandExample("ress keys trust /shared/coordinator.pub", "No other process can pass for this coordinator."),
      CommandExample("ress keys trust coordinator.pub", "From a file that was copied here."),
    ])

  package static let keysRevoke = CommandDescription(
    "keys revoke", summary: "remove a key from the allowed ones, and close its connections", discussion: folderNote,
    arguments: [ArgumentDescription("WHO", "A name or a key from `ress keys list`.")],
    examples: [
      CommandExample("ress keys revoke alice", "All keys of that name."),
      CommandExample("ress keys revoke node3", "A run that uses this worker continues without it."),
    ])

  package static let keysList = CommandDescription(
    "keys list", summary: "list the allowed keys", discussion: folderNote, options: [.json],
    examples: [
      CommandExample("ress keys list", "Names, roles and keys."),
      CommandExample("ress keys list --json", "The same as JSON."),
    ])
}
