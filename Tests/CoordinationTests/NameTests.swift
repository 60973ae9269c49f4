// Which run and which worker a name means, and who may use it.

import Configuration
import Coordination
import Testing
import Wire

@Suite struct NameTests {
  private func key(_ byte: UInt8) -> PublicKey {
    PublicKey(text: String(repeating: String(UnicodeScalar(byte)), count: 40))
  }

  @Test func `a run cannot take the identifier of another as its name, and an identifier comes before a name`() {
    var cluster = Cluster()
    var first = Cluster.submission("first")
    first.owner = key(65)
    let run = cluster.submit(first)!
    cluster.say(.submit(Cluster.submission(run.description)), from: Cluster.client)
    #expect(
      cluster.refusals.last
        == "'\(run)' is the identifier of run first; choose another name with --set run=NAME")
    #expect(cluster.coordinator.owner(of: run.description) == first.owner)
    cluster.say(.change(run: run.description, .cancel), from: Cluster.client)
    #expect(cluster.story(of: run).last!.0 == .cancelled)
  }

  @Test func `who may change a run is judged by the run that is changed, whatever name it is called by`() {
    var cluster = Cluster()
    var older = Cluster.submission("same")
    older.owner = key(65)
    let first = cluster.submit(older)!
    cluster.say(.change(run: "same", .cancel), from: Cluster.client)
    var newer = Cluster.submission("same")
    newer.owner = key(66)
    let second = cluster.submit(newer)!
    #expect(first != second && cluster.coordinator.owner(of: "same") == newer.owner)
    #expect(cluster.coordinator.owner(of: first.description) == older.owner)
    cluster.say(.change(run: "same", .cancel), from: Cluster.client)
    #expect(cluster.story(of: second).last!.0 == .cancelled)
  }

  @Test func `a key belongs to one submission: with another name or other numbers it is refused, and named`() {
    var cluster = Cluster()
    var submission = Cluster.submission("first")
    submission.key = "K"
    let run = cluster.submit(submission)!
    submission.configuration.run = "second"
    cluster.say(.submit(submission), from: Cluster.client)
    #expect(
      cluster.refusals.last
        == "the key 'K' belongs to the submission of run first (\(run)), which has another name; another run needs another --key"
    )
    submission.configuration.run = "first"
    submission.configuration.training.seed += 1
    cluster.say(.submit(submission), from: Cluster.client)
    #expect(cluster.refusals.last?.contains("which has another configuration") == true)
    #expect(cluster.events.count == 1)
  }

  @Test func `the same key of another user is another submission`() {
    var cluster = Cluster()
    var submission = Cluster.submission("first")
    (submission.key, submission.owner) = ("K", key(65))
    let first = cluster.submit(submission)!
    submission.configuration.run = "second"
    submission.owner = key(66)
    #expect(cluster.submit(submission)! != first)
  }

  @Test func `a worker of another version is refused, and both versions are named`() {
    var cluster = Cluster()
    var worker = Cluster.worker("old")
    worker.program = "ress 0.0.1"
    cluster.say(.hello(worker, Heartbeat()), from: PeerID("peer-old"))
    #expect(
      cluster.sent[PeerID("peer-old")] == [
        .refused(
          reason:
            "worker old is ress 0.0.1, and this coordinator is ress test: all programs of a cluster have one version")
      ])
    cluster.submit(Cluster.submission(workers: 1))
    #expect(cluster.story.last!.1 == "waits for 1 worker; none is free")
  }

  @Test func `the name of a worker belongs to its key, also while a run counts on it and it is not there`() {
    var cluster = Cluster()
    func hello(_ peer: String, _ key: PublicKey, _ incarnation: UInt64) {
      var worker = Cluster.worker("w0")
      (worker.publicKey, worker.incarnation) = (key, incarnation)
      cluster.say(.hello(worker, Heartbeat()), from: PeerID(peer))
    }
    let refusal = Reply.refused(
      reason: "the name w0 belongs to a worker with another key; give this one another with --name")
    hello("own", key(65), 1)
    hello("thief", key(66), 2)
    #expect(cluster.sent[PeerID("thief")] == [refusal])
    cluster.submit(Cluster.submission(workers: 1))
    cluster.report(.ready, from: PeerID("own"))
    #expect(cluster.story.last!.0 == .running)
    // The coordinator starts anew: the worker has not been heard yet, but a run counts on it.
    cluster.restartCoordinator()
    hello("thief", key(66), 2)
    #expect(cluster.sent[PeerID("thief")] == [refusal, refusal])
    // The same key may start its worker again.
    hello("again", key(65), 3)
    #expect(cluster.sent[PeerID("again")]?.contains { if case .refused = $0 { true } else { false } } == false)
  }
}
