// A small cluster for a drill: a coordinator and workers as children of this process, with connections that can be cut.

import CLinux
import Daemon
import Foundation
import Glibc
import RunFolder
import Shell

final class DrillCluster {
  /// The folder of its logs, its store and its run.
  let folder: String
  let client: CoordinatorClient
  private let sockets: TemporaryFolder
  private let switchboard = Switchboard()
  private let patience: String
  private let threads: Int
  private var coordinator: ChildProcess
  /// In order of their start. The names of workers that have ended are not used again.
  private(set) var workers: [ChildProcess] = []
  private var started = 0

  /// How long a process may take until it listens, or until it has ended in order.
  private static let startSeconds = 60.0
  private static let endSeconds = 5.0

  init(folder: String, workers count: Int, threads: Int, patienceSeconds: Double) throws {
    self.folder = folder
    self.threads = threads
    patience = String(patienceSeconds)
    try Durable.makeFolder(folder)
    sockets = try TemporaryFolder(name: "ress-drill")
    coordinator = try Self.coordinator(folder, sockets, patience)
    client = try CoordinatorClient("ipc://\(sockets.path)/coordinator", patienceSeconds: Self.startSeconds)
    try switchboard.relay("\(sockets.path)/c", to: "\(sockets.path)/coordinator")
    for _ in 0..<count { try startWorker() }
  }

  private static func coordinator(
    _ folder: String, _ sockets: TemporaryFolder, _ patience: String
  ) throws(ProcessError) -> ChildProcess {
    try ChildProcess(
      name: "coordinator",
      words: [
        "coordinator", "--listen", "ipc://\(sockets.path)/coordinator", "--store", "\(folder)/coordinator.db",
        "--patience", patience,
      ], log: "\(folder)/coordinator.log")
  }

  /// The name that the next worker will have.
  var nextName: String { "worker-\(started + 1)" }

  func startWorker(environment: [String: String] = [:]) throws(ProcessError) {
    let name = nextName
    started += 1
    let socket = "\(sockets.path)/\(name)"
    let worker = try ChildProcess(
      name: name,
      words: [
        "worker", "--coordinator", "ipc://\(sockets.path)/c", "--name", name, "--threads", String(threads),
        "--listen", "ipc://\(socket)", "--end-with-input",
      ], log: "\(folder)/\(name).log", environment: environment.merging(["RESS_HOLD": holdFile]) { given, _ in given })
    workers.append(worker)
    // When it listens, its socket is renamed and replaced by a relay.
    var waited = 0.0
    while access(socket, F_OK) != 0 {
      guard worker.poll() == nil, waited < Self.startSeconds else {
        throw ProcessError(description: "\(name) does not listen; its log is \(worker.log)")
      }
      usleep(2000)
      waited += 0.002
    }
    guard rename(socket, socket + ".end") == 0 else {
      throw ProcessError(description: "cannot rename \(socket): \(String(cString: strerror(errno)))")
    }
    try switchboard.relay(socket, to: socket + ".end", owner: worker.identifier)
  }

  // MARK: Faults

  private var holdFile: String { folder + "/hold" }

  /// No worker goes beyond `step` steps until `release`.
  func hold(at step: Int) throws { try String(step).write(toFile: holdFile, atomically: true, encoding: .utf8) }
  func release() throws(ProcessError) {
    guard unlink(holdFile) == 0 || errno == ENOENT else {
      throw ProcessError(description: "cannot remove \(holdFile): \(String(cString: strerror(errno)))")
    }
  }

  func kill(_ worker: ChildProcess) {
    worker.kill()
    workers.removeAll { $0 === worker }
  }

  func killCoordinator() { coordinator.kill() }

  func startCoordinator() throws(ProcessError) { coordinator = try Self.coordinator(folder, sockets, patience) }

  func cut(_ worker: ChildProcess) { switchboard.cut(worker.identifier) }
  func reconnect(_ worker: ChildProcess) { switchboard.reconnect(worker.identifier) }

  /// Limits the files of a worker to `bytes`; nil removes the limit.
  func limitFiles(to bytes: Int?) throws(ProcessError) {
    for worker in workers where ress_limit_files(worker.identifier, bytes ?? -1) != 0 {
      throw ProcessError(description: "cannot limit files of \(worker.name): \(String(cString: strerror(errno)))")
    }
  }

  /// Ends all processes.
  func end() {
    // A stopped process receives no other signal.
    for worker in workers { worker.send(SIGCONT) }
    ChildProcess.end(workers, within: Self.endSeconds)
    ChildProcess.end([coordinator], within: Self.endSeconds)
    switchboard.close()
    sockets.remove()
  }
}
