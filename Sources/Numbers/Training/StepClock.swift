// Measures a worker's part of a step: the seconds in which it computed, and the bytes that it sent. They travel to
// all workers with the norms (`StepNote`). They differ between equal runs, so they are not part of a step's result.

package final class StepClock {
  private let exchange: any GradientExchange
  private var begun = ContinuousClock.now
  private var waitedBefore = 0.0
  private var sentBefore = 0
  /// Seconds that each worker computed in the last step, and the bytes that it sent its peers.
  package private(set) var busy: [Double] = []
  package private(set) var sent: [Double] = []

  package init(_ exchange: any GradientExchange) { self.exchange = exchange }

  package func begin(at now: ContinuousClock.Instant = .now) {
    begun = now
    waitedBefore = exchange.waitedSeconds
  }

  /// Writes into the note how long this worker has computed in this step, and what it has sent since the last note.
  /// The parameters that follow a step are therefore counted in the next one.
  package func stamp(_ note: inout StepNote, at now: ContinuousClock.Instant = .now) {
    note.busy = begun.duration(to: now).inSeconds - (exchange.waitedSeconds - waitedBefore)
    note.sent = Double(exchange.sentBytes - sentBefore)
    sentBefore = exchange.sentBytes
  }

  /// Reads the notes of all workers, by roster index. A steady step does not allocate here.
  package func read(_ notes: [StepNote]) {
    if busy.count != notes.count {
      busy = Array(repeating: 0, count: notes.count)
      sent = busy
    }
    for worker in notes.indices { (busy[worker], sent[worker]) = (notes[worker].busy, notes[worker].sent) }
  }
}

extension Duration {
  fileprivate var inSeconds: Double { Double(components.seconds) + Double(components.attoseconds) * 1e-18 }
}
