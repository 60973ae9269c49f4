// The progress of a run: events in, text out. It reads no clock and writes to no file, so a test needs no time.
//
// On a terminal the last line is redrawn in place, and everything else scrolls above it. In a pipe there are plain
// lines, one every few steps. With --json there is one JSON object a line for every event.

import Configuration
import Wire

package struct RunView: Sendable {
  package enum Style: Equatable, Sendable {
    case terminal(columns: Int)
    /// A line after every `every`-th step; 0 chooses about fifty lines for a run, and at least one every half minute.
    case lines(every: Int)
    case json
    /// Only the line that is redrawn, on a terminal; nothing elsewhere. For a command that trains several runs.
    case brief(columns: Int?)
  }

  private let style: Style
  private var run: String
  private var stepCount = 0
  private var step = 0
  private var pace = Pace()
  private var smoothed = SmoothedLoss()
  private var chart = LossChart()
  private var statusShown = false
  private var lastDrawn = -Double.infinity
  /// The step of the last checkpoint.
  private var savedStep = 0

  /// More redraws a second than an eye can follow are useless, and slow terminals (ssh) suffer from them.
  private static let secondsBetweenDraws = 0.1

  /// A log without a new line for longer looks like a hang.
  private static let secondsBetweenLines = 30.0

  /// `run` is the name to show until the coordinator reports it.
  package init(_ style: Style, run: String) {
    self.style = style
    self.run = run
  }

  /// The text for an event at time `seconds` of any monotonic clock.
  package mutating func text(for event: RunEvent, at seconds: Double) -> String {
    note(event, at: seconds)
    if style == .json { return event.jsonLine + "\n" }
    if case .brief(let columns) = style { return columns == nil ? "" : brief(event, at: seconds) }
    switch event {
    case .began(let name, let firstStep, let steps, let checkpoint):
      let resumed = checkpoint.map { ", continuing after step \(firstStep) from \($0)" } ?? ""
      return block("run \(name): \(SpokenNumbers.count(steps, "step"))\(resumed)")
    case .state(let state, let reason):
      return state.isAtRest ? end(state, reason) : block("\(state.rawValue): \(reason)")
    case .placed(let generation, let roster):
      return block((["generation \(generation):"] + roster.map(Self.line)).joined(separator: "\n"))
    case .stepped(let record): return stepText(record, at: seconds)
    case .evaluated(let record):
      return block("step \(record.step): \(MetricText.sentence(loss: record.loss, record.metrics))")
    case .examined: return ""
    case .saved(let step, let path): return block("step \(step): checkpoint \(path)")
    case .said(let sentence): return block(sentence)
    }
  }

  private mutating func stepText(_ record: StepRecord, at seconds: Double) -> String {
    switch style {
    case .terminal:
      // The last step is always drawn, because its line stays on the screen.
      guard step == stepCount || seconds - lastDrawn >= Self.secondsBetweenDraws else { return "" }
      lastDrawn = seconds
      statusShown = true
      return "\r" + status + "\u{1B}[K"
    case .lines(let every):
      let interval = every > 0 ? every : max(1, stepCount / 50)
      let isLate = every == 0 && seconds - lastDrawn >= Self.secondsBetweenLines
      guard step.isMultiple(of: interval) || step == stepCount || isLate else { return "" }
      lastDrawn = seconds
      return
        "step \(step)/\(stepCount)  loss \(Format.fixed(record.task, 4))  norm \(Format.fixed(record.gradientNorm, 3))  "
        + "rate \(Self.scientific(record.learningRate))  \(progress)\n"
    case .json, .brief: return ""
    }
  }

  /// The line of the newest step, which is removed when the run ends.
  private mutating func brief(_ event: RunEvent, at seconds: Double) -> String {
    switch event {
    case .state(let state, _) where state.isAtRest && statusShown:
      statusShown = false
      return "\r\u{1B}[K"
    case .stepped where seconds - lastDrawn >= Self.secondsBetweenDraws:
      lastDrawn = seconds
      statusShown = true
      return "\r" + status + "\u{1B}[K"
    case .began, .state, .placed, .stepped, .evaluated, .examined, .saved, .said: return ""
    }
  }

  // MARK: Parts

  private mutating func note(_ event: RunEvent, at seconds: Double) {
    switch event {
    case .began(let name, let firstStep, let steps, _):
      (run, stepCount, step) = (name, steps, firstStep)
      pace.begin(step: firstStep, at: seconds)
    case .state(.running, _):
      if case .lines = style { lastDrawn = seconds }
      // The time of waiting for workers and of loading is not part of any step.
      pace.begin(step: step, at: seconds)
    case .stepped(let record):
      step = record.step
      pace.note(step: step, tokens: record.tokens, took: record.seconds, at: seconds)
      // Only the cross-entropy, which is comparable with the validation loss.
      smoothed.add(record.task)
      chart.add(training: record.task, step: step)
    case .evaluated(let record): chart.add(validation: record.loss, step: record.step)
    case .saved(let saved, _): savedStep = max(saved, savedStep)
    case .state, .placed, .examined, .said: break
    }
  }

  /// Lines above the redrawn one.
  private mutating func block(_ text: String) -> String {
    guard case .terminal(let columns) = style else { return text + "\n" }
    let text = Wrapping.wrapped(text, columns: columns - 1)
    return statusShown ? "\r\u{1B}[K\(text)\n\(status)" : text + "\n"
  }

  private mutating func end(_ state: RunState, _ reason: String) -> String {
    var text = statusShown ? "\n" : ""
    statusShown = false
    text += "run \(run) " + state.ending
    // Steps that are computed again, after they were recorded, make no events, but the last checkpoint makes one. A run
    // that was resumed with fewer steps than its checkpoint has finished at the checkpoint's step.
    if step > 0 { text += " after step \(state == .finished ? max(step, savedStep) : step)" }
    text += (reason.isEmpty ? "" : ": \(reason)") + "\n"
    var columns = 80
    if case .terminal(let own) = style {
      columns = own
      text = Wrapping.wrapped(text, columns: columns - 1)
    }
    let drawn = chart.text(columns: min(columns - 1, 80), rows: 12)
    return drawn.isEmpty ? text : text + "\n" + drawn + "\n"
  }

  /// `demo  ██████░░░░  412/1000  loss 2.1034  11.2k tokens/s  588 left, 2:14`, cut to the terminal.
  private var status: String {
    let columns: Int
    switch style {
    case .terminal(let own), .brief(let own?): columns = own
    case .lines, .json, .brief(nil): return ""
    }
    let tail = "  \(step)/\(stepCount)  loss \(Format.fixed(smoothed.value, 4))  \(progress)"
    let room = columns - 1 - run.count - 2 - tail.count
    let bar = room >= 8 ? "  " + Self.bar(share: Double(step) / Double(max(1, stepCount)), columns: min(30, room)) : ""
    return String((run + bar + tail).prefix(max(0, columns - 1)))
  }

  private var progress: String {
    let left = stepCount - step
    guard let pace = pace.now else { return "\(left) left" }
    return "\(Format.compact(pace.tokensPerSecond)) tokens/s  \(left) left, "
      + Format.duration(seconds: Double(left) * pace.secondsPerStep)
  }

  private static func line(_ entry: RosterEntry) -> String {
    let worker = entry.worker
    return "  \(worker.name) (pid \(worker.process) on \(worker.host)): experts \(Format.ranges(entry.experts)), "
      + "units \(Format.ranges(entry.units))"
      // 0: the worker shares the cores with others of the run on its machine.
      + (worker.threads > 0 ? ", \(Format.count(worker.threads, "thread"))" : "")
  }

  private static func bar(share: Double, columns: Int) -> String {
    let full = min(columns, max(0, Int((share * Double(columns)).rounded(.down))))
    return String(repeating: "█", count: full) + String(repeating: "░", count: columns - full)
  }

  /// `3.0e-03`
  private static func scientific(_ value: Double) -> String {
    guard value > 0, value.isFinite else { return "0" }
    var mantissa = value, exponent = 0
    while mantissa < 1 { (mantissa, exponent) = (mantissa * 10, exponent - 1) }
    while mantissa >= 9.95 { (mantissa, exponent) = (mantissa / 10, exponent + 1) }
    return "\(Format.fixed(mantissa, 1))e\(exponent)"
  }
}

