// What happens in a run, as far as someone who watches it needs to know. The command line makes these of the
// coordinator's messages; `RunView` makes text of them.

/// One worker's part in a run.
package struct WorkerPart: Equatable, Sendable {
  package var name: String
  package var host: String
  package var process: Int
  package var threads: Int
  package var units: Range<Int>
  package var experts: [Int]

  package init(name: String, host: String, process: Int, threads: Int, units: Range<Int>, experts: [Int]) {
    self.name = name
    self.host = host
    self.process = process
    self.threads = threads
    self.units = units
    self.experts = experts
  }
}

package enum RunEvent: Equatable, Sendable {
  /// The run is known. `firstStep` steps were done before (a resume), `stepCount` is the whole run's.
  case began(run: String, firstStep: Int, stepCount: Int)
  /// Who computes what, from now on.
  case placed(generation: Int, [WorkerPart])
  /// `step` steps are done; loss in nats a token, the mean over the step's batch.
  case stepped(step: Int, loss: Double, learningRate: Double, gradientNorm: Double, tokens: Int)
  /// Mean loss of the validation split after `step` steps, nats a token.
  case evaluated(step: Int, loss: Double)
  case saved(step: Int, path: String)
  /// A sentence of the coordinator or a worker.
  case said(String)
  case ended(RunOutcome, reason: String)
}

package enum RunOutcome: String, Equatable, Sendable { case finished, failed, cancelled, notPlaced }

extension RunOutcome {
  package var exitCode: ExitCode {
    switch self {
    case .finished: .done
    case .failed, .cancelled: .failed
    case .notPlaced: .cannotBePlaced
    }
  }
}

/// What `ress` ends with.
package enum ExitCode: Int32, Sendable { case done = 0, failed = 1, wrongUse = 2, cannotBePlaced = 3 }
