// The view of a run, as `ress train` and `ress logs` print it.

import Shell
import Testing
import Wire

private let roster = [
  entry("worker-1", 123, threads: 1, units: 0..<4, experts: [0, 1, 2, 3]),
  entry("worker-2", 124, threads: 2, units: 4..<8, experts: [4, 5, 7]),
]

private func entry(_ name: String, _ process: Int, threads: Int, units: Range<Int>, experts: [Int]) -> RosterEntry {
  RosterEntry(
    worker: WorkerDescription(
      name: name, host: "box", process: process, dataAddress: "", threads: threads, fingerprint: "f", program: "p"),
    units: units, experts: experts)
}

/// The loss with its extras is a quarter more than the cross-entropy, to tell them apart.
private func stepped(_ step: Int, _ task: Double = 2, tokens: Int = 1000) -> RunEvent {
  .stepped(
    StepRecord(
      step: step, loss: task * 1.25, task: task, smooth: 0, balance: 0, routerZ: 0, gradientNorm: 0.5,
      learningRate: 0.003, tokens: tokens, seconds: 1, loads: [3, 4]))
}

private func began(_ name: String, _ steps: Int, from firstStep: Int = 0) -> RunEvent {
  .began(name: name, firstStep: firstStep, steps: steps, checkpoint: firstStep > 0 ? "checkpoints/\(name)/x" : nil)
}

@Suite struct `The view of a run in a terminal` {
  @Test func `a run that is resumed with fewer steps than are done was finished at the step of its checkpoint`() {
    var view = RunView(.lines(every: 1), run: "demo")
    _ = view.text(for: began("demo", 40, from: 60), at: 0)
    #expect(
      view.text(for: .state(.finished, reason: "nothing is left to do"), at: 0)
        == "run demo finished after step 60: nothing is left to do\n")
  }

  @Test func `a run that ended early has finished after the step of its last checkpoint`() {
    var view = RunView(.lines(every: 0), run: "demo")
    _ = view.text(for: began("demo", 100), at: 0)
    _ = view.text(for: stepped(2), at: 1)
    _ = view.text(for: .saved(step: 4, path: "checkpoints/demo/step-00000004"), at: 2)
    let text = view.text(for: .state(.finished, reason: "enough"), at: 3)
    #expect(text.hasPrefix("run demo finished after step 4: enough\n"), "\(text)")
  }

  @Test func `the header shows which worker holds which experts and units`() {
    var view = RunView(.terminal(columns: 80), run: "early")
    #expect(view.text(for: began("demo", 100), at: 0) == "run demo: 100 steps\n")
    #expect(
      view.text(for: .placed(generation: 1, roster: roster), at: 0) == """
        generation 1:
          worker-1 (pid 123 on box): experts 0–3, units 0–3, 1 thread
          worker-2 (pid 124 on box): experts 4–5, 7, units 4–7, 2 threads

        """)
  }

  @Test func `one line is redrawn, with bar, loss, speed and what is left`() {
    var view = RunView(.terminal(columns: 100), run: "early")
    _ = view.text(for: began("demo", 100), at: 0)
    #expect(
      view.text(for: .state(.running, reason: "begins with 2 workers"), at: 10) == "running: begins with 2 workers\n")
    _ = view.text(for: stepped(1), at: 11)
    let line = view.text(for: stepped(50), at: 60)
    // 49 steps took 49 s after the run began to compute; the ten seconds of waiting count for nothing.
    #expect(line == "\rdemo  " + half(of: 30) + "  50/100  loss 2.0000  1.00k tokens/s  50 left, 50 s\u{1B}[K")
  }

  @Test func `it draws at most ten times a second, and always the last step`() {
    var view = RunView(.terminal(columns: 80), run: "early")
    _ = view.text(for: began("a", 3), at: 0)
    #expect(view.text(for: stepped(1), at: 1) != "")
    #expect(view.text(for: stepped(2), at: 1.05) == "")
    #expect(view.text(for: stepped(3), at: 1.06).contains("3/3"))
  }

  @Test func `no line is wider than the terminal`() {
    for columns in [10, 40, 60, 80, 200] {
      var view = RunView(.terminal(columns: columns), run: "early")
      _ = view.text(for: began("a-rather-long-name-of-a-run", 1_000_000), at: 0)
      let line = view.text(for: stepped(999_999, 12345.678), at: 5)
      #expect(line.dropFirst().count - "\u{1B}[K".count < columns)
    }
  }

  @Test func `messages scroll above the redrawn line`() {
    var view = RunView(.terminal(columns: 80), run: "early")
    _ = view.text(for: began("a", 10), at: 0)
    let status = view.text(for: stepped(1), at: 1).dropFirst().replacing("\u{1B}[K", with: "")
    #expect(
      view.text(for: .evaluated(EvaluationRecord(step: 1, loss: 2, sequences: 4)), at: 2)
        == "\r\u{1B}[Kstep 1: validation loss 2.0000 nats a token (2.885 bits)\n\(status)")
    #expect(
      view.text(for: .saved(step: 1, path: "checkpoints/a/step-00000001"), at: 2).contains(
        "checkpoint checkpoints/a/step-00000001\n"))
  }

  @Test func `the shown loss is smoothed, and a loss that is not finite does not hide the next one`() {
    var view = RunView(.terminal(columns: 80), run: "early")
    _ = view.text(for: began("a", 10), at: 0)
    #expect(view.text(for: stepped(1, 4), at: 1).contains("loss 4.0000"))
    _ = view.text(for: stepped(2, .nan), at: 2)
    let line = view.text(for: stepped(3, 2), at: 3)
    // (0.95 · 4 + 2) / 1.95
    #expect(line.contains("loss 2.9744"))
  }

  private func half(of columns: Int) -> String {
    String(repeating: "█", count: columns / 2) + String(repeating: "░", count: columns - columns / 2)
  }
}

