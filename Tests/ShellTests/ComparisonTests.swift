// Runs side by side: what differs, what each has reached, and the picture of their curves.

import Configuration
import Shell
import TestSupport
import Testing
import Wire

@Suite struct `Comparisons` {
  private func record(_ step: Int, _ loss: Double, seconds: Double = 0.5, skipped: String? = nil) -> RunEvent {
    .stepped(
      StepRecord(
        step: step, loss: loss + 1, task: loss, smooth: 0, balance: 0, routerZ: 0, gradientNorm: 1, learningRate: 0.1,
        tokens: 100, seconds: seconds, loads: [], skipped: skipped))
  }

  private func evaluation(_ step: Int, _ loss: Double) -> RunEvent {
    .evaluated(EvaluationRecord(step: step, loss: loss, sequences: 4))
  }

  /// 40 steps with a loss that falls from `start` by a twentieth a step, evaluated every ten steps.
  private func curve(from start: Double, steps: Int = 40, seconds: Double = 0.5) -> RunCurve {
    var curve = RunCurve()
    for step in 1...steps {
      curve.note(record(step, start - Double(step) / 20, seconds: seconds))
      if step.isMultiple(of: 10) { curve.note(evaluation(step, start - Double(step) / 20 + 0.1)) }
    }
    return curve
  }

  private func run(_ name: String, _ curve: RunCurve, _ change: (inout RunConfiguration) -> Void = { _ in })
    -> Comparison.Run
  {
    var configuration = RunConfiguration()
    configuration.run = name
    change(&configuration)
    return Comparison.Run(name: name, source: name, configuration: configuration, curve: curve)
  }

  @Test func `tokens and time add up over the steps, and a run that continues from an older step drops later ones`() {
    var curve = RunCurve()
    for event in [record(1, 4), record(2, 3), evaluation(2, 3.5), record(3, 2, seconds: 2)] { curve.note(event) }
    #expect(curve.points.map(\.tokens) == [100, 200, 300] && curve.points.last?.seconds == 3)
    let evaluation = curve.evaluations.first
    #expect(evaluation?.loss == 3.5 && evaluation?.tokens == 200 && evaluation?.seconds == 1)
    curve.note(.began(name: "r", firstStep: 1, steps: 9, checkpoint: "c"))
    #expect(curve.points.map(\.step) == [1] && curve.evaluations.isEmpty)
    curve.note(record(2, 5))
    #expect(curve.points.map(\.loss) == [4, 5] && curve.points.last?.tokens == 200)
  }

  @Test func `the lines of metrics and the events of a coordinator give the same curve`() {
    let lines = """
      {"step":1,"loss":5,"task":4,"smooth":0,"balance":0,"router_z":0,"gradient_norm":1,"learning_rate":0.1,"tokens":100,"seconds":0.5,"loads":[1]}
      {"step":1,"validation_loss":3.75,"sequences":4}
      {"step":2,"loss":null,"task":null,"smooth":0,"balance":0,"router_z":0,"gradient_norm":null,"learning_rate":0.1,"tokens":100,"seconds":0.5,"loads":[1],"skipped":"the loss is not finite"}
      {"step":3,"lo
      """
    var told = RunCurve()
    for event in [record(1, 4), evaluation(1, 3.75), record(2, .nan, skipped: "x")] { told.note(event) }
    #expect(RunCurve(metrics: lines) == told && told.points.map(\.loss) == [4, nil])
  }

  @Test func `losses are read back to the bit`() throws {
    var chance = Chance("losses")
    for _ in 0..<2000 {
      let loss = Double.random(in: 0.5...10, using: &chance)
      let line = "{\"step\":1,\"loss\":\(loss),\"task\":\(loss),\"tokens\":1,\"seconds\":1.0}\n"
      let curve = RunCurve(metrics: line + "{\"step\":1,\"validation_loss\":\(loss),\"sequences\":4}\n")
      #expect(curve.points.first?.loss == loss && curve.best?.loss == loss)
    }
  }

  @Test func `only the keys that differ are shown, and never the names of the runs`() {
    let comparison = Comparison([
      run("a", curve(from: 4)) { $0.optimizer.learningRate = 0.001 },
      run("b", curve(from: 4)) { $0.optimizer.learningRate = 0.003 },
      Comparison.Run(name: "c", source: "c", configuration: nil, curve: curve(from: 4)),
    ])
    #expect(comparison.differences.map(\.key) == ["optimizer.learning_rate"])
    #expect(comparison.differences[0].values == ["0.001", "0.003", nil])
    let text = ComparisonView.text(comparison)
    #expect(text.contains("run  optimizer.learning_rate\na    0.001\nb    0.003\nc    ?"), "\(text)")
    #expect(text.contains("The configuration of c is not known"), "\(text)")
  }

