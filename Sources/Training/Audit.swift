// Silent errors. A share of the units, drawn from (seed, step, unit), is computed by a second worker as well, before the step;
// losses and gradients must agree to the bit. Where they do not, a third worker, if there is one, computes the unit too, and the
// majority is believed. No worker applies a step whose units are in doubt.

import CKernels
import Kernels
import Model

package struct Audit: Equatable, Sendable {
  /// Units of the step that are computed twice, ascending.
  package let units: [Int]

  /// Keys the draw, apart from every parameter's stream and the sampler's.
  private static let stream: UInt64 = 0x5A3F_0000_0001

  package init(share: Double, seed: UInt64, step: Int, unitCount: Int, workerCount: Int) {
    guard share > 0, workerCount > 1 else {
      units = []
      return
    }
    let random = Philox(seed: seed, stream: Audit.stream)
    units = (0..<unitCount).filter { unit in
      Double(random.words(UInt64(step) << 20 | UInt64(unit))[0]) < share * 4_294_967_296
    }
  }

  /// The `opinion`-th worker after a unit's owner.
  package static func auditor(of unit: Int, opinion: Int, in plan: WorkPlan) -> Int {
    let owner = plan.units.firstIndex { $0.contains(unit) }!
    return (owner + opinion) % plan.workerCount
  }

  /// Of a unit's losses, loads and dense gradient.
  static func hash(_ report: UnitReport, gradient: RealPointer, count: Int) -> UInt64 {
    let losses = report.losses
    let numbers =
      [
        losses.task, losses.smooth, losses.balance, losses.routerZ, Double(losses.targets), Double(losses.tokens),
      ] + report.routing.numbers
    let low = numbers.withUnsafeBytes { ress_crc32c(0, $0.baseAddress, $0.count) }
    let high = ress_crc32c(0, gradient, count * MemoryLayout<Real>.stride)
    return UInt64(high) << 32 | UInt64(low)
  }
}

/// A unit that was computed to different results; the step was not applied.
package struct AuditFailure: Error, Equatable, CustomStringConvertible {
  package var step: Int
  package var unit: Int
  /// Places of those who computed it, and their results' hashes.
  package var voters: [Int]
  package var hashes: [UInt64]

  package var description: String {
    "step \(step + 1): unit \(unit) has different results on the workers at places "
      + voters.map { String($0) }.joined(separator: " and ")
  }
}
