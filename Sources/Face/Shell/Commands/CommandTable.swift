// Every command of `ress`, in the order in which help lists them.

package enum CommandTable {
  package static let all: [CommandDescription] = [
    .train, .coordinator, .worker, .submit, .sweep, .runs, .status, .logs, .compare, .metrics, .clinic, .cancel, .pause,
    .resume, .scale,
    .plan,
    .drill,
    .dataPrepare, .dataShow, .tokenizerTrain, .tokenizerShow, .tokenizerEncode, .tokenizerDecode, .generate, .predict,
    .evaluate, .graph, .checkpointList, .checkpointShow, .checkpointVerify, .checkpointDiff, .checkpointRepair,
    .checkpointExport, .checkpointImport, .keysNew, .keysShow, .keysAllow, .keysTrust, .keysRevoke, .keysList,
    .configShow, .configReference, .doctor, .completion, .man,
  ]

  /// The default address of a coordinator, for the coordinator itself and for its clients.
  package static let standardAddress = "tcp://127.0.0.1:7077"

  /// A coordinator's store, in the folder it was started in.
  static let standardStore = "ress-coordinator.db"
}
