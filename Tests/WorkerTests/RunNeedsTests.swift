// The numbers of `ress plan`, compared with runs.

import Configuration
import Foundation
import Model
import RunFolder
import Testing
import Wire
import Trained
import Training
import Worker

@Suite struct `Needs of a run` {
  private func needs(_ c: RunConfiguration, workers: Int) -> RunNeeds {
    var c = c
    c.cluster.workers = workers
    return RunNeeds(c, vocabulary: 257, cores: 2, memoryBytes: 8 << 30, hosts: 1)
  }

  @Test(arguments: [(2, Recompute.never), (3, .never), (2, .always), (5, .auto)])
  func `a step sends the predicted bytes, and a checkpoint has the predicted size`(workers: Int, recompute: Recompute)
    throws
  {
    let scratch = ScratchFolder()
    var c = try smallRun(scratch)
    c.training.steps = 6
    c.training.evaluateEvery = 0
    c.training.recompute = recompute
    // Rows outweigh parameters here, as in real runs.
    c.data.sequenceLength = 80
    for (choice, precision) in [(ExpertChoice.travel, Precision.fp32), (.travel, .bf16), (.copy, .fp32)] {
      (c.cluster.experts, c.model.precision) = (choice, precision)
      let folder = scratch.path + "/\(choice)-\(precision)"
      let outcome = try OneProcessCluster(c, workers: workers, threads: 1, folder: folder).run()
      #expect(outcome.errors == [])
      let needs = needs(c, workers: workers)
      #expect(needs.recomputes == (recompute == .always))
      // The first step had no parameters to send yet.
      for sent in outcome.sent.dropFirst() {
        let mean = sent.reduce(0, +) / Double(workers)
        #expect(abs(mean / Double(needs.sentBytes) - 1) < 0.15, "\(mean) of \(needs.sentBytes)")
      }
      let saved = try #require(outcome.files[6]).reduce(0) { $0 + $1.byteCount }
      #expect(abs(Double(saved) / Double(needs.checkpointBytes) - 1) < 0.15, "\(saved) of \(needs.checkpointBytes)")
    }
  }

  @Test(arguments: [
    (1, ExpertChoice.travel, 16), (2, .travel, 16), (2, .copy, 16), (4, .travel, 16), (2, .travel, 256),
  ])
  func `the planned memory of a worker's model, gradients, activations and copies is what its buffers have`(
    workers: Int, choice: ExpertChoice, length: Int
  ) throws {
    let scratch = ScratchFolder()
    var c = try smallRun(scratch)
    (c.training.steps, c.training.evaluateEvery, c.cluster.mirrorEvery) = (4, 0, 1)
    // With 16 tokens a unit's rows are kept for their gradients, with 256 they are not.
    (c.model.width, c.model.heads, c.model.expertWidth, c.model.experts) = (128, 4, 256, 8)
    (c.data.sequenceLength, c.training.batchSequences) = (length, 8)
    (c.cluster.experts, c.cluster.sameMachine) = (choice, .messages)
    let layout = ParameterLayout(c, vocabulary: 257)
    #expect((GradientDelay.level(c, layout, workers: workers, lanes: 1) == nil) == (length == 256))
    let outcome = try OneProcessCluster(c, workers: workers, threads: 1, folder: scratch.path + "/run").run()
    #expect(outcome.errors == [])
    let needs = needs(c, workers: workers)
    let planned = needs.modelBytes + needs.activationBytes + needs.copyBytes
    let most = outcome.heldBytes.max()!
    #expect(abs(Double(most) / Double(planned) - 1) < 0.15, "\(outcome.heldBytes) of \(planned)")
  }

