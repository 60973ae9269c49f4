// Linear maps y = x Wᵀ. The product reads W fastest when it is packed by columns. A weight changes once per step
// and is read by hundreds of products, so it is packed once per step.

import CKernels

/// A weight (out, in), and its packed copy where it has enough rows for one.
package struct LinearMap {
  package let weight: Matrix
  fileprivate(set) package var packed: RealPointer?

  package init(_ weight: Matrix) {
    self.weight = weight
    packed = nil
  }

  /// Number of values of the packed weight; 0 where it is not packed.
  fileprivate var packedCount: Int {
    let panel = Int(ress_gemm_panel())
    return weight.rows < panel / 2 ? 0 : (weight.rows + panel - 1) / panel * panel * weight.columns
  }
}

/// The memory for the packed copies of some maps.
package final class PackedMaps {
  private let arena: Arena
  private var pieces: [(map: LinearMap, panels: Range<Int>)] = []

  package var byteCount: Int { arena.byteCount }

  /// Allocates the packed copy of every map; `pack` fills them.
  package init(_ maps: inout [LinearMap]) {
    let counts = maps.map(\.packedCount)
    let (arena, pointers) = Arena.build { arena in counts.map { $0 > 0 ? arena.reals($0) : nil } }
    self.arena = arena
    for index in maps.indices { maps[index].packed = pointers[index] }
    let panel = Int(ress_gemm_panel())
    for map in maps where map.packed != nil {
      let count = (map.weight.rows + panel - 1) / panel
      for first in stride(from: 0, to: count, by: PackedMaps.panelsAPiece) {
        pieces.append((map, first..<min(count, first + PackedMaps.panelsAPiece)))
      }
    }
  }

  /// Panels that one task packs.
  private static let panelsAPiece = 8

  /// Packs the current values of all weights.
  package func pack(_ team: Team) {
    team.run(pieces.count) { task, _ in
      let (map, panels) = pieces[task]
      let w = map.weight
      ress_gemm_pack_transposed(
        Int64(w.rows), Int64(w.columns), w.pointer, Int64(w.stride), Int64(panels.lowerBound), Int64(panels.upperBound),
        map.packed!)
    }
  }
}
