// The ends of the control plane and the data plane, over real sockets in one process.

import Configuration
import Foundation
import TestSupport
import Testing
import Transport
import Wire

#if canImport(Glibc)
  import Glibc
#endif

@Suite(.serialized) final class PortTests {
  private let folder = NSTemporaryDirectory() + "ress-port-" + UUID().uuidString.prefix(8)

  init() throws { try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true) }
  deinit { try? FileManager.default.removeItem(atPath: folder) }

  /// Runs both loops until `done`.
  private func turn(_ step: (Instant) -> Void, until done: () -> Bool) -> Bool {
    waitUntil {
      step(MonotonicClock.now)
      return done()
    }
  }

  @Test(arguments: ["ipc", "tcp"])
  func `requests and replies arrive in order over ipc and tcp`(transport: String) throws {
    let context = try SocketContext()
    let listen = transport == "ipc" ? "ipc://\(folder)/c" : "tcp://127.0.0.1:*"
    let port = try ControlPort(listen: listen, insecure: false, incarnation: 5, context)
    #expect(!port.endpoint.contains("*"))
    let connection = try ControlConnection(to: port.endpoint, incarnation: 9, context)
    for index in 0..<50 { connection.send(.follow(run: "\(index)", after: index), at: MonotonicClock.now) }
    var heard: [String] = [], answers: [String] = []
    let whole = turn { now in
      port.receive(at: now) { peer, _, request in
        guard case .follow(let run, _) = request else { return }
        heard.append(run)
        port.send(.refused(reason: run), to: peer, at: now)
      } unreadable: { _, error in
        Issue.record("\(error)")
      }
      port.tick(at: now)
      connection.receive(at: now) { reply in
        if case .refused(let reason) = reply { answers.append(reason) }
      } restarted: {
        Issue.record("no restart")
      } unreadable: {
        Issue.record("\($0)")
      }
      connection.tick(at: now)
    } until: {
      answers.count == 50 && connection.isIdle && port.isIdle
    }
    #expect(whole && heard == (0..<50).map { "\($0)" } && answers == heard)
  }

  @Test func `of too many connections, the oldest silent ones are closed, and others are not`()
    throws
  {
    let context = try SocketContext()
    let port = try ControlPort(
      listen: "ipc://\(folder)/crowd", insecure: false, incarnation: 5, connectionLimit: 20, context)
    let connection = try ControlConnection(to: port.endpoint, incarnation: 9, context)
    var heard = 0
    var asked = 0
    func step(_ now: Instant) {
      if asked == heard {
        connection.send(.status, at: now)
        asked += 1
      }
      port.receive(at: now) { _, _, _ in
        heard += 1
      } unreadable: { _, error in
        Issue.record("\(error)")
      }
      _ = port.takeDisconnected()
      port.tick(at: now)
      connection.receive(at: now) { _ in
      } restarted: {
      } unreadable: { _ in
      }
      connection.tick(at: now)
    }
    #expect(turn(step) { heard > 3 })
    var strangers: [Int32] = []
    defer { for stranger in strangers { close(stranger) } }
    func isClosed(_ stranger: Int32) -> Bool {
      // The greeting of the other end is read first.
      var bytes = [UInt8](repeating: 0, count: 256)
      while true {
        let count = recv(stranger, &bytes, bytes.count, Int32(MSG_DONTWAIT))
        if count == 0 { return true }
        if count < 0 { return errno != EAGAIN }
      }
    }
    for _ in 0..<60 {
      var there = sockaddr_un()
      there.sun_family = sa_family_t(AF_UNIX)
      withUnsafeMutableBytes(of: &there.sun_path) { bytes in
        "\(folder)/crowd".utf8CString.withUnsafeBytes { bytes.copyMemory(from: UnsafeRawBufferPointer($0)) }
      }
      let stranger = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
      let status = withUnsafePointer(to: &there) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
          connect(stranger, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
        }
      }
      #expect(status == 0)
      strangers.append(stranger)
    }
    #expect(turn(step) { strangers.count { isClosed($0) } >= 40 })
    #expect(isClosed(strangers[0]))
    let before = heard
    #expect(turn(step) { heard > before + 3 }, "the one that speaks is still heard")
  }

  @Test func `messages sent before the coordinator listens arrive later, and its successor is noticed`() throws {
    let context = try SocketContext()
    let address = "ipc://\(folder)/late"
    let connection = try ControlConnection(to: address, incarnation: 9, context)
    connection.send(.status, at: MonotonicClock.now)
    var restarts = 0
    for incarnation in UInt64(100)...101 {
      let port = try ControlPort(listen: address, insecure: false, incarnation: incarnation, context)
      var heard = 0, answered = 0
      // A successor is noticed only after it was sent something; a worker's heartbeats do that.
      let arrived = turn { now in
        connection.send(.status, at: now)
        port.receive(at: now) { peer, _, _ in
          heard += 1
          port.send(.alive(generation: 0, noted: 0), to: peer, at: now)
        } unreadable: { _, _ in
        }
        port.tick(at: now)
        connection.receive(at: now) { _ in
          answered += 1
        } restarted: {
          restarts += 1
        } unreadable: { _ in
        }
        connection.tick(at: now)
      } until: {
        heard > 0 && answered > 0
      }
      #expect(arrived)
    }
    #expect(restarts == 1)
  }

  @Test func `garbage is refused or dropped, and the port continues`() throws {
    let context = try SocketContext()
    let port = try ControlPort(listen: "ipc://\(folder)/g", insecure: false, incarnation: 5, context)
    let vandal = try Socket(.dealer, context)
    try vandal.connect(port.endpoint)
    let connection = try ControlConnection(to: port.endpoint, incarnation: 9, context)
    let header = LinkHeader(incarnation: 3, peer: 0, sequence: 1, acknowledged: 0).encoded()
    let garbage: [[Frame]] = [
      [.bytes([])], [.bytes([1, 2, 3])], [.bytes(header)], [.bytes(header), .bytes([])],
      [.bytes(header), .bytes(Array("{}".utf8))],
      (0..<20).map { .bytes([UInt8($0)]) }, [.bytes(Array(repeating: 7, count: 1 << 20))],
    ]
    for frames in garbage { _ = vandal.send(frames) }
    connection.send(.status, at: MonotonicClock.now)
    var unreadable = 0, heard = 0
    let fine = turn { now in
      port.receive(at: now) { _, _, request in
        if request == .status { heard += 1 }
      } unreadable: { _, _ in
        unreadable += 1
      }
      port.tick(at: now)
      connection.tick(at: now)
    } until: {
      heard == 1 && unreadable >= 4
    }
    #expect(fine, "\(heard) heard, \(unreadable) unreadable")
  }

  @Test func `rows of every size arrive once, in order and to the bit, and another generation's do not`() throws {
    let context = try SocketContext()
    let ports = try (0..<2).map { try DataPort(listen: "ipc://\(folder)/d\($0)", insecure: false, context) }
    func assignment(_ index: Int, _ generation: UInt32) -> Assignment {
      let roster = ports.map { port in
        RosterEntry(
          worker: WorkerDescription(
            name: "w", host: "h", process: 1, dataAddress: port.endpoint, threads: 1, fingerprint: "", program: ""),
          units: 0..<1, experts: [])
      }
      return Assignment(
        run: RunID(7), generation: generation, configuration: RunConfiguration(), roster: roster, index: index,
        threads: 1,
        start: .fresh, firstStep: 0, folder: "")
    }
    let sizes = [0, 1, 64 << 10, 8 << 20, 3, 100_000]
    func message(_ size: Int) -> DataMessage {
      let payload = Payload(byteCount: size)
      for index in 0..<size { payload.bytes[index] = UInt8(truncatingIfNeeded: index &* 31 &+ size) }
      var header = DataHeader(phase: .gradient, sender: 0, .node(level: 0, index: 0, part: 0))
      header.rows = UInt32(size)
      return DataMessage(header: header, payload: payload)
    }
    // The sender begins before the receiver has opened the generation.
    try ports[0].open(assignment(0, 3))
    for size in sizes { ports[0].send(message(size), to: 1, at: MonotonicClock.now) }
    for _ in 0..<20 {
      ports[1].receive(at: MonotonicClock.now) { _ in Issue.record("a message before the generation") }
      sched_yield()
    }
    try ports[1].open(assignment(1, 3))
    var arrived: [DataMessage] = []
    let whole = turn { now in
      for port in ports {
        port.receive(at: now) {
          if case .message(let message) = $0 { arrived.append(message) } else { Issue.record("\($0)") }
        }
        port.tick(at: now)
      }
    } until: {
      arrived.count == sizes.count && ports.allSatisfy(\.isIdle)
    }
    #expect(whole && arrived.map { Int($0.header.rows) } == sizes)
    for (size, message) in zip(sizes, arrived) {
      withExtendedLifetime(message.payload) {
        #expect((0..<size).allSatisfy { message.payload.bytes[$0] == UInt8(truncatingIfNeeded: $0 &* 31 &+ size) })
      }
    }
    // The receiver opens the next generation; messages of the old one are dropped.
    try ports[1].open(assignment(1, 4))
    ports[0].send(message(5), to: 1, at: MonotonicClock.now)
    // Repeated several times, as the link does with unacknowledged messages.
    let begun = MonotonicClock.now
    _ = turn { now in
      ports[1].receive(at: now) { _ in Issue.record("an old generation got through") }
      ports[0].tick(at: now)
    } until: {
      MonotonicClock.now - begun > .milliseconds(500)
    }
  }

  private func message(_ body: () throws -> Void) -> String {
    do { try body() } catch { return "\(error)" }
    return "no error"
  }

  @Test func `without encryption a process listens only at addresses of this machine`() throws {
    for fine in ["tcp://127.0.0.1:80", "tcp://127.9.9.9:*", "tcp://localhost:0", "tcp://[::1]:9", "ipc:///tmp/x"] {
      try EndpointPolicy.check(listening: fine, insecure: false)
    }
    for open in [
      "tcp://0.0.0.0:80", "tcp://*:80", "tcp://10.0.0.1:80", "tcp://127.evil.com:80", "tcp://eth0:80",
      "tcp://127.0.0.1.x:1",
    ] {
      #expect(message { try EndpointPolicy.check(listening: open, insecure: false) }.contains("--insecure"), "\(open)")
      try EndpointPolicy.check(listening: open, insecure: true)
    }
    for bad in [
      "", "127.0.0.1:80", "udp://127.0.0.1:80", "tcp://127.0.0.1", "tcp://127.0.0.1:port", "tcp://127.0.0.1:99999",
      "ipc://",
    ] {
      #expect(
        message { try EndpointPolicy.check(listening: bad, insecure: false) }.contains("is not an address"), "\(bad)")
    }
    let long = "ipc:///tmp/" + String(repeating: "x", count: 120)
    #expect(message { try EndpointPolicy.check(listening: long, insecure: false) }.contains("more than 107 bytes"))
  }

  @Test func `a path in use is not taken over, a file is not removed, and a dead process's socket is`() throws {
    let context = try SocketContext()
    let listen = "ipc://\(folder)/c"
    let port = try ControlPort(listen: listen, insecure: false, incarnation: 5, context)
    let said = message { _ = try ControlPort(listen: listen, insecure: false, incarnation: 6, context) }
    #expect(said == "cannot listen at \(port.endpoint): Address already in use")

    let notes = folder + "/notes.txt"
    try "precious".write(toFile: notes, atomically: true, encoding: .utf8)
    let refused = message { _ = try ControlPort(listen: "ipc://" + notes, insecure: false, incarnation: 5, context) }
    #expect(refused.contains("a file that is not a socket has this path"))
    #expect(try String(contentsOfFile: notes, encoding: .utf8) == "precious")

    // A socket at which no process listens.
    let left = folder + "/left"
    let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: left.utf8) }
    let bound = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
      }
    }
    #expect(bound == 0)
    close(descriptor)
    _ = try ControlPort(listen: "ipc://" + left, insecure: false, incarnation: 5, context)
  }

  @Test func `a peer that was silent for a long time is forgotten, and replies to it are dropped`() throws {
    let context = try SocketContext()
    let port = try ControlPort(listen: "ipc://\(folder)/f", insecure: false, incarnation: 5, context)
    let connection = try ControlConnection(to: port.endpoint, incarnation: 9, context)
    connection.send(.status, at: MonotonicClock.now)
    var peer: PeerID?
    let heard = turn { now in
      port.receive(at: now) { from, _, _ in
        peer = from
      } unreadable: { _, _ in
      }
    } until: {
      peer != nil
    }
    guard heard, let peer else {
      Issue.record("nothing was heard")
      return
    }
    let later = MonotonicClock.now + .seconds(121)
    #expect(port.tick(at: MonotonicClock.now).isEmpty)
    #expect(port.tick(at: later) == [peer])
    port.send(.alive(generation: 0, noted: 0), to: peer, at: later)
    #expect(port.isIdle && port.nextTick == nil)
  }

  @Test(arguments: ["ipc", "tcp"])
  func `a process whose connection closes is reported at once, and a live one is not`(transport: String) throws {
    let context = try SocketContext()
    let listen = transport == "ipc" ? "ipc://\(folder)/c" : "tcp://127.0.0.1:*"
    let port = try ControlPort(listen: listen, insecure: false, incarnation: 5, context)
    let staying = try ControlConnection(to: port.endpoint, incarnation: 9, context)
    var leaving: ControlConnection? = try ControlConnection(to: port.endpoint, incarnation: 11, context)
    var peers: [PeerID] = [], gone: [PeerID] = []
    func pump(_ now: Instant) {
      port.receive(at: now) { peer, _, request in
        if case .follow(let run, _) = request, run == "leaving" || run == "staying" { peers.append(peer) }
      } unreadable: { _, error in
        Issue.record("\(error)")
      }
      port.tick(at: now)
      staying.receive(at: now) { _ in
      } restarted: {
      } unreadable: { _ in
      }
      staying.tick(at: now)
      leaving?.receive(at: now) { _ in
      } restarted: {
      } unreadable: { _ in
      }
      leaving?.tick(at: now)
      gone += port.takeDisconnected()
    }
    leaving?.send(.follow(run: "leaving", after: 0), at: MonotonicClock.now)
    #expect(turn(pump) { peers.count == 1 })
    staying.send(.follow(run: "staying", after: 0), at: MonotonicClock.now)
    #expect(turn(pump) { peers.count == 2 } && gone.isEmpty)
    leaving = nil
    #expect(turn(pump) { !gone.isEmpty })
    #expect(gone == [peers[0]])
  }

  @Test func `a host name is replaced by its address, and an unknown one is named in the error`() throws {
    let context = try SocketContext()
    let port = try ControlPort(listen: "tcp://localhost:*", insecure: false, incarnation: 5, context)
    #expect(port.endpoint.hasPrefix("tcp://127.0.0.1:"))
    let said = message {
      _ = try ControlPort(listen: "tcp://no-such-host.invalid:*", insecure: true, incarnation: 6, context)
    }
    #expect(said.hasSuffix("no host or network interface has the name 'no-such-host.invalid'"), "\(said)")
    // Interfaces are resolved by libzmq, and text that is not an address is refused as before.
    #expect(try EndpointPolicy.resolved(listening: "tcp://lo:7077") == "tcp://lo:7077")
    #expect(try EndpointPolicy.resolved(listening: "tcp://*:7077") == "tcp://*:7077")
    #expect(try EndpointPolicy.resolved(listening: "tcp://[::1]:7077") == "tcp://[::1]:7077")
    #expect(try EndpointPolicy.resolved(listening: "tcp://localhost") == "tcp://localhost")
  }

  @Test func `the error names an address in use`() throws {
    let context = try SocketContext()
    let port = try ControlPort(listen: "tcp://127.0.0.1:*", insecure: false, incarnation: 5, context)
    let said = message { _ = try ControlPort(listen: port.endpoint, insecure: false, incarnation: 6, context) }
    #expect(said == "cannot listen at \(port.endpoint): Address already in use")
  }
}