  @Test func `the target is the largest of the runs' best losses, and what it cost is counted for each run`() throws {
    let comparison = Comparison([run("slow", curve(from: 4)), run("fast", curve(from: 3.5, seconds: 2))])
    // The best of the first is 4 − 40/20 + 0.1.
    #expect(try abs(#require(comparison.target) - 2.1) < 1e-12 && comparison.isChosen)
    let slow = try #require(comparison.runs[0].curve.reaching(comparison.target! + 1e-12))
    let fast = try #require(comparison.runs[1].curve.reaching(comparison.target! + 1e-12))
    #expect(slow.step == 40 && slow.tokens == 4000 && slow.seconds == 20)
    #expect(fast.step == 30 && fast.tokens == 3000 && fast.seconds == 60)
    #expect(comparison.runs[0].curve.reaching(1) == nil)
    let text = ComparisonView.text(comparison)
    #expect(text.contains("tokens to 2.1000") && text.contains("4.00k") && text.contains("1:00"), "\(text)")
  }

  @Test func `losses are shown at steps that all runs have`() {
    let comparison = Comparison([run("a", curve(from: 4)), run("b", curve(from: 4, steps: 25))])
    #expect(comparison.steps == [10, 20])
    #expect(
      ComparisonView.text(comparison).contains("run  step 10  step 20\na     3.6000   3.1000\nb     3.6000   3.1000"))
    // Of a run without evaluations the mean of the last steps counts.
    var bare = RunCurve()
    for step in 1...60 { bare.note(record(step, 4 - Double(step) / 20)) }
    let other = Comparison([run("a", bare), run("b", bare)])
    #expect(other.steps == [10, 20, 30, 40, 50, 60])
    #expect(bare.reaching(2.5)?.step == 40, "the mean of steps 21 to 40 is 2.475, that of steps 20 to 39 is 2.525")
  }

  @Test func `JSON has a line for each run with the values of the keys that differ`() {
    let lines = ComparisonView.json(
      Comparison([
        run("a", curve(from: 4)) { $0.training.seed = 1 }, run("b", curve(from: 3)) { $0.training.seed = 2 },
      ]))
    #expect(lines.count == 2)
    #expect(
      lines[1].hasPrefix(#"{"run": "b", "source": "b", "steps": 40, "tokens": 4000, "seconds": 20.0, "#), "\(lines)")
    #expect(lines[1].contains(#""best_step": 40, "target": 2.1, "steps_to_target": 20"#), "\(lines[1])")
    #expect(lines[1].hasSuffix(#""configuration": {"training.seed": "2"}}"#), "\(lines[1])")
  }

  @Test func `a picture has a line, markers and a legend for each run, and every number is finite`() {
    let runs = [("a <b> & c", curve(from: 4)), ("second", curve(from: 3)), ("none", RunCurve())]
    for axis in CurvePlot.Axis.allCases {
      let svg = CurvePlot(runs, axis: axis).svg
      #expect(svg.hasPrefix("<svg ") && svg.hasSuffix("</svg>\n"))
      #expect(
        svg.matches(of: #/<polyline /#).count == 2 && svg.matches(of: #/<circle /#).count == 5, "four and the legend")
      #expect(svg.contains("a &lt;b&gt; &amp; c") && !svg.contains("<b>"))
      #expect(!svg.contains("nan") && !svg.contains("inf"), "\(svg)")
      let points = svg.matches(of: #/([\d.-]+),([\d.-]+)/#).compactMap { Double($0.1) }
      #expect(points.allSatisfy { (0...760).contains($0) })
    }
    #expect(CurvePlot([("empty", RunCurve())], axis: .step).svg.contains("empty"))
  }

  @Test(arguments: [
    (0.0...1.0, ["0", "0.2", "0.4", "0.6", "0.8", "1.0"]), (0...300, ["0", "50", "100", "150", "200", "250", "300"]),
    (0...1_200_000, ["0", "200k", "400k", "600k", "800k", "1M", "1.2M"]),
    (1.32...1.44, ["1.32", "1.34", "1.36", "1.38", "1.40", "1.42", "1.44"]),
    (-1...1, ["−1.0", "−0.5", "0", "0.5", "1.0"]),
  ])
  func `ticks are round numbers with the digits that they need`(range: ClosedRange<Double>, labels: [String]) {
    let (values, gap) = Ticks.ticks(range, about: 6)
    #expect(values.map { Ticks.label($0, gap: gap) } == labels)
  }
}
