// The workers of a run on this machine, as children of `ress train`.

import Glibc
import Shell

/// Starts the workers of a run, notices those that end, and ends all of them when it goes.
struct LocalWorkers: ~Copyable {
  private let children: [ChildProcess]
  private var reported: Set<pid_t> = []

  /// How long a worker may take to end in order before it is ended: it may be writing a checkpoint.
  private static let endSeconds = 5.0

  /// Worker N appends what it says to `folder`/worker-N.log.
  init(count: Int, threads: Int, coordinator: String, folder: String) throws(ProcessError) {
    var children: [ChildProcess] = []
    for number in 1...count {
      do throws(ProcessError) {
        children.append(
          try ChildProcess(
            name: "worker-\(number)",
            words: [
              "worker", "--coordinator", coordinator, "--name", "worker-\(number)", "--threads", String(threads),
              "--end-with-input",
            ], log: "\(folder)/worker-\(number).log"))
      } catch {
        ChildProcess.end(children, within: 0)
        throw error
      }
    }
    self.children = children
  }

  /// A sentence about each worker that has ended since the last call.
  mutating func newlyEnded() -> [String] {
    var sentences: [String] = []
    for child in children where !reported.contains(child.identifier) {
      if let ending = child.poll() {
        reported.insert(child.identifier)
        sentences.append("\(child.name) (pid \(child.identifier)) \(ending)")
      }
    }
    return sentences
  }

  deinit { ChildProcess.end(children, within: Self.endSeconds) }
}
