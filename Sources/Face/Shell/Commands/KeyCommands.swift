// `ress keys …`.

extension CommandDescription {
  private static let folderNote = """
    Keys are in the folder RESS_KEYS, by default ~/.config/ress. Connections that leave the machine use them; if RESS_KEYS is set, all
    connections do. RESS_KEYS=none turns encryption off.
    """
}

package struct KeysNewOptions: CommandOptions {
  package let force: Bool

  package init(_ line: inout OptionReader) { force = line.flag("--force", "Replace an existing key.") }
}

extension CommandDescription {
  package static let keysNew = CommandDescription(
    "keys new", Command.keysNew, summary: "make the key pair of this user or machine",
    discussion: "Makes a key pair: `key`, which is secret, and `key.pub`, to give to others.\n\n" + folderNote,
    examples: [
      CommandExample("ress keys new", "Once for each user or machine; once for all that share a home directory."),
      CommandExample("ress keys new --force", "After the old key was stolen; also revoke the old one."),
    ])

  package static let keysShow = CommandDescription(
    "keys show", Command.keysShow, summary: "print the public key, for others to allow or trust",
    discussion: "Prints the public key of this user or machine.\n\n" + folderNote,
    examples: [
      CommandExample("ress keys show", "A key has 40 characters."),
      CommandExample("ress keys show > /shared/coordinator.pub", "For others to trust."),
    ])
}

package struct KeysAllowOptions: CommandOptions {
  package let key, role: String
  package let name: String?

  package init(_ line: inout OptionReader) {
    key = line.key()
    role = line.choice("--role", ["worker", "read", "submit", "admin"], default: "submit", "What it may do.")
    name = line.text("--name", "NAME", defaultText: "the key", "The name of the key in lists and logs.")
  }
}

extension OptionReader {
  fileprivate mutating func key() -> String { argument("KEY", "A public key, or a file that holds one.") }
}

extension CommandDescription {
  package static let keysAllow = CommandDescription(
    "keys allow", Command.keysAllow, summary: "allow a key to connect to the coordinator of this folder",
    discussion: """
      Adds a key to the allowed ones of the coordinator that uses this folder of keys, or changes the role of a key.

      Roles: `worker` computes; `read` reads the state of runs; `submit` also submits runs and changes its own; `admin` does anything. A running
      coordinator accepts the key within a second. The coordinator's own key may do anything.
      """,
    examples: [
      CommandExample("ress keys allow /shared/alice.pub --name alice", "Alice may submit runs."),
      CommandExample("ress keys allow /shared/node3.pub --name node3 --role worker", "A machine that computes."),
    ])
}

package struct KeyOptions: CommandOptions {
  package let key: String

  package init(_ line: inout OptionReader) { key = line.key() }
}

extension CommandDescription {
  package static let keysTrust = CommandDescription(
    "keys trust", Command.keysTrust, summary: "name the coordinator that commands and workers trust",
    discussion: "Stores the key of the only coordinator that commands and workers connect to.\n\n" + folderNote,
    examples: [
      CommandExample(
        "ress keys trust /shared/coordinator.pub", "Connect to this coordinator, and to no other process."),
      CommandExample("ress keys trust coordinator.pub", "From a file that was copied here."),
    ])
}

package struct KeysRevokeOptions: CommandOptions {
  package let key: String

  package init(_ line: inout OptionReader) { key = line.argument("NAME", "A name or a key from `ress keys list`.") }
}

extension CommandDescription {
  package static let keysRevoke = CommandDescription(
    "keys revoke", Command.keysRevoke, summary: "remove a key from the allowed ones, and close its connections",
    discussion:
      "Removes keys from the allowed ones. A running coordinator closes their connections within a second.\n\n"
      + folderNote,
    examples: [
      CommandExample("ress keys revoke alice", "All keys of that name."),
      CommandExample("ress keys revoke node3", "A run that uses this worker continues without it."),
    ])

  package static let keysList = CommandDescription(
    "keys list", Command.keysList, summary: "list the allowed keys",
    discussion: "Lists the keys that may connect to the coordinator, with their names and roles.\n\n" + folderNote,
    examples: [
      CommandExample("ress keys list", "Names, roles and keys."),
      CommandExample("ress keys list --json", "The same as JSON."),
    ])
}