  @Test func `copies on disk take no memory of the plan, and the files are as large as it counts`() throws {
    let scratch = ScratchFolder()
    var c = try smallRun(scratch)
    (c.training.steps, c.training.evaluateEvery, c.cluster.mirrorEvery) = (4, 0, 1)
    let before = needs(c, workers: 2)
    c.cluster.stateCopies = .disk
    let after = needs(c, workers: 2)
    #expect(before.copyBytes == after.copyDiskBytes && before.copyDiskBytes == 0 && after.copyBytes == 0)
    #expect(before.memoryBytes - after.memoryBytes == before.copyBytes)
    let outcome = try OneProcessCluster(c, workers: 2, threads: 1, folder: scratch.path + "/run").run()
    // The shards of the two workers differ in size.
    let share = Double(outcome.diskBytes.max()!) / Double(after.copyDiskBytes)
    #expect(outcome.errors == [] && share > 0.85 && share <= 1, "\(outcome.diskBytes) of \(after.copyDiskBytes)")
  }

  /// The model of 212 million parameters of Benchmarks/README.md, "Memory of a worker".
  @Test func `a worker of a model of 212 million parameters needs at most 5, 6 or 2 GiB where there are 1, 2 or 8`() {
    var c = RunConfiguration()
    (c.model.width, c.model.heads, c.model.steps) = (1024, 16, 4)
    (c.model.experts, c.model.activeExperts, c.model.expertWidth, c.model.sharedExpert) = (32, 2, 2048, false)
    (c.data.sequenceLength, c.training.batchSequences) = (1024, 8)
    (c.cluster.threads, c.cluster.experts, c.cluster.mirrorEvery) = (1, .travel, 1)
    c.cluster.stateCopies = .disk
    for (workers, most) in [(1, 5), (2, 6), (8, 2)] {
      c.cluster.workers = workers
      let needs = RunNeeds(c, vocabulary: 4096, cores: 8, memoryBytes: 64 << 30, hosts: 1)
      #expect(needs.layout.totalCount == 211_945_569 && needs.memory.total == needs.memoryBytes)
      #expect(needs.memoryBytes <= most << 30, "\(workers) workers: \(needs.memory)")
    }
  }

  @Test func `the plan counts the memory of each team, and a machine with little memory gets fewer teams`() throws {
    var c = RunConfiguration()
    (c.training.batchSequences, c.cluster.threads, c.data.sequenceLength) = (16, 8, 8192)
    func needs(_ teams: Int, memoryBytes: Int = 64 << 30) -> RunNeeds {
      c.cluster.teams = teams
      return RunNeeds(c, vocabulary: 257, cores: 8, memoryBytes: memoryBytes, hosts: 1)
    }
    let one = needs(1), two = needs(2), four = needs(4)
    #expect((one.teams, two.teams, four.teams) == (1, 2, 4))
    // A team has activations and a gradient of its own.
    #expect(two.activationBytes > 19 * one.activationBytes / 10)
    #expect(four.activationBytes > 19 * two.activationBytes / 10 && four.modelBytes > two.modelBytes)
    let most = needs(0)
    #expect(most.teams == 8 && !most.recomputes)
    // Half of the memory is for units under way.
    let half = needs(0, memoryBytes: 2 * most.activationBytes * 5 / 8)
    #expect((2...5).contains(half.teams) && !half.recomputes)
    #expect(half.memoryBytes < most.memoryBytes)
    let little = needs(0, memoryBytes: one.activationBytes)
    #expect(little.recomputes && little.activationBytes < one.activationBytes)
  }

  @Test func `a run that cannot fit is refused with needed and available memory, and a doubtful one may try`() throws {
    let c = RunConfiguration()
    let needs = needs(c, workers: 2)
    #expect(needs.memoryComplaint(workers: 2, available: needs.memoryBytes * 2) == nil)
    #expect(needs.memoryComplaint(workers: 2, available: needs.memoryBytes * 17 / 10) == nil, "a plan is not exact")
    let complaint = try #require(needs.memoryComplaint(workers: 2, available: needs.memoryBytes))
    #expect(complaint.hasPrefix("the run does not fit: a worker needs ") && complaint.contains("and 2 of them here"))
  }