@Suite struct `The view of a run in a pipe` {
  @Test func `plain lines, every few steps and at the end`() {
    var view = RunView(.lines(every: 5), run: "early")
    _ = view.text(for: began("a", 12), at: 0)
    let lines = (1...12).map { view.text(for: stepped($0), at: Double($0)) }
    #expect(lines.indices.filter { !lines[$0].isEmpty } == [4, 9, 11])
    #expect(lines[4] == "step 5/12  loss 2.0000  norm 0.500  rate 3.0e-3  1.00k tokens/s  7 left, 7 s\n")
    #expect(!lines.joined().contains("\u{1B}") && !lines.joined().contains("\r"))
  }

  @Test func `without an interval a run has about fifty lines`() {
    var view = RunView(.lines(every: 0), run: "early")
    _ = view.text(for: began("a", 1000), at: 0)
    _ = view.text(for: .state(.running, reason: ""), at: 0)
    #expect((1...1000).count { !view.text(for: stepped($0), at: Double($0) / 10).isEmpty } == 50)
  }

  @Test func `without an interval slow steps have a line every half minute`() {
    var view = RunView(.lines(every: 0), run: "early")
    _ = view.text(for: began("a", 100_000), at: 0)
    _ = view.text(for: .state(.running, reason: ""), at: 0)
    let steps = (1...10).filter { !view.text(for: stepped($0), at: Double($0) * 12).isEmpty }
    #expect(steps == [3, 6, 9])
  }

  @Test func `a resumed run shows after which step it continues, and its pace counts only its own steps`() {
    var view = RunView(.lines(every: 1), run: "early")
    #expect(
      view.text(for: began("a", 100, from: 90), at: 0)
        == "run a: 100 steps, continuing after step 90 from checkpoints/a/x\n")
    #expect(view.text(for: stepped(91), at: 2).hasSuffix("9 left, 18 s\n"))
  }

  @Test func `the end shows the result and the curve`() {
    var view = RunView(.lines(every: 1), run: "early")
    _ = view.text(for: began("a", 2), at: 0)
    _ = view.text(for: stepped(1, 5), at: 1)
    _ = view.text(for: stepped(2, 3), at: 2)
    let end = view.text(for: .state(.failed, reason: "worker-2 (pid 124) was lost"), at: 3)
    #expect(
      end.hasPrefix(
        "run a failed after step 2: worker-2 (pid 124) was lost\n\nloss, nats a token (* training)\n   5.000 |*"))
  }

  @Test func `a run that was refused before it began ends without a step`() {
    var view = RunView(.lines(every: 1), run: "early")
    #expect(view.text(for: .state(.failed, reason: "no such dataset"), at: 0) == "run early failed: no such dataset\n")
  }
}

@Suite struct `The exit code of a run` {
  @Test(arguments: [
    ([began("a", 2), .placed(generation: 1, roster: roster), .state(.finished, reason: "")], ExitCode.done),
    ([began("a", 2), .placed(generation: 1, roster: roster), .state(.failed, reason: "")], .failed),
    ([began("a", 2), .placed(generation: 1, roster: roster), .state(.cancelled, reason: "")], .failed),
    ([.state(.placing, reason: ""), .state(.failed, reason: "refused")], .failed),
    ([began("a", 2), .state(.placing, reason: "waits"), .state(.cancelled, reason: "")], .cannotBePlaced),
    // A run that is resumed at its last step needs no workers, so their absence is not why it ended.
    (
      [.began(name: "a", firstStep: 2, steps: 2, checkpoint: "step-2"), .state(.paused, reason: "not applied")], .failed
    ),
    ([began("a", 2), .placed(generation: 1, roster: roster), .state(.running, reason: "")], nil),
  ])
  func `the exit code follows from how the run ended`(events: [RunEvent], code: ExitCode?) {
    var verdict = RunVerdict()
    for event in events { verdict.note(event) }
    #expect(verdict.exitCode == code)
  }
}

