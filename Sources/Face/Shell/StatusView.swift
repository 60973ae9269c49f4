// A coordinator's status, as tables for people and lines of JSON for programs.

import Configuration
import Wire

package enum StatusView {
  package static func runs(_ status: ClusterStatus) -> String {
    if status.runs.isEmpty { return "no run was submitted to this coordinator" }
    return table(
      ["run", "id", "state", "step", "workers", "goodput", "reason"],
      status.runs.map { run in
        [
          run.name, run.id.description, run.state.rawValue, "\(run.step)/\(run.steps)",
          "\(run.workers.count)/\(run.wantedWorkers)", run.goodput.share.map(percent) ?? "", run.reason,
        ]
      })
  }

  package static func runsJSON(_ status: ClusterStatus) -> [String] {
    status.runs.map { run in
      JSON.object(
        [
          ("run", .text(run.name)), ("id", .text(run.id.description)), ("state", .text(run.state.rawValue)),
          ("step", .whole(run.step)), ("steps", .whole(run.steps)), ("reason", .text(run.reason)),
          ("priority", .whole(run.priority)), ("generation", .whole(Int(run.generation))),
          ("workers", .list(run.workers)), ("minimum_workers", .whole(run.minimumWorkers)),
          ("wanted_workers", .whole(run.wantedWorkers)),
          ("checkpoint_step", .init(run.checkpointStep)),
          ("goodput", .init(run.goodput.share)),
          ("useful_seconds", .real(run.goodput.useful)), ("expected", (run.forecast ?? Forecast()).json),
          ("actual", run.actual.json), ("each_worker", sharesJSON(run)),
        ] + run.goodput.losses.map { ("\($0.cause)_seconds", .real($0.seconds)) }
      ).line
    }
  }

  /// All about one run.
  package static func run(_ run: ClusterStatus.Run) -> String {
    let goodput = run.goodput
    var lines = [
      "run \(run.name) (\(run.id)): \(run.state.rawValue): \(run.reason)",
      "  step         \(run.step) of \(run.steps)",
      "  workers      " + (run.workers.isEmpty ? "none" : run.workers.joined(separator: ", "))
        + " (\(run.minimumWorkers) to \(run.wantedWorkers)), generation \(run.generation)",
      "  priority     \(run.priority)",
      "  checkpoint   " + (run.checkpointStep.map { "step \($0)" } ?? "none yet"),
    ]
    lines += costs(run) + shares(run)
    guard let share = goodput.share else { return lines.joined(separator: "\n") }
    lines.append(
      "  goodput      \(percent(share)) of \(Format.duration(seconds: goodput.total)) went into useful steps")
    for (cause, seconds) in goodput.losses where seconds > 0 {
      let name = cause + String(repeating: " ", count: 11 - cause.count)
      lines.append("    \(name)\(percent(seconds / goodput.total))  \(Format.fixed(seconds, 1)) s")
    }
    return lines.joined(separator: "\n")
  }

  /// Expected and actual costs, where either is known.
  private static func costs(_ run: ClusterStatus.Run) -> [String] {
    let (expected, actual) = (run.forecast ?? Forecast(), run.actual)
    guard expected != Forecast() || actual != Forecast() else { return [] }
    var table = TextTable([("", .left), ("expected", .right), ("actual", .right), ("", .left)])
    func add(_ name: String, _ expected: Double?, _ actual: Double?, _ text: (Double) -> String) {
      guard expected != nil || actual != nil else { return }
      var difference = ""
      if let expected, let actual, expected > 0 {
        let share = 100 * (actual / expected - 1)
        difference = (share < 0 ? "" : "+") + Format.fixed(share, 0) + " %"
      }
      table.add([name, expected.map(text) ?? "–", actual.map(text) ?? "–", difference])
    }
    add("a step", expected.stepSeconds, actual.stepSeconds) { Format.seconds($0) }
    add("of it, waiting", expected.waitSeconds, actual.waitSeconds) { Format.seconds($0) }
    add("memory a worker", expected.memoryBytes.map { Double($0) }, actual.memoryBytes.map { Double($0) }, bytes)
    add("sent a step", expected.sentBytes.map { Double($0) }, actual.sentBytes.map { Double($0) }, bytes)
    add("a checkpoint", expected.checkpointBytes.map { Double($0) }, actual.checkpointBytes.map { Double($0) }, bytes)
    let lines = table.text.split(separator: "\n", omittingEmptySubsequences: false)
    return ["  costs        " + lines[0].drop { $0 == " " }] + lines.dropFirst().map { "    " + $0 }
  }

  /// What each worker does in a step, and for which workers it waits.
  private static func shares(_ run: ClusterStatus.Run) -> [String] {
    guard let shares = run.shares, !shares.isEmpty else { return [] }
    var table = TextTable([
      ("worker", .left), ("computes", .right), ("waits", .right), ("last", .right), ("sent", .right),
      ("memory", .right), ("waits for", .left),
    ])
    for share in shares {
      table.add([
        share.worker, share.busySeconds.map { Format.seconds($0) } ?? "–",
        share.waitSeconds.map { Format.seconds($0) } ?? "–",
        share.lastShare.map { Format.fixed(100 * $0, 0) + " %" } ?? "–",
        share.sentBytes.map { Format.bytes($0) } ?? "–", share.memoryBytes.map { Format.bytes($0) } ?? "–",
        share.spokenWaits,
      ])
    }
    let lines = table.text.split(separator: "\n", omittingEmptySubsequences: false)
    return ["  each step    (last: share of the steps in which all others waited for this worker)"]
      + lines.map { "    " + $0 }
  }

  private static func sharesJSON(_ run: ClusterStatus.Run) -> JSON {
    .array(
      (run.shares ?? []).map { share in
        .object([
          ("worker", .text(share.worker)), ("busy_seconds", .init(share.busySeconds)),
          ("wait_seconds", .init(share.waitSeconds)), ("last_share", .init(share.lastShare)),
          ("sent_bytes", .init(share.sentBytes)), ("memory_bytes", .init(share.memoryBytes)),
          ("waits_for", .list(share.waitsFor)), ("waits_for_count", .whole(share.waitsForCount)),
        ])
      })
  }

  private static func bytes(_ count: Double) -> String { Format.bytes(Int(count)) }

  private static func percent(_ share: Double) -> String { Format.fixed(100 * share, 1) + " %" }

  /// Workers, then the runs that have not ended.
  package static func cluster(_ status: ClusterStatus) -> String {
    let workers =
      status.workers.isEmpty
      ? "no worker is connected; start one with: ress worker"
      : table(
        ["worker", "host", "process", "works for", "silent", "waits for"],
        status.workers.map { worker in
          let description = worker.description
          return [
            description.name, description.host, String(description.process), worker.run ?? "–",
            Format.fixed(worker.silentSeconds, 1) + " s", worker.waiting ?? "",
          ]
        })
    let gone = (status.gone ?? []).map { worker in
      "\(worker.description.spoken) left \(Format.duration(seconds: worker.secondsAgo)) ago: \(worker.reason)"
    }
    var going = status
    going.runs.removeAll(where: \.state.isEnd)
    return ([workers] + gone).joined(separator: "\n") + "\n\n"
      + (going.runs.isEmpty ? "no run is waiting or running" : runs(going))
  }

  package static func clusterJSON(_ status: ClusterStatus) -> [String] {
    status.workers.map { worker in
      JSON.object([
        ("worker", .text(worker.description.name)), ("host", .text(worker.description.host)),
        ("process", .whole(worker.description.process)), ("run", .init(worker.run)),
        ("silent_seconds", .real(worker.silentSeconds)), ("fingerprint", .text(worker.description.fingerprint)),
        ("waiting", .init(worker.waiting)),
      ]).line
    } + runsJSON(status)
  }

  /// Columns are as wide as their widest cell, except for the last one.
  private static func table(_ head: [String], _ rows: [[String]]) -> String {
    let widths = head.indices.map { column in ([head] + rows).map { $0[column].count }.max() ?? 0 }
    return ([head] + rows).map { row in
      row.enumerated().map { column, cell in
        column == row.count - 1 ? cell : cell + String(repeating: " ", count: widths[column] - cell.count + 2)
      }.joined()
    }.joined(separator: "\n")
  }
}

extension Forecast {
  fileprivate var json: JSON {
    .object([
      ("step_seconds", .init(stepSeconds)), ("wait_seconds", .init(waitSeconds)), ("memory_bytes", .init(memoryBytes)),
      ("sent_bytes", .init(sentBytes)), ("checkpoint_bytes", .init(checkpointBytes)),
    ])
  }
}
