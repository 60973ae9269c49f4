// The sheet of a drill.

import Shell
import Testing

@Suite struct `The table of a drill` {
  private let results = [
    DrillResult(fault: "kill-worker", verdict: .passed, noticedSeconds: 0.61, againSeconds: 0.7, story: ["b is lost"]),
    DrillResult(fault: "cut-worker", verdict: .failed("step 3 has loss 2.0, but 1.0 undisturbed"), story: ["placing"]),
    DrillResult(fault: "flipped-bit", verdict: .skipped("two workers cannot tell")),
  ]

  @Test func `one line a fault, and the sums`() {
    #expect(
      DrillSheet(results).text == """
        fault        curve    noticed after  steps again after
        kill-worker  same            0.61 s             0.70 s
        cut-worker   FAILED               –                  –
        flipped-bit  skipped              –                  –
        1 passed, 1 failed, 1 skipped
        """)
    #expect(!DrillSheet(results).isPassed)
    #expect(DrillSheet([results[0], results[2]]).isPassed)
  }

  @Test func `details show the reason of a failure before the run's messages`() {
    #expect(results[1].details == "  failed: step 3 has loss 2.0, but 1.0 undisturbed\n  placing")
    #expect(results[0].details == "  b is lost")
  }

  @Test func `a line for programs`() {
    #expect(
      results[0].json
        == #"{"fault": "kill-worker", "verdict": "passed", "reason": null, "noticed_seconds": 0.61, "steps_again_seconds": 0.7, "story": ["b is lost"]}"#
    )
    #expect(results[2].json.contains(#""verdict": "skipped", "reason": "two workers cannot tell""#))
  }

  @Test func `faults are chosen by name, all without one, and a wrong name is refused`() throws {
    #expect(try DrillFault.chosen(nil) == DrillFault.allCases)
    #expect(try DrillFault.chosen("disk-full,kill-all") == [.diskFull, .killAll])
    #expect(throws: UsageError.self) { try DrillFault.chosen("kill-al") }
  }
}
