// A sweep in a coordinator's queue: all runs are submitted at once, and followed until each has ended. They do not need
// this command: called again, it finds them by their names and folders.

import Configuration
import Coordination
import Daemon
import Foundation
import Shell
import Transport
import Wire

struct QueueSweep {
  let folder: SweepFolder
  let address: String

  /// A coordinator that does not answer for longer is given up; its runs are not.
  private static let absenceSeconds = 600.0
  private static let secondsBetweenLooks = 1.0

  func go(_ report: inout SweepReport) throws -> ExitCode {
    Interrupt.install()
    let client = try ConnectionSecurity.client(address)
    let open = report.begin()
    // Problems of the last run are reported before the first one is submitted.
    var missing: Set<String> = []
    let requests = try open.map { try request($0, &missing) }
    let known = try client.status()
    var waiting: [RunID: SweepFolder.Job] = [:]
    for (job, request) in zip(open, requests) {
      guard Interrupt.first == nil else { break }
      waiting[try submit(request, job, known, client)] = job
    }
    var heard = MonotonicClock.now
    while !waiting.isEmpty, Interrupt.first == nil {
      do throws(ClientError) {
        let status = try client.status()
        heard = MonotonicClock.now
        for run in status.runs {
          guard run.state.isAtRest, let job = waiting.removeValue(forKey: run.id) else { continue }
          try note(run, job, client, &report)
        }
        // The coordinator forgets runs that have ended when it has too many.
        let known = Set(status.runs.map(\.id))
        for (id, job) in waiting where !known.contains(id) {
          waiting[id] = nil
          report.say("the coordinator does not know run \(job.run.name) any more; the same command submits it again")
        }
        let states = status.runs.filter { waiting[$0.id] != nil }.map(\.state)
        report.show("\(states.count { $0 == .running }) running, \(states.count { $0 != .running }) waiting")
      } catch {
        guard (MonotonicClock.now - heard).inSeconds < Self.absenceSeconds else { throw error }
      }
      wait()
    }
    if let signal = Interrupt.first {
      report.say(
        "\(Interrupt.name(signal)): the runs stay in the queue; the same command follows them again, and `ress cancel RUN` ends one"
      )
      return ExitCode(signal: signal)
    }
    return try report.end()
  }

  /// - Parameter missing: data that are not on this machine, which the workers will check; each is reported once.
  private func request(_ job: SweepFolder.Job, _ missing: inout Set<String>) throws -> RunRequest {
    var request = RunRequest(job.configuration).anywhere
    let data = request.configuration.data
    let paths = data.mixture.isEmpty ? [data.path] : data.mixture.map(\.path)
    if !paths.allSatisfy({ FileManager.default.fileExists(atPath: $0) }), !missing.insert(data.names).inserted {
      return request
    }
    do { request.notes = try Preflight.look(at: request.configuration, whereWorkersAre: address) } catch {
      throw ProcessError(description: "run \(job.run.name): \(error)")
    }
    return request
  }

  /// A run of an earlier call is followed, or continued if it has ended early; any other is submitted.
  private func submit(
    _ request: RunRequest, _ job: SweepFolder.Job, _ status: ClusterStatus, _ client: CoordinatorClient
  ) throws -> RunID {
    var request = request
    request.resume = folder.resume(job.run)
    if let known = status.run(job.run.name), let details = try? client.details(of: known.id.description),
      details.configuration.checkpoint.directory == request.configuration.checkpoint.directory,
      details.configuration.decidesSameNumbers(as: request.configuration)
    {
      if known.state == .finished || !known.state.isAtRest { return known.id }
      request.resume = .newest
    }
    return try client.submit(request.submission).run
  }

  private func note(
    _ run: ClusterStatus.Run, _ job: SweepFolder.Job, _ client: CoordinatorClient, _ report: inout SweepReport
  ) throws(ClientError) {
    var curve = RunCurve()
    try client.story(run.id.description) { curve.note($0) }
    let result =
      run.state == .finished
      ? SweepResult(.finished, curve) : SweepResult(.failed, curve, reason: "\(run.state.rawValue): \(run.reason)")
    do { try report.note(job, result) } catch { throw .refused("\(error)") }
  }

  /// In short naps, so that a signal ends the command at once.
  private func wait() {
    let end = MonotonicClock.now + .milliseconds(Int64(1000 * Self.secondsBetweenLooks))
    while MonotonicClock.now < end, Interrupt.first == nil { Thread.sleep(forTimeInterval: 0.05) }
  }
}
