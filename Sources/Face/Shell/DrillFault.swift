// The faults that a drill can inject into a run, in the order in which it does.

package enum DrillFault: String, CaseIterable, Sendable {
  case killWorker = "kill-worker"
  case killCoordinator = "kill-coordinator"
  case killAll = "kill-all"
  case stopWorker = "stop-worker"
  case cutWorker = "cut-worker"
  case diskFull = "disk-full"
  case damagedCheckpoint = "damaged-checkpoint"
  case flippedBit = "flipped-bit"

  /// `kill-worker,cut-worker`; nil means all.
  package static func chosen(_ text: String?) throws(UsageError) -> [DrillFault] {
    guard let text else { return allCases }
    var chosen: [DrillFault] = []
    for word in text.split(separator: ",") {
      guard let fault = DrillFault(rawValue: String(word)) else {
        throw UsageError(
          "there is no fault '\(word)'; there are " + allCases.map(\.rawValue).joined(separator: ", "),
          command: "drill")
      }
      chosen.append(fault)
    }
    return chosen
  }

  /// Text that the run's story must contain, as evidence that the fault was noticed. `victim` is the worker it was
  /// injected into.
  package func evidence(victim: String) -> String? {
    switch self {
    case .killWorker, .stopWorker, .cutWorker: "worker \(victim) ("
    // Workers keep training, and the run reports nothing.
    case .killCoordinator: nil
    case .killAll: "load from the checkpoint of step"
    case .diskFull: "it tries again"
    case .damagedCheckpoint: "is passed over"
    case .flippedBit: "computed wrongly and is put aside"
    }
  }
}
