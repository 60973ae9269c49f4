// The rate limit, and that nothing is lost through it.

import Foundation
import Testing
import Transport
import Wire

@Suite struct `Rates` {
  private let second = Duration.seconds(1)

  /// How many of `count` packets are admitted.
  private func passing(_ limit: inout RateLimit, _ count: Int, byteCount: Int = 1, at now: Instant) -> Int {
    var passed = 0
    for _ in 0..<count where limit.admits(byteCount: byteCount, at: now) { passed += 1 }
    return passed
  }

  @Test func `a burst is admitted, then as much as the rate permits`() {
    let start = MonotonicClock.now
    var limit = RateLimit(.init(packetsPerSecond: 10, bytesPerSecond: 1e9, burstSeconds: 2), at: start)
    let passed = [start, start + second, start + second * 100, start].map { passing(&limit, 30, at: $0) }
    // At most one burst is saved up, and a clock that runs backwards adds nothing.
    #expect(passed == [20, 10, 20, 0])
  }

  @Test func `bytes are limited like packets, and no size is excluded`() {
    let start = MonotonicClock.now
    var limit = RateLimit(.init(packetsPerSecond: 1e6, bytesPerSecond: 100, burstSeconds: 1), at: start)
    // The first packet overdraws.
    let passed =
      [passing(&limit, 2, byteCount: 1000, at: start)] + [8, 10].map { passing(&limit, 1, at: start + second * $0) }
    #expect(passed == [1, 0, 1])
  }

  @Test func `a client that sends too fast is slowed, loses nothing, and delays no other client`() throws {
    let folder = NSTemporaryDirectory() + "ress-rate-" + UUID().uuidString.prefix(8)
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let context = try SocketContext()
    let port = try ControlPort(
      listen: "ipc://\(folder)/c", insecure: false, incarnation: 5,
      rate: .init(packetsPerSecond: 100, bytesPerSecond: 1e6, burstSeconds: 0.5), context)
    let hasty = try ControlConnection(to: port.endpoint, incarnation: 9, context)
    let calm = try ControlConnection(to: port.endpoint, incarnation: 11, context)
    for index in 0..<200 { hasty.send(.follow(run: "hasty", after: index), at: MonotonicClock.now) }
    calm.send(.follow(run: "calm", after: 0), at: MonotonicClock.now)
    var heard: [Int] = [], before: Int?
    var scolded: [String] = []
    let begun = MonotonicClock.now
    while heard.count < 200, MonotonicClock.now < begun + .seconds(600) {
      let now = MonotonicClock.now
      port.receive(at: now) { _, _, request in
        guard case .follow(let run, let after) = request else { return }
        if run == "calm" { before = heard.count } else { heard.append(after) }
      } unreadable: { _, error in
        scolded.append("\(error)")
      }
      port.tick(at: now)
      for connection in [hasty, calm] {
        connection.receive(at: now) { _ in
        } restarted: {
        } unreadable: { _ in
        }
        connection.tick(at: now)
      }
      usleep(1000)
    }
    #expect(heard == Array(0..<200), "once, and in order")
    #expect(try #require(before) < 200, "the other was heard meanwhile")
    // Reported once in ten seconds, however often it happens.
    let most = 1 + Int((MonotonicClock.now - begun).inSeconds / 10)
    #expect(
      scolded.first == "a packet was dropped: it sends more than 100 packets a second" && scolded.count <= most,
      "\(scolded)")
  }
}
