// Attacks on a port, with a key or without: messages that never end, frames that are too large, a million frames of
// nonsense, requests whose answers are not read. The port must keep serving others, and its memory must stay
// bounded.
//
// `RESS_FUZZ=1000000 scripts/test.sh --filter FloodTests` sends more; `RESS_SEED=N` begins at another seed.

import Configuration
import Foundation
import TestSupport
import Testing
import Transport
import Wire

#if canImport(Glibc)
  import Glibc
#endif

@Suite(.serialized) final class FloodTests {
  private let folder = NSTemporaryDirectory() + "ress-flood-" + UUID().uuidString.prefix(8)

  init() throws { try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true) }
  deinit { try? FileManager.default.removeItem(atPath: folder) }

  private static var residentMiB: Int {
    // Foundation reads as many bytes as a file's size says, and a file of /proc says 0.
    let descriptor = open("/proc/self/statm", O_RDONLY)
    defer { close(descriptor) }
    var bytes = [UInt8](repeating: 0, count: 128)
    bytes.removeLast(bytes.count - max(0, read(descriptor, &bytes, bytes.count)))
    let pages = String(decoding: bytes, as: UTF8.self).split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0
    return (pages * sysconf(Int32(_SC_PAGESIZE))) >> 20
  }

  /// Runs the loop until `done`. The deadline only ends a test that would hang.
  private func turn(_ step: (Instant) -> Void, until done: () -> Bool) -> Bool {
    let deadline = MonotonicClock.now + .seconds(300)
    while MonotonicClock.now < deadline {
      step(MonotonicClock.now)
      if done() { return true }
      usleep(1000)
    }
    return false
  }

  // MARK: the limit itself

  private static let limits = Backlog.Limits(known: 1000, stranger: 100, together: 2500, strangers: 250)

  @Test func `a connection that completes no message is cut, and one whose messages are read is not`() {
    var backlog = Backlog(Self.limits)
    var brought: [Int32: Int] = [7: 0, 8: 0]
    for connection in brought.keys { backlog.opened(connection) }
    for _ in 0..<1000 {
      // Each message has fewer bytes than are assumed for it, and there are many. That must not become a credit.
      brought[7]! += 60
      backlog.delivered(7, frames: 1, byteCount: 20)
      #expect(backlog.overdrawn { brought[$0] }.isEmpty)
    }
    brought[7]! += 1000
    #expect(backlog.overdrawn { brought[$0] }.isEmpty)
    brought[7]! += 1
    brought[8]! = 100
    #expect(backlog.overdrawn { brought[$0] }.map { [Int($0.connection), $0.byteCount] } == [[7, 1001]])
    brought[8]! = 101
    #expect(backlog.overdrawn { brought[$0] }.map(\.connection) == [8])
    // A cut connection is forgotten, and one whose bytes are not counted is ignored.
    #expect(backlog.overdrawn { _ in 1 << 40 }.isEmpty)
    backlog.opened(9)
    #expect(backlog.overdrawn { _ in nil }.isEmpty)
    backlog.closed(9)
    #expect(!backlog.knows(9))
  }

  @Test func `many connections share a limit, and the largest are cut first`() {
    var backlog = Backlog(Self.limits)
    for connection in Int32(1)...4 { backlog.opened(connection) }
    let strange = [1: 60, 2: 90, 3: 70, 4: 80]
    #expect(backlog.overdrawn { strange[Int($0)] }.map(\.connection) == [2])
    backlog = Backlog(Self.limits)
    for connection in Int32(1)...4 {
      backlog.opened(connection)
      backlog.delivered(connection, frames: 1, byteCount: 0)
    }
    // A delivered frame counts 128 bytes, so that each holds 128 fewer than it brought.
    let known = [1: 850, 2: 1050, 3: 950, 4: 750]
    #expect(backlog.overdrawn { known[Int($0)] }.map(\.connection) == [2])
  }

  // MARK: real sockets

  /// A client that speaks ZMTP by hand, unencrypted.
  private final class RawPeer {
    private let descriptor: Int32

    init(_ endpoint: String) throws {
      descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
      var address = sockaddr_in()
      address.sin_family = sa_family_t(AF_INET)
      address.sin_port = UInt16(endpoint.split(separator: ":").last!)!.bigEndian
      address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
      let status = withUnsafePointer(to: &address) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
          connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
        }
      }
      try #require(status == 0)
      // A write that is not read must not block the test forever.
      var wait = timeval(tv_sec: 300, tv_usec: 0)
      setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &wait, socklen_t(MemoryLayout<timeval>.size))
    }

    deinit { close(descriptor) }

    /// False where the other end has closed.
    @discardableResult
    func say(_ bytes: [UInt8]) -> Bool {
      var done = 0
      while done < bytes.count {
        let count = bytes[done...].withUnsafeBytes { send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
        if count < 0 && errno == EINTR { continue }
        guard count > 0 else { return false }
        done += count
      }
      return true
    }

    /// Version 3.0, no security.
    func greet() {
      say([0xFF, 0, 0, 0, 0, 0, 0, 0, 1, 0x7F, 3, 0] + Array("NULL".utf8) + [UInt8](repeating: 0, count: 48))
    }

    func introduce() {
      greet()
      let property = [11] + Array("Socket-Type".utf8) + [0, 0, 0, 6] + Array("DEALER".utf8)
      let ready = [5] + Array("READY".utf8) + property
      say([4, UInt8(ready.count)] + ready)
    }

    /// The header of a frame of that many bytes. Flags: 1 more frames follow, 2 long, 4 command.
    static func head(_ flags: UInt8, _ count: UInt64) -> [UInt8] {
      [flags | 2] + (0..<8).map { UInt8(truncatingIfNeeded: count >> (8 * (7 - UInt64($0)))) }
    }

    var isClosed: Bool {
      var buffer = [UInt8](repeating: 0, count: 4096)
      while true {
        let count = recv(descriptor, &buffer, buffer.count, Int32(MSG_DONTWAIT))
        if count == 0 { return true }
        if count < 0 { return errno != EAGAIN && errno != EINTR }
      }
    }
  }

  @Test func `a message whose frames never end is cut off, and its memory is released`() throws {
    let context = try SocketContext()
    let port = try ControlPort(listen: "tcp://127.0.0.1:*", insecure: false, incarnation: 5, context)
    let honest = try ControlConnection(to: port.endpoint, incarnation: 9, context)
    let vandal = try RawPeer(port.endpoint)
    vandal.introduce()
    let before = Self.residentMiB
    nonisolated(unsafe) var sent = 0, isCut = false
    let ended = DispatchSemaphore(value: 0)
    nonisolated(unsafe) let peer = vandal
    Thread.detachNewThread {
      let frame = RawPeer.head(1, 1 << 20) + [UInt8](repeating: 7, count: 1 << 20)
      while sent < 4096 && !isCut { if peer.say(frame) { sent += 1 } else { isCut = true } }
      ended.signal()
    }
    var heard = 0, remarks: [String] = [], most = before
    let fine = turn { now in
      honest.send(.status, at: now)
      port.receive(at: now) { _, _, request in
        if request == .status { heard += 1 }
      } unreadable: { _, _ in
      }
      port.tick(at: now)
      honest.tick(at: now)
      remarks += port.takeRemarks()
      most = max(most, Self.residentMiB)
    } until: {
      isCut && heard > 10
    }
    ended.wait()
    print("a message without an end: \(sent) MiB were sent before it was cut; resident \(before), at most \(most) MiB")
    #expect(fine && sent < 4096)
    #expect(remarks.count == 1 && remarks[0].contains("MiB without completing a message"), "\(remarks)")
  }

  @Test(arguments: [false, true])
  func `a frame of a gigabyte before any key closes the connection`(isData: Bool) throws {
    let context = try SocketContext()
    let control = isData ? nil : try ControlPort(listen: "tcp://127.0.0.1:*", insecure: false, incarnation: 5, context)
    let data = isData ? try DataPort(listen: "tcp://127.0.0.1:*", insecure: false, context) : nil
    let endpoint = control?.endpoint ?? data!.endpoint
    // A command of the handshake, then a message's frame.
    for flags in [UInt8(4), 0] {
      let vandal = try RawPeer(endpoint)
      if flags == 4 { vandal.greet() } else { vandal.introduce() }
      vandal.say(RawPeer.head(flags, 1 << 30))
      #expect(
        turn { _ in
        } until: {
          vandal.isClosed
        })
    }
    // A frame of the largest permitted size is waited for, until the five seconds of the handshake are over.
    let patient = try RawPeer(endpoint)
    patient.introduce()
    patient.say(RawPeer.head(0, 4 << 20))
    #expect(!patient.isClosed)
  }

  @Test func `a client that does not read its answers is dropped, and starts anew when it sends again`() throws {
    let context = try SocketContext()
    let port = try ControlPort(listen: "ipc://\(folder)/f", insecure: false, incarnation: 5, context)
    let connection = try ControlConnection(to: port.endpoint, incarnation: 9, context)
    connection.send(.status, at: MonotonicClock.now)
    var peer: PeerID?
    #expect(
      turn { now in
        port.receive(at: now) { from, _, _ in
          peer = from
        } unreadable: { _, _ in
        }
      } until: {
        peer != nil
      })
    guard let peer else { return }
    #expect(port.hasTakenAll(peer))
    let before = Self.residentMiB
    for number in 0..<100_000 {
      port.send(.refused(reason: "answer \(number)"), to: peer, at: MonotonicClock.now)
      if number == 0 { #expect(!port.hasTakenAll(peer)) }
    }
    let remarks = port.takeRemarks()
    #expect(remarks.count == 1 && remarks[0].contains("was dropped: it has not read 4097 answers"))
    #expect(port.tick(at: MonotonicClock.now) == [peer] && port.isIdle)
    print("answers that nobody took: resident \(before) MiB before, \(Self.residentMiB) MiB after")
    // Its next message belongs to the old conversation; it learns that and repeats it.
    var restarts = 0, heard = 0
    #expect(
      turn { now in
        if restarts > 0, heard == 0 { connection.send(.status, at: now) }
        if restarts == 0 { connection.send(.status, at: now) }
        port.receive(at: now) { _, _, request in
          if restarts > 0, request == .status { heard += 1 }
        } unreadable: { _, _ in
        }
        port.tick(at: now)
        connection.receive(at: now) { _ in
        } restarted: {
          restarts += 1
        } unreadable: { _ in
        }
        connection.tick(at: now)
      } until: {
        heard > 0
      })
    #expect(restarts == 1)
  }

  @Test func `frames of nonsense, and frames that are almost valid, do not affect other clients`() throws {
    let words = ProcessInfo.processInfo.environment
    let count = words["RESS_FUZZ"].flatMap { Int($0) } ?? 5000
    let seed = words["RESS_SEED"].flatMap { UInt64($0) } ?? 1
    var random = Chance(seed: seed)
    let context = try SocketContext()
    // Without the rate limit, since packets over it are not even parsed.
    let rate = RateLimit.Rate(packetsPerSecond: 1e9, bytesPerSecond: 1e12, burstSeconds: 1)
    let port = try ControlPort(listen: "ipc://\(folder)/c", insecure: false, incarnation: 5, rate: rate, context)
    let data = try DataPort(listen: "ipc://\(folder)/d", insecure: false, context)
    func worker(_ endpoint: String) -> RosterEntry {
      RosterEntry(
        worker: WorkerDescription(
          name: "w", host: "h", process: 1, dataAddress: endpoint, threads: 1, fingerprint: "", program: ""),
        units: 0..<1, experts: [])
    }
    let assignment = Assignment(
      run: RunID(7), generation: 3, configuration: RunConfiguration(),
      roster: [worker(data.endpoint), worker("ipc://\(folder)/nobody")], index: 0, threads: 1, start: .fresh,
      firstStep: 0, folder: "")
    try data.open(assignment)
    let toPort = try Socket(.dealer, context), toData = try Socket(.dealer, context)
    try toPort.connect(port.endpoint)
    try toData.connect(data.endpoint)
    func changed(_ bytes: [UInt8]) -> [UInt8] {
      var bytes = bytes
      for _ in 0..<Int.random(in: 0...3, using: &random) where !bytes.isEmpty {
        let place = Int.random(in: 0..<bytes.count, using: &random)
        switch Int.random(in: 0..<3, using: &random) {
        case 0: bytes[place] ^= 1 << UInt8.random(in: 0..<8, using: &random)
        case 1: bytes.removeSubrange(place...)
        default: bytes[place] = UInt8.random(in: 0...255, using: &random)
        }
      }
      return bytes
    }
    let before = Self.residentMiB
    var said = 0, refused = 0
    func listen(_ now: Instant) {
      port.receive(at: now) { _, _, _ in
      } unreadable: { _, _ in
        refused += 1
      }
      port.tick(at: now)
      data.receive(at: now) { if case .repeated = $0 { refused += 1 } }
      data.tick(at: now)
    }
    for number in 0..<count {
      let incarnation: UInt64 = number % 2 == 0 ? random.next() | 1 : 3
      let header = LinkHeader(
        incarnation: incarnation, peer: 0, sequence: random.next() % 4, acknowledged: random.next() % 4,
        conversation: random.next() % 3, acknowledgedConversation: random.next() % 3, transmission: random.next() % 9,
        seen: random.next() % 9)
      let request: Request =
        number % 3 == 0 ? .follow(run: "r", after: Int(truncatingIfNeeded: random.next())) : .status
      let (step, part, parts) = (random.next() >> 32, random.next() >> 32, random.next() >> 32)
      let piece = DataHeader(
        phase: .mirror, sender: Int(random.next() % 3), .copy(step: Int(step), piece: Int(part), count: Int(parts)))
      let message = DataMessage(header: piece, payload: Payload(byteCount: Int(random.next() % 64)))
      let frames: [Frame] = [.bytes(changed(header.encoded())), .bytes(changed(ControlCodec.encode(request)))]
      let frame: [Frame] = [
        .bytes(changed(header.encoded())), .bytes(changed(message.encodedHeader())),
        .payload(message.payload, message.payload.bytes.indices),
      ]
      while !toPort.send(frames) { listen(MonotonicClock.now) }
      while !toData.send(frame) { listen(MonotonicClock.now) }
      said += 2
      if number % 256 == 0 { listen(MonotonicClock.now) }
    }
    let honest = try ControlConnection(to: port.endpoint, incarnation: 9, context)
    honest.send(.status, at: MonotonicClock.now)
    var isHeard = false
    #expect(
      turn { now in
        port.receive(at: now) { _, _, request in
          if request == .status { isHeard = true }
        } unreadable: { _, _ in
          refused += 1
        }
        port.tick(at: now)
        honest.tick(at: now)
      } until: {
        isHeard
      })
    print(
      "nonsense: \(said) messages from seed \(seed), \(refused) refused aloud, resident \(before) MiB before, "
        + "\(Self.residentMiB) MiB after")
    #expect(refused > 0)
    // Memory is compared only on request, because other tests of the process allocate too.
    #expect(words["RESS_FUZZ"] == nil || Self.residentMiB - before < 512)
  }
}
