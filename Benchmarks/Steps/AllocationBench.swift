// Counts calls of the allocator in steady training steps. The program contains its own malloc (CAllocations), which
// replaces the C library's, so that no call is missed.

import CAllocations
import Foundation
import Kernels
import Training

enum AllocationBench {
  static func run(_ arguments: BenchArguments) throws {
    let shape = try Shape(
      arguments.text("--shape", "bench-small"), file: arguments.text("--shapes", Shape.standardFile))
    let trainer = try StepBench.makeTrainer(shape, arguments)
    let (warmup, steps) = (4, 5)
    for step in 0..<warmup { _ = try trainer.step(step) }
    let calls = ress_allocation_count()
    let bytes = ress_allocation_bytes()
    for step in warmup..<warmup + steps { _ = try trainer.step(step) }
    let (moreCalls, moreBytes) = (ress_allocation_count() - calls, ress_allocation_bytes() - bytes)
    print("\(moreCalls) allocations in \(steps) steps, \(moreBytes) bytes")
  }
}
