// The results of a drill, as a table for people and as lines of JSON for programs.

import Configuration

package struct DrillResult: Equatable, Sendable {
  package enum Verdict: Equatable, Sendable {
    /// The run ended with the undisturbed run's losses and weights, and reported the fault.
    case passed
    case failed(String)
    case skipped(String)
  }

  package var fault: String
  package var verdict: Verdict
  /// Seconds from the fault to the run's first message about it, and to its next new step.
  package var noticedSeconds: Double?
  package var againSeconds: Double?
  /// The run's messages about it.
  package var story: [String]

  package init(
    fault: String, verdict: Verdict, noticedSeconds: Double? = nil, againSeconds: Double? = nil, story: [String] = []
  ) {
    self.fault = fault
    self.verdict = verdict
    self.noticedSeconds = noticedSeconds
    self.againSeconds = againSeconds
    self.story = story
  }

  package var json: String {
    let (word, reason): (String, String?) =
      switch verdict {
      case .passed: ("passed", nil)
      case .failed(let reason): ("failed", reason)
      case .skipped(let reason): ("skipped", reason)
      }
    return JSON.object([
      ("fault", .text(fault)), ("verdict", .text(word)), ("reason", .init(reason)),
      ("noticed_seconds", .init(noticedSeconds)), ("steps_again_seconds", .init(againSeconds)),
      ("story", .list(story)),
    ]).line
  }

  /// Its lines below the table: why it failed, and the run's messages.
  package var details: String {
    switch verdict {
    case .passed: story.map { "  " + $0 }.joined(separator: "\n")
    case .failed(let reason): (["  failed: " + reason] + story.map { "  " + $0 }).joined(separator: "\n")
    case .skipped(let reason): "  skipped: " + reason
    }
  }
}

package struct DrillSheet: Sendable {
  package var results: [DrillResult]

  package init(_ results: [DrillResult]) { self.results = results }

  package var isPassed: Bool { results.allSatisfy { if case .failed = $0.verdict { false } else { true } } }

  package var text: String {
    var table = TextTable([
      ("fault", .left), ("curve", .left), ("noticed after", .right), ("steps again after", .right),
    ])
    for result in results {
      let word =
        switch result.verdict {
        case .passed: "same"
        case .failed: "FAILED"
        case .skipped: "skipped"
        }
      func seconds(_ value: Double?) -> String { value.map { Format.fixed($0, 2) + " s" } ?? "–" }
      table.add([result.fault, word, seconds(result.noticedSeconds), seconds(result.againSeconds)])
    }
    let (passed, failed) = (count { $0 == .passed }, count { if case .failed = $0 { true } else { false } })
    let skipped = results.count - passed - failed
    return table.text + "\n\(passed) passed, \(failed) failed" + (skipped > 0 ? ", \(skipped) skipped" : "")
  }

  private func count(_ isMeant: (DrillResult.Verdict) -> Bool) -> Int { results.count { isMeant($0.verdict) } }
}
