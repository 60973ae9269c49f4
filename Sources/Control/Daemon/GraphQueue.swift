// Token graphs for the dashboard. A child process computes them, one at a time, in seconds; the client polls for its
// result. The queue and the cache are short, so that many clients cost no more than one.

import Dispatch
import HTTP
import Synchronization

package struct GraphQuestion: Hashable, Sendable {
  /// A checkpoint's folder.
  package var checkpoint: String
  package var split: Split
  /// Index of the sequence in the split, from 0.
  package var sample: Int
  package var segment: Int

  package enum Split: String, Sendable { case train, validation }

  package init(checkpoint: String, split: Split, sample: Int, segment: Int) {
    self.checkpoint = checkpoint
    self.split = split
    self.sample = sample
    self.segment = segment
  }
}

/// The reason why there is no graph, as a sentence.
package struct GraphError: Error, Equatable, CustomStringConvertible {
  package var description: String

  package init(_ description: String) { self.description = description }
}

package final class GraphQueue: Sendable {
  /// Computes a graph, as JSON; takes seconds.
  package typealias Source = @Sendable (GraphQuestion) throws(GraphError) -> [UInt8]

  package static let waitingLimit = 4, keptLimit = 16
  private static let keptByteLimit = 64 << 20

  private struct State {
    /// The queue; its first question is being computed.
    var waiting: [GraphQuestion] = []
    /// The computed graphs, the newest last. An error is returned once; after that the graph is computed again.
    var done: [(question: GraphQuestion, result: Result<[UInt8], GraphError>)] = []

    var byteCount: Int { done.reduce(0) { $0 + ((try? $1.result.get().count) ?? 0) } }
  }

  private let source: Source
  private let state = Mutex(State())
  private let queue = DispatchQueue(label: "ress.graphs", qos: .utility)

  package init(_ source: @escaping Source) { self.source = source }

  /// Does not block: returns the graph, or why it could not be computed, or that the computation is under way.
  package func answer(_ question: GraphQuestion) -> HTTPAnswer {
    let (answer, isNew) = state.withLock { state -> (HTTPAnswer, Bool) in
      if let place = state.done.firstIndex(where: { $0.question == question }) {
        let found = state.done.remove(at: place)
        switch found.result {
        case .success(let json):
          state.done.append(found)
          return (HTTPAnswer(type: HTTPAnswer.jsonType, json), false)
        case .failure(let error): return (.refusal(422, error.description), false)
        }
      }
      if state.waiting.contains(question) { return (.notYet("the graph is being computed"), false) }
      guard state.waiting.count < Self.waitingLimit else {
        var answer = HTTPAnswer.refusal(503, "\(Self.waitingLimit) graphs are already queued; try again in a moment")
        answer.retryAfter = 2
        return (answer, false)
      }
      state.waiting.append(question)
      return (.notYet("the graph is being computed"), true)
    }
    if isNew { queue.async { [self] in compute(question) } }
    return answer
  }

  private func compute(_ question: GraphQuestion) {
    let result = Result { () throws(GraphError) in try source(question) }
    state.withLock { state in
      state.waiting.removeAll { $0 == question }
      state.done.append((question, result))
      while state.done.count > Self.keptLimit || state.done.count > 1 && state.byteCount > Self.keptByteLimit {
        state.done.removeFirst()
      }
    }
  }
}
