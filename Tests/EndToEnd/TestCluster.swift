// A cluster of real processes, which tests start, stop and kill by name.

import Foundation
import Testing

#if canImport(Glibc)
  import Glibc
#endif

/// A coordinator and workers, started and killed by name.
final class TestCluster {
  let place: Workplace
  private(set) var coordinator: Running!
  private(set) var workers: [String: Running] = [:]
  private let patience: String
  var address: String { "ipc://\(place.path)/cluster" }

  init(_ place: Workplace, patience: Double = 3) throws {
    self.place = place
    self.patience = "\(patience)"
    try startCoordinator()
  }

  func startCoordinator() throws {
    // The socket file of a killed process remains.
    coordinator = try place.start(["coordinator", "--listen", address, "--store", "runs.db", "--patience", patience])
  }

  func start(_ names: String..., environment: [String: String] = [:]) throws {
    for name in names {
      workers[name] = try place.start(
        [
          "worker", "--coordinator", address, "--name", name, "--threads", "1", "--listen",
          "ipc://\(place.path)/d-\(name)",
        ],
        environment: environment)
    }
  }

  func kill(_ name: String) {
    workers[name]?.killAll()
    workers[name] = nil
  }

  func signal(_ name: String, _ number: Int32) { _ = Glibc.kill(workers[name]!.process.processIdentifier, number) }

  @discardableResult
  func ask(_ words: String...) throws -> Finished { try place.run(words + ["--coordinator", address]) }

  /// The output of all processes, for the record of a failure.
  var logs: String {
    (["coordinator": coordinator!] as [String: Running]).merging(workers) { $1 }
      .map { "== \($0.key)\n\($0.value.output.suffix(3000))" }.joined(separator: "\n")
  }
}
