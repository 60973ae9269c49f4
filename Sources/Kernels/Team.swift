// The threads of one worker. Work comes as numbered tasks whose content does not depend on how many threads there are;
// which thread takes which task is left to chance, because no result depends on it.

import CKernels
import Synchronization

#if canImport(Glibc)
  import Glibc
#endif

/// A fixed group of threads that run the tasks of one parallel region together with their caller.
///
/// A region ends when all its tasks have ended. Regions do not nest. Kernel threads are ours, never Swift's concurrency
/// pool: a task here runs for microseconds and must not wait behind anything else.
package final class Team: @unchecked Sendable {
  package typealias Task = (_ task: Int, _ lane: Int) -> Void

  /// Threads, the caller included. A lane is a thread's number: scratch memory is kept by lane.
  package let laneCount: Int
  private let bench: Bench
  private var threads: [pthread_t] = []

  /// Takes down where the time goes while it is set. Set it between regions.
  package var profile: Profile? {
    get { bench.profile }
    set { bench.profile = newValue }
  }

  /// Runs `body`, and with a profile takes down how long.
  package func measure<Result, Failure: Error>(
    _ part: ProfilePart, _ direction: ProfileDirection = .neither, _ body: () throws(Failure) -> Result
  ) throws(Failure) -> Result {
    guard let profile = bench.profile else { return try body() }
    return try profile.measure(part, direction, body)
  }

  package init(laneCount: Int) {
    self.laneCount = max(1, laneCount)
    bench = Bench()
    for lane in 1..<max(1, self.laneCount) {
      let seat = Unmanaged.passRetained(Seat(bench: bench, lane: lane))
      var thread = pthread_t()
      let status = pthread_create(
        &thread, nil,
        { argument in
          let seat = Unmanaged<Seat>.fromOpaque(argument!).takeRetainedValue()
          seat.bench.serve(lane: seat.lane)
          return nil
        }, seat.toOpaque())
      precondition(status == 0, "cannot start a kernel thread: error \(status)")
      threads.append(thread)
    }
  }

  deinit {
    bench.close()
    for thread in threads { pthread_join(thread, nil) }
  }

  /// Runs `body(task, lane)` for every task in 0 ..< count and returns when all have ended.
  package func run(_ count: Int, _ body: Task) {
    Progress.note()
    if laneCount == 1 || count <= 1 {
      for task in 0..<count { body(task, 0) }
      return
    }
    bench.run(count, others: laneCount - 1, body)
  }
}

/// What the lanes of a team share. They hold it, not the team, so that a team can end while they sleep.
private final class Bench: @unchecked Sendable {
  private let mutex: UnsafeMutablePointer<pthread_mutex_t>
  private let wake: UnsafeMutablePointer<pthread_cond_t>
  private let region = Atomic<UInt64>(0)
  private let nextTask = Atomic<Int>(0)
  private let working = Atomic<Int>(0)
  private let ending = Atomic<Bool>(false)
  // Written by the caller before `region` moves on, read by the lanes after they saw it move.
  private var taskCount = 0
  var profile: Profile?
  private var others = 0
  private let lent: UnsafeMutablePointer<ress_closure>

  /// How long an idle lane looks for the next region before it sleeps: regions of one step follow each other in
  /// microseconds, while a sleeping thread takes some 50 µs to wake.
  private static let spinCount = 4_000

  init() {
    mutex = .allocate(capacity: 1)
    wake = .allocate(capacity: 1)
    lent = .allocate(capacity: 1)
    lent.initialize(to: ress_closure())
    pthread_mutex_init(mutex, nil)
    pthread_cond_init(wake, nil)
  }

  deinit {
    pthread_cond_destroy(wake)
    pthread_mutex_destroy(mutex)
    wake.deallocate()
    lent.deallocate()
    mutex.deallocate()
  }

  func close() {
    pthread_mutex_lock(mutex)
    ending.store(true, ordering: .releasing)
    pthread_cond_broadcast(wake)
    pthread_mutex_unlock(mutex)
  }

  func run(_ count: Int, others: Int, _ body: Team.Task) {
    taskCount = count
    self.others = others
    // A region allocates nothing: withoutActuallyEscaping would box the closure.
    lend(
      body, lent, { Unmanaged<Bench>.fromOpaque($0!).takeUnretainedValue().runLent() },
      Unmanaged.passUnretained(self).toOpaque())
  }

  private func runLent() {
    nextTask.store(0, ordering: .relaxed)
    working.store(others, ordering: .relaxed)
    pthread_mutex_lock(mutex)
    region.wrappingAdd(1, ordering: .releasing)
    pthread_cond_broadcast(wake)
    pthread_mutex_unlock(mutex)
    take(lane: 0)
    var spins = 0
    while working.load(ordering: .acquiring) > 0 {
      spins += 1
      if spins > Bench.spinCount { sched_yield() }
    }
  }

  private func take(lane: Int) {
    while true {
      let task = nextTask.wrappingAdd(1, ordering: .relaxed).oldValue
      if task >= taskCount { return }
      ress_call_lent(lent, Int64(task), Int64(lane))
    }
  }

  func serve(lane: Int) {
    var seen: UInt64 = 0
    while true {
      var spins = 0
      while region.load(ordering: .acquiring) == seen && spins < Bench.spinCount { spins += 1 }
      if region.load(ordering: .acquiring) == seen {
        pthread_mutex_lock(mutex)
        while region.load(ordering: .acquiring) == seen && !ending.load(ordering: .acquiring) {
          pthread_cond_wait(wake, mutex)
        }
        pthread_mutex_unlock(mutex)
      }
      if ending.load(ordering: .acquiring) { return }
      seen = region.load(ordering: .acquiring)
      if let profile {
        let begin = Profile.now()
        take(lane: lane)
        profile.note(lane: lane, begin: begin)
      } else {
        take(lane: lane)
      }
      working.wrappingSubtract(1, ordering: .releasing)
    }
  }
}

/// Puts the closure's two words into `place`, calls `during(context)`, and takes them away: CKernels/team.c.
@_silgen_name("ress_lend")
private func lend(
  _ body: Team.Task, _ place: UnsafeMutablePointer<ress_closure>,
  _ during: @convention(c) (UnsafeMutableRawPointer?) -> Void,
  _ context: UnsafeMutableRawPointer)

/// Where a lane sits.
private final class Seat {
  let bench: Bench
  let lane: Int
  init(bench: Bench, lane: Int) {
    self.bench = bench
    self.lane = lane
  }
}

/// Fixed pieces of a range: the same for any number of threads.
package struct Tiles: Sendable {
  package let count: Int
  private let total: Int
  private let size: Int

  package init(of total: Int, size: Int) {
    self.total = total
    self.size = size
    count = (total + size - 1) / size
  }

  package subscript(index: Int) -> Range<Int> { index * size..<min(total, (index + 1) * size) }
}
