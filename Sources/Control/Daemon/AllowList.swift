// The keys that may connect to a coordinator, and their roles. A text file with one line for each key:
//
//   KEY ROLE NAME
//
// `ress keys allow` and `revoke` write it, and a running coordinator reads it again when it changes.

import Foundation
import RunFolder
import Synchronization
import Transport
import Wire

/// What a key may do.
package enum Role: String, CaseIterable, Sendable {
  /// Compute: the requests of `ress worker`.
  case worker
  /// Read the state and the stories of runs.
  case read
  /// Also submit runs, and change those that it submitted.
  case submit
  /// Anything.
  case admin

  func allows(_ request: Request, isOwner: Bool) -> Bool {
    switch request {
    case .hello, .heartbeat, .report, .goodbye: self == .worker || self == .admin
    case .follow, .status, .describe: self != .worker
    case .submit(let submission): self == .admin || self == .submit && (submission.resume == .no || isOwner)
    case .change: self == .admin || self == .submit && isOwner
    }
  }
}

package struct AllowedKey: Equatable, Sendable {
  package var key: PublicKey
  package var role: Role
  package var name: String

  package init(key: PublicKey, role: Role, name: String) {
    self.key = key
    self.role = role
    self.name = name
  }
}

package enum KeyError: Error, Equatable, CustomStringConvertible {
  case noKey(folder: String)
  case exists(path: String)
  case notAKey(String)
  case line(path: String, number: Int, reason: String)
  case file(action: String, path: String, reason: String)
  case readable(path: String)
  case unknown(String, known: [String])

  package var description: String {
    switch self {
    case .noKey(let folder): "there is no key in \(folder); make one with: ress keys new"
    case .exists(let path):
      "\(path) exists; coordinators that allow or trust it would no longer accept you; --force replaces it"
    case .notAKey(let text):
      "'\(text)' is neither a key, which has 40 characters as `ress keys show` prints it, nor a file that holds one"
    case .line(let path, let number, let reason): "\(path):\(number): \(reason)"
    case .file(let action, let path, let reason): "cannot \(action) \(path): \(reason)"
    case .readable(let path): "\(path) can be read by other users; make it private with: chmod 600 \(path)"
    case .unknown(let name, let known):
      "no key is allowed as '\(name)'" + (known.isEmpty ? "" : "; allowed are \(known.joined(separator: ", "))")
    }
  }
}

