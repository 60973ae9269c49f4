// A sweep on this machine: its runs one after another, each with a coordinator and workers of its own.

import Configuration
import Daemon
import Foundation
import Shell
import Transport
import Wire

enum LocalSweep {
  static func go(_ folder: SweepFolder, _ report: inout SweepReport) throws -> ExitCode {
    let lock = try folder.lock()
    Interrupt.install()
    let open = report.begin()
    // Problems of the last run are reported before the first one is trained.
    let requests = try open.map { try request($0, folder) }
    let start = MonotonicClock.now
    for (index, job) in open.enumerated() {
      guard Interrupt.first == nil else { break }
      try report.note(job, train(requests[index], job, folder, report.progress))
      let left = open.count - index - 1
      guard left > 0, Interrupt.first == nil else { continue }
      let each = (MonotonicClock.now - start).inSeconds / Double(index + 1)
      report.say("\(left) left, about \(Format.duration(seconds: each * Double(left)))")
    }
    // Another process may train here from now on.
    withExtendedLifetime(lock) {}
    if let signal = Interrupt.first {
      report.say("\(Interrupt.name(signal)): the same command continues the sweep")
      return ExitCode(signal: signal)
    }
    return try report.end()
  }

  private static func request(_ job: SweepFolder.Job, _ folder: SweepFolder) throws -> RunRequest {
    var request = RunRequest(job.configuration)
    request.resume = folder.resume(job.run)
    do {
      request.notes = try Preflight.look(at: job.configuration)
      try Preflight.weigh(job.configuration)
    } catch {
      throw ProcessError(description: "run \(job.run.name): \(error)")
    }
    return request
  }

  private static func train(
    _ request: RunRequest, _ job: SweepFolder.Job, _ folder: SweepFolder, _ style: RunView.Style
  ) -> SweepResult {
    var end: (state: RunState, reason: String)?
    do {
      _ = try LocalRun.train(request, view: RunView(style, run: job.run.name)) { event in
        if case .state(let state, let reason) = event { end = (state, reason) }
      }
    } catch {
      return SweepResult(.failed, folder.curve(job.run) ?? RunCurve(), reason: "\(error)")
    }
    let curve = folder.curve(job.run) ?? RunCurve()
    switch end?.state {
    case .finished: return SweepResult(.finished, curve)
    case .paused where Interrupt.first != nil: return SweepResult(curve.isEmpty ? .waiting : .begun, curve)
    case .queued, .placing, .running, .paused, .failed, .cancelled, nil:
      return SweepResult(.failed, curve, reason: end?.reason)
    }
  }
}
