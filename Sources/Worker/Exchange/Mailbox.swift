// A queue between two threads, on which the receiving thread can sleep.
//
// It is built on pthreads, because Foundation's condition variable waits by wall clock, so that a change of the
// system's time would shorten or lengthen a timeout.

import Synchronization
import Wire

#if canImport(Glibc)
  import Glibc
#endif

/// A queue: any thread may put items, one thread takes them.
package final class Mailbox<Item>: @unchecked Sendable {
  private let mutex: UnsafeMutablePointer<pthread_mutex_t>
  private let filled: UnsafeMutablePointer<pthread_cond_t>
  private var items: [Item?] = []
  private var first = 0
  private let sleeper = Atomic<Bool>(false)

  package init() {
    mutex = .allocate(capacity: 1)
    filled = .allocate(capacity: 1)
    pthread_mutex_init(mutex, nil)
    var attributes = pthread_condattr_t()
    pthread_condattr_init(&attributes)
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
    pthread_cond_init(filled, &attributes)
    pthread_condattr_destroy(&attributes)
  }

  deinit {
    pthread_cond_destroy(filled)
    pthread_mutex_destroy(mutex)
    filled.deallocate()
    mutex.deallocate()
  }

  /// Whether the receiving thread is asleep, waiting for an item. The answer may be outdated when the caller reads
  /// it.
  package var isAwaited: Bool { sleeper.load(ordering: .relaxed) }

  /// Appends an item and wakes the receiving thread. Never waits for space.
  package func put(_ item: Item) {
    pthread_mutex_lock(mutex)
    items.append(item)
    pthread_cond_signal(filled)
    pthread_mutex_unlock(mutex)
  }

  /// Removes and returns the oldest item; nil where none arrived within the timeout. Nil as the timeout waits
  /// forever.
  package func take(timeout: Duration? = nil) -> Item? {
    pthread_mutex_lock(mutex)
    defer { pthread_mutex_unlock(mutex) }
    var deadline = timespec()
    if let timeout {
      clock_gettime(CLOCK_MONOTONIC, &deadline)
      let nanoseconds = Int64(deadline.tv_nsec) + timeout.nanoseconds
      deadline.tv_sec += Int(nanoseconds / 1_000_000_000)
      deadline.tv_nsec = Int(nanoseconds % 1_000_000_000)
    }
    sleeper.store(first == items.count, ordering: .relaxed)
    defer { sleeper.store(false, ordering: .relaxed) }
    while first == items.count {
      if timeout != nil {
        if pthread_cond_timedwait(filled, mutex, &deadline) == ETIMEDOUT && first == items.count { return nil }
      } else {
        pthread_cond_wait(filled, mutex)
      }
    }
    let item = items[first]
    items[first] = nil
    first += 1
    // Taken items leave a gap at the front of the array. Closing it only now and then keeps the cost of an item
    // constant.
    if first == items.count {
      items.removeAll(keepingCapacity: true)
      first = 0
    } else if first > 64 {
      items.removeFirst(first)
      first = 0
    }
    return item
  }

  /// The first result of `look` that is not nil, over the items from the oldest on. Removes nothing.
  package func first<Found>(_ look: (Item) -> Found?) -> Found? {
    pthread_mutex_lock(mutex)
    defer { pthread_mutex_unlock(mutex) }
    for item in items[first...] { if let found = look(item!) { return found } }
    return nil
  }

  /// Drops the waiting items for which `isGone` is true; the others stay in order.
  package func removeAll(where isGone: (Item) -> Bool) {
    pthread_mutex_lock(mutex)
    items.removeFirst(first)
    first = 0
    items.removeAll { isGone($0!) }
    pthread_mutex_unlock(mutex)
  }
}
