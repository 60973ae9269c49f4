// What `ress plan` counts, held against runs.

import Configuration
import Foundation
import Model
import Testing
import Wire
import Worker

@Suite struct `Needs of a run` {
  private func needs(_ c: RunConfiguration, workers: Int) -> RunNeeds {
    var c = c
    c.cluster.workers = workers
    return RunNeeds(c, vocabulary: 257, cores: 2, memoryBytes: 8 << 30, hosts: 1)
  }

  @Test(arguments: [(2, Recompute.never), (3, .never), (2, .always), (5, .auto)])
  func `a step sends the bytes that were counted, and a checkpoint has them`(workers: Int, recompute: Recompute) throws
  {
    let scratch = ScratchFolder()
    var c = try smallRun(scratch)
    c.training.steps = 6
    c.training.evaluateEvery = 0
    c.training.recompute = recompute
    // Rows weigh more than parameters here, as in runs that somebody plans.
    c.data.sequenceLength = 80
    let outcome = try OneProcessCluster(c, workers: workers, threads: 1, folder: scratch.path + "/run").run()
    #expect(outcome.errors == [])
    let needs = needs(c, workers: workers)
    #expect(needs.recomputes == (recompute == .always))
    // The first step had no parameters to share yet.
    for sent in outcome.sent.dropFirst() {
      let mean = sent.reduce(0, +) / Double(workers)
      #expect(abs(mean / Double(needs.sentBytes) - 1) < 0.15, "\(mean) of \(needs.sentBytes)")
    }
    let saved = try #require(outcome.files[6]).reduce(0) { $0 + $1.byteCount }
    #expect(abs(Double(saved) / Double(needs.checkpointBytes) - 1) < 0.15, "\(saved) of \(needs.checkpointBytes)")
  }

  @Test func `one worker sends nothing, and needs no room for others' copies`() throws {
    let c = RunConfiguration()
    let one = needs(c, workers: 1), two = needs(c, workers: 2)
    #expect(one.sentBytes == 0 && one.mirrorBytesAStep == 0 && one.clusterBytes == 0)
    #expect(two.sentBytes > 0 && two.mirrorBytesAStep > 0)
    // Experts and moments are split, so the model's part shrinks.
    #expect(two.modelBytes < one.modelBytes)
  }

  @Test func `memory does not grow with the sequence where segments are computed again`() {
    var c = RunConfiguration()
    c.training.recompute = .always
    c.data.sequenceLength = 4096
    let short = needs(c, workers: 1).activationBytes
    c.data.sequenceLength = 65_536
    #expect(Double(needs(c, workers: 1).activationBytes) < 1.02 * Double(short))
    c.training.recompute = .never
    #expect(needs(c, workers: 1).activationBytes > 10 * short)
  }

  @Test(arguments: [Head.lm, .classify, .tag, .span])
  func `steps of every head can be tried, by one worker and by two`(head: Head) throws {
    let scratch = ScratchFolder()
    var c = try smallRun(scratch)
    c.model.head = head
    c.model.classes = 5
    c.cluster.threads = 1
    for workers in 1...2 {
      let needs = needs(c, workers: workers)
      let result = try StepRehearsal(needs, line: .local).run()
      #expect(result.stepSeconds > 0 && result.stepSeconds < 60)
      #expect((result.exchangeSeconds > 0) == (workers > 1))
    }
  }

  @Test func `a longer batch of longer sequences takes longer`() throws {
    let scratch = ScratchFolder()
    var c = try smallRun(scratch)
    c.cluster.threads = 1
    c.data.sequenceLength = 160
    let short = try StepRehearsal(needs(c, workers: 1), line: .local).run().stepSeconds
    c.data.sequenceLength = 1600
    c.training.batchSequences = 24
    let long = try StepRehearsal(needs(c, workers: 1), line: .local).run().stepSeconds
    // Forty times the work; a busy machine may blur that, but not to a quarter.
    #expect(long > 10 * short, "\(long) and \(short)")
  }
}
