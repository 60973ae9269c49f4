// The monotonic clock. Only the owner of a thread's loop reads it; pure code receives the time as an argument.

import Wire

#if canImport(Glibc)
  import Glibc
#endif

package enum MonotonicClock {
  package static var now: Instant {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Instant(nanoseconds: Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec))
  }
}

extension Instant {
  /// Milliseconds from `now` until this time, rounded up, limited to 0 ... `limit`.
  package func milliseconds(from now: Instant, limit: Int) -> Int {
    let nanoseconds = (self - now).nanoseconds
    return nanoseconds <= 0 ? 0 : Int(min(Int64(limit), (nanoseconds + 999_999) / 1_000_000))
  }
}
