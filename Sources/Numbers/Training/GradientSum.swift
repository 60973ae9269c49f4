// A sum of gradients over a subtree of units, in memory of a pool or of the message that has brought it. Sums are added
// where they are, so that a received sum is not copied.

import Kernels

package struct GradientSum {
  private enum Memory {
    case pooled(PooledBuffer)
    /// Memory of something else; nil where the caller keeps it for as long as the sum is used.
    case kept(AnyObject?)
  }

  package let values: RealPointer
  private let memory: Memory

  /// - Parameter offset: of the first value. The buffer goes back to the pool with the last of its parts.
  package init(_ buffer: PooledBuffer, at offset: Int) {
    values = buffer.pointer + offset
    memory = .pooled(buffer)
  }

  /// - Parameter keeper: keeps `values` alive; nil where the caller does so.
  package init(_ values: RealPointer, keptBy keeper: AnyObject?) {
    self.values = values
    memory = .kept(keeper)
  }

  /// What keeps `values` alive; nil where the caller does.
  package var keeper: AnyObject? {
    switch memory {
    case .pooled(let buffer): buffer
    case .kept(let keeper): keeper
    }
  }

  /// left + right, in the memory of the left one; that of the right one is recycled.
  package static func add(
    _ left: GradientSum, _ right: GradientSum, count: Int, _ team: Team, _ recycle: (PooledBuffer) -> Void
  ) -> GradientSum {
    team.add(right.values, to: left.values, count: count)
    right.recycle(recycle)
    return left
  }

  /// Gives memory back to the pool that it was taken from.
  package func recycle(_ recycle: (PooledBuffer) -> Void) {
    guard case .pooled(let buffer) = memory else { return }
    if buffer.endShare() { recycle(buffer) }
  }
}
