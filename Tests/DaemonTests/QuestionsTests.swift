// Requests that cost much to answer: they are answered in turns, so a process that sends a thousand delays no other.

import Configuration
import Daemon
import Foundation
import Testing
import Transport
import Wire

@Suite(.serialized) final class QuestionsTests {
  private let folder = NSTemporaryDirectory() + "ress-questions-" + UUID().uuidString.prefix(8)

  init() throws { try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true) }
  deinit { try? FileManager.default.removeItem(atPath: folder) }

  private func page(_ after: Int) -> Questions.Question { .page(RunID(1), after: after, count: 9, ended: false) }

  @Test func `a peer is answered in its order, one answer at a time, and asks no more than has room`() {
    var questions = Questions()
    let flooder = PeerID("flooder"), other = PeerID("other")
    for number in 0..<10_000 { questions.ask(page(number), flooder, of: nil) }
    questions.ask(.status, other, of: nil)
    // Who has not taken the answer before is passed over.
    #expect(!questions.isDue { _ in false } && questions.next { _ in false } == nil)
    #expect(questions.next { $0 == other }?.question == .status)
    var answered: [Questions.Question] = []
    while let next = questions.next({ _ in true }) { answered.append(next.question) }
    #expect(answered == (0..<Questions.waitingLimit).map { page($0) })
    questions.ask(page(0), flooder, of: nil)
    questions.forget(flooder)
    #expect(!questions.isDue { _ in true })
  }

  @Test func `keys take turns, however many processes one has`() throws {
    var questions = Questions()
    let crowd = try KeyPair.make().publicKey, single = try KeyPair.make().publicKey
    for number in 0..<100 {
      for _ in 0..<5 { questions.ask(.status, PeerID("crowd-\(number)"), of: crowd) }
    }
    for _ in 0..<20 { questions.ask(.status, PeerID("single"), of: single) }
    var places: [Int] = [], peers: Set<PeerID> = []
    for place in 0..<40 {
      guard let next = questions.next({ _ in true }) else { break }
      if next.peer == PeerID("single") { places.append(place) } else { peers.insert(next.peer) }
    }
    #expect(places.count == 20 && peers.count == 20, "\(places) \(peers.count)")
  }

  @Test func `a flood of expensive requests does not delay others, and is answered one page at a time`() throws {
    let daemon = try CoordinatorDaemon(.init(listen: "ipc://\(folder)/c", program: "ress test"))
    daemon.start()
    defer { daemon.stop() }
    let honest = try CoordinatorClient(daemon.endpoint, patienceSeconds: 60)
    var configuration = RunConfiguration()
    configuration.run = "long"
    configuration.data.path = "/none/d.h5"
    configuration.checkpoint.directory = folder + "/checkpoints"
    _ = try honest.submit(Submission(configuration: configuration, resume: .no))
    _ = try honest.change("long", .cancel)
    let context = try SocketContext()
    let flooder = try ControlConnection(to: daemon.endpoint, incarnation: 77, context)
    for _ in 0..<2500 { flooder.send(.follow(run: "long", after: 0), at: MonotonicClock.now) }
    var pages = 0, others = 0
    let deadline = MonotonicClock.now + .seconds(60)
    // Until all it has said was heard: the honest one is answered in between.
    while !flooder.isIdle, MonotonicClock.now < deadline {
      let now = MonotonicClock.now
      flooder.receive(at: now) { reply in
        if case .events = reply { pages += 1 } else { others += 1 }
      } restarted: {
      } unreadable: { _ in
      }
      flooder.tick(at: now)
      #expect(try honest.status().runs.map(\.name) == ["long"])
      usleep(1000)
    }
    #expect(flooder.isIdle && others == 0)
    var count = 0
    try honest.story("long") { _ in count += 1 }
    #expect(count > 2)
    print("2,500 questions for a page: \(pages) pages were answered meanwhile")
    #expect(pages < 2500)
  }
}
