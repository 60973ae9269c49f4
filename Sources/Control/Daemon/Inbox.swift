// What queues and other threads tell the coordinator's loop, which they wake.

import Coordination
import Synchronization
import Transport

final class Inbox: Sendable {
  private let waiting = Mutex<(events: [Event], outcomes: [MetricsKeeper.Outcome])>(([], []))
  private let wake: WakeUp

  init(_ wake: WakeUp) { self.wake = wake }

  func tell(_ event: Event) {
    waiting.withLock { $0.events.append(event) }
    wake.signal()
  }

  func tell(_ outcome: MetricsKeeper.Outcome) {
    waiting.withLock { $0.outcomes.append(outcome) }
    wake.signal()
  }

  /// Takes what has arrived, in order.
  func take() -> (events: [Event], outcomes: [MetricsKeeper.Outcome]) {
    waiting.withLock { waiting in
      defer { waiting = ([], []) }
      return waiting
    }
  }
}
