// Presents a profile of training steps: as a table for people, and as a trace for the viewers chrome://tracing and
// ui.perfetto.dev.

import Configuration
import Kernels

package struct ProfileReport {
  private let profile: Profile
  private let worker: String
  private let laneCount: Int
  private let stepCount: Int
  private let firstStep: Int

  /// - Parameters:
  ///   - worker: the worker's name in the report.
  ///   - firstStep: number of the first step profiled, from 1.
  package init(_ profile: Profile, worker: String, laneCount: Int, firstStep: Int, stepCount: Int) {
    self.profile = profile
    self.worker = worker
    self.laneCount = laneCount
    self.firstStep = firstStep
    self.stepCount = stepCount
  }

  /// Milliseconds per step and share of time of each part, and how busy the other threads were.
  package var text: String {
    let times = profile.selfTimes()
    let total = max(1, times.reduce(0) { $0 + $1.nanoseconds })
    func milliseconds(_ nanoseconds: Int64) -> String { fixed(Double(nanoseconds) / 1e6 / Double(stepCount), 2) }
    var lines = [
      "\(worker): steps \(firstStep)–\(firstStep + stepCount - 1), \(milliseconds(total)) ms a step, "
        + "\(SpokenNumbers.count(laneCount, "thread"))",
      row("part", "forward ms", "backward ms", "other ms", "share"),
    ]
    for part in ProfilePart.allCases {
      let own = times.filter { $0.part == part }
      guard !own.isEmpty else { continue }
      func cell(_ direction: ProfileDirection) -> String {
        own.first { $0.direction == direction }.map { milliseconds($0.nanoseconds) } ?? ""
      }
      let share = Double(own.reduce(0) { $0 + $1.nanoseconds }) / Double(total)
      let name = part == .step ? "everything else" : part.rawValue
      lines.append(row(name, cell(.forward), cell(.backward), cell(.neither), fixed(100 * share, 1) + " %"))
    }
    for lane in 1..<max(1, laneCount) {
      let busy = profile.busy(lane: lane)
      lines.append("thread \(lane + 1) computed \(fixed(100 * Double(busy) / Double(total), 1)) % of the time")
    }
    if !profile.isComplete { lines.append("the profile is incomplete: its buffer was full before the last step ended") }
    return lines.joined(separator: "\n") + "\n"
  }

  /// The profile in Trace Event Format: complete events, in microseconds, one thread per lane.
  package var trace: String {
    func name(_ kind: String, lane: Int?, _ name: String) -> JSON {
      .object(
        [("name", .text(kind)), ("ph", .text("M")), ("pid", .whole(1))] + (lane.map { [("tid", .whole($0))] } ?? [])
          + [("args", .object([("name", .text(name))]))])
    }
    var events = [name("process_name", lane: nil, worker)]
    for lane in 0..<laneCount {
      events.append(name("thread_name", lane: lane, lane == 0 ? "training thread" : "thread \(lane + 1)"))
    }
    for span in profile.spans {
      let direction = span.direction == .neither ? "" : " \(span.direction.rawValue)"
      events.append(
        .object([
          ("name", .text(span.part.rawValue + direction)), ("cat", .text(span.direction.rawValue)), ("ph", .text("X")),
          ("pid", .whole(1)), ("tid", .whole(span.lane)), ("ts", .real(Double(span.begin) / 1000)),
          ("dur", .real(Double(span.end - span.begin) / 1000)),
        ]))
    }
    return JSON.object([("displayTimeUnit", .text("ms")), ("traceEvents", .array(events))]).compact + "\n"
  }

  private func row(_ name: String, _ cells: String...) -> String {
    name.padded(to: 24) + cells.map { $0.aligned(to: 12) }.joined()
  }

  private func fixed(_ value: Double, _ digits: Int) -> String {
    let scale = digits == 1 ? 10 : 100
    let whole = Int((value * Double(scale)).rounded())
    let fraction = String(whole % scale)
    return "\(whole / scale)." + String(repeating: "0", count: digits - fraction.count) + fraction
  }
}

extension String {
  fileprivate func padded(to width: Int) -> String { self + String(repeating: " ", count: max(0, width - count)) }
  fileprivate func aligned(to width: Int) -> String { String(repeating: " ", count: max(0, width - count)) + self }
}
