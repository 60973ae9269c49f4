// The link over a network that loses, duplicates, delays and reorders packets, and between processes that restart.
// What is delivered must be each message once and in order, and everything must arrive when the network works
// again. A failing seed reproduces its failure.

import TestSupport
import Testing
import Wire

/// Two ends, and the packets in transit between them, driven by one seed.
private struct Network {
  struct Flight {
    var at: Instant
    var toB: Bool
    var packet: ReliableLink<Int>.Packet
  }

  var random: Chance
  var now = Instant(nanoseconds: 0)
  var a: ReliableLink<Int>
  var b: ReliableLink<Int>
  var inFlight: [Flight] = []
  var receivedByB: [Int] = []
  var receivedByA: [Int] = []
  var restarts = 0
  /// Probabilities, per thousand.
  var loss: Int
  var doubling: Int
  var cutUntil = Instant(nanoseconds: 0)

  init(seed: UInt64) {
    random = Chance(seed: seed)
    a = ReliableLink(incarnation: 11)
    b = ReliableLink(incarnation: 22)
    loss = random.below(400)
    doubling = random.below(200)
  }

  mutating func carry(_ packets: [ReliableLink<Int>.Packet], toB: Bool) {
    for packet in packets {
      guard now >= cutUntil, random.below(1000) >= loss else { continue }
      for _ in 0..<(random.below(1000) < doubling ? 2 : 1) {
        let delay = Duration.microseconds(random.below(100_000))
        inFlight.append(Flight(at: now + delay, toB: toB, packet: packet))
      }
    }
  }

  mutating func send(_ message: Int, fromA: Bool) {
    if fromA { carry(a.send(message, at: now), toB: true) } else { carry(b.send(message, at: now), toB: false) }
  }

  /// Advances time by a few milliseconds, and processes what is due.
  mutating func advance() {
    now = now + .milliseconds(1 + random.below(20))
    let due = inFlight.filter { $0.at <= now }.sorted { $0.at < $1.at }
    inFlight.removeAll { $0.at <= now }
    for flight in due {
      if flight.toB {
        let (arrival, packets) = b.receive(flight.packet.header, flight.packet.message, at: now)
        if let message = arrival.delivered { receivedByB.append(message) }
        carry(packets, toB: false)
      } else {
        let (arrival, packets) = a.receive(flight.packet.header, flight.packet.message, at: now)
        if let message = arrival.delivered { receivedByA.append(message) }
        if arrival.peerRestarted { restarts += 1 }
        carry(packets, toB: true)
      }
    }
    carry(a.tick(at: now), toB: true)
    carry(b.tick(at: now), toB: false)
  }

  /// Runs with a working network until nothing is waiting.
  mutating func heal() {
    loss = 0
    doubling = 0
    cutUntil = now
    for _ in 0..<20_000 {
      advance()
      if a.isIdle && b.isIdle && inFlight.isEmpty { return }
    }
  }
}

extension Chance {
  fileprivate mutating func below(_ limit: Int) -> Int { Int(next() % UInt64(limit)) }
}

@Suite struct ReliableLinkTests {
  @Test func `messages arrive once and in order despite loss, duplication, reordering and cuts, on 3,000 seeds`() {
    for seed in UInt64(1)...3000 {
      var network = Network(seed: seed)
      var sentByA: [Int] = [], sentByB: [Int] = []
      for turn in 0..<60 {
        for _ in 0..<network.random.below(4) {
          let fromA = network.random.below(2) == 0
          network.send(turn * 10 + (fromA ? 1 : 2), fromA: fromA)
          if fromA { sentByA.append(turn * 10 + 1) } else { sentByB.append(turn * 10 + 2) }
        }
        if network.random.below(30) == 0 {
          network.cutUntil = network.now + .milliseconds(network.random.below(3000))
        }
        network.advance()
        // At every moment, what has arrived is a prefix of what was sent.
        guard network.receivedByB == Array(sentByA.prefix(network.receivedByB.count)),
          network.receivedByA == Array(sentByB.prefix(network.receivedByA.count))
        else {
          Issue.record("seed \(seed): order or count is wrong")
          return
        }
      }
      network.heal()
      guard network.receivedByB == sentByA && network.receivedByA == sentByB else {
        Issue.record("seed \(seed): \(network.receivedByB.count) of \(sentByA.count) arrived")
        return
      }
    }
  }

