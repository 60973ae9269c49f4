// A counter of this process's work: it grows with every parallel region and every tensor read. Heartbeats contain
// it. If it stands still although the worker does not report that it waits for something, the coordinator considers
// the training thread stuck.

import Synchronization

package enum Progress {
  private static let done = Atomic<Int>(0)

  package static func note() { done.wrappingAdd(1, ordering: .relaxed) }
  package static var count: Int { done.load(ordering: .relaxed) }
}
