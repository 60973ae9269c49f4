// What a daemon tells the service manager that started it (Type=notify in cluster/systemd): that it serves, that it still turns, and that it
// ends. Without a service manager, which is known by NOTIFY_SOCKET, all of it does nothing.

import CSystemd
import Glibc
import Synchronization
import Transport

enum ServiceManager {
  /// - Parameter status: a sentence for `systemctl status`.
  static func ready(_ status: String) { tell("READY=1\nSTATUS=\(line(status))") }

  static func ending(_ reason: String) { tell("STOPPING=1\nSTATUS=\(line(reason))") }

  /// Called by the loop that the daemon's work depends on. It tells the watchdog that the loop turns, at most twice as often as the
  /// watchdog needs; a loop that stands still for WatchdogSec ends the process, and Restart= starts another one.
  static func turned() {
    guard interval > 0 else { return }
    let now = MonotonicClock.now.nanoseconds, last = lastTold.load(ordering: .relaxed)
    guard now >= last + interval,
      lastTold.compareExchange(expected: last, desired: now, ordering: .relaxed).exchanged
    else { return }
    tell("WATCHDOG=1")
  }

  /// Nanoseconds between two signs of life; 0: nobody waits for them.
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
