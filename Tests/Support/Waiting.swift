// Waiting in tests. A test waits for a condition and not for a fixed time, because a busy machine is slow but not
// wrong.

import Foundation

#if canImport(Glibc)
  import Glibc
#endif

/// Polls every few milliseconds until the condition holds. Returns false where it does not within `seconds` on an
/// idle machine; a busy one has ten times as long.
package func waitUntil(_ seconds: Double = 30, _ condition: () throws -> Bool) rethrows -> Bool {
  let deadline = ContinuousClock.now + .seconds(10 * seconds)
  while try !condition() {
    if ContinuousClock.now > deadline { return false }
    Thread.sleep(forTimeInterval: 0.005)
  }
  return true
}

/// Waits until the clock shows another second, for files that record seconds.
package func waitForAnotherSecond() {
  let now = time(nil)
  while time(nil) == now { Thread.sleep(forTimeInterval: 0.01) }
}

/// Consecutive ports of 127.0.0.1 at which no process listens. Another process can take one before the caller does.
package func freePorts(_ count: Int = 1) -> Int {
  var chance = Chance("ports \(getpid())")
  while true {
    let first = Int.random(in: 20_000..<32_000, using: &chance)
    if (first..<first + count).allSatisfy(isFree) { return first }
  }
}

private func isFree(_ port: Int) -> Bool {
  let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
  defer { close(descriptor) }
  var address = sockaddr_in()
  address.sin_family = sa_family_t(AF_INET)
  address.sin_port = in_port_t(port).bigEndian
  address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
  return withUnsafePointer(to: &address) {
    $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
      bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
    }
  }
}
