// The gradients of experts: bit by bit the same whether they are computed in every call or for a subtree of units at
// once, in one part or in several; and how much memory they take.

import Configuration
import Kernels
import Model
import TestSupport
import Testing
import Training

@Suite struct ExpertGradientTests {
  private static func configuration(width: Int, expertWidth: Int, units: Int) -> RunConfiguration {
    var c = RunConfiguration.smallModel
    (c.model.width, c.model.expertWidth, c.model.experts) = (width, expertWidth, 3)
    c.training.batchSequences = units
    return c
  }

  /// Bits of the totals of all experts, each part after the other; nil for an expert without rows.
  private func totals(_ c: RunConfiguration, units: Int, threads: Int, delay: Int?, packs: Bool = true) -> [[UInt32]?] {
    let layout = ParameterLayout(c, vocabulary: 11)
    let parameters = ParameterBuffer(layout, experts: [0, 1, 2])
    parameters.initialize(seed: 3)
    let team = Team(laneCount: threads)
    let plan = WorkPlan(index: 0, units: [0..<units], expertOwners: [0, 0, 0], layout: layout)
    let experts = LocalExperts(c.model, parameters: parameters, held: [0, 1, 2], team: team, packs: packs)
    let gradients = ExpertGradients(experts, plan, layout: layout, delay: delay)
    let random = Philox(seed: 8, stream: 2)
    var totals: [[UInt32]?] = []
    // The second round uses the memory of the first.
    for _ in 0..<2 {
      gradients.begin(unitCount: units)
      // Units are under way side by side, and end in another order than they began.
      for unit in 0..<units {
        for recurrence in 0..<2 {
          let site = ExpertSite(unit: unit, sequence: 0, segment: 0, recurrence: recurrence)
          let pieces = pieces(unit, recurrence)
          let count = pieces.last!.rows.upperBound, size = count * c.model.width
          let rows = Matrix(.allocate(capacity: size), rows: count, columns: c.model.width)
          let out = Matrix(.allocate(capacity: size), rows: count, columns: c.model.width)
          defer {
            rows.pointer.deallocate()
            out.pointer.deallocate()
          }
          for place in 0..<size {
            rows.pointer[place] = Real(random.uniform(UInt64((unit * 2 + recurrence) * 1_000_000 + place))) - 0.5
          }
          experts.forward(site, pieces: pieces, rows: rows, into: out, keep: true)
          experts.backward(site, pieces: pieces, dout: out, into: rows)
        }
      }
      for unit in (0..<units).sorted(by: { ($0 * 5 % 7, $0) < ($1 * 5 % 7, $1) }) {
        gradients.close(unit: unit, UnitEnd(team: team, postpones: false))
      }
      #expect(gradients.areComplete)
      gradients.finish()
      let parts = gradients.parts
      totals = (0..<3).map { expert in
        var bits: [UInt32] = []
        for (part, range) in parts.enumerated() {
          guard let values = gradients.totals[expert * parts.count + part] else { return nil }
          bits += (0..<range.count).map { Float(values[$0]).bitPattern }
        }
        return bits
      }
      gradients.recycle()
    }
    return totals
  }

  /// Expert 0 has rows of all units, expert 1 of units 1 and 4 alone, expert 2 of none.
  private func pieces(_ unit: Int, _ recurrence: Int) -> [ExpertPiece] {
    var pieces = [ExpertPiece(expert: 0, rows: 0..<2 + recurrence)]
    if unit == 1 || unit == 4 { pieces.append(ExpertPiece(expert: 1, rows: 2 + recurrence..<5 + recurrence)) }
    return pieces
  }

  @Test(arguments: [(16, 8), (33, 21), (512, 700), (260, 4099)])
  func `a gradient has the same bits whether it is computed in each call or for a subtree of units`(
    width: Int, expertWidth: Int
  ) {
    let units = width > 256 ? 5 : 7
    let c = Self.configuration(width: width, expertWidth: expertWidth, units: units)
    let parts = ParameterLayout(c, vocabulary: 11).expertParts
    #expect(parts.count == (3 * width * expertWidth <= 1 << 20 ? 1 : expertWidth == 700 ? 3 : 6))
    let expected = totals(c, units: units, threads: 1, delay: nil)
    #expect(expected[0] != nil && expected[1] != nil && expected[2] == nil)
    for (delay, threads) in [(0, 1), (1, 2), (2, 1), (3, 2)] {
      #expect(totals(c, units: units, threads: threads, delay: delay) == expected, "\(delay), \(threads) threads")
    }
    #expect(totals(c, units: units, threads: 2, delay: 1, packs: false) == expected, "weights that are not packed")
  }

