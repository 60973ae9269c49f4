// The assignment of experts to workers. Experts without a worker go to the least loaded worker, the heaviest ones
// first. Then experts move from the most loaded worker to the least loaded one, as long as that makes the most loaded
// one lighter. All others stay where they are. A worker holds an expert once.

import Configuration

package enum ExpertPlacement {
  /// - Parameters:
  ///   - loads: rows of each expert a step; all equal where nothing was measured.
  ///   - owners: the worker that holds each expert now; nil where no worker that stays holds it.
  /// - Returns: the worker of each expert.
  package static func place(loads: [Double], owners: [Int?], workers: Int) -> [Int] {
    var totals = [Double](repeating: 0, count: workers)
    var counts = [Int](repeating: 0, count: workers)
    var placed = owners
    func lightest() -> Int { (0..<workers).min { (totals[$0], counts[$0], $0) < (totals[$1], counts[$1], $1) }! }
    func put(_ expert: Int, _ worker: Int) {
      placed[expert] = worker
      totals[worker] += loads[expert]
      counts[worker] += 1
    }
    for (expert, owner) in owners.enumerated() { if let owner { put(expert, owner) } }
    let homeless = owners.indices.filter { owners[$0] == nil }.sorted { (-loads[$0], $0) < (-loads[$1], $1) }
    for expert in homeless { put(expert, lightest()) }

    // Every move makes the heaviest worker lighter, so there are few; the bound is for safety.
    for _ in 0..<(4 * loads.count) {
      let heavy = (0..<workers).max { (totals[$0], counts[$0], -$0) < (totals[$1], counts[$1], -$1) }!
      let light = lightest()
      let gap = totals[heavy] - totals[light]
      // The expert that comes nearest to closing the gap without reversing it.
      let fitting = placed.indices.filter { placed[$0] == heavy && loads[$0] < gap - 1e-9 * totals[heavy] }
      guard let best = fitting.min(by: { (abs(gap / 2 - loads[$0]), $0) < (abs(gap / 2 - loads[$1]), $1) }) else {
        break
      }
      totals[heavy] -= loads[best]
      counts[heavy] -= 1
      put(best, light)
    }
    return placed.map { $0! }
  }

  /// The first placement: contiguous and even.
  package static func even(_ model: ModelConfiguration, workers: Int) -> [[Int]] {
    evenShares(of: model.routedExperts, among: workers).map { model.experts(in: $0) }
  }
}

/// The gain that was expected of a new placement, for comparison with the measured one.
struct PlacementPromise: Codable, Equatable, Sendable {
  var stepSecondsBefore: Double
  var stepSecondsExpected: Double
  /// Steps measured since, and their seconds.
  var steps = 0
  var seconds = 0.0
  /// Number of steps that are measured before the result is reported.
  static let measuredSteps = 20
}
