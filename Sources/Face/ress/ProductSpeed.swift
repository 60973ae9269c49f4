// Times products in fp32 and with bf16 factors on this machine, for `ress doctor` and `ress plan`.

import Kernels
import Shell

enum ProductSpeed {
  /// The best of some products of each kind on one thread, so that a busy moment does not count. Takes a few
  /// milliseconds.
  static func measure() -> BF16Speed {
    let size = 256
    let (arena, (x, w, y)) = Arena.build { ($0.matrix(size, size), $0.matrix(size, size), $0.matrix(size, size)) }
    return withExtendedLifetime(arena) {
      Philox(seed: 1, stream: 1).fillNormal(x.pointer, count: x.count, deviation: 1)
      Philox(seed: 1, stream: 2).fillNormal(w.pointer, count: w.count, deviation: 1)
      var maps = [LinearMap(w), LinearMap(w, factors: .bf16)]
      let packs = PackedMaps(&maps)
      packs.pack(Team(laneCount: 1))
      return withExtendedLifetime(packs) {
        // The first call chooses the implementation.
        let implementation = RoundedProducts.implementation
        var best = [Duration.seconds(3600), .seconds(3600)]
        for _ in 0..<20 {
          for (place, map) in maps.enumerated() {
            best[place] = min(best[place], ContinuousClock().measure { BLAS.apply(map, to: x, into: y) })
          }
        }
        let speeds = best.map { duration in
          let seconds = Double(duration.components.attoseconds) * 1e-18 + Double(duration.components.seconds)
          return 2 * Double(size * size * size) / seconds * 1e-9
        }
        return BF16Speed(
          implementation: implementation, hasInstruction: MachineProbe.processor().flags.contains("avx512_bf16"),
          single: speeds[0], rounded: speeds[1])
      }
    }
  }
}