/// A folder of keys: `key` (secret), `key.pub`, `coordinator.pub` and `allowed`.
package struct KeyFolder: Sendable {
  package let path: String

  package init(_ path: String) { self.path = path }

  /// `$RESS_KEYS`, else `~/.config/ress`.
  package static var standard: KeyFolder {
    let environment = ProcessInfo.processInfo.environment
    if let path = environment["RESS_KEYS"], !path.isEmpty { return KeyFolder(path) }
    let base = environment["XDG_CONFIG_HOME"].flatMap { $0.isEmpty ? nil : $0 } ?? NSHomeDirectory() + "/.config"
    return KeyFolder(base + "/ress")
  }

  private var secretPath: String { path + "/key" }
  private var publicPath: String { path + "/key.pub" }
  private var serverPath: String { path + "/coordinator.pub" }
  package var allowedPath: String { path + "/allowed" }

  package var hasKey: Bool { FileManager.default.fileExists(atPath: secretPath) }

  // MARK: Its own key

  package func make(force: Bool) throws -> KeyPair {
    if hasKey && !force { throw KeyError.exists(path: secretPath) }
    let pair = try KeyPair.make()
    try write(pair.secret + "\n", to: secretPath, mode: 0o600)
    try write(pair.publicKey.text + "\n", to: publicPath, mode: 0o644)
    return pair
  }

  package func key() throws(KeyError) -> KeyPair {
    guard hasKey else { throw .noKey(folder: path) }
    let mode = (try? FileManager.default.attributesOfItem(atPath: secretPath))?[.posixPermissions] as? Int ?? 0
    guard mode & 0o077 == 0 else { throw .readable(path: secretPath) }
    let text = try read(secretPath).trimmingCharacters(in: .whitespacesAndNewlines)
    guard let pair = KeyPair(secret: text) else {
      throw .file(action: "use", path: secretPath, reason: "it contains no secret key")
    }
    return pair
  }

  // MARK: The coordinator's

  package func trust(_ key: PublicKey) throws(KeyError) { try write(key.text + "\n", to: serverPath, mode: 0o644) }

  /// The coordinator's key that commands and workers trust: `coordinator.pub`, or else the own key, for machines that
  /// share a home directory.
  package func server() throws(KeyError) -> PublicKey {
    guard FileManager.default.fileExists(atPath: serverPath) else { return try key().publicKey }
    let text = try read(serverPath).trimmingCharacters(in: .whitespacesAndNewlines)
    guard let key = PublicKey(typed: text) else {
      throw .line(path: serverPath, number: 1, reason: "this is not a key")
    }
    return key
  }

  // MARK: Allowed keys

  package func allowed() throws(KeyError) -> [AllowedKey] {
    guard FileManager.default.fileExists(atPath: allowedPath) else { return [] }
    var keys: [AllowedKey] = []
    for (index, line) in try read(allowedPath).split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
      let words = line.split(separator: " ", maxSplits: 2).map { String($0) }
      if words.isEmpty || words[0].hasPrefix("#") { continue }
      func refuse(_ reason: String) -> KeyError { .line(path: allowedPath, number: index + 1, reason: reason) }
      guard words.count == 3 else { throw refuse("expected KEY ROLE NAME") }
      guard let key = PublicKey(typed: words[0]) else { throw refuse("'\(words[0])' is not a key") }
      guard let role = Role(rawValue: words[1]) else {
        throw refuse("'\(words[1])' is not one of \(Role.allCases.map(\.rawValue).joined(separator: ", "))")
      }
      keys.append(AllowedKey(key: key, role: role, name: words[2]))
    }
    return keys
  }

  /// A key that is already allowed gets the new role and name.
  package func allow(_ new: AllowedKey) throws(KeyError) {
    try save(try allowed().filter { $0.key != new.key } + [new])
  }

  /// Removes keys by name or key. Returns those that were removed.
  package func revoke(_ who: String) throws(KeyError) -> [AllowedKey] {
    let all = try allowed()
    let gone = all.filter { $0.name == who || $0.key.text == who }
    guard !gone.isEmpty else { throw .unknown(who, known: all.map(\.name)) }
    try save(all.filter { !gone.contains($0) })
    return gone
  }

  private func save(_ keys: [AllowedKey]) throws(KeyError) {
    let lines = keys.map { "\($0.key) \($0.role.rawValue) \($0.name)\n" }
    try write("# KEY ROLE NAME; ress keys allow and revoke write it\n" + lines.joined(), to: allowedPath, mode: 0o600)
  }

  // MARK: Files

  private func read(_ path: String) throws(KeyError) -> String {
    do { return try String(contentsOfFile: path, encoding: .utf8) } catch {
      throw .file(action: "read", path: path, reason: error.localizedDescription)
    }
  }

  private func write(_ text: String, to path: String, mode: mode_t) throws(KeyError) {
    do {
      // Other users may not even list it.
      try FileManager.default.createDirectory(
        atPath: self.path, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
      try Durable.write(Array(text.utf8), to: path, mode: mode)
    } catch let FolderError.system(action, path, reason, _) {
      throw .file(action: action, path: path, reason: reason)
    } catch {
      throw .file(action: "write", path: path, reason: "\(error)")
    }
  }
}

/// The allow-list of a running coordinator, which is read again when its file changes.
final class AllowList: Sendable {
  private let folder: KeyFolder
  /// The coordinator's own key may do anything, because a process that has it also has the coordinator's files.
  private let own: PublicKey
  private let state: Mutex<State>

  private struct State {
    var keys: [PublicKey: AllowedKey] = [:]
    /// The file that was read: its inode and time.
    var version = ""
  }

  init(_ folder: KeyFolder, own: PublicKey) throws(KeyError) {
    self.folder = folder
    self.own = own
    state = Mutex(State())
    _ = try refresh()
  }

  func find(_ key: PublicKey) -> AllowedKey? {
    if key == own { return AllowedKey(key: own, role: .admin, name: "this coordinator's own key") }
    return state.withLock { $0.keys[key] }
  }

  /// Reads the file if it has changed. Returns whether it had; if the file cannot be read, the list stays as it was.
  func refresh() throws(KeyError) -> Bool {
    var status = stat()
    let found = stat(folder.allowedPath, &status) == 0
    let version = found ? "\(status.st_ino) \(status.st_mtim.tv_sec) \(status.st_mtim.tv_nsec) \(status.st_size)" : ""
    if state.withLock({ $0.version == version }) { return false }
    let keys = try folder.allowed()
    state.withLock {
      $0.keys = Dictionary(keys.map { ($0.key, $0) }) { $1 }
      $0.version = version
    }
    return true
  }
}
