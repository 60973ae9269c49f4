// Ctrl-C and SIGTERM as something to ask about: the loops of long commands end in order. Who asks twice means at once.

import Glibc
import Synchronization

enum Interrupt {
  private static let count = Atomic<Int>(0)

  /// Call once, at the start of a command whose loop looks at `isRequested`.
  static func install() {
    // A first use in the handler would initialise it there, with a lock that the interrupted thread might hold.
    _ = count.load(ordering: .relaxed)
    for number in [SIGINT, SIGTERM, SIGHUP] {
      signal(number) { number in
        if Interrupt.count.wrappingAdd(1, ordering: .relaxed).oldValue > 0 { _exit(128 + number) }
      }
    }
  }

  static var isRequested: Bool { count.load(ordering: .relaxed) > 0 }
}
