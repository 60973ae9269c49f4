// A lock for the state that threads share, and a condition to wait for. The standard library's `Mutex` would do for the
// lock, but it accepts only values that may be sent between threads, and the buffers of a step are not such values.

#if canImport(Glibc)
  import Glibc
#endif

package final class Lock: @unchecked Sendable {
  private let mutex: UnsafeMutablePointer<pthread_mutex_t>
  private let changed: UnsafeMutablePointer<pthread_cond_t>

  package init() {
    mutex = .allocate(capacity: 1)
    changed = .allocate(capacity: 1)
    pthread_mutex_init(mutex, nil)
    pthread_cond_init(changed, nil)
  }

  deinit {
    pthread_cond_destroy(changed)
    pthread_mutex_destroy(mutex)
    changed.deallocate()
    mutex.deallocate()
  }

  /// Runs `body` while this thread holds the lock.
  package func hold<Result, Failure: Error>(_ body: () throws(Failure) -> Result) throws(Failure) -> Result {
    pthread_mutex_lock(mutex)
    defer { pthread_mutex_unlock(mutex) }
    return try body()
  }

  /// Waits until another thread calls `announce`, and sometimes returns without that. The calling thread holds the
  /// lock, which is free while it waits.
  package func wait() { pthread_cond_wait(changed, mutex) }

  /// Wakes all threads in `wait`. The calling thread holds the lock.
  package func announce() { pthread_cond_broadcast(changed) }
}
