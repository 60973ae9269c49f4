// What drills and tests ask of a worker, in its environment:
//
// - `RESS_FLIP_BIT=WORKER@STEP`: the worker computes one bit of that step wrongly.
// - `RESS_HOLD=FILE`: while the file exists, the worker begins no step from the one whose number is in the file. So a
//   fault can be injected in the middle of a run on a machine of any speed.
//
// Without these variables a worker does neither.

import Foundation
import Kernels

package struct Rehearsal {
  /// The step in which one bit is computed wrongly; nil for none.
  package let wrongStep: Int?
  private let holdFile: String?
  private static let lookSeconds = 0.002

  /// - Parameter name: this worker's name.
  package init(of name: String, _ environment: [String: String] = ProcessInfo.processInfo.environment) {
    let words = environment["RESS_FLIP_BIT"]?.split(separator: "@") ?? []
    wrongStep = words.count == 2 && words[0] == name ? Int(words[1]) : nil
    holdFile = environment["RESS_HOLD"]
  }

  /// Waits as long as `step` (from 0) may not begin. A worker that waits here is not stuck.
  /// - Parameter check: called at every look; throws where the generation has ended.
  package func wait(before step: Int, check: () throws -> Void) rethrows {
    while isHeld(step) {
      Progress.note()
      Thread.sleep(forTimeInterval: Rehearsal.lookSeconds)
      try check()
    }
  }

  private func isHeld(_ step: Int) -> Bool {
    guard let holdFile, let text = try? String(contentsOfFile: holdFile, encoding: .utf8), let first = Int(text)
    else { return false }
    return step >= first
  }
}
