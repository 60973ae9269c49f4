// What workers exchange between the last unit of a step and the first unit of the next, as a protocol.
// `LocalGradientExchange` serves a single worker and exchanges nothing; `PeerExchange` (target Exchange) sends
// messages over ZeroMQ or MPI.
//
// Order of calls in a training step: `begin`, then for each unit of this worker the unit's computation and
// `finish`, then `publish`, `reports`, `reduce`, `gather`, and, if the step is applied, `share`.

import Kernels
import Model

/// What all workers need to know of a unit: its losses, and how its tokens were routed.
package typealias UnitReport = SequenceReport

/// A round is one pass of units through the model: a training step's batch, an evaluation, or an audit. All workers
/// count the same rounds.
package struct Round: Equatable, Sendable {
  /// An audit computes units of the next training round on other workers and discards their gradients; a probe
  /// measures the connections between workers and has no units.
  package enum Purpose: Equatable, Sendable { case training, evaluation, audit, probe }
  package var number: Int
  package var step: Int
  package var purpose: Purpose
  package var unitCount: Int

  package init(number: Int, step: Int, purpose: Purpose, unitCount: Int) {
    self.number = number
    self.step = step
    self.purpose = purpose
    self.unitCount = unitCount
  }
}

/// The slowest of the workers' connections: seconds that a small message is under way, and bytes a second in each
/// direction while all workers send.
package struct LineSpeed: Equatable, Sendable {
  package var latencySeconds: Double
  package var bytesPerSecond: Double

  package init(latencySeconds: Double, bytesPerSecond: Double) {
    self.latencySeconds = latencySeconds
    self.bytesPerSecond = bytesPerSecond
  }
}

/// The exchange of one worker with all others. Every call may block until peers have done their part.
package protocol GradientExchange: AnyObject {
  /// All workers begin: they agree how they exchange, in a round of its own.
  func prepare(_ number: Int) throws

  /// A round begins on this worker. Peers may have begun it before.
  func begin(_ round: Round) throws

  /// A unit of this worker is done: no expert will get further rows of it. The teams of a worker may call this at the
  /// same time, for different units.
  func finish(unit: Int, _ report: UnitReport, _ end: UnitEnd) throws

  /// The units of this worker are done, and these are the sums of their gradients, which stay as they are until
  /// `gather` returns.
  func publish(_ sums: [(node: UnitNode, value: PooledBuffer?)]) throws

  /// Blocks until the units of all workers are done. Returns their reports, by unit.
  func reports() throws -> [UnitReport]

  /// Sums the dense gradients over all workers. `sums` are this worker's subtree sums over all dense parameters.
  /// Returns the total over the batch for the part that this worker owns, valid until the next round.
  func reduce(_ sums: [(node: UnitNode, value: PooledBuffer?)]) throws -> RealPointer

  /// Adds `squares` element by element over the workers; all but one worker have 0 in each element. The note
  /// travels with them; when this returns, `notes` has the notes of all workers, by roster index.
  func gather(_ squares: [Double], _ note: StepNote) throws -> [Double]
  var notes: [StepNote] { get }

  /// Sends the dense parameters that this worker updated to all others, and receives theirs.
  func share(_ parameters: ParameterBuffer) throws

  /// Measures the connections between the workers, all of them together, in a round of its own; nil without peers.
  func probe(_ number: Int) throws -> LineSpeed?

  /// Whether gradients and parameters are exchanged in memory that the workers share.
  var sharesMemory: Bool { get }
  /// Seconds that this worker has waited for others since it began.
  var waitedSeconds: Double { get }
  /// Bytes that this worker has sent its peers in training rounds since it began.
  var sentBytes: Int { get }
}

/// The exchange of a single worker, which has no peers.
package final class LocalGradientExchange: GradientExchange {
  private let expertGradients: ExpertGradients
  private let sizes: Sizes
  private var round = Round(number: 0, step: 0, purpose: .training, unitCount: 0)
  private var finished: [UnitReport] = []
  private let lock = Lock()
  package private(set) var notes = [StepNote()]
  package var waitedSeconds: Double { 0 }
  package var sentBytes: Int { 0 }
  package var sharesMemory: Bool { false }

  package init(_ expertGradients: ExpertGradients, _ sizes: Sizes) {
    self.expertGradients = expertGradients
    self.sizes = sizes
  }

  package func begin(_ round: Round) {
    self.round = round
    if finished.count != round.unitCount {
      // Made one by one: copies of a single report would share its storage, and each would allocate at its first
      // change.
      finished = (0..<round.unitCount).map { _ in UnitReport(sizes) }
    }
  }

  package func finish(unit: Int, _ report: UnitReport, _ end: UnitEnd) {
    lock.hold { finished[unit].copy(report) }
    if round.purpose == .training { expertGradients.close(unit: unit, end) }
  }

  package func prepare(_ number: Int) {}
  package func publish(_ sums: [(node: UnitNode, value: PooledBuffer?)]) {}
  package func reports() -> [UnitReport] { finished }

  package func reduce(_ sums: [(node: UnitNode, value: PooledBuffer?)]) -> RealPointer {
    precondition(sums.count == 1, "one worker holds the whole tree")
    return sums[0].value!.pointer
  }

  package func gather(_ squares: [Double], _ note: StepNote) -> [Double] {
    notes[0] = note
    return squares
  }
  package func share(_ parameters: ParameterBuffer) {}
  package func probe(_ number: Int) -> LineSpeed? { nil }
}
