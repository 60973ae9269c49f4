// One run has one curve when a generation ends and another one begins: from copies in memory, with other copied
// experts, and after a stop.

import Checkpoint
import Configuration
import Foundation
import Kernels
import Model
import RunFolder
import TestSupport
import Testing
import Training
import Wire
import Worker

extension OneCurveTests {
  @Test func `a generation that is stopped between two updates leaves its state for the next one`() throws {
    let scratch = ScratchFolder()
    var c = try smallRun(scratch)
    (c.training.steps, c.training.evaluateEvery, c.cluster.mirrorEvery) = (4, 0, 2)
    let whole = try OneProcessCluster(c, workers: 2, threads: 1, folder: scratch.path + "/whole").run()
    func cluster(_ firstStep: Int, after before: OneProcessCluster?) -> OneProcessCluster {
      OneProcessCluster(c, workers: 2, threads: 1, folder: scratch.path + "/parts", firstStep: firstStep, after: before)
    }
    func held(_ cluster: OneProcessCluster, _ generation: UInt32) -> [[Int]] {
      cluster.channels.enumerated().map { index, channel in
        channel.store.held.filter { $0.generation == generation && $0.index == index }.map(\.step)
      }
    }
    let first = cluster(0, after: nil)
    for channel in first.channels { channel.mailbox.put(.halt(generation: 1, saving: false)) }
    #expect(try first.run().endings == [.halted, .halted])
    let second = cluster(1, after: first)
    let stopped = try second.run(loaded: {
      for channel in second.channels { channel.mailbox.put(.stop(generation: 2, reason: "a worker was lost")) }
    })
    #expect(stopped.errors.count == 2)
    #expect(held(second, 2) == [[1], [1]])
    let third = cluster(1, after: second)
    let rest = try third.run()
    #expect(rest.errors == [] && rest.steps == Array(whole.steps.dropFirst()))
    // Copies are kept once every worker has the norms of the step after them; the last one has no step after it.
    #expect(held(third, 3) == [[2], [2]] && held(third, 2) == [[], []])
  }

  @Test(arguments: [CopyPlace.memory, .disk], [[0, 1], [1, 0], [1, 1]])
  func `a generation continues with the same bits from copies, own ones or mirrors', in memory or on disk`(
    place: CopyPlace, holders: [Int]
  ) throws {
    let scratch = ScratchFolder()
    var c = try smallRun(scratch)
    (c.training.steps, c.training.evaluateEvery, c.cluster.mirrorEvery, c.checkpoint.every) = (6, 0, 2, 3)
    let whole = try OneProcessCluster(c, workers: 2, threads: 1, folder: scratch.path + "/whole").run()
    c.cluster.stateCopies = place
    let first = OneProcessCluster(c, workers: 2, threads: 1, folder: scratch.path + "/first")
    let outcome = try first.run()
    #expect(outcome.errors == [] && outcome.steps == whole.steps)
    #expect((outcome.diskBytes.min()! > 0) == (place == .disk))
    // The newest copies of which every worker has one of its own and one of its peer's.
    for channel in first.channels { #expect(channel.store.held.map(\.step) == [4, 4]) }
    let next = try OneProcessCluster(
      c, workers: 2, threads: 1, folder: scratch.path + "/next", firstStep: 4, after: first, holders: holders
    ).run()
    #expect(next.errors == [] && next.steps == Array(whole.steps[4...]))
    let saved = try tensors(scratch.path + "/next", step: 6, next.files[6] ?? [], c, generation: 2)
    #expect(try saved == tensors(scratch.path + "/whole", step: 6, whole.files[6] ?? [], c))
  }

  @Test func `a stop ends a job whose teams wait for a peer`() throws {
    let scratch = ScratchFolder()
    var c = try smallRun(scratch)
    (c.training.steps, c.cluster.teams, c.cluster.experts) = (1_000_000, 2, .travel)
    let cluster = OneProcessCluster(c, workers: 2, threads: 2, folder: scratch.path + "/run")
    let outcome = try cluster.run {
      _ = waitUntil { cluster.channels[0].reports.count > 2 }
      cluster.channels[1].mailbox.put(.stop(generation: 1, reason: "w1 goes"))
    }
    #expect(outcome.errors.count == 2)
  }

  @Test func `other experts may be copied in the next generation, which takes the state from memory`() throws {
    let scratch = ScratchFolder()
    var c = try smallRun(scratch)
    (c.training.steps, c.training.evaluateSequences) = (9, 0)
    let whole = try OneProcessCluster(c, workers: 3, threads: 1, folder: scratch.path + "/whole").run()
    #expect(whole.errors == [])
    var steps: [StepRecord] = []
    var files: [CheckpointManifest.File] = []
    var before: OneProcessCluster?
    let choices: [[[Int]]] = [[[], [], []], mixed(3), [[0, 1, 2, 3], [0, 1, 2, 3], [0, 1, 2, 3]], [[2], [], [1]]]
    for (number, copies) in choices.enumerated() {
      let cluster = OneProcessCluster(
        c, workers: 3, threads: 1, folder: scratch.path + "/parts", firstStep: steps.count, copies: copies,
        after: before)
      // The request is there before the first step, so every generation but the last has one step.
      if number < 3 {
        for channel in cluster.channels { channel.mailbox.put(.halt(generation: UInt32(number + 1), saving: false)) }
      }
      let outcome = try cluster.run()
      #expect(outcome.errors == [] && outcome.endings.allSatisfy { $0 == (number < 3 ? .halted : .finished) })
      steps += outcome.steps
      files = outcome.files[9] ?? []
      before = cluster
    }
    #expect(steps == whole.steps)
    let (one, other) = (
      try tensors(scratch.path + "/whole", step: 9, whole.files[9]!, c),
      try tensors(scratch.path + "/parts", step: 9, files, c, generation: 4)
    )
    #expect(one == other)
  }

  @Test func `a stop ends every job at once, also one that waits for a peer that never answers`() throws {
    let scratch = ScratchFolder()
    var c = try smallRun(scratch)
    c.training.steps = 1_000_000
    let cluster = OneProcessCluster(c, workers: 3, threads: 1, folder: scratch.path + "/run")
    let outcome = try cluster.run {
      // One job is stopped first, so that the other two wait for it in the middle of a step.
      _ = waitUntil { cluster.channels[0].reports.count > 2 }
      cluster.channels[1].mailbox.put(.stop(generation: 1, reason: "w1 goes"))
    }
    #expect(outcome.errors.count == 3)
  }
}
