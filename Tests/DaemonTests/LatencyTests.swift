// How long rows take from one training thread to another and back, through both network threads. Figures, not verdicts:
// the machine may be busy. What is checked is that every round trip brings back its own bytes.

import Configuration
import Daemon
import Foundation
import Testing
import Transport
import Wire
import Worker

@Suite(.serialized) final class LatencyTests {
  private let folder = NSTemporaryDirectory() + "ress-latency-" + UUID().uuidString.prefix(8)
  private static let roundTrips = 400

  init() throws { try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true) }
  deinit { try? FileManager.default.removeItem(atPath: folder) }

  @Test(arguments: ["ipc", "tcp"])
  func `rows of 64 KiB return unchanged, and the log contains the speed`(transport: String) throws {
    let daemon = try CoordinatorDaemon(.init(listen: "ipc://\(folder)/c", program: "ress test"))
    daemon.start()
    defer { daemon.stop() }
    let workers = try (0..<2).map { index in
      try WorkerNetwork(
        .init(
          coordinator: daemon.endpoint,
          listen: transport == "ipc" ? "ipc://\(folder)/\(index)" : "tcp://127.0.0.1:*",
          description: WorkerDescription(
            name: "w\(index)", host: "h", process: index, dataAddress: "", threads: 1, fingerprint: "F",
            program: "ress test")))
    }
    for worker in workers { worker.start() }
    defer { for worker in workers { worker.close(reason: "done") } }
    var configuration = RunConfiguration()
    configuration.run = "latency"
    configuration.cluster.workers = 2
    configuration.checkpoint.directory = folder
    configuration.data.path = "none.h5"
    _ = try CoordinatorClient(daemon.endpoint).submit(Submission(configuration: configuration, resume: .no))

    let echo = Thread {
      // Rows of a peer that was told to begin first may come before the begin.
      var early: [DataMessage] = []
      guard let peer = Self.begin(workers[1], early: &early) else { return }
      for _ in 0..<Self.roundTrips {
        guard let message = early.isEmpty ? Self.receive(workers[1]) : early.removeFirst() else { return }
        var answer = message
        answer.header.sender = UInt16(1 - peer)
        workers[1].send(answer, to: peer)
      }
    }
    echo.start()
    var none: [DataMessage] = []
    guard let peer = Self.begin(workers[0], early: &none) else {
      Issue.record("the run did not begin")
      return
    }
    var microseconds: [Double] = []
    for round in 0..<Self.roundTrips {
      let payload = Payload(byteCount: 64 << 10)
      memset(payload.bytes.baseAddress!, Int32(round & 255), payload.bytes.count)
      let begun = MonotonicClock.now
      workers[0].send(
        DataMessage(
          header: DataHeader(
            phase: .dispatchForward, sender: 1 - peer, .site(unit: 0, sequence: 0, segment: 0, recurrence: 0)),
          payload: payload), to: peer)
      guard let back = Self.receive(workers[0]) else {
        Issue.record("round \(round) did not return")
        return
      }
      microseconds.append((MonotonicClock.now - begun).inSeconds * 1e6)
      #expect(back.payload.array == payload.array)
    }
    microseconds.sort()
    let (median, worst) = (microseconds[microseconds.count / 2], microseconds[microseconds.count * 99 / 100])
    print("64 KiB there and back over \(transport): median \(Int(median)) µs, 99 of 100 within \(Int(worst)) µs")
  }

  /// Reports ready and waits for the begin. Returns the other worker's place in the roster.
  private static func begin(_ worker: WorkerNetwork, early: inout [DataMessage]) -> Int? {
    var peer: Int?
    while let event = worker.next(timeout: .seconds(200)) {
      switch event {
      case .assigned(let assignment):
        peer = 1 - assignment.index
        worker.note(Heartbeat(generation: assignment.generation))
        worker.report(.ready, generation: assignment.generation)
      case .begin: return peer
      case .data(let message): early.append(message)
      case .stop, .halt, .exit: return nil
      }
    }
    return nil
  }

  private static func receive(_ worker: WorkerNetwork) -> DataMessage? {
    guard case .data(let message)? = worker.next(timeout: .seconds(200)) else { return nil }
    return message
  }
}
