// A scenario is a text file that is documentation and a test: what happens to a cluster, one line an event, and below
// each line, indented, what the coordinator does about it. Tests/Scenarios/README.md lists the events.

import Configuration
import Coordination
import Wire

struct Scenario {
  struct Problem: Error, CustomStringConvertible {
    var description: String
  }

  private var cluster = Cluster()
  /// Workers that send heartbeats while time passes.
  private var alive: [PeerID] = []
  private var incarnations: UInt64 = 0

  /// The scenario with what the coordinator does in the place of the indented lines.
  static func play(_ text: String) throws -> String {
    var scenario = Scenario()
    var lines: [String] = []
    for line in text.split(separator: "\n", omittingEmptySubsequences: false) where !line.hasPrefix("  ") {
      lines.append(String(line))
      guard !line.isEmpty, !line.hasPrefix("#") else { continue }
      let words = line.split(separator: " ").map(String.init)
      do {
        try scenario.act(words)
      } catch { throw Problem(description: "'\(line)': \(error)") }
      lines += scenario.cluster.takeTranscript().map { "    " + $0 }
    }
    return lines.joined(separator: "\n")
  }

  private func peer(_ name: String) -> PeerID { PeerID("peer-" + name) }

  private func peers(_ names: some Sequence<String>) -> [PeerID] { names.map { peer($0) } }

  private func number(_ words: [String], _ index: Int) throws -> Int {
    guard index < words.count, let number = Int(words[index]) else {
      throw Problem(description: "word \(index + 1) should be a number")
    }
    return number
  }

  /// `3` or `3-5`.
  private func steps(_ words: [String], _ index: Int) throws -> ClosedRange<Int> {
    let ends = index < words.count ? words[index].split(separator: "-").compactMap { Int($0) } : []
    guard let first = ends.first, let last = ends.last, first <= last else {
      throw Problem(description: "word \(index + 1) should be a step or FIRST-LAST")
    }
    return first...last
  }

  private func run(_ words: [String]) throws -> RunID {
    guard words.count > 1, let run = cluster.names.first(where: { $0.value == words[1] })?.key else {
      throw Problem(description: "word 2 should be a run")
    }
    return run
  }

  private mutating func act(_ words: [String]) throws {
    let names = words.dropFirst()
    switch words[0] {
    case "join": for name in names { join(name) }
    case "hello":
      for name in names {
        let peer = peer(name)
        cluster.say(.hello(cluster.descriptions[peer]!, cluster.heartbeat(peer)), from: peer)
      }
    case "leave":
      stop(peers([words[1]]))
      cluster.say(.goodbye(reason: names.dropFirst().joined(separator: " ")), from: peer(words[1]))
    case "crash":
      stop(peers(names))
      for peer in peers(names) { cluster.step(.disconnected(peer)) }
    case "freeze": stop(peers(names))
    case "thaw": alive += peers(names)
    case "wait": cluster.wait(.milliseconds(Int(Double(words[1])! * 1000)), alive: alive)
    case "restart":
      cluster.restartCoordinator()

    case "submit": try submit(words)
    case "pause", "resume", "cancel":
      let change: RunChange = words[0] == "pause" ? .pause : words[0] == "resume" ? .resume : .cancel
      cluster.say(.change(run: words[1], change), from: Cluster.client)
    case "scale": cluster.say(.change(run: words[1], .scale(workers: try number(words, 2))), from: Cluster.client)

    case "folder": cluster.prepare(try run(words), words[1], firstStep: words.count > 2 ? try number(words, 2) : 0)
    case "committed":
      let step = try number(words, 2)
      cluster.step(.committed(try run(words), step: step, path: "/runs/\(words[1])/step-\(step)"))
    case "refused":
      let reason = words.dropFirst(3).joined(separator: " ")
      cluster.step(.commitFailed(try run(words), step: try number(words, 2), reason: reason))

    case "ready": for peer in peers(names) { cluster.report(.ready, from: peer) }
    case "steps": for step in try steps(words, 2) { cluster.report(.stepDone(record(step)), from: peer(words[1])) }
    case "skips":
      for step in try steps(words, 2) {
        var record = record(step, loss: .nan)
        record.skipped = words.dropFirst(3).joined(separator: " ")
        cluster.report(.stepDone(record), from: peer(words[1]))
      }
    case "holds":
      let step = try number(words, 1)
      for name in words.dropFirst(2) {
        let assignment = cluster.assignment(peer(name))!
        cluster.held[peer(name)] = assignment.roster.indices.map {
          HeldShard(
            run: assignment.run, generation: assignment.generation, index: $0, count: assignment.roster.count,
            step: step)
        }
      }
    case "saved":
      for name in words.dropFirst(2) {
        cluster.report(.saved(step: try number(words, 1), files: []), from: peer(name))
      }
    case "halted":
      for name in words.dropFirst(2) {
        cluster.report(
          .halted(step: try number(words, 1), held: cluster.held[peer(name)] ?? []), from: peer(name))
      }
    case "finished": for peer in peers(names) { cluster.report(.finished, from: peer) }
    case "disagree":
      let hashes = words.dropFirst(3).map { UInt64($0, radix: 16)! }
      cluster.report(
        .disagreed(
          Disagreement(step: try number(words, 2), unit: 0, voters: Array(hashes.indices), hashes: hashes)),
        from: peer(words[1]))
    default: throw Problem(description: "there is no event '\(words[0])'")
    }
  }

  private mutating func stop(_ peers: [PeerID]) { alive.removeAll { peers.contains($0) } }

  private mutating func join(_ name: String) {
    incarnations += 1
    var worker = Cluster.worker(name)
    worker.incarnation = incarnations
    cluster.descriptions[peer(name)] = worker
    if !alive.contains(peer(name)) { alive.append(peer(name)) }
    cluster.say(.hello(worker, Heartbeat()), from: peer(name))
  }

  private mutating func submit(_ words: [String]) throws {
    var submission = Cluster.submission(words[1])
    for word in words.dropFirst(2) {
      let parts = word.split(separator: "=")
      guard parts.count == 2, let number = Int(parts[1]) else {
        throw Problem(description: "'\(word)' is not KEY=NUMBER")
      }
      switch parts[0] {
      case "workers": submission.configuration.cluster.workers = number
      case "minimum": submission.configuration.cluster.minimumWorkers = number
      case "steps": submission.configuration.training.steps = number
      case "priority": submission.configuration.cluster.priority = number
      case "skip_at_most": submission.configuration.training.skipAtMost = number
      default: throw Problem(description: "there is no key '\(parts[0])'")
      }
    }
    if !words.contains(where: { $0.hasPrefix("minimum=") }) {
      submission.configuration.cluster.minimumWorkers = submission.configuration.cluster.workers
    }
    cluster.say(.submit(submission), from: Cluster.client)
  }
}