@Suite struct `The view of a run for programs` {
  @Test func `one JSON object a line for every event`() {
    var view = RunView(.json, run: "early")
    #expect(
      view.text(for: began("a", 2), at: 0)
        == #"{"event": "began", "run": "a", "first_step": 0, "steps": 2, "checkpoint": null}"# + "\n")
    #expect(
      view.text(for: .placed(generation: 1, roster: [roster[1]]), at: 0)
        == #"{"event": "placed", "generation": 1, "workers": [{"name": "worker-2", "host": "box", "process": 124, "threads": 2, "#
        + #""units": [4, 5, 6, 7], "experts": [4, 5, 7]}]}"# + "\n")
    #expect(
      view.text(for: stepped(1, .nan), at: 0)
        == #"{"event": "step", "step": 1, "loss": null, "task": null, "smooth": 0.0, "balance": 0.0, "router_z": 0.0, "#
        + #""gradient_norm": 0.5, "learning_rate": 0.003, "tokens": 1000, "seconds": 1.0, "time": null, "loads": [3, 4], "busy": [], "stall": 0.0, "skipped": null}"#
        + "\n")
    #expect(
      view.text(for: .said("a \"quoted\"\nline \u{1}"), at: 0)
        == #"{"event": "message", "text": "a \"quoted\"\nline \u0001"}"# + "\n")
    #expect(
      view.text(for: .state(.finished, reason: "done"), at: 0)
        == #"{"event": "state", "state": "finished", "reason": "done"}"# + "\n")
  }
}

@Suite struct `Numbers that are not finite, as JSON` {
  @Test func `are null in lists as well`() {
    let step = RunEvent.stepped(
      StepRecord(
        step: 1, loss: .infinity, task: .nan, smooth: 0, balance: 0, routerZ: 0, gradientNorm: .nan, learningRate: 0.5,
        tokens: 1, seconds: 1, loads: [], busy: [0.5, .nan, -.infinity], stall: .nan, time: .nan))
    let look = RunEvent.examined(
      RouterRecord(
        step: 1, active: 1, loads: [[1, 2]], entropy: [.nan], bias: [[.infinity, 1]], truncation: [0.5, .nan], time: 7))
    for event in [step, look] {
      #expect(!event.jsonLine.contains("nan") && !event.jsonLine.contains("inf"), "\(event.jsonLine)")
    }
    #expect(step.jsonLine.contains(#""busy": [0.5, null, null], "stall": null"#))
    #expect(
      look.jsonLine.contains(
        #""loads": [[1, 2]], "entropy": [null], "bias": [[null, 1.0]], "truncation": [0.5, null], "time": 7.0}"#))
  }
}

@Suite struct `Lines in a narrow terminal` {
  @Test func `break between words, are indented, and leave a long path whole`() {
    #expect(
      Wrapping.wrapped("  a worker was lost and another one has its place", columns: 40)
        == "  a worker was lost and another one has\n    its place")
    #expect(Wrapping.wrapped("saved /a/very/long/path", columns: 10) == "saved\n/a/very/long/path")
    #expect(Wrapping.wrapped("short\n\nlines", columns: 10) == "short\n\nlines")
  }

  @Test func `a run's sentences are broken so in a terminal, and left alone in a pipe`() {
    let sentence = "the validation split is shorter than one sequence, so that nothing is evaluated at all"
    var terminal = RunView(.terminal(columns: 40), run: "a"), pipe = RunView(.lines(every: 1), run: "a")
    let lines = terminal.text(for: .said(sentence), at: 0).split(separator: "\n")
    #expect(lines.count == 3 && lines.allSatisfy { $0.count < 40 })
    #expect(lines.map { $0.drop { $0 == " " } }.joined(separator: " ") == sentence)
    #expect(pipe.text(for: .said(sentence), at: 0) == sentence + "\n")
  }
}

@Suite struct `The curve` {
  @Test func `a falling loss falls from the upper left to the lower right`() {
    var chart = LossChart()
    for step in 0..<200 { chart.add(training: 5 - Double(step) * 0.01, step: step + 1) }
    chart.add(validation: 4, step: 100)
    chart.add(validation: .nan, step: 150)
    let lines = chart.text(columns: 40, rows: 7).split(separator: "\n").map(String.init)
    #expect(lines.count == 10)
    #expect(lines[0] == "loss, nats a token (* training, o validation)")
    #expect(lines[1].hasPrefix("   4.9") && lines[1].contains("|**"))
    #expect(lines[7].hasPrefix("   3.0") && lines[7].hasSuffix("**"))
    #expect(lines[4].contains("o"))
    #expect(lines.joined().count { $0 == "o" } == "lossnats a token training, o validation".count { $0 == "o" } + 1)
    #expect(lines[9].hasSuffix("200") && lines[9].contains("step 1 "))
    #expect(lines.allSatisfy { $0.count <= 45 })
  }

  @Test func `a flat loss and a single step can be drawn`() {
    var chart = LossChart()
    chart.add(training: 2, step: 1)
    #expect(chart.text(columns: 40, rows: 5) == "")
    chart.add(training: 2, step: 2)
    #expect(chart.text(columns: 40, rows: 5).contains("*"))
  }
}
