// A coordinator's socket under attack: random bytes, damaged packets and half messages from many connections, while a
// client talks.

import Configuration
import Daemon
import Foundation
import TestSupport
import Testing
import Transport
import Wire

@Suite(.serialized) final class LivePortTests {
  private let folder = NSTemporaryDirectory() + "ress-fire-" + UUID().uuidString.prefix(8)

  init() throws { try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true) }
  deinit { try? FileManager.default.removeItem(atPath: folder) }

  @Test func `a coordinator answers its clients while others send it random bytes and damaged messages`() throws {
    let daemon = try CoordinatorDaemon(.init(listen: "ipc://\(folder)/c", program: "ress test"))
    daemon.start()
    defer { daemon.stop() }
    var configuration = RunConfiguration()
    configuration.data.path = "none.h5"
    configuration.checkpoint.directory = folder
    let client = try CoordinatorClient(daemon.endpoint)
    let run = try client.submit(Submission(configuration: configuration, resume: .no)).run

    let worker = WorkerDescription(
      name: "w", host: "h", process: 1, dataAddress: "ipc:///w", threads: 1, fingerprint: "F", program: "ress test")
    let honest =
      ([
        .hello(worker, Heartbeat()), .heartbeat(Heartbeat()), .status, .follow(run: run.description, after: 0),
        .report(generation: 1, number: 1, .finished),
      ] as [Request]).map { ControlCodec.encode($0) }
    let context = try SocketContext()
    var random = Chance("a coordinator under fire")
    for connection in 0..<20 {
      let vandal = try Socket(.dealer, context)
      try vandal.connect(daemon.endpoint)
      for number in 1...150 {
        var message = honest.randomElement(using: &random)!
        for _ in 0..<Int.random(in: 0...4, using: &random) {
          message[Int.random(in: 0..<message.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
        }
        if Bool.random(using: &random) { message.removeLast(Int.random(in: 0..<message.count, using: &random)) }
        var header = LinkHeader(
          incarnation: UInt64(connection + 2), peer: 0, sequence: UInt64(number), acknowledged: 0
        ).encoded()
        if Int.random(in: 0..<4, using: &random) == 0 {
          header[Int.random(in: 0..<header.count, using: &random)] ^= 1 << UInt8.random(in: 0..<8, using: &random)
        }
        let noise = (0..<Int.random(in: 0..<300, using: &random)).map { _ in UInt8.random(in: 0...255, using: &random) }
        let frames: [Frame] =
          [
            [.bytes(header), .bytes(message)], [.bytes(noise)], [.bytes(header)], [.bytes(header), .bytes(noise)],
            [.bytes(header), .bytes(message), .bytes(noise)],
          ].randomElement(using: &random)!
        _ = vandal.send(frames)
      }
      // In the thick of it.
      #expect(try client.status().runs.map(\.id) == [run])
    }
    #expect(try client.change(run.description, .cancel).isEmpty == false)
  }
}
