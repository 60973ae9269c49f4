// The set of public keys that may connect to a port. The gatekeeper's thread reads it while another thread changes
// it.

import Synchronization
import Wire

package final class AllowedKeys: Sendable {
  private let keys = Mutex<Set<PublicKey>>([])

  package init() {}

  package func contains(_ key: PublicKey) -> Bool { keys.withLock { $0.contains(key) } }
  package func replace(_ new: Set<PublicKey>) { keys.withLock { $0 = new } }
}