  @Test
  func
    `a restarted process is noticed, and gets all new messages and no old ones, on 1,000 seeds`()
  {
    for seed in UInt64(1)...1000 {
      var network = Network(seed: seed)
      for message in 0..<20 {
        network.send(message, fromA: true)
        network.send(message, fromA: false)
        network.advance()
      }
      // B restarts. Packets from and to the old B are still in transit.
      network.b = ReliableLink(incarnation: 33)
      network.receivedByB = []
      network.send(7_000, fromA: false)
      for _ in 0..<50 { network.advance() }
      network.heal()
      for message in 100..<120 { network.send(message, fromA: true) }
      network.heal()
      guard network.restarts == 1, network.receivedByA.last == 7_000,
        network.receivedByB.suffix(20) == Array(100..<120)[...]
      else {
        Issue.record(
          "seed \(seed): \(network.restarts) restarts, \(network.receivedByA.suffix(2)), \(network.receivedByB.suffix(3))"
        )
        return
      }
      // What the old B never acknowledged is lost, and nothing arrives twice.
      #expect(Set(network.receivedByB).count == network.receivedByB.count, "seed \(seed)")
    }
  }

  @Test func `no more than the window is in flight, and the rest follows as acknowledgements arrive`() {
    var a = ReliableLink<Int>(incarnation: 1)
    var b = ReliableLink<Int>(incarnation: 2)
    let now = Instant(nanoseconds: 0)
    let total = ReliableLink<Int>.window + 100
    var packets = (0..<total).flatMap { a.send($0, at: now) }
    #expect(packets.count == ReliableLink<Int>.window)
    var received: [Int] = []
    while !packets.isEmpty {
      for packet in packets {
        if let message = b.receive(packet.header, packet.message, at: now).0.delivered { received.append(message) }
      }
      let answers = b.tick(at: now + .seconds(1))
      packets = answers.flatMap { a.receive($0.header, nil, at: now).1 }
    }
    #expect(received == Array(0..<total))
  }

  @Test func `a link with a fixed peer drops the packets of any other incarnation`() {
    var sender = ReliableLink<Int>(incarnation: 5, peer: 9)
    var old = ReliableLink<Int>(incarnation: 6, peer: 9)
    var receiver = ReliableLink<Int>(incarnation: 9, peer: 5)
    let now = Instant(nanoseconds: 0)
    let stale = old.send(1, at: now)[0]
    let fresh = sender.send(2, at: now)[0]
    #expect(receiver.receive(stale.header, stale.message, at: now).0.delivered == nil)
    #expect(receiver.receive(fresh.header, fresh.message, at: now).0.delivered == 2)
  }

  @Test func `a flipped bit in a link header is never accepted`() throws {
    let bytes = LinkHeader(incarnation: 77, peer: 5, sequence: 9, acknowledged: 3).encoded()
    #expect(try LinkHeader(bytes).sequence == 9)
    for bit in 0..<bytes.count * 8 {
      var damaged = bytes
      damaged[bit / 8] ^= 1 << (bit % 8)
      #expect(throws: WireError.self) { try LinkHeader(damaged) }
    }
    for count in 0..<bytes.count { #expect(throws: WireError.self) { try LinkHeader(Array(bytes[..<count])) } }
  }

  @Test func `bytes in flight are limited, and waiting ones are counted`() {
    let now = Instant(nanoseconds: 0)
    let size = ReliableLink<Int>.windowBytes / 4
    var a = ReliableLink<Int>(incarnation: 1, peer: 2) { $0 }
    var b = ReliableLink<Int>(incarnation: 2, peer: 1) { $0 }
    var sent: [ReliableLink<Int>.Packet] = []
    for _ in 0..<10 { sent += a.send(size, at: now) }
    #expect(sent.count == 4 && a.waitingBytes == 10 * size && a.unacknowledgedCount == 10)
    var delivered = 0
    while !sent.isEmpty {
      let packet = sent.removeFirst()
      let (arrival, _) = b.receive(packet.header, packet.message, at: now)
      delivered += arrival.delivered == nil ? 0 : 1
      for answer in b.tick(at: now + .seconds(1)) { sent += a.receive(answer.header, answer.message, at: now).1 }
    }
    #expect(delivered == 10 && a.waitingBytes == 0)
    // A single message that is larger than the window is sent nevertheless.
    #expect(a.send(2 * ReliableLink<Int>.windowBytes, at: now).count == 1 && a.send(1, at: now).isEmpty)
  }
}
