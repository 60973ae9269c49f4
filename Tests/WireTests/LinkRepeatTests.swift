// When a link repeats a message: almost never over a slow line; after a loss, as soon as anything later arrives.

import Testing
import Wire

/// A line that keeps the order, needs time for each message, and drops those that it is told to drop.
private struct Wire {
  var a = ReliableLink<Int>(incarnation: 1, peer: 2)
  var b = ReliableLink<Int>(incarnation: 2, peer: 1)
  var now = Instant(nanoseconds: 0)
  let messageTime: Duration
  /// Numbers of the transmissions to drop, counted from 0.
  var drops: Set<Int> = []
  var transmissions = 0
  var delivered: [Int] = []
  private var free = Instant(nanoseconds: 0)
  private var underWay: [(at: Instant, packet: ReliableLink<Int>.Packet)] = []

  init(messageTime: Duration) { self.messageTime = messageTime }

  mutating func send(_ message: Int) { put(a.send(message, at: now)) }

  private mutating func put(_ packets: [ReliableLink<Int>.Packet]) {
    for packet in packets {
      free = max(free, now) + (packet.message == nil ? .zero : messageTime)
      if packet.message != nil { transmissions += 1 }
      if packet.message == nil || !drops.contains(transmissions - 1) { underWay.append((free, packet)) }
    }
  }

  /// Acknowledgements take no time.
  mutating func run(_ duration: Duration) {
    let end = now + duration
    while now < end {
      now = now + .milliseconds(1)
      while let first = underWay.first, first.at <= now {
        underWay.removeFirst()
        let (arrival, packets) = b.receive(first.packet.header, first.packet.message, at: now)
        if let message = arrival.delivered { delivered.append(message) }
        for packet in packets { put(a.receive(packet.header, packet.message, at: now).1) }
      }
      for packet in b.tick(at: now) { put(a.receive(packet.header, packet.message, at: now).1) }
      put(a.tick(at: now))
    }
  }
}

@Suite struct LinkRepeatTests {
  @Test func `ten messages of 40 MB over a gigabit link are sent hardly more than once`() {
    var wire = Wire(messageTime: .milliseconds(320))
    for message in 0..<10 { wire.send(message) }
    wire.run(.seconds(30))
    #expect(wire.delivered == Array(0..<10))
    #expect(wire.transmissions <= 12, "\(wire.transmissions) transmissions")
    #expect(wire.a.isIdle)
  }

  @Test func `a lost message is repeated as soon as a later one arrives, without waiting for the timer`() {
    var wire = Wire(messageTime: .microseconds(10))
    wire.drops = Set(40..<56)
    for message in 0..<200 { wire.send(message) }
    wire.run(.milliseconds(60))
    #expect(wire.delivered == Array(0..<200))
    // Everything from the first missing message on, once: the receiver keeps nothing that is out of order.
    #expect(wire.transmissions == 200 + 160)
  }

  @Test func `where the end of a burst is lost, one repeat after the timeout reveals all of it`() {
    var wire = Wire(messageTime: .microseconds(10))
    wire.drops = Set(40..<56)
    for message in 0..<56 { wire.send(message) }
    wire.run(.milliseconds(250))
    #expect(wire.delivered == Array(0..<40))
    wire.run(.milliseconds(150))
    #expect(wire.delivered == Array(0..<56))
    #expect(wire.transmissions == 56 + 16)
  }
}
