// Whether a thread waits for a processor.
//
// A worker whose training thread makes no progress for the whole patience counts as stuck and is replaced
// (`Kernels.Progress`). A thread that is ready and gets no processor, because other programs use them all, is not
// stuck: another worker on the same machine would be as slow, so replacing it makes nothing better, and the run might
// replace one worker after the other and never end a step. The same holds where the network thread gets none, because
// then the training thread waits for messages that are there.

import CLinux
import Transport
import Wire

package struct ProcessorWait {
  private let path: String
  private var before: (at: Instant, waited: Int)?
  /// A thread that waited for this share of the time between two looks is starved.
  private static let starvedShare = 0.5

  /// Of the calling thread.
  package init() { self.init(path: "/proc/self/task/\(ress_thread())/schedstat") }

  /// - Parameter path: a file whose second number is the nanoseconds for which a thread was ready to run and waited
  ///   (Linux, Documentation/scheduler/sched-stats.rst).
  package init(path: String) { self.path = path }

  /// Whether the thread waited for a processor for most of the time since the last call; false where that is not
  /// known.
  package mutating func isStarved(at now: Instant) -> Bool {
    guard let waited = ProcessFile.number(1, of: path) else { return false }
    defer { before = (now, waited) }
    guard let before, before.at < now else { return false }
    let elapsed = (now - before.at).inSeconds
    return Double(waited - before.waited) / 1e9 >= ProcessorWait.starvedShare * elapsed
  }
}
