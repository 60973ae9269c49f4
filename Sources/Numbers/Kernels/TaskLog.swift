// What a team does in a step, as a list of tasks and their durations. From it follows how long the step would take at
// best on any number of threads, on machines that are not here (`ress-bench bound`).

#if canImport(Glibc)
  import Glibc
#endif

/// The parallel regions of a simulated team (`Team.init(simulating:)`), and the time between them, in which one thread
/// works alone. Times are the thread's processor time, so that other programs on the machine do not count.
package final class TaskLog {
  /// Nanoseconds before each region, and the region's tasks.
  private var regions: [(alone: Int64, tasks: Range<Int>)] = []
  private var durations: [Int64] = []
  private var last: Int64 = 0

  package init() {}

  package func clear() {
    regions.removeAll(keepingCapacity: true)
    durations.removeAll(keepingCapacity: true)
  }

  /// Begins to count the work of this thread.
  package func start() { last = TaskLog.now() }

  /// Stops counting.
  package func stop() { regions.append((TaskLog.now() - last, durations.count..<durations.count)) }

  func run(_ count: Int, _ body: Team.Task) {
    let alone = TaskLog.now() - last
    let first = durations.count
    var begin = TaskLog.now()
    for task in 0..<count {
      body(task, 0)
      let end = TaskLog.now()
      durations.append(end - begin)
      begin = end
    }
    regions.append((alone, first..<durations.count))
    last = TaskLog.now()
  }

  /// Seconds of one thread.
  package var work: Double {
    Double(durations.reduce(0, +) + regions.reduce(0) { $0 + $1.alone }) / 1e9
  }

  /// Seconds on so many threads that take tasks in their order and wait for each other at the end of each region.
  package func seconds(lanes: Int) -> Double {
    var total: Int64 = 0
    var ends: [Int64] = []
    for (alone, tasks) in regions {
      ends = Array(repeating: 0, count: max(1, lanes))
      for task in tasks {
        let free = ends.indices.min { ends[$0] < ends[$1] }!
        ends[free] += durations[task]
      }
      total += alone + ends.max()!
    }
    return Double(total) / 1e9
  }

  private static func now() -> Int64 {
    var time = timespec()
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
    return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
  }
}
