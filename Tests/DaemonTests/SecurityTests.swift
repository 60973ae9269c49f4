// Which processes may connect to a coordinator, and that the others can do it no harm.

import Configuration
import Daemon
import Foundation
import Synchronization
import TestSupport
import Testing
import Transport
import Wire

#if canImport(Glibc)
  import Glibc
#endif

@Suite(.serialized) final class SecurityTests {
  private let folder = NSTemporaryDirectory() + "ress-doors-" + UUID().uuidString.prefix(8)
  private let keys: KeyFolder
  private let server: KeyPair

  init() throws {
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    keys = KeyFolder(folder + "/keys")
    server = try keys.make(force: false)
  }
  deinit { try? FileManager.default.removeItem(atPath: folder) }

  private func daemon(_ change: (inout CoordinatorDaemon.Options) -> Void = { _ in }) throws -> CoordinatorDaemon {
    var options = CoordinatorDaemon.Options(listen: "tcp://127.0.0.1:*", program: "ress test")
    options.keys = keys
    change(&options)
    let daemon = try CoordinatorDaemon(options)
    daemon.start()
    return daemon
  }

  /// A new key with a role; without one it is not allowed.
  private func key(_ role: Role?, _ name: String = "somebody") throws -> KeyPair {
    let pair = try KeyPair.make()
    if let role { try keys.allow(AllowedKey(key: pair.publicKey, role: role, name: name)) }
    return pair
  }

  private func client(
    _ daemon: CoordinatorDaemon, _ pair: KeyPair, server: PublicKey? = nil, patience: Double = 5
  ) throws -> CoordinatorClient {
    try CoordinatorClient(
      daemon.endpoint, door: .known(pair, server: server ?? self.server.publicKey), patienceSeconds: patience)
  }

  private func submission(_ name: String, data: String = "/none/d.h5") -> Submission {
    var configuration = RunConfiguration()
    configuration.run = name
    configuration.data.path = data
    configuration.checkpoint.directory = folder + "/checkpoints"
    return Submission(configuration: configuration, resume: .no)
  }

  private func complaint(_ body: () throws -> Void) -> String {
    do { try body() } catch { return "\(error)" }
    return "no error"
  }

