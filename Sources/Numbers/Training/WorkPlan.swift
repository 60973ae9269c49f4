// The division of work in one generation of a run: which worker computes which units, owns which experts, and updates
// which dense parameters. The training step needs it; the results do not depend on it.
//
// Where an expert computes is a choice apart from who owns it. Its owner alone has the moments and makes the update.
// Its weights may lie on other workers too (`copies`). A worker with a copy computes the rows of its own units with
// it, and sends the sums of the gradients to the owner, which sends the updated weights back; the rows of all other
// units travel to the owner.

import Configuration
import Kernels
import Model

package struct WorkPlan: Equatable, Sendable {
  /// This worker's roster index.
  package let index: Int
  package let workerCount: Int
  /// Units of each worker, contiguous.
  package let units: [Range<Int>]
  /// The worker that owns each expert.
  package let expertOwners: [Int]
  /// By worker, the experts of others whose weights it has, ascending.
  package let copies: [[Int]]
  /// The part of the dense parameters that each worker updates and has the moments of: contiguous, whole tensors and
  /// rows of large ones (`RowBorders`).
  package let denseRanges: [Range<Int>]
  /// Whether a worker has the weights of an expert, by worker and expert.
  private let holds: [[Bool]]

  /// - Parameter copies: by worker; none where it is empty.
  package init(index: Int, units: [Range<Int>], expertOwners: [Int], copies: [[Int]] = [], layout: ParameterLayout) {
    self.index = index
    self.units = units
    self.expertOwners = expertOwners
    workerCount = units.count
    denseRanges = RowBorders.split(layout, workers: units.count)
    let known = expertOwners.indices
    self.copies = units.indices.map { worker in
      copies.isEmpty ? [] : Set(copies[worker]).filter { known.contains($0) && expertOwners[$0] != worker }.sorted()
    }
    var holds = units.map { _ in Array(repeating: false, count: expertOwners.count) }
    for (expert, owner) in expertOwners.enumerated() where owner < units.count { holds[owner][expert] = true }
    for (worker, experts) in self.copies.enumerated() { for expert in experts { holds[worker][expert] = true } }
    self.holds = holds
  }

  /// The plan of a single worker that does everything.
  package static func alone(_ configuration: RunConfiguration, layout: ParameterLayout) -> WorkPlan {
    WorkPlan(
      index: 0, units: [0..<configuration.training.unitCount],
      expertOwners: Array(repeating: 0, count: configuration.model.expertCount), layout: layout)
  }

  /// The plan of another worker of the same generation.
  package func at(_ index: Int, _ layout: ParameterLayout) -> WorkPlan {
    WorkPlan(index: index, units: units, expertOwners: expertOwners, copies: copies, layout: layout)
  }

  /// The roster index of the worker that owns each expert, from the experts of each worker.
  package static func owners(of held: [[Int]], experts: Int) -> [Int] {
    var owners = Array(repeating: 0, count: experts)
    for (index, mine) in held.enumerated() { for expert in mine { owners[expert] = index } }
    return owners
  }

  package var unitCount: Int { units.last?.upperBound ?? 0 }
  package var myUnits: Range<Int> { units[index] }
  /// The experts that this worker owns, and those whose weights it has.
  package var myExperts: [Int] { expertOwners.indices.filter { expertOwners[$0] == index } }
  package var heldExperts: [Int] { expertOwners.indices.filter { holds[index][$0] } }
  package var myDense: Range<Int> { denseRanges[index] }

  /// The worker that computes an expert for the units of a worker.
  package func computer(of expert: Int, forUnitsOf worker: Int) -> Int {
    holds[worker][expert] ? worker : expertOwners[expert]
  }

  /// Units that a worker has under way at once, at most: two where rows travel, so that one computes while the rows of
  /// the other are on their way.
  package var lanes: Int {
    let travels = units.indices.contains { worker in holds[worker].contains(false) }
    return travels && units.contains { $0.count > 1 } ? Relay.laneCount : 1
  }

  /// The workers that have a copy of an expert, ascending.
  package func copyHolders(of expert: Int) -> [Int] {
    units.indices.filter { holds[$0][expert] && expertOwners[expert] != $0 }
  }

  /// The worker that computes a unit of a training step.
  package func worker(ofUnit unit: Int) -> Int { units.firstIndex { $0.contains(unit) }! }

  /// The rows of a dense tensor that this worker updates, or nil if another worker updates all of them.
  package func myRows(of entry: ParameterEntry) -> TensorRows? { TensorRows(entry, within: myDense) }
}
