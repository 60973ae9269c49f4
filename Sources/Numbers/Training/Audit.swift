// The audit: finds hardware that computes wrong results without an error (silent data corruption).
//
// Before each step, a share of its units, drawn from (seed, step, unit), is computed by a second worker as well.
// The losses and gradients of both must agree to the bit, which they do on sound machines, because a unit's numbers
// do not depend on where it is computed. If they differ, a third worker, where there is one, computes the unit too,
// and the coordinator takes the result of the majority to be right. A step with a unit in doubt is not applied by
// any worker.

import CKernels
import Kernels
import Model

package struct Audit: Equatable, Sendable {
  /// Units of the step that are computed twice, ascending. All workers draw the same ones.
  package let units: [Int]

  /// Philox stream of the draw, distinct from the streams of all parameters and of the sampler.
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

  /// The worker that gives the `opinion`-th result of a unit: 0 is the unit's owner, 1 the worker after it in the
  /// roster, and so on.
  package static func auditor(of unit: Int, opinion: Int, in plan: WorkPlan) -> Int {
    let owner = plan.units.firstIndex { $0.contains(unit) }!
    return (owner + opinion) % plan.workerCount
  }

  /// A hash of a unit's losses, expert loads and dense gradient.
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

/// A unit whose results on two workers differ. The step was not applied.
package struct AuditFailure: Error, Equatable, CustomStringConvertible {
  package var step: Int
  package var unit: Int
  /// Roster indices of the workers that computed the unit, and the hashes of their results.
  package var voters: [Int]
  package var hashes: [UInt64]

  package var description: String {
    "step \(step + 1): unit \(unit) has different results on workers "
      + voters.map { String($0) }.joined(separator: " and ")
  }
}