  @Test func `only an allowed key comes in, and only to the coordinator that it trusts`() throws {
    let known = try key(.read)
    let daemon = try daemon()
    defer { daemon.stop() }
    #expect(try client(daemon, known).status().runs.isEmpty)
    // Another key; none; and a coordinator that only passes for the one that is trusted.
    let unknown = try key(nil)
    #expect(
      complaint { _ = try client(daemon, unknown, patience: 1).status() }.contains(
        "ress keys allow '\(unknown.publicKey)'"))
    #expect(
      complaint { _ = try CoordinatorClient(daemon.endpoint, patienceSeconds: 1).status() }.contains(
        "no coordinator answers"))
    let other = try KeyPair.make().publicKey
    #expect(
      complaint { _ = try client(daemon, known, server: other, patience: 1).status() }.contains("accepts this key"))
    #expect(try client(daemon, known).status().runs.isEmpty)
  }

  @Test func `a role permits its requests, and a run belongs to its submitter`() throws {
    let alice = try key(.submit, "alice"), bob = try key(.submit, "bob"), reader = try key(.read, "r")
    let worker = try key(.worker, "w"), admin = try key(.admin, "root")
    let daemon = try daemon()
    defer { daemon.stop() }
    let run = try client(daemon, alice).submit(submission("hers")).run
    #expect(try client(daemon, reader).status().runs.map(\.id) == [run])
    let refusal = "which may not do this"
    #expect(complaint { _ = try client(daemon, reader).submit(submission("x")) }.contains("'read', \(refusal)"))
    #expect(complaint { _ = try client(daemon, reader).change("hers", .cancel) }.contains(refusal))
    #expect(complaint { _ = try client(daemon, bob).change("hers", .cancel) }.contains(refusal))
    #expect(complaint { _ = try client(daemon, bob).change(run.description, .cancel) }.contains(refusal))
    #expect(complaint { _ = try client(daemon, worker).status() }.contains("'worker', \(refusal)"))
    #expect(try !client(daemon, alice).change("hers", .cancel).isEmpty)
    _ = try client(daemon, bob).submit(submission("his"))
    #expect(try !client(daemon, admin).change("his", .cancel).isEmpty)
    // The coordinator's own key may do anything.
    #expect(try client(daemon, server).status().runs.count == 2)
  }

  @Test func `connections of a revoked key are closed, and those of other keys are not`() throws {
    let alice = try key(.submit, "alice"), bob = try key(.submit, "bob")
    let daemon = try daemon()
    defer { daemon.stop() }
    let hers = try client(daemon, alice, patience: 10), his = try client(daemon, bob, patience: 60)
    #expect(try hers.status().runs.isEmpty && his.status().runs.isEmpty)
    #expect(try keys.revoke("alice").map(\.name) == ["alice"])
    // The daemon looks twice a second; until then she is answered.
    #expect(waitUntil { complaint { _ = try hers.status() }.contains("accepts this key") })
    #expect(complaint { _ = try client(daemon, alice, patience: 1).status() }.contains("accepts this key"))
    #expect(try his.status().runs.isEmpty)
    try keys.allow(AllowedKey(key: alice.publicKey, role: .read, name: "alice"))
    #expect(waitUntil { complaint { _ = try client(daemon, alice).status() } == "no error" })
  }

  @Test func `a key that is allowed during its handshake is let in`() throws {
    let late = try key(nil)
    let daemon = try daemon()
    defer { daemon.stop() }
    let client = try client(daemon, late, patience: 120)
    let keys = keys
    DispatchQueue.global().asyncAfter(deadline: .now() + 1.5) {
      try? keys.allow(AllowedKey(key: late.publicKey, role: .read, name: "late"))
    }
    #expect(try client.status().runs.isEmpty)
  }

  @Test func `captured traffic cannot be read or replayed`() throws {
    let alice = try key(.submit, "alice")
    let daemon = try daemon()
    defer { daemon.stop() }
    let tap = try Tap(to: port(of: daemon))
    defer { tap.close() }
    let through = try CoordinatorClient(
      "tcp://127.0.0.1:\(tap.port)", door: .known(alice, server: server.publicKey), patienceSeconds: 5)
    _ = try through.submit(submission("a-secret-name"))
    let heard = tap.heard
    #expect(heard.count > 500)
    #expect(Data(heard).range(of: Data("a-secret-name".utf8)) == nil)
    let replay = try Plug(port(of: daemon))
    replay.say(heard)
    // The coordinator ends a conversation that it cannot follow, within the time that it gives a greeting.
    #expect(waitUntil { replay.isClosed })
    #expect(try client(daemon, alice).status().runs.map(\.name) == ["a-secret-name"])
  }

  private func port(of daemon: CoordinatorDaemon) -> UInt16 {
    UInt16(daemon.endpoint.split(separator: ":").last!)!
  }

  @Test func `a message that is too large, slow clients and a hundred bad clients do not affect others`() throws {
    let alice = try key(.submit, "alice")
    let daemon = try daemon()
    defer { daemon.stop() }
    let honest = try client(daemon, alice)
    // Allowed, and beyond all measure.
    let context = try SocketContext()
    let giant = try Socket(.dealer, context)
    try giant.connect(daemon.endpoint, door: .known(alice, server: server.publicKey))
    _ = giant.send([.bytes([UInt8](repeating: 1, count: 40 << 20)), .bytes([1])])
    var plugs: [Plug] = []
    var chance = Chance("a hundred bad clients")
    for number in 0..<100 {
      let plug = try Plug(port(of: daemon))
      switch number % 4 {
      case 0: plug.say([0xFF])  // The first byte of a greeting, and then nothing.
      case 1: plug.say((0..<64).map { _ in UInt8.random(in: 0...255, using: &chance) })
      case 2:
        plug.say([0xFF, 0, 0, 0, 0, 0, 0, 0, 1, 0x7F, 3, 0] + Array("NULL".utf8) + [UInt8](repeating: 0, count: 48))
      default: break
      }
      plugs.append(plug)
      if number % 10 == 0 { #expect(try honest.status().runs.isEmpty) }
    }
    #expect(try client(daemon, alice).submit(submission("fine")).after >= 0)
    // A greeting that does not come to its end in five seconds ends the connection.
    #expect(waitUntil { plugs.allSatisfy { $0.isClosed } })
    #expect(try honest.status().runs.map(\.name) == ["fine"])
  }

  @Test func `a run's paths stay below the roots, whatever they are called`() throws {
    let alice = try key(.submit, "alice")
    let root = folder + "/root"
    try FileManager.default.createDirectory(atPath: root, withIntermediateDirectories: true)
    try FileManager.default.createSymbolicLink(atPath: root + "/way-out", withDestinationPath: "/etc")
    let daemon = try daemon { $0.roots = [root] }
    defer { daemon.stop() }
    func submit(_ name: String, data: String, checkpoints: String) -> String {
      var asked = submission(name, data: data)
      asked.configuration.checkpoint.directory = checkpoints
      return complaint { _ = try client(daemon, alice).submit(asked) }
    }
    #expect(submit("a", data: root + "/d.h5", checkpoints: root + "/c") == "no error")
    let outside = "but runs of this coordinator may read and write only below"
    #expect(
      submit("b", data: "/etc/passwd", checkpoints: root).contains(
        "data.path is /etc/passwd, \(outside)"))
    #expect(submit("c", data: root + "/d.h5", checkpoints: root + "/../x").contains(outside))
    #expect(submit("d", data: root + "/way-out/passwd", checkpoints: root).contains(outside))
    #expect(submit("e", data: root + "-beside/d.h5", checkpoints: root).contains(outside))
    #expect(submit("f", data: "d.h5", checkpoints: root).contains(outside))
    try FileManager.default.createSymbolicLink(atPath: root + "/linked", withDestinationPath: folder)
    #expect(submit("linked", data: root + "/d.h5", checkpoints: root).contains("the run's folder is \(root)/linked"))
    #expect(submit("g", data: root + "/inner/../d.h5", checkpoints: root) == "no error")
  }

  @Test func `a secret is its owner's alone, and a list's mistake is named by its line`() throws {
    let path = folder + "/keys/key"
    let mode = try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int
    #expect(mode == 0o600)
    #expect(complaint { _ = try keys.make(force: false) }.contains("--force replaces it"))
    #expect(try keys.key().publicKey == server.publicKey)
    try FileManager.default.setAttributes([.posixPermissions: 0o644], ofItemAtPath: path)
    #expect(complaint { _ = try keys.key() }.contains("chmod 600"))
    #expect(PublicKey(typed: "short") == nil && PublicKey(typed: server.publicKey.text) == server.publicKey)

    try keys.allow(AllowedKey(key: server.publicKey, role: .read, name: "with a space"))
    try keys.allow(AllowedKey(key: server.publicKey, role: .admin, name: "again"))
    #expect(try keys.allowed() == [AllowedKey(key: server.publicKey, role: .admin, name: "again")])
    #expect(complaint { _ = try keys.revoke("nobody") } == "no key is allowed as 'nobody'; allowed are again")
    try "# list\n\(server.publicKey) king arthur\n".write(toFile: keys.allowedPath, atomically: true, encoding: .utf8)
    #expect(
      complaint { _ = try keys.allowed() }.hasSuffix("allowed:2: 'king' is not one of worker, read, submit, admin"))
  }
}

