// The network of a simulation. A turn lasts 40 ms.

import Configuration
import Coordination
import Wire

extension Simulation {
  mutating func turn() {
    if let back = coordinatorBack, back <= now { startCoordinator() }
    if let until = coordinatorStoppedUntil, until <= now {
      coordinatorStoppedUntil = nil
      let events = waitingEvents
      waitingEvents = []
      // The clock first: it is a thread of its own that reads the sockets.
      coordinate(.tick)
      for event in events { coordinate(event) }
      // A connection keeps the order.
      let packets = waitingPackets
      waitingPackets = []
      for packet in packets { deliver(packet) }
    }
    let due = packets.filter { $0.at <= now }.sorted { $0.at < $1.at }
    packets.removeAll { $0.at <= now }
    for packet in due { deliver(packet) }
    for peer in processes.keys.sorted() {
      guard var process = processes[peer], !process.exited, process.frozenUntil <= now else { continue }
      var heartbeat = Heartbeat(generation: process.assignment?.generation ?? 0, step: process.step)
      heartbeat.hasBegun = process.hasBegun
      heartbeat.held = process.held
      process.progress += 1
      heartbeat.progress = process.progress
      for effect in process.session.tick(heartbeat, at: now) { apply(effect, &process, peer) }
      work(&process, peer)
      for sending in process.link.tick(at: now) { carry(sending, peer, toCoordinator: true) }
      processes[peer] = process
    }
    let finished = disk.filter { $0.at <= now }
    disk.removeAll { $0.at <= now }
    for (_, birth, event) in finished {
      if case .committed(let run, let step, _) = event { committed[run, default: []].insert(step) }
      if birth == coordinatorBirths, coordinator != nil { coordinate(event) }
    }
    guard coordinatorStoppedUntil == nil else { return }
    if coordinator != nil { coordinate(.tick) }
    for peer in links.keys.sorted() {
      let due = links[peer]!.tick(at: now)
      for sending in due { carry(sending, peer, toCoordinator: false) }
    }
  }

  mutating func deliver(_ packet: Packet) {
    if packet.toCoordinator {
      guard coordinator != nil else { return }
      if coordinatorStoppedUntil != nil { return waitingPackets.append(packet) }
      var link = links[packet.peer] ?? ReliableLink(incarnation: coordinatorBirths)
      let (arrival, answers) = link.receive(packet.header, packet.message, at: now)
      links[packet.peer] = link
      for sending in answers { carry(sending, packet.peer, toCoordinator: false) }
      if case .request(let request)? = arrival.delivered { coordinate(.received(packet.peer, request)) }
    } else if var process = processes[packet.peer], !process.exited, process.frozenUntil <= now {
      let (arrival, answers) = process.link.receive(packet.header, packet.message, at: now)
      for sending in answers { carry(sending, packet.peer, toCoordinator: true) }
      if arrival.peerRestarted {
        for effect in process.session.coordinatorRestarted(at: now) { apply(effect, &process, packet.peer) }
      }
      if case .reply(let reply)? = arrival.delivered {
        for effect in process.session.receive(reply, at: now) { apply(effect, &process, packet.peer) }
      }
      processes[packet.peer] = process
    }
  }

  mutating func carry(_ packet: ReliableLink<SimulatedMessage>.Packet, _ peer: PeerID, toCoordinator: Bool) {
    guard !draw.chance(loss) else { return }
    for _ in 0..<(draw.chance(50) ? 2 : 1) {
      packets.append(
        Packet(
          at: now + .milliseconds(1 + draw.below(90)), peer: peer, toCoordinator: toCoordinator, header: packet.header,
          message: packet.message))
    }
  }
}
