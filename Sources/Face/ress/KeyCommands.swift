// `ress keys`: the keys that may connect to a coordinator.

import Configuration
import Daemon
import Foundation
import Shell
import Transport
import Wire

func keysNew(_ options: KeysNewOptions) throws -> ExitCode {
  let folder = KeyFolder.standard
  let pair = try folder.make(force: options.force)
  Terminal.print(
    """
    made \(folder.path)/key, which is secret, and key.pub, which may be given to others:
      \(pair.publicKey)
    """)
  return .done
}

func keysShow() throws -> ExitCode {
  Terminal.print(try KeyFolder.standard.key().publicKey.text)
  return .done
}

/// The key of an argument: the argument itself, or the content of the file that it names.
private func key(_ word: String) throws -> PublicKey {
  if let key = PublicKey(typed: word) { return key }
  if let text = try? String(contentsOfFile: word, encoding: .utf8),
    let key = PublicKey(typed: text.trimmingCharacters(in: .whitespacesAndNewlines))
  {
    return key
  }
  throw KeyError.notAKey(word)
}

func keysAllow(_ options: KeysAllowOptions) throws -> ExitCode {
  let key = try key(options.key)
  guard let role = Role(rawValue: options.role) else {
    preconditionFailure("the parser knows the roles")
  }
  let name = options.name ?? key.text
  guard !name.isEmpty, !name.contains(where: \.isNewline) else {
    throw UsageError("--name must be one line of text", command: "keys allow")
  }
  try KeyFolder.standard.allow(AllowedKey(key: key, role: role, name: name))
  Terminal.print(
    "\(name) is allowed with the role '\(role.rawValue)'; a running coordinator accepts the key within a second")
  return .done
}

func keysTrust(_ options: KeyOptions) throws -> ExitCode {
  let folder = KeyFolder.standard
  try folder.trust(try key(options.key))
  Terminal.print("commands and workers that use \(folder.path) now trust only this coordinator")
  return .done
}

func keysRevoke(_ options: KeysRevokeOptions) throws -> ExitCode {
  for gone in try KeyFolder.standard.revoke(options.key) {
    Terminal.print(
      "\(gone.name) ('\(gone.role.rawValue)', \(gone.key)) is no longer allowed; its connections are closed within a second"
    )
  }
  return .done
}

func keysList(_ options: JSONOptions) throws -> ExitCode {
  let folder = KeyFolder.standard
  let keys = try folder.allowed()
  if options.json {
    for key in keys {
      Terminal.print(
        JSON.object([("key", .text(key.key.text)), ("role", .text(key.role.rawValue)), ("name", .text(key.name))]).line)
    }
    return .done
  }
  guard !keys.isEmpty else {
    Terminal.print("\(folder.allowedPath) allows no key; the coordinator's own key is always allowed")
    return .done
  }
  var table = TextTable([("name", .left), ("role", .left), ("key", .left)])
  for key in keys { table.add([key.name, key.role.rawValue, key.key.text]) }
  Terminal.print(table.text)
  return .done
}
