// A units' tree that the teams of a worker fill side by side.
//
// A team that ends a unit adds as far as siblings are there, with its own threads. Towards the end of a step that would
// leave most teams idle while one adds, so the sums of the last units are postponed: when no team computes any more,
// all threads of the worker make them together (`PostponedSums`). The tree fixes what is added to what, so the total
// has the same bits either way.

import Kernels

/// How a team ends a unit.
package struct UnitEnd {
  /// The threads that add the unit's gradients to those of others.
  package let team: Team
  /// Whether the additions are left to all threads of the worker.
  package let postpones: Bool

  package init(team: Team, postpones: Bool = false) {
    self.team = team
    self.postpones = postpones
  }
}

package final class TeamTree<Value> {
  /// Only one thread may use it directly, after all units are done.
  package private(set) var tree = UnitTree<Value>(unitCount: 1)
  private let lock = Lock()
  /// Sums that `PostponedSums` forms, and their nodes.
  private var formed: [(value: Value?, node: UnitNode)] = []

  package init() {}

  package func begin(unitCount: Int) { tree.begin(unitCount: unitCount) }

  /// Inserts a node's sum. `add(left, right)` returns their sum; it is called without the lock.
  package func insert(_ value: Value?, at node: UnitNode, postpones: Bool, add: (Value, Value) -> Value) {
    if postpones { return lock.hold { tree.postpone(value, at: node) } }
    var (value, node) = (value, node)
    while let pair = lock.hold({ tree.meet(value, at: node) }) { (value, node) = (pair.sum(add), pair.parent) }
  }

  /// Takes all pairs of siblings that wait. `schedule(left, right)` returns the value that is going to hold their sum.
  /// Returns whether there were any; `putBack` inserts the sums when they are formed.
  package func takePairs(_ schedule: (Value, Value) -> Value) -> Bool {
    formed.removeAll(keepingCapacity: true)
    while let pair = tree.nextPair() { formed.append((pair.sum(schedule), pair.parent)) }
    return !formed.isEmpty
  }

  package func putBack() {
    for (value, node) in formed { tree.postpone(value, at: node) }
    formed.removeAll(keepingCapacity: true)
  }
}

/// Additions of many pairs of blocks in one parallel region.
package final class PostponedSums {
  private struct Addition {
    let to, from: RealPointer
    let count: Int
    /// Number of tasks before it.
    let firstTask: Int
  }
  private var additions: [Addition] = []
  private var taskCount = 0

  /// - Parameter capacity: additions that need no further memory.
  package init(capacity: Int) { additions.reserveCapacity(capacity) }

  /// Schedules to += from.
  package func add(_ from: RealPointer, to: RealPointer, count: Int) {
    additions.append(Addition(to: to, from: from, count: count, firstTask: taskCount))
    taskCount += (count + Team.addedTogether - 1) / Team.addedTogether
  }

  /// Makes all scheduled additions.
  package func run(_ team: Team) {
    team.run(taskCount) { task, _ in
      var (low, high) = (0, additions.count)
      while high - low > 1 {
        let middle = (low + high) / 2
        if additions[middle].firstTask <= task { low = middle } else { high = middle }
      }
      let addition = additions[low]
      let tile = Tiles(of: addition.count, size: Team.addedTogether)[task - addition.firstTask]
      Vectors.add(addition.from + tile.lowerBound, to: addition.to + tile.lowerBound, count: tile.count)
    }
    additions.removeAll(keepingCapacity: true)
    taskCount = 0
  }
}
