// Early stopping and the best checkpoint: what the coordinator makes of the evaluations of a curve.

import Configuration
import Coordination
import Testing
import Wire

@Suite struct EvaluationTests {
  private func submission(stopAfter: Int = 2) -> Submission {
    var submission = Cluster.submission(steps: 100)
    submission.configuration.training.evaluateEvery = 1
    submission.configuration.training.stopAfter = stopAfter
    return submission
  }

  private func train(_ cluster: inout Cluster, _ worker: PeerID, _ steps: ClosedRange<Int>, losses: [Double]) {
    for (step, loss) in zip(steps, losses) {
      cluster.report(.stepDone(record(step)), from: worker)
      cluster.report(.evaluated(EvaluationRecord(step: step, loss: loss, sequences: 4)), from: worker)
    }
  }

  /// The workers save after the step, and the disk commits.
  private func save(_ cluster: inout Cluster, _ run: RunID, _ workers: [PeerID], after step: Int) {
    for worker in workers { cluster.report(.saved(step: step, files: []), from: worker) }
    cluster.step(.committed(run, step: step, path: "/runs/run/step-\(step)"))
  }

  private func begun(_ cluster: Cluster, _ worker: PeerID) -> EvaluationStanding? {
    cluster.sent[worker]?.reversed().lazy.compactMap { if case .begin(_, _, let found) = $0 { found } else { nil } }
      .first
  }

  private func standing(_ losses: [Double]) -> EvaluationStanding {
    var standing = EvaluationStanding()
    for (index, loss) in losses.enumerated() { _ = standing.take(step: index + 1, loss: loss) }
    return standing
  }

  @Test func `the first of equal losses is the best, and a loss that is not finite is never better`() {
    #expect(standing([]) == EvaluationStanding())
    #expect(standing([.nan, .infinity]).bestStep == nil && standing([.nan, .infinity]).sinceBest == 2)
    let found = standing([.nan, 3, 2, 2, .nan, -.infinity])
    #expect(found.bestStep == 3 && found.bestLoss == 2 && found.sinceBest == 3)
    #expect(!found.ends(after: 0) && found.ends(after: 3) && !found.ends(after: 4))
  }

  @Test func `a run ends as finished after so many evaluations without a smaller loss, and its story has the reason`() {
    var cluster = Cluster()
    let (run, workers) = cluster.startRun(submission())
    #expect(begun(cluster, workers[0]) == EvaluationStanding())
    train(&cluster, workers[0], 1...5, losses: [3, 2.5, 2, 2.25, 2])
    #expect(cluster.story.last!.0 == .running, "its last checkpoint is missing")
    for worker in workers { cluster.report(.finished, from: worker) }
    save(&cluster, run, workers, after: 5)
    #expect(
      cluster.story.last!
        == (
          .finished, "2 evaluations had no smaller loss than that of step 3 (2.0000), and training.stop_after is 2"
        ))
    let manifest = cluster.commits.last!.1
    #expect(manifest.validationLoss == 2 && manifest.evaluations == standing([3, 2.5, 2, 2.25, 2]))

    // A resume from there has nothing to do, unless it may go on for longer.
    var again = submission()
    again.resume = .newest
    func resume(_ submission: Submission) {
      cluster.say(.submit(submission), from: Cluster.client)
      cluster.step(
        .prepared(
          run,
          .ready(
            .init(
              folder: "/f", checkpoint: "/c", firstStep: 5, proof: nil, notes: [], evaluations: manifest.evaluations))))
    }
    resume(again)
    #expect(cluster.story(of: run).last!.0 == .finished)
    #expect(cluster.story(of: run).last!.1.hasSuffix("raise training.stop_after to continue"))
    again.configuration.training.stopAfter = 3
    resume(again)
    for worker in workers { cluster.report(.ready, from: worker) }
    #expect(cluster.story(of: run).last!.0 == .running)
    #expect(begun(cluster, workers[1])?.sinceBest == 2)
  }

  @Test func `a manifest has the evaluations up to its own step, also when later ones are known already`() {
    var cluster = Cluster()
    let (run, workers) = cluster.startRun(submission(stopAfter: 0))
    train(&cluster, workers[0], 1...6, losses: [3, 2, 4, 1, 5, 6])
    save(&cluster, run, workers, after: 3)
    #expect(cluster.commits.last!.1.validationLoss == 4)
    #expect(cluster.commits.last!.1.evaluations == standing([3, 2, 4]))
    save(&cluster, run, workers, after: 6)
    #expect(cluster.commits.last!.1.evaluations == standing([3, 2, 4, 1, 5, 6]))
  }

  @Test func `another coordinator and another generation count on, and evaluations that are repeated count once`() {
    var cluster = Cluster()
    let (run, workers) = cluster.startRun(submission(stopAfter: 3))
    train(&cluster, workers[0], 1...3, losses: [2, 3, 4])
    save(&cluster, run, workers, after: 2)
    cluster.restartCoordinator()
    for worker in workers { _ = cluster.join(String(worker.description.dropFirst("peer-".count))) }
    cluster.wait(.seconds(1), alive: workers)
    cluster.prepare(run, "run", firstStep: 2)
    for worker in workers { cluster.report(.ready, from: worker) }
    #expect(begun(cluster, workers[0])?.sinceBest == 1, "as of step 2")
    train(&cluster, workers[0], 3...4, losses: [4, 5])
    for worker in workers { cluster.report(.finished, from: worker) }
    save(&cluster, run, workers, after: 4)
    #expect(cluster.story(of: run).last!.0 == .finished, "\(cluster.story(of: run))")
  }
}