  @Test func `available memory is that of the machine, or of the tightest control group`() {
    let machine = "MemTotal: 1000 kB\nMemAvailable:    600 kB\nSwapFree:  50 kB\n"
    #expect(AvailableMemory.ofMachine(machine) == 650 * 1024)
    #expect(AvailableMemory.ofMachine("MemTotal: 1000 kB\n") == nil)
    let files = [
      "/sys/fs/cgroup/a/b/memory.max": "max\n", "/sys/fs/cgroup/a/b/memory.current": "100\n",
      "/sys/fs/cgroup/a/memory.max": "5000\n", "/sys/fs/cgroup/a/memory.current": "4000\n",
      "/sys/fs/cgroup/a/memory.stat": "anon 3500\ninactive_file 300\n",
    ]
    #expect(AvailableMemory.ofGroup("1:name=x:/y\n0::/a/b\n") { files[$0] ?? "" } == 1300)
    #expect(AvailableMemory.ofGroup("0::/\n") { files[$0] ?? "" } == nil)
    #expect(AvailableMemory.byteCount ?? 0 > 0)
  }

  @Test func `a worker waits for the coordinator's token in the run's folder, and reports another content`() throws {
    let scratch = ScratchFolder()
    func look(_ token: String?, stop: String? = nil) throws {
      let assignment = Assignment(
        run: RunID(1), generation: 1, configuration: RunConfiguration(), roster: [], index: 0, threads: 1,
        start: .fresh, firstStep: 0, folder: scratch.path, token: token)
      try FolderToken.find(for: assignment, patience: .milliseconds(100)) { stop }
    }
    // An older coordinator writes no token.
    try look(nil)
    #expect { try look("abc") } throws: { "\($0)".contains("its file folder-token is not there; checkpoint.directory") }
    #expect { try look("abc", stop: "cancelled") } throws: { ($0 as? Stopped)?.reason == "cancelled" }
    try "other".write(toFile: scratch.path + "/folder-token", atomically: true, encoding: .utf8)
    #expect { try look("abc") } throws: { "\($0)".contains("folder-token holds something else") }
    try "abc".write(toFile: scratch.path + "/folder-token", atomically: true, encoding: .utf8)
    try look("abc")
  }

  @Test(arguments: [1, 2, 3])
  func `workers stop by themselves after the step that exceeds skip_at_most, counting earlier ones`(workers: Int)
    throws
  {
    let scratch = ScratchFolder()
    var c = try smallRun(scratch)
    (c.optimizer.learningRate, c.optimizer.warmupSteps, c.training.skipAtMost) = (1e30, 0, 3)
    let folder = scratch.path + "/first"
    let first = try OneProcessCluster(c, workers: workers, threads: 1, folder: folder).run()
    #expect(first.errors == [] && first.steps.map(\.step) == Array(1...5), "\(first.steps)")
    #expect(first.steps.map { $0.skipped == nil } == [true, false, false, false, false])
    #expect(first.endings == Array(repeating: .halted, count: workers))
    // They have saved the state after the last applied step.
    let checkpoint = try CheckpointFolder.commit(
      CheckpointManifest(
        run: c.run, runIdentifier: "1", step: 5, configuration: c, loss: nil, files: try #require(first.files[5]),
        writer: "test", created: "", generation: 1, numerics: OneProcessCluster.numerics), folder: folder)
    for (leftOut, steps) in [(0, 6...9), (2, 6...7), (3, 6...6)] {
      let next = try OneProcessCluster(
        c, workers: workers, threads: 1, folder: scratch.path + "/next-\(leftOut)", checkpoint: checkpoint, firstStep: 5
      ).run(leftOut: leftOut)
      #expect(next.errors == [] && next.steps.map(\.step) == Array(steps), "\(leftOut): \(next.steps.map(\.step))")
    }
    // A last step that is not applied is enough for a run not to be finished.
    (c.training.skipAtMost, c.training.steps) = (100, 4)
    let last = try OneProcessCluster(c, workers: workers, threads: 1, folder: scratch.path + "/last").run()
    #expect(last.steps.count == 4 && last.endings == Array(repeating: .halted, count: workers))
  }

