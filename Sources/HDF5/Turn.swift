// Debian's HDF5 is built without thread safety: two threads inside it corrupt its tables. A process trains on one thread and
// so rarely meets this, but tests and tools do not; every call takes its turn here.

#if canImport(Glibc)
  import Glibc
#endif

package enum Turn {
  private nonisolated(unsafe) static let mutex: UnsafeMutablePointer<pthread_mutex_t> = {
    let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    var attributes = pthread_mutexattr_t()
    pthread_mutexattr_init(&attributes)
    // A handle that goes inside a turn closes itself in that turn.
    pthread_mutexattr_settype(&attributes, Int32(PTHREAD_MUTEX_RECURSIVE))
    pthread_mutex_init(mutex, &attributes)
    return mutex
  }()

  /// Why a call of this turn failed.
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
