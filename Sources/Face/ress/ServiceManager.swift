// Notifications of a daemon to the service manager that started it (Type=notify in cluster/systemd): it is ready, its
// loop is running, it is ending. Without a service manager (no NOTIFY_SOCKET) these functions do nothing.

import CSystemd
import Glibc
import Synchronization
import Transport

enum ServiceManager {
  /// - Parameter status: a sentence for `systemctl status`.
  static func ready(_ status: String) { tell("READY=1\nSTATUS=\(line(status))") }

  static func ending(_ reason: String) { tell("STOPPING=1\nSTATUS=\(line(reason))") }

  /// Called by the daemon's main loop. It notifies the watchdog that the loop is running, at most twice as often as the
  /// watchdog needs. If the loop is blocked for WatchdogSec, the service manager ends the process, and Restart= starts
  /// another one.
  static func turned() {
    guard interval > 0 else { return }
    let now = MonotonicClock.now.nanoseconds, last = lastTold.load(ordering: .relaxed)
    guard now >= last + interval,
      lastTold.compareExchange(expected: last, desired: now, ordering: .relaxed).exchanged
    else { return }
    tell("WATCHDOG=1")
  }

  /// Nanoseconds between two notifications; 0: there is no watchdog.
  private static let interval: Int64 = {
    var microseconds: UInt64 = 0
    guard sd_watchdog_enabled(0, &microseconds) > 0 else { return 0 }
    return Int64(clamping: microseconds / 2) * 1000
  }()
  private static let lastTold = Atomic<Int64>(0)

  /// A status is one line.
  private static func line(_ text: String) -> String { text.replacing("\n", with: " ") }

  private static func tell(_ state: String) { _ = sd_notify(0, state) }
}
