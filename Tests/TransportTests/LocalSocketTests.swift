// Which address a worker uses for a peer, and messages between workers of one machine that listen at network addresses.

import Configuration
import Foundation
import Testing
import Transport
import Wire

@Suite struct LocalSocketTests {
  private func worker(machine: UInt64?, local: String?, address: String = "tcp://10.0.0.1:7000") -> WorkerDescription {
    var worker = WorkerDescription(
      name: "w", host: "h", process: 1, dataAddress: address, threads: 1, fingerprint: "", program: "")
    (worker.machine, worker.localAddress) = (machine, local)
    return worker
  }

  @Test func `a Unix socket is used where both workers are on one machine, the peer listens there, and it is allowed`()
  {
    let own = worker(machine: 7, local: nil)
    func address(_ peer: WorkerDescription, _ way: SameMachine = .messages, listens: Bool = true) -> String {
      LocalSocket.address(of: peer, from: own, way) { _ in listens }
    }
    let name = LocalSocket.prefix + "1f", network = "tcp://10.0.0.1:7000"
    let peer = worker(machine: 7, local: name)
    #expect(address(peer) == name && address(peer, .memory) == name)
    #expect(address(peer, .network) == network)
    #expect(address(peer, listens: false) == network, "a copy of the machine")
    #expect(address(worker(machine: 8, local: name)) == network)
    #expect(address(worker(machine: nil, local: name)) == network)
    #expect(address(worker(machine: 7, local: nil)) == network)
    // A path of another process's choice is not used.
    #expect(address(worker(machine: 7, local: "ipc:///tmp/x")) == network)
    let unknown = worker(machine: nil, local: nil)
    #expect(
      LocalSocket.address(of: worker(machine: nil, local: name), from: unknown, .memory) { _ in true } == network)
  }

  @Test func `a worker may have a second address, and need not have one`() {
    func problem(_ local: String?) -> String? {
      var worker = worker(machine: 7, local: local)
      (worker.fingerprint, worker.sharedMemory) = ("f", 5)
      return Request.hello(worker, Heartbeat()).problem
    }
    #expect(problem(nil) == nil && problem(LocalSocket.prefix + "1f") == nil)
    #expect(problem("") != nil && problem(String(repeating: "x", count: 5000)) != nil)
  }

  @Test func `an abstract name is listened at until its worker ends, and no file is left`() throws {
    #expect(MachineIdentity.current != nil && MachineIdentity.current == MachineIdentity.current)
    var name: String?
    do {
      let port = try DataPort(listen: "tcp://127.0.0.1:*", insecure: false, SocketContext())
      name = port.localEndpoint
      withExtendedLifetime(port) {
        #expect(name?.hasPrefix(LocalSocket.prefix) == true && LocalSocket.isListening(name!))
      }
    }
    #expect(!LocalSocket.isListening(try #require(name)))
    #expect(!LocalSocket.isListening("ipc://@" + String(repeating: "x", count: 200)))
  }

  @Test func `a worker that listens at a Unix socket has no second address`() throws {
    let path = NSTemporaryDirectory() + "ress-local-\(UUID().uuidString.prefix(8))"
    let port = try DataPort(listen: "ipc://\(path)", insecure: false, SocketContext())
    #expect(port.localEndpoint == nil && port.endpoint == "ipc://\(path)")
    try FileManager.default.removeItem(atPath: path)
  }

  @Test(arguments: [false, true], [SameMachine.messages, .network])
  func `messages arrive over the Unix socket and over the network, with keys and without`(
    hasKeys: Bool, way: SameMachine
  ) throws {
    let keys = try hasKeys ? [KeyPair.make(), KeyPair.make()] : []
    let ports = try (0..<2).map {
      try DataPort(
        listen: "tcp://127.0.0.1:*", insecure: false, keys: hasKeys ? keys[$0] : nil, SocketContext())
    }
    var configuration = RunConfiguration()
    configuration.cluster.sameMachine = way
    let roster = ports.enumerated().map { index, port in
      // Nothing listens at the other address, so a message arrives only over the one that is meant.
      var member = worker(
        machine: 7, local: way == .messages ? port.localEndpoint : LocalSocket.prefix + "none",
        address: way == .messages ? "tcp://127.0.0.1:9" : port.endpoint)
      if hasKeys { member.publicKey = keys[index].publicKey }
      return RosterEntry(worker: member, units: 0..<1, experts: [])
    }
    for (index, port) in ports.enumerated() {
      try port.open(
        Assignment(
          run: RunID(7), generation: 1, configuration: configuration, roster: roster, index: index, threads: 1,
          start: .fresh, firstStep: 0, folder: ""))
    }
    let payload = Payload(byteCount: 5 << 20)
    for index in payload.bytes.indices { payload.bytes[index] = UInt8(truncatingIfNeeded: index &* 31) }
    let header = DataHeader(phase: .gradient, sender: 0, .node(level: 0, index: 0, part: 0))
    ports[0].send(DataMessage(header: header, payload: payload), to: 1, at: MonotonicClock.now)
    var arrived: DataMessage?
    let deadline = MonotonicClock.now + .seconds(60)
    while arrived == nil, MonotonicClock.now < deadline {
      Poller.wait(ports.flatMap(\.sockets), nil, timeoutMilliseconds: 10)
      let now = MonotonicClock.now
      for port in ports {
        port.receive(at: now) { if case .message(let message) = $0 { arrived = message } }
        port.tick(at: now)
      }
    }
    #expect(arrived?.payload.array == payload.array)
  }
}
