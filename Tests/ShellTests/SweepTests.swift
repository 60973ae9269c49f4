// A sweep as a value: its runs and their names, what is refused, and the table of its results.

import Shell
import Testing
import Wire

@Suite struct `Sweeps` {
  private func sweep(_ over: String..., limit: Int = 64) throws -> Sweep {
    try Sweep(run: "demo", over: over, limit: limit)
  }

  @Test func `every combination is a run, every arm has the same seeds, and the first seed of all arms comes first`()
    throws
  {
    let sweep = try sweep("optimizer.learning_rate=0.001,0.003", "training.seed=1..3")
    #expect(sweep.runs.count == 6)
    #expect(
      sweep.runs.prefix(3).map(\.name) == [
        "demo-learning_rate-0.001-seed-1", "demo-learning_rate-0.003-seed-1", "demo-learning_rate-0.001-seed-2",
      ])
    for arm in ["optimizer.learning_rate=0.001", "optimizer.learning_rate=0.003"] {
      let seeds = sweep.runs.filter { $0.arm == arm }.map { $0.settings.last!.value }
      #expect(seeds == ["1", "2", "3"])
    }
  }

  @Test func `more values add runs and do not rename the others`() throws {
    let few = try sweep("data.path=a/x.h5,b/x.h5", "training.seed=1")
    let more = try sweep("data.path=a/x.h5,c/x.h5,b/x.h5", "training.seed=1..2")
    #expect(Set(few.runs.map(\.name)).isSubset(of: more.runs.map(\.name)))
    #expect(Set(more.runs.map(\.name)).count == 6)
    // Paths cannot be part of a folder's name.
    #expect(more.runs.allSatisfy { $0.name.hasPrefix("demo-") && !$0.name.contains("/") })
  }

  @Test func `a value in braces is one value, and keys with the same last word are distinguished`() throws {
    let mixed = try sweep("data.mixture={a.h5: 1, b.h5: 2},{a.h5: 1}")
    #expect(mixed.axes[0].values == ["{a.h5: 1, b.h5: 2}", "{a.h5: 1}"])
    let steps = try sweep("model.steps=2,3", "training.steps=100")
    #expect(steps.runs[0].name == "demo-model.steps-2-training.steps-100")
    let long = try Sweep(
      run: String(repeating: "x", count: 90), over: ["training.seed=1..2", "model.width=64"], limit: 9)
    #expect(long.runs.allSatisfy { $0.name.utf8.count <= 100 } && long.runs[0].name != long.runs[1].name)
  }

  @Test(arguments: [
    (["training.seed"], "expected KEY=VALUE,VALUE or KEY=FIRST..LAST"),
    (["training.seed="], "expected KEY=VALUE,VALUE or KEY=FIRST..LAST"),
    (["training.seed=1,,2"], "a value between two commas is empty"),
    (["training.seed=3..1"], "the range 3..1 is empty"),
    (["training.seed=1..x"], "a range has whole numbers at both ends"),
    (["training.seed=1..3,2"], "the value 2 is given twice"),
    (["training.seed=1..3", "training.seed=4"], "--over training.seed is given twice"),
    (["run=a,b"], "the names of the runs are made from the values"),
    (["checkpoint.directory=a,b"], "a sweep has a folder of its own"),
    (["training.seed=1..1000000000"], "has more values than --limit 64 allows runs"),
    (["training.seed=1..\(Int.max)", "model.width=1..2"], "has more values than --limit 64 allows runs"),
    (
      ["training.seed=1..13", "model.steps=1..5"],
      "13 of training.seed × 5 of model.steps make 65 runs, more than --limit 64 allows"
    ),
  ])
  func `what cannot be a sweep is refused with the reason`(over: [String], reason: String) throws {
    let error = try #require(throws: UsageError.self) { try Sweep(run: "demo", over: over, limit: 64) }
    #expect(error.message.contains(reason) && error.command == "sweep", "\(error.message)")
  }

  // MARK: Results

  private func result(_ validation: Double, state: SweepResult.State = .finished) -> SweepResult {
    var curve = RunCurve()
    curve.note(
      .stepped(
        StepRecord(
          step: 10, loss: 3, task: 2, smooth: 0, balance: 0, routerZ: 0, gradientNorm: 1, learningRate: 0.1,
          tokens: 100, seconds: 1.5, loads: [])))
    curve.note(.evaluated(EvaluationRecord(step: 10, loss: validation, sequences: 4)))
    return SweepResult(state, curve, reason: state == .failed ? "it \"diverged\", early" : nil)
  }

  private func table(_ losses: [Double], _ change: (inout [SweepTable.Row]) -> Void = { _ in }) throws -> SweepTable {
    let sweep = try sweep("optimizer.learning_rate=0.001,0.003", "training.seed=1..3")
    var rows = zip(sweep.runs, losses).map {
      SweepTable.Row(run: $0, result: result($1), folder: "checkpoints/demo-sweep/\($0.name)")
    }
    change(&rows)
    return SweepTable(sweep, rows)
  }

  @Test func `arms are sorted by the mean of their seeds, with the standard error of the mean`() throws {
    // In the order of the runs: seed 1 of both arms, seed 2, seed 3.
    let table = try table([2, 1.5, 4, 1.4, 3, 1.6])
    #expect(table.sorted.map(\.result.validation) == [1.4, 1.5, 1.6, 2, 3, 4])
    let arms = table.arms
    #expect(arms.map { $0.settings[0].value } == ["0.003", "0.001"] && arms.map(\.count) == [3, 3])
    #expect(abs(arms[1].mean - 3) < 1e-12 && abs(arms[1].standardError! - 1 / 3.0.squareRoot()) < 1e-12)
    #expect(table.text.contains("0.003                        3  1.5000 ± 0.0577"), "\(table.text)")
  }

  @Test func `a run that failed is in the table with its reason, and does not count in the mean of its arm`() throws {
    let table = try table([2, 1.5, 4, 1.4, 3, 1.6]) { rows in rows[1].result = result(9, state: .failed) }
    #expect(table.arms.first { $0.settings[0].value == "0.003" }?.count == 2)
    #expect(table.text.contains("failed: it \"diverged\", early"))
    #expect(
      table.json.count == 8 && table.json[7].hasPrefix(#"{"event": "arm", "settings": {"optimizer.learning_rate": "#))
  }

  @Test func `the file has a row for each run in the order of training`() throws {
    let lines = try table([2, 1.5, 4, 1.4, 3, 1.6]).csv.split(separator: "\r\n")
    #expect(lines.count == 7)
    #expect(
      lines[0]
        == "run,state,optimizer.learning_rate,training.seed,validation_loss,best_validation_loss,best_step,training_loss,steps,tokens,seconds,folder"
    )
    #expect(
      lines[2]
        == "demo-learning_rate-0.003-seed-1,finished,0.003,1,1.5,1.5,10,2.0,10,100,1.5,checkpoints/demo-sweep/demo-learning_rate-0.003-seed-1"
    )
    let quoted = try Sweep(run: "demo", over: ["data.mixture={a.h5: 1, b.h5: 2}"], limit: 1)
    let csv = SweepTable(quoted, [.init(run: quoted.runs[0], result: SweepResult(.waiting), folder: "f")]).csv
    #expect(csv.contains(#","{a.h5: 1, b.h5: 2}","#) && csv.contains(",waiting,"), "\(csv)")
  }
}