/// A plain TCP connection of a client that does not follow ZeroMQ's protocol, or only in part.
private final class Plug {
  private let descriptor: Int32

  init(_ port: UInt16) throws {
    descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    var address = Plug.loopback(port)
    let status = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
      }
    }
    try #require(status == 0)
  }

  deinit { close(descriptor) }

  static func loopback(_ port: UInt16) -> sockaddr_in {
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = port.bigEndian
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    return address
  }

  func say(_ bytes: [UInt8]) { _ = send(descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL)) }

  /// Whether the other end has closed; what it said before is read and forgotten.
  var isClosed: Bool {
    var buffer = [UInt8](repeating: 0, count: 4096)
    while true {
      let count = recv(descriptor, &buffer, buffer.count, Int32(MSG_DONTWAIT))
      if count == 0 { return true }
      if count < 0 { return errno == ECONNRESET }
    }
  }
}

/// Listens to one connection on its way.
private final class Tap: @unchecked Sendable {
  let port: UInt16
  private let listener: Int32
  private let said = Mutex<[UInt8]>([])

  init(to target: UInt16) throws {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    listener = descriptor
    var address = Plug.loopback(0)
    var size = socklen_t(MemoryLayout<sockaddr_in>.size)
    let status = withUnsafeMutablePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(descriptor, $0, size) == 0 && listen(descriptor, 4) == 0 && getsockname(descriptor, $0, &size) == 0
      }
    }
    try #require(status)
    port = UInt16(bigEndian: address.sin_port)
    Thread.detachNewThread { [self] in
      let inner = accept(self.listener, nil, nil)
      guard inner >= 0 else { return }
      let outer = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
      var address = Plug.loopback(target)
      _ = withUnsafePointer(to: &address) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
          connect(outer, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
        }
      }
      Thread.detachNewThread { Self.pump(from: outer, to: inner) { _ in } }
      Self.pump(from: inner, to: outer) { bytes in self.said.withLock { $0 += bytes } }
    }
  }

  private static func pump(from: Int32, to: Int32, _ hear: ([UInt8]) -> Void) {
    var buffer = [UInt8](repeating: 0, count: 4096)
    while true {
      let count = recv(from, &buffer, buffer.count, 0)
      guard count > 0 else { break }
      hear(Array(buffer[..<count]))
      _ = send(to, buffer, count, Int32(MSG_NOSIGNAL))
    }
    shutdown(to, Int32(SHUT_WR))
  }

  var heard: [UInt8] { said.withLock { $0 } }
  func close() { shutdown(listener, Int32(SHUT_RDWR)) }
}
