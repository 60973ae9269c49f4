// A queue between two threads, with a sleeper at its end.

import Synchronization
import Wire

#if canImport(Glibc)
  import Glibc
#endif

/// Any thread puts, one thread takes.
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

  /// Whether somebody sleeps until something comes. A moment later it may be otherwise.
  package var isAwaited: Bool { sleeper.load(ordering: .relaxed) }

  package func put(_ item: Item) {
    pthread_mutex_lock(mutex)
    items.append(item)
    pthread_cond_signal(filled)
    pthread_mutex_unlock(mutex)
  }

  /// The oldest item; nil where none came within the timeout.
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
    // The front is given back now and then, so that taking stays cheap.
    if first == items.count {
      items.removeAll(keepingCapacity: true)
      first = 0
    } else if first > 64 {
      items.removeFirst(first)
      first = 0
    }
    return item
  }

  /// What `look` finds in the oldest item that it finds anything in.
  package func first<Found>(_ look: (Item) -> Found?) -> Found? {
    pthread_mutex_lock(mutex)
    defer { pthread_mutex_unlock(mutex) }
    for item in items[first...] { if let found = look(item!) { return found } }
    return nil
  }

  package func removeAll(where isGone: (Item) -> Bool) {
    pthread_mutex_lock(mutex)
    items.removeFirst(first)
    first = 0
    items.removeAll { isGone($0!) }
    pthread_mutex_unlock(mutex)
  }
}
