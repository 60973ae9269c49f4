// Which worker owns which experts.

import Configuration
import Coordination
import Testing

@Suite struct ExpertPlacementTests {
  private struct Draw {
    var state: UInt64
    mutating func next(_ limit: Int) -> Int {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return Int((state >> 33) % UInt64(limit))
    }
  }

  /// Rows of the most loaded worker over the mean: 1 is balance.
  private func heaviest(_ loads: [Double], _ owners: [Int], _ workers: Int) -> Double {
    let total = loads.reduce(0, +)
    guard total > 0 else { return 1 }
    var totals = [Double](repeating: 0, count: workers)
    for (expert, owner) in owners.enumerated() { totals[owner] += loads[expert] }
    return totals.max()! * Double(workers) / total
  }

  @Test func `every expert has one worker, no worker gets more load, and the result is near the optimum`() {
    for seed in UInt64(0)..<500 {
      var draw = Draw(state: seed &* 977)
      let experts = 1 + draw.next(40), workers = 1 + draw.next(6)
      let loads = (0..<experts).map { _ in Double(draw.next(1000)) }
      let owners: [Int?] = (0..<experts).map { _ in draw.next(4) == 0 ? nil : draw.next(workers) }
      let placed = ExpertPlacement.place(loads: loads, owners: owners, workers: workers)
      #expect(placed.count == experts && placed.allSatisfy { (0..<workers).contains($0) })
      if owners.allSatisfy({ $0 != nil }) {
        #expect(heaviest(loads, placed, workers) <= heaviest(loads, owners.map { $0! }, workers) + 1e-9, "seed \(seed)")
      }
      // No schedule is lighter than the mean or the heaviest expert; greedy ones come within twice that.
      let bound = max(loads.reduce(0, +) / Double(workers), loads.max()!)
      var totals = [Double](repeating: 0, count: workers)
      for (expert, owner) in placed.enumerated() { totals[owner] += loads[expert] }
      #expect(totals.max()! <= 2 * bound + 1e-9, "seed \(seed)")
    }
  }

  @Test func `experts that are balanced stay where they are`() {
    let owners: [Int?] = [1, 0, 1, 0, 2, 2]
    #expect(
      ExpertPlacement.place(loads: Array(repeating: 5, count: 6), owners: owners, workers: 3) == owners.map { $0! })
  }

  @Test func `only the experts of a lost worker move, where the others are even`() {
    let placed = ExpertPlacement.place(
      loads: Array(repeating: 1, count: 6), owners: [0, 0, 1, 1, nil, nil], workers: 2)
    #expect(Array(placed[..<4]) == [0, 0, 1, 1] && Set(placed[4...]) == [0, 1])
  }

  @Test func `a better balance is predicted to be faster, and by no more than the experts weigh`() {
    var model = RunConfiguration().model
    model.experts = 4
    let cost = StepCost(model)
    let loads = [900.0, 50, 25, 25]
    let same = cost.predict(
      seconds: 2, tokens: [100, 100], loads: loads, owners: [0, 0, 1, 1], newOwners: [0, 0, 1, 1], recurrence: 3)
    let better = cost.predict(
      seconds: 2, tokens: [100, 100], loads: loads, owners: [0, 0, 1, 1], newOwners: [0, 1, 1, 1], recurrence: 3)
    #expect(same == 2 && better < 2 && better > 1.8)
  }
}
