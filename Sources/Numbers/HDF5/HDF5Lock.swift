// The lock for HDF5. Debian's HDF5 is built without thread safety: two threads inside it at the same time corrupt
// its tables. Every call is enclosed in `HDF5Lock.begin` and `HDF5Lock.end`.

#if canImport(Glibc)
  import Glibc
#endif

package enum HDF5Lock {
  private nonisolated(unsafe) static let mutex: UnsafeMutablePointer<pthread_mutex_t> = {
    let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    var attributes = pthread_mutexattr_t()
    pthread_mutexattr_init(&attributes)
    // Recursive, because a handle that is released during a turn closes itself in that turn.
    pthread_mutexattr_settype(&attributes, Int32(PTHREAD_MUTEX_RECURSIVE))
    pthread_mutex_init(mutex, &attributes)
    return mutex
  }()

  /// The reason why a call of this turn failed.
  nonisolated(unsafe) static var reason = ""
  private nonisolated(unsafe) static var depth = 0

  package static func begin() {
    pthread_mutex_lock(mutex)
    if depth == 0 { reason = "" }
    depth += 1
  }

  package static func end() {
    depth -= 1
    pthread_mutex_unlock(mutex)
  }
}