  @Test func `large experts that few rows reach at once are not packed`() {
    func packs(_ change: (inout RunConfiguration) -> Void) -> Bool {
      var c = RunConfiguration()
      (c.model.width, c.model.expertWidth, c.model.experts, c.model.activeExperts) = (1024, 2048, 32, 2)
      (c.model.segment, c.data.sequenceLength) = (512, 1024)
      change(&c)
      return HeldModel.packsExperts(c, ParameterLayout(c, vocabulary: 257))
    }
    #expect(!packs { _ in })
    #expect(packs { $0.model.segment = 1024 } && !packs { ($0.model.segment, $0.data.sequenceLength) = (1024, 512) })
    #expect(packs { $0.model.activeExperts = 3 })
    #expect(packs { $0.model.expertWidth = 256 }, "25 million values")
    #expect(packs { $0.model.precision = .bf16 }, "bf16 factors are packed in both directions")
    #expect(packs { $0.model.feedForward = .dense })
  }

  @Test(arguments: [(512, 512), (512, 700), (1024, 2048), (1000, 3001), (65_536, 100)])
  func `parts cover a block, fit a message, and cut no chunk of the optimizer`(width: Int, expertWidth: Int) {
    let c = Self.configuration(width: width, expertWidth: expertWidth, units: 1)
    let layout = ParameterLayout(c, vocabulary: 11), parts = layout.expertParts
    #expect(parts.first?.lowerBound == 0 && parts.last?.upperBound == layout.expertCount)
    #expect(zip(parts, parts.dropFirst()).allSatisfy { $0.upperBound == $1.lowerBound })
    #expect(parts.allSatisfy { $0.count <= ShardLayout.messageSize })
    for entry in layout.experts[0] where parts.count > 1 {
      for start in stride(from: entry.offset, to: entry.range.upperBound, by: 65_536) {
        let chunk = start..<min(entry.range.upperBound, start + 65_536)
        #expect(parts.contains { $0.lowerBound <= chunk.lowerBound && chunk.upperBound <= $0.upperBound })
      }
    }
  }

  @Test func `rows are kept where they are smaller than the gradient, for as many units as save memory`() {
    func level(_ workers: Int = 1, lanes: Int = 1, _ change: (inout RunConfiguration) -> Void = { _ in }) -> Int? {
      var c = RunConfiguration()
      (c.model.width, c.model.expertWidth, c.model.experts, c.model.activeExperts) = (1024, 2048, 32, 2)
      (c.model.steps, c.data.sequenceLength, c.training.batchSequences) = (4, 1024, 8)
      change(&c)
      return GradientDelay.level(c, ParameterLayout(c, vocabulary: 257), workers: workers, lanes: lanes)
    }
    #expect(level() == 2)
    #expect(level(2, lanes: 2) == 1)
    #expect(level(8) == 3)
    #expect(level { $0.data.sequenceLength = 256 } == 2)
    #expect(level { $0.training.batchSequences = 1 } == nil, "a block of gradients is needed in any case")
    #expect(level { $0.data.sequenceLength = 8192 } == nil)
    #expect(level { $0.model.experts = 0 } == nil)
  }

  @Test func `the blocks of a step are counted: levels of the tree, workers side by side, and rows that are kept`() {
    func blocks(_ units: Int, _ workers: Int = 1, lanes: Int = 1, delay: Int? = nil, share: Double = 0) -> Double {
      GradientMemory(units: units, workers: workers, lanes: lanes, delay: delay, rowShare: share).blocks
    }
    // One under way, and a sum at each level below the root.
    #expect([1, 2, 4, 8, 16].map { blocks($0) } == [1, 2, 3, 4, 5])
    #expect(blocks(8, 8) == 8 && blocks(8, 2) == 6 && blocks(8, 2, lanes: 2) == 6)
    // Four units' rows, and the block that they become; the second time they are added to it.
    #expect(blocks(8, delay: 2, share: 0.25) == 2)
    #expect(blocks(8, delay: 0, share: 0.25) == 3.25)
    #expect(blocks(8, 8, delay: 3, share: 0.25) == 3)
  }
}