  @Test func `a single worker sends nothing, and needs no memory for others' copies`() throws {
    let c = RunConfiguration()
    let one = needs(c, workers: 1), two = needs(c, workers: 2)
    #expect(one.sentBytes == 0 && one.mirrorBytesAStep == 0 && one.clusterBytes == 0)
    #expect(two.sentBytes > 0 && two.mirrorBytesAStep > 0)
    // Experts and moments are divided among workers, so the model's part shrinks.
    #expect(two.modelBytes < one.modelBytes)
  }

  @Test
  func
    `workers need more memory after a loss, and a run that waits then needs its copies twice`()
  {
    var c = RunConfiguration()
    c.training.batchSequences = 12
    c.cluster.minimumWorkers = 1
    let three = needs(c, workers: 3)
    let two = try! #require(three.afterLoss)
    #expect(two.workers == 2 && two.modelBytes > three.modelBytes)
    #expect(three.memoryAfterLossBytes > two.memoryBytes && three.memoryAfterLossBytes > three.memoryBytes)
    #expect(needs(c, workers: 1).afterLoss == nil)
    c.cluster.minimumWorkers = 3
    #expect(needs(c, workers: 3).afterLoss == nil)
    #expect(needs(c, workers: 3).memoryAfterLossBytes > needs(c, workers: 3).memoryBytes)
  }

  @Test(arguments: [Recompute.always, .never, .auto])
  func `a model at the limits of every range is computed without overflow`(recompute: Recompute) {
    var c = RunConfiguration()
    c.model.width = 65_536
    c.model.heads = 1_024
    c.model.steps = 256
    c.model.segment = 1_048_576
    c.model.memorySlots = 60_000
    c.model.cache = 1_048_576
    c.model.window = 4_000
    c.model.graphDegree = 1_000
    c.model.experts = 9_999
    c.model.activeExperts = 9_999
    c.model.expertWidth = 1_048_576
    c.data.sequenceLength = 1_073_741_824
    c.training.batchSequences = 1_048_576
    c.training.recompute = recompute
    for (workers, segment) in [(1, 1_048_576), (3, 1)] {
      c.cluster.workers = workers
      c.model.segment = segment
      let needs = RunNeeds(c, vocabulary: 16_777_216, cores: 2, memoryBytes: 8 << 30, hosts: 1)
      for bytes in [needs.memoryBytes, needs.memoryAfterLossBytes, needs.checkpointBytes] { #expect(bytes > 1 << 50) }
      #expect(needs.sentBytes >= 0 && needs.stepTokens > 0 && needs.mirrorBytesAStep >= 0)
      #expect(needs.operationsPerToken.isFinite)
    }
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
  func `steps with every head can be rehearsed, with one worker and with two`(head: Head) throws {
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
      #expect(result.waitSeconds >= result.exchangeSeconds && result.waitSeconds < result.stepSeconds)
    }
  }

  @Test(arguments: [1, 2, 3, 24, 90, 400], [64, 160, 640, 6400])
  func `the time of a long step is computed from short ones, with as many units as fit into a third of a second`(
    sequences: Int, length: Int
  ) throws {
    let scratch = ScratchFolder()
    var c = try smallRun(scratch)
    c.cluster.threads = 1
    c.training.batchSequences = sequences
    c.data.sequenceLength = length
    let needs = needs(c, workers: 1)
    var longest = 0.0
    /// On a machine whose time grows evenly with units and segments.
    func seconds(_ units: Int, _ segments: Int) -> Double { 0.004 + Double(units) * (0.002 + 0.015 * Double(segments)) }
    let result = try StepRehearsal(needs, line: .local).run { units, segments in
      #expect(units <= needs.unitsAWorker && segments ?? needs.segments <= 4)
      longest = max(longest, seconds(units, segments ?? needs.segments))
      return .init(seconds: seconds(units, segments ?? needs.segments), waitShare: 0.25)
    }
    let whole = seconds(needs.unitsAWorker, needs.segments)
    #expect(abs(result.stepSeconds - whole) < 1e-9 * whole, "\(result.stepSeconds) instead of \(whole)")
    #expect(result.waitSeconds == 0.25 * result.stepSeconds && result.exchangeSeconds == 0)
    #expect(longest < 0.35, "\(longest)")
  }
}
