// Linear maps y = x Wᵀ. The product reads W fastest when it is packed by columns. A weight changes once per step and is
// read by hundreds of products, so it is packed once per step. A product with few rows can do without that: it puts the
// rows into panels, and reads the weight where it lies.

import CKernels

/// A weight (out, in), and its packed copies where it has enough rows for them.
package struct LinearMap {
  package let weight: Matrix
  /// How the products with the weight read it and their other factor.
  package let factors: Factors
  fileprivate(set) package var packed: RealPointer?
  /// With factors of bf16, the weight packed for dx = dy W; a float's weight is read where it lies.
  fileprivate(set) package var packedBack: RealPointer?

  package init(_ weight: Matrix, factors: Factors = .full) {
    self.weight = weight
    self.factors = factors
  }

  private static var panel: Int { Int(ress_gemm_panel()) }
  private var isPacked: Bool { weight.rows >= LinearMap.panel / 2 }

  /// Rows up to which a product gains little from a packed weight that comes from memory, with factors as they are: a
  /// panel of AVX-512. The number is the same for every processor, so that `ress plan` counts the memory of any.
  package static let fewRows = 32
  /// Rows of a weight from which on it is read where it lies if it is not packed. Smaller ones are put into panels.
  static let manyOutputs = 256

  /// Panels of the packed weight, for y = x Wᵀ and for dx = dy W; 0 where it is not packed.
  fileprivate var panels: (forward: Int, back: Int) {
    let panel = LinearMap.panel
    guard isPacked else { return (0, 0) }
    return ((weight.rows + panel - 1) / panel, factors == .full ? 0 : (weight.columns + panel - 1) / panel)
  }

  /// Number of values of the packed weight, likewise.
  fileprivate var packedCounts: (forward: Int, back: Int) {
    let (forward, back) = panels
    switch factors {
    case .full: return (forward * LinearMap.panel * weight.columns, 0)
    case .bf16:
      guard forward > 0 else { return (0, 0) }
      return (
        RoundedProducts.packedCount(outputs: weight.rows, inputs: weight.columns),
        back > 0 ? RoundedProducts.packedCount(outputs: weight.columns, inputs: weight.rows) : 0
      )
    }
  }
}

/// The memory for the packed copies of some maps.
package final class PackedMaps {
  private let arena: Arena
  private var pieces: [(map: LinearMap, back: Bool, panels: Range<Int>)] = []

  package var byteCount: Int { arena.byteCount }

  /// Allocates the packed copies of every map; `pack` fills them.
  package init(_ maps: inout [LinearMap]) {
    let counts = maps.map(\.packedCounts)
    let (arena, pointers) = Arena.build { arena in
      counts.map { ($0.forward > 0 ? arena.reals($0.forward) : nil, $0.back > 0 ? arena.reals($0.back) : nil) }
    }
    self.arena = arena
    for index in maps.indices { (maps[index].packed, maps[index].packedBack) = pointers[index] }
    for map in maps {
      let (forward, back) = map.panels
      for (count, isBack) in [(forward, false), (back, true)] {
        for first in stride(from: 0, to: count, by: PackedMaps.panelsAPiece) {
          pieces.append((map, isBack, first..<min(count, first + PackedMaps.panelsAPiece)))
        }
      }
    }
  }

  /// Panels that one task packs.
  private static let panelsAPiece = 8

  /// Packs the current values of all weights.
  package func pack(_ team: Team) {
    team.run(pieces.count) { task, _ in
      let (map, isBack, panels) = pieces[task]
      let w = map.weight
      switch map.factors {
      case .full:
        ress_gemm_pack_transposed(
          Int64(w.rows), Int64(w.columns), w.pointer, Int64(w.stride), Int64(panels.lowerBound),
          Int64(panels.upperBound), map.packed!)
      case .bf16: RoundedProducts.pack(map, back: isBack, panels: panels)
      }
    }
  }
}
