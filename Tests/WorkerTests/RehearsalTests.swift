// What drills and tests ask of a worker in its environment.

import Foundation
import Testing
import Worker

@Suite struct RehearsalTests {
  private struct Ended: Error {}

  @Test func `a worker waits before the step in the file of RESS_HOLD, and continues when the file is removed`() throws
  {
    let path = NSTemporaryDirectory() + "ress-hold-" + UUID().uuidString
    let rehearsal = Rehearsal(of: "a", ["RESS_HOLD": path])
    try "7".write(toFile: path, atomically: true, encoding: .utf8)
    defer { try? FileManager.default.removeItem(atPath: path) }
    var looks = 0
    rehearsal.wait(before: 6) { looks += 1 }
    #expect(looks == 0)
    for step in [7, 8] {
      #expect(throws: Ended.self) { try rehearsal.wait(before: step) { throw Ended() } }
    }
    rehearsal.wait(before: 7) {
      looks += 1
      if looks == 3 { try? FileManager.default.removeItem(atPath: path) }
    }
    #expect(looks == 3)
  }

  @Test func `without these variables a worker never waits, and RESS_FLIP_BIT concerns the worker that it names`() {
    for environment in [[:], ["RESS_HOLD": "/no/such/file"]] {
      Rehearsal(of: "a", environment).wait(before: 5) { Issue.record("it waits") }
    }
    let asked = ["RESS_FLIP_BIT": "a@12"]
    #expect(Rehearsal(of: "a", asked).wrongStep == 12)
    #expect(Rehearsal(of: "b", asked).wrongStep == nil && Rehearsal(of: "a", [:]).wrongStep == nil)
  }
}
