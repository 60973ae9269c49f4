// `ress drill`, as a user runs it. Its report must distinguish a cluster that survives from one that does not.

import Foundation
import Testing

@Suite(.serialized) final class DrillTests {
  private let place: Workplace

  init() throws { place = try Workplace() }

  private func drill(_ faults: String, environment: [String: String] = [:]) throws -> (code: Int32?, output: String) {
    let drill = try place.start(
      [
        "drill", "run.yaml", "--workers", "3", "--threads", "1", "--steps", "150", "--patience", "1.5", "--faults",
        faults,
      ],
      environment: environment)
    return (drill.exitCode(within: 180), drill.output)
  }

  @Test func `a run survives a pulled cable, a full disk and a damaged checkpoint, and no files are left`() throws {
    let (code, output) = try drill("cut-worker,disk-full,damaged-checkpoint")
    #expect(code == 0, "\(output)")
    #expect(output.contains("3 passed, 0 failed"), "\(output)")
    #expect(output.contains("File too large") && output.contains("is passed over"), "\(output)")
    #expect(!FileManager.default.fileExists(atPath: place.path + "/checkpoints/first-drill"))
  }

  @Test func `a differing curve fails the drill, which names the step and keeps the logs`() throws {
    // The third worker computes wrongly in the undisturbed run; under the fault it is dead by then.
    let (code, output) = try drill("kill-worker", environment: ["RESS_FLIP_BIT": "worker-3@110"])
    #expect(code == 1, "\(output)")
    #expect(output.contains("failed: step 11") && output.contains("0 passed, 1 failed"), "\(output)")
    #expect(FileManager.default.fileExists(atPath: place.path + "/checkpoints/first-drill/kill-worker/worker-3.log"))
    let again = try place.run(["drill", "run.yaml", "--steps", "20"])
    #expect(again.code == 1 && again.errors.contains("contains files of an earlier drill"), "\(again.errors)")
  }

  @Test func `an unknown fault is refused with a list of the known ones`() throws {
    let refused = try place.run(["drill", "run.yaml", "--faults", "kill-worker,fire"])
    #expect(refused.code == 2 && refused.errors.contains("'fire'") && refused.errors.contains("cut-worker"))
  }
}
