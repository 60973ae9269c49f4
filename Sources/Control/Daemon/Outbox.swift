// What the coordinator's loop is to do once the store holds the changes before it. Nothing leaves the coordinator
// earlier: no reply, no order to a worker, no line in a run's file. So a coordinator that is killed at any point never
// has told a client something that its successor does not know.

import Coordination
import RunStore
import Wire

package struct Outbox {
  /// One thing to do, with what had to be looked up when it was decided.
  package enum Effect: Equatable, Sendable {
    case action(Action)
    /// An answer to a question, which shows the state after the changes before it.
    case answer(PeerID, Reply)
    /// Complete a run's record files, up to this step. Lines of later steps are appended after it.
    case completeFiles(RunID, folder: String, upTo: Int)
    /// Release a run's folder; files that lack lines are completed before.
    case release(RunID, folder: String, upTo: Int)
    /// Changes that are stored now, for the dashboard.
    case stored([StoreChange])
    /// The cluster's state for the dashboard.
    case look(ClusterStatus)
  }

  private var waiting: [(after: Int, effect: Effect)] = []
  /// The number of effects at the front of `waiting` that were taken out.
  private var taken = 0
  /// Peers that an answer waits for, which get no further one until they have received it.
  private var answered: [PeerID: Int] = [:]

  package init() {}

  package var isEmpty: Bool { taken == waiting.count }

  /// Whether an answer to this peer waits.
  package func holdsAnswer(for peer: PeerID) -> Bool { answered[peer] != nil }

  /// - Parameter batch: the batch of changes that must be stored before, and which is not below those added so far.
  package mutating func add(_ effect: Effect, after batch: Int) {
    if case .answer(let peer, _) = effect { answered[peer, default: 0] += 1 }
    waiting.append((batch, effect))
  }

  /// The next effect, in the order in which they were added; nil if the changes before it are not stored yet.
  package mutating func next(stored: Int) -> Effect? {
    guard taken < waiting.count, waiting[taken].after <= stored else {
      // Compact in steps, so that a long queue costs no quadratic time.
      if taken == waiting.count || taken > 1024 {
        waiting.removeFirst(taken)
        taken = 0
      }
      return nil
    }
    let effect = waiting[taken].effect
    // The payload must not stay until the next compaction.
    waiting[taken].effect = .stored([])
    taken += 1
    if case .answer(let peer, _) = effect {
      answered[peer]! -= 1
      if answered[peer] == 0 { answered[peer] = nil }
    }
    return effect
  }
}
