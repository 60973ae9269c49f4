// What a coordinator knows, as tables for people and lines of JSON for programs.

import Wire

package enum StatusView {
  package static func runs(_ status: ClusterStatus) -> String {
    if status.runs.isEmpty { return "no run was submitted to this coordinator" }
    return table(
      ["run", "id", "state", "step", "reason"],
      status.runs.map { run in
        [run.name, run.id.description, run.state.rawValue, "\(run.step)/\(run.steps)", run.reason]
      })
  }

  package static func runsJSON(_ status: ClusterStatus) -> [String] {
    status.runs.map { run in
      JSONText.object([
        ("run", .text(run.name)), ("id", .text(run.id.description)), ("state", .text(run.state.rawValue)),
        ("step", .whole(run.step)), ("steps", .whole(run.steps)), ("reason", .text(run.reason)),
      ])
    }
  }

  /// Workers, then the runs that have not ended.
  package static func cluster(_ status: ClusterStatus) -> String {
    let workers =
      status.workers.isEmpty
      ? "no worker is here; start one with: ress worker"
      : table(
        ["worker", "host", "process", "works for", "silent"],
        status.workers.map { worker in
          let description = worker.description
          return [
            description.name, description.host, String(description.process), worker.run ?? "nobody",
            Format.fixed(worker.silentSeconds, 1) + " s",
          ]
        })
    var going = status
    going.runs.removeAll(where: \.state.isEnd)
    return workers + "\n\n" + (going.runs.isEmpty ? "no run is waiting or working" : runs(going))
  }

  package static func clusterJSON(_ status: ClusterStatus) -> [String] {
    status.workers.map { worker in
      JSONText.object([
        ("worker", .text(worker.description.name)), ("host", .text(worker.description.host)),
        ("process", .whole(worker.description.process)), ("run", worker.run.map { .text($0) } ?? .raw("null")),
        ("silent_seconds", .real(worker.silentSeconds)), ("fingerprint", .text(worker.description.fingerprint)),
      ])
    } + runsJSON(status)
  }

  /// Columns as wide as their widest cell; the last one runs free.
  private static func table(_ head: [String], _ rows: [[String]]) -> String {
    let widths = head.indices.map { column in ([head] + rows).map { $0[column].count }.max() ?? 0 }
    return ([head] + rows).map { row in
      row.enumerated().map { column, cell in
        column == row.count - 1 ? cell : cell + String(repeating: " ", count: widths[column] - cell.count + 2)
      }.joined()
    }.joined(separator: "\n")
  }
}