/// The loss without the noise of single batches: an exponential mean over about 20 steps, unbiased at the start.
struct SmoothedLoss: Sendable {
  private static let keep = 0.95
  private var sum = 0.0
  private var weight = 0.0

  mutating func add(_ loss: Double) {
    // One loss that is not finite would make all later means not finite.
    guard loss.isFinite else { return }
    sum = Self.keep * sum + (1 - Self.keep) * loss
    weight = Self.keep * weight + (1 - Self.keep)
  }

  var value: Double { weight > 0 ? sum / weight : .nan }
}

/// How fast steps go, over the last few seconds: recent enough to follow a change, long enough to be steady.
struct Pace: Sendable {
  private static let windowSeconds = 15.0
  /// Steps that the window always keeps, however fast they are.
  private static let windowCount = 256
  private var marks: [(step: Int, seconds: Double, tokens: Int)] = []

  /// By the clock of `seconds`. A story that is read later arrives faster than it happened; then the steps' own times
  /// count.
  private var lag = 0.0

  mutating func begin(step: Int, at seconds: Double) {
    marks = [(step, seconds, 0)]
    lag = 0
  }

  mutating func note(step: Int, tokens: Int, took: Double, at clock: Double) {
    if let last = marks.last { lag = max(lag, last.seconds + took - clock) }
    let seconds = clock + lag
    marks.append((step, seconds, tokens))
    // At least two marks stay, so that a run with slow steps has a pace too.
    while marks.count > 2, seconds - marks[1].seconds > Self.windowSeconds || marks.count > Self.windowCount {
      marks.removeFirst()
    }
  }

  var now: (tokensPerSecond: Double, secondsPerStep: Double)? {
    guard let first = marks.first, let last = marks.last, last.step > first.step, last.seconds > first.seconds else {
      return nil
    }
    // Counted by step, not by event, because a follower may have missed some.
    let secondsPerStep = (last.seconds - first.seconds) / Double(last.step - first.step)
    let tokensPerStep = Double(marks.dropFirst().reduce(0) { $0 + $1.tokens }) / Double(marks.count - 1)
    return (tokensPerStep / secondsPerStep, secondsPerStep)
  }
}

extension RunState {
  /// As the end of a sentence about a run.
  fileprivate var ending: String {
    switch self {
    case .cancelled: "was cancelled"
    case .paused: "is paused"
    case .queued, .placing, .running, .finished, .failed: rawValue
    }
  }
}
