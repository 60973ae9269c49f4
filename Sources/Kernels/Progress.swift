// A count of what a process gets done: every parallel region, every tensor read. It means nothing by itself; one that stands
// still while its owner does not say that it waits is how the ledger finds a thread that hangs.

import Synchronization

package enum Progress {
  private static let done = Atomic<Int>(0)

  package static func note() { done.wrappingAdd(1, ordering: .relaxed) }
  package static var count: Int { done.load(ordering: .relaxed) }
}
