// The workers of a run on this machine, as children of `ress train`.

import Glibc
import Shell

/// Starts the workers of a run and notices those that end.
final class LocalWorkers {
  private let children: [ChildProcess]
  private var reported: Set<pid_t> = []

  /// How long a worker may take to end in order before it is ended: it says goodbye within a second.
  private static let endSeconds = 5.0

  /// Worker N listens below `sockets` and appends what it says to `logs`/worker-N.log.
  init(count: Int, threads: Int, coordinator: String, sockets: String, logs: String) throws(ProcessError) {
    var children: [ChildProcess] = []
    for number in 1...count {
      do throws(ProcessError) {
        let name = "worker-\(number)"
        children.append(
          try ChildProcess(
            name: name,
            words: [
              "worker", "--coordinator", coordinator, "--name", name, "--threads", String(threads),
              "--listen", "ipc://\(sockets)/\(name)", "--end-with-input",
            ], log: "\(logs)/\(name).log"))
      } catch {
        ChildProcess.end(children, within: 0)
        throw error
      }
    }
    self.children = children
  }

  /// A sentence about each worker that has ended since the last call.
  func newlyEnded() -> [String] {
    var sentences: [String] = []
    for child in children where !reported.contains(child.identifier) {
      if let ending = child.poll() {
        reported.insert(child.identifier)
        sentences.append("\(child.name) (pid \(child.identifier)) \(ending); its log is \(child.log)")
      }
    }
    return sentences
  }

  func end() { ChildProcess.end(children, within: Self.endSeconds) }
}
