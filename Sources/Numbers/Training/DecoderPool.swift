// Decoders that write several texts at the same time, each on a thread of its own. They share the weights; everything
// that a text needs besides is its decoder's own, so the texts have the numbers that they would have alone.

import Dispatch
import Kernels
import Model
import Synchronization

package final class DecoderPool {
  private let decoders: [Decoder]

  /// - Parameters:
  ///   - experts: all experts of the model.
  ///   - team: the threads; a pool of one decoder uses all of them for one text.
  ///   - lanes: texts at the same time, at most the threads of the team.
  package init(_ sizes: Sizes, weights: Weights, experts: LocalExperts, team: Team, lanes: Int) {
    // Packed here, because the lanes only read the packed weights.
    weights.refresh(team)
    experts.refresh()
    let count = max(1, min(lanes, team.laneCount))
    decoders = (0..<count).map { _ in
      guard count > 1 else { return Decoder(sizes, weights: weights, team: team, exchange: experts) }
      let lane = Team(laneCount: 1)
      return Decoder(sizes, weights: weights, team: lane, exchange: LocalExperts(sharing: experts, team: lane))
    }
  }

  /// Memory in use, without the weights.
  package var byteCount: Int { decoders.reduce(0) { $0 + $1.byteCount } }

  /// Calls `body` for the numbers 0 ..< count, each with a decoder that no other call uses meanwhile, until one call
  /// returns false. A free decoder takes the next number.
  package func run(_ count: Int, _ body: @Sendable (Int, Decoder) -> Bool) {
    let next = Mutex(0)
    nonisolated(unsafe) let decoders = decoders
    DispatchQueue.concurrentPerform(iterations: decoders.count) { lane in
      while true {
        let number = next.withLock { next in
          defer { next += 1 }
          return next
        }
        guard number < count else { return }
        if !body(number, decoders[lane]) { next.withLock { $0 = count } }
      }
    }
  }
}
