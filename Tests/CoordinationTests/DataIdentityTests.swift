// Which dataset a run reads, and what becomes of a worker that finds another one.

import Configuration
import Coordination
import Testing
import Wire

@Suite struct `The dataset of a run` {
  private let right = DataIdentity(dataset: "sha256:aaaaaaaaaaaaaaaa", tokenizer: "tttttttttttttttt")
  private let wrong = DataIdentity(dataset: "sha256:bbbbbbbbbbbbbbbb", tokenizer: "tttttttttttttttt")
  private let foreign = DataIdentity(dataset: "sha256:bbbbbbbbbbbbbbbb", tokenizer: "uuuuuuuuuuuuuuuu")

  private func start(
    _ found: [DataIdentity], minimum: Int = 1, checkpoint: DataIdentity? = nil, acceptsOther: Bool? = nil,
    proof: StepMark? = nil
  ) -> (Cluster, RunID, [PeerID]) {
    var cluster = Cluster()
    let workers = found.indices.map { cluster.join("w\($0)") }
    var submission = Cluster.submission(workers: found.count, minimum: minimum)
    if checkpoint != nil { submission.resume = .newest }
    submission.acceptsOtherData = acceptsOther
    cluster.say(.submit(submission), from: Cluster.client)
    let run = cluster.preparations.last!.0
    cluster.step(
      .prepared(
        run,
        .ready(
          .init(
            folder: "/runs/run", checkpoint: checkpoint == nil ? nil : "/c", firstStep: checkpoint == nil ? 0 : 5,
            proof: proof,
            notes: [], data: checkpoint))))
    for (worker, data) in zip(workers, found) { cluster.report(.reads(data), from: worker) }
    for worker in workers { cluster.report(.ready, from: worker) }
    return (cluster, run, workers)
  }

  @Test func `what the first workers find is the run's, in its checkpoints and for later workers`() {
    var (cluster, run, workers) = start([right, right])
    #expect(cluster.story(of: run).last!.0 == .running)
    for (place, worker) in workers.enumerated() {
      let file = CheckpointManifest.File(name: "shard-\(place)", byteCount: 1, sha256: "")
      cluster.report(.saved(step: 1, files: [file]), from: worker)
    }
    #expect(cluster.commits.first?.1.data == right)
    // Also by the coordinator that comes after this one.
    cluster.restartCoordinator()
    let again = cluster.join("w2")
    for worker in workers { cluster.say(.goodbye(reason: "killed"), from: worker) }
    cluster.wait(.seconds(30), alive: [again])
    if let (id, _, _) = cluster.preparations.last { cluster.prepare(id, "run") }
    cluster.wait(.seconds(12), alive: [again])
    #expect(cluster.assignment(again)?.data == right)
    cluster.report(.reads(wrong), from: again)
    #expect(cluster.story(of: run).last!.0 == .failed)
  }

  @Test(arguments: [[0, 0, 1], [1, 0, 0], [0, 1]])
  func `a worker with another dataset is named and put aside, and the others continue`(places: [Int]) {
    let (before, run, workers) = start(places.map { [right, wrong][$0] })
    var cluster = before
    let odd = places.firstIndex(of: 1)!
    let story = cluster.story(of: run).map(\.1)
    #expect(
      story.contains {
        $0.hasPrefix(
          "worker w\(odd) (host-w\(odd), process 102) finds another dataset at text.h5 (dataset bbbbbbbbbbbb…, tokenizer"
        )
      }, "\(story)")
    let others = workers.enumerated().filter { $0.offset != odd }.map(\.element)
    #expect(cluster.begins(workers[odd]) == 0 && cluster.stops(workers[odd]).count == 1)
    cluster.wait(.seconds(12), alive: workers)
    if let (id, _, again) = cluster.preparations.last, again { cluster.prepare(id, "run") }
    cluster.wait(.seconds(12), alive: workers)
    #expect(cluster.assignment(others[0])!.roster.count == others.count && cluster.assignment(others[0])!.data == right)
    for worker in others { cluster.report(.reads(right), from: worker) }
    for worker in others { cluster.report(.ready, from: worker) }
    #expect(cluster.story(of: run).last!.0 == .running)
  }

  @Test func `a resume on another dataset is refused without --other-data, and continues with it`() {
    let (cluster, run, _) = start([wrong, wrong], checkpoint: right)
    #expect(cluster.story(of: run).last!.0 == .failed)
    #expect(
      cluster.story(of: run).last!.1
        == "text.h5 is another dataset than the run was trained on (dataset bbbbbbbbbbbb…, tokenizer tttttttttttt…, and not dataset "
        + "aaaaaaaaaaaa…, tokenizer tttttttttttt…); to accept that, use --resume with --other-data")
    let (same, sameRun, _) = start([right, right], checkpoint: right)
    #expect(same.story(of: sameRun).last!.0 == .running)
    let (asked, askedRun, _) = start([wrong, wrong], checkpoint: right, acceptsOther: true)
    #expect(asked.story(of: askedRun).last!.0 == .running)
    // What the next step gave on the old one proves nothing then.
    let proof = StepMark(step: 6, loss: 7, gradientNorm: 1)
    for (found, accepts, state) in [(wrong, true, RunState.running), (right, nil, .paused)] {
      var (cluster, run, workers) = start([found, found], checkpoint: right, acceptsOther: accepts, proof: proof)
      cluster.report(.stepDone(record(6)), from: workers[0])
      #expect(cluster.story(of: run).last!.0 == state)
    }
    // A checkpoint of an older program names no data, and one that was imported names no dataset.
    let (old, oldRun, _) = start([wrong, wrong], checkpoint: DataIdentity(dataset: nil, tokenizer: right.tokenizer))
    #expect(old.story(of: oldRun).last!.0 == .running)
  }

  @Test func `another tokenizer is refused whatever was asked for`() {
    for asked in [nil, true] {
      let (cluster, run, _) = start([foreign, foreign], checkpoint: right, acceptsOther: asked)
      #expect(cluster.story(of: run).last!.0 == .failed)
      #expect(cluster.story(of: run).last!.1.hasPrefix("text.h5 is another tokenizer than the run was trained on"))
    }
  }

  @Test func `digests of any honest program pass, and longer ones are refused`() {
    func problem(_ digest: String) -> String? {
      let data = DataIdentity(dataset: "sha256:" + digest, tokenizer: digest)
      return Request.report(generation: 1, number: 1, .reads(data)).problem
    }
    #expect(problem(String(repeating: "f", count: 64)) == nil)
    #expect(problem(String(repeating: "f", count: 5_000)) != nil)
    let unknown = DataIdentity(dataset: nil, tokenizer: nil)
    #expect(Request.report(generation: 1, number: 1, .reads(unknown)).problem == nil)
  }

  @Test func `workers that report no data, as older ones do, are accepted`() {
    var cluster = Cluster()
    let (run, _) = cluster.startRun()
    #expect(cluster.story(of: run).last!.0 == .running)
  }
}
