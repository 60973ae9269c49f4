// The workers of a run on this machine, as children of `ress train`.

import Configuration
import Glibc
import Shell

/// Starts the workers of a run, detects those that have ended, and starts them again; the run takes them in. Over MPI
/// they are the ranks of one launch, which starts and ends as one child.
final class LocalWorkers {
  private var children: [ChildProcess] = []
  private var lastEnding = ""
  private var restartsLeft = LocalWorkers.restartLimit
  private let start: (String) throws(ProcessError) -> ChildProcess

  /// How long a worker may take to end in order before it is killed. Its goodbye takes less than a second.
  private static let endSeconds = 5.0
  /// Workers that keep ending have a reason that a restart does not remove.
  private static let restartLimit = 5

  /// Worker N listens below `sockets` and appends its output to `logs`/worker-N.log.
  init(
    count: Int, threads: Int, coordinator: String, sockets: String, logs: String, exchange: Exchange
  ) throws(ProcessError) {
    let words = { (name: String) -> [String] in
      [
        "worker", "--coordinator", coordinator, "--name", name, "--threads", String(threads),
        "--listen", "ipc://\(sockets)/\(name)",
      ]
    }
    let all = (1...count).map { "worker-\($0)" }
    let launch = exchange == .mpi ? try MPILaunch() : nil
    start = { name throws(ProcessError) in
      let log = "\(logs)/\(name).log"
      if let launch { return try launch.start(ranks: all.map(words), log: log) }
      return try ChildProcess(name: name, words: words(name) + ["--end-with-input"], log: log)
    }
    let names = launch == nil ? all : [MPILaunch.name]
    for name in names {
      do throws(ProcessError) { children.append(try start(name)) } catch {
        ChildProcess.end(children, within: 0)
        throw error
      }
    }
  }

  /// A sentence about each worker that has ended since the last call. `restarting` starts it again.
  func newlyEnded(restarting: Bool) -> [String] {
    var sentences: [String] = []
    for (place, child) in children.enumerated().reversed() {
      guard let ending = child.poll() else { continue }
      lastEnding = "\(child.name) (pid \(child.identifier)) \(ending)"
      // Usually only the kernel sends this signal without a request.
      if ending == .signalled(SIGKILL) { lastEnding += ", which the kernel sends when memory runs out" }
      lastEnding += "; its log is \(child.log)"
      var sentence = lastEnding
      children.remove(at: place)
      if restarting, restartsLeft > 0 {
        restartsLeft -= 1
        do throws(ProcessError) {
          children.append(try start(child.name))
          sentence += "; it is started again"
        } catch {
          sentence += "; it could not be started again: \(error)"
        }
      }
      sentences.append(sentence)
    }
    return sentences
  }

  var isGone: Bool { children.isEmpty }

  /// Why the run has no workers any more.
  var epitaph: String { "all workers have ended, the last of them \(lastEnding)" }

  func end() { ChildProcess.end(children, within: Self.endSeconds) }
}
