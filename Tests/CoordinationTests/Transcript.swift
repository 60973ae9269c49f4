// What a coordinator does, in words, for scenarios.

import Configuration
import Coordination
import Wire

extension Cluster {
  /// What was done since the last call. Steps in a row are one line.
  mutating func takeTranscript() -> [String] {
    defer { transcript = [] }
    var lines: [String] = []
    var steps: (run: String, range: ClosedRange<Int>)?
    func close() {
      guard let (run, range) = steps else { return }
      let one = range.count == 1
      lines.append(
        "\(run): \(one ? "step \(range.lowerBound) is" : "steps \(range.lowerBound) to \(range.upperBound) are") recorded"
      )
      steps = nil
    }
    for line in transcript {
      let words = line.split(separator: " ")
      if words.count == 3, words[1] == "stepped", let step = Int(words[2]) {
        if let (run, range) = steps, run == words[0], range.upperBound + 1 == step {
          steps = (run, range.lowerBound...step)
        } else {
          close()
          steps = (String(words[0]), step...step)
        }
      } else {
        close()
        lines.append(line)
      }
    }
    close()
    // Identifiers of runs say nothing to a reader.
    return lines.map { line in names.keys.reduce(line) { $0.replacing(" (\($1))", with: "") } }
  }

  mutating func write(_ action: Action) {
    switch action {
    case .store(let changes):
      for case .event(let id, _, let bytes) in changes {
        if let event = try? RecordCodec.decode(RunEvent.self, from: bytes) { write(event, of: id) }
      }
    case .send(let peer, let reply): write(reply, to: String(peer.description.trimmingPrefix("peer-")))
    case .prepareRun(let id, let submission, _, _):
      names[id] = submission.configuration.run
      transcript.append("disk: look at the folder of \(submission.configuration.run)")
    case .commit(_, let manifest, _): transcript.append("disk: commit step \(manifest.step) of \(manifest.run)")
    case .prove(let checkpoint, let mark):
      transcript.append("disk: write what step \(mark.step) gave beside \(checkpoint)")
    case .log(let line), .complain(let line): transcript.append(line)
    case .runCommand(_, let ending): transcript.append("run \(ending.command), because the run is \(ending.state)")
    case .sendEvents, .sendStatus, .sendDetails, .completeMetrics, .takeFolder, .releaseFolder, .record: break
    }
  }

  private mutating func write(_ event: RunEvent, of id: RunID) {
    let run = names[id] ?? "\(id)"
    switch event {
    case .stepped(let record): transcript.append("\(run) stepped \(record.step)")
    case .said(let sentence): transcript.append("\(run): \(sentence)")
    case .saved(let step, _): transcript.append("\(run): the checkpoint of step \(step) counts")
    // A change of state is in the log as well; the roster is in the assignments.
    case .state, .began, .placed, .evaluated, .examined: break
    }
  }

  private mutating func write(_ reply: Reply, to name: String) {
    switch reply {
    case .assigned(let assignment):
      let from =
        switch assignment.start {
        case .fresh: "the seed"
        case .weights(let source): source.path
        case .checkpoint(let path): path
        case .memory: "memory"
        }
      let place =
        assignment.isHelper
        ? "as a helper" : "place \(assignment.index) of \(assignment.roster.count)"
      transcript.append(
        "→ \(name): generation \(assignment.generation) of \(assignment.configuration.run), \(place), "
          + "after step \(assignment.firstStep) from \(from)")
    case .begin(let generation, _, _): transcript.append("→ \(name): begin generation \(generation)")
    case .halt(_, let saving, _):
      transcript.append("→ \(name): stop at the end of the step\(saving ? ", with a checkpoint" : "")")
    case .stop(let generation, let reason): transcript.append("→ \(name): stop generation \(generation): \(reason)")
    case .welcome(_, _, let asked, let keep, _):
      let what = asked == 0 ? "" : keep == asked ? "; keep generation \(keep)" : "; give generation \(asked) up"
      transcript.append("→ \(name): welcome\(what)")
    case .unknownWorker: transcript.append("→ \(name): unknown; send a hello first")
    case .refused(let reason): transcript.append("→ \(name): refused: \(reason)")
    case .accepted(_, _, let sentence): transcript.append("→ \(name): accepted: \(sentence)")
    case .submitted(let run, let runName, _):
      names[run] = runName
      transcript.append("→ \(name): run \(runName) is submitted")
    case .rewrite(let order): transcript.append("→ \(name): write shard \(order.shard.index) again")
    case .alive, .events, .status, .described: break
    }
  }
}
