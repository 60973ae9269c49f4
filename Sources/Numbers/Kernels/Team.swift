// The threads of one worker. Work is divided into numbered tasks whose content does not depend on the number of
// threads. Which thread runs which task depends on chance and does not matter, because tasks write to separate
// memory and results are combined in task order.

import CKernels
import Synchronization

#if canImport(Glibc)
  import Glibc
#endif

/// A fixed group of threads that run the tasks of a parallel region together with the calling thread.
///
/// A region ends when all its tasks have ended; regions of a team cannot be nested. The threads are our own and not
/// those of Swift's concurrency pool: a task takes microseconds and must not queue after other work.
package final class Team: @unchecked Sendable {
  package typealias Task = (_ task: Int, _ lane: Int) -> Void

  /// Number of threads, including the caller. A lane is a thread's number; scratch memory is allocated per lane.
  package let laneCount: Int
  private let bench: Bench
  private var threads: [pthread_t] = []

  /// Records the time of regions while it is set. It may be changed only between regions.
  package var profile: Profile? {
    get { bench.profile }
    set { bench.profile = newValue }
  }

  /// Records this team as one of several in a profile.
  /// - Parameters:
  ///   - track: its number, from 1.
  ///   - firstLane: the number of its first thread among all threads.
  func record(in profile: Profile?, track: Int, firstLane: Int) {
    (bench.profile, bench.track, bench.firstLane) = (profile, track, firstLane)
  }

  /// Ends the spans under way, because another thread leads the team for a while.
  func pauseProfile() -> Profile.Paused? { bench.profile?.pause(track: bench.track) }
  func resumeProfile(_ paused: Profile.Paused?) { if let paused { bench.profile?.resume(paused) } }

  /// Runs `body`, and records its duration where there is a profile.
  package func measure<Result, Failure: Error>(
    _ part: ProfilePart, _ direction: ProfileDirection = .neither, _ body: () throws(Failure) -> Result
  ) throws(Failure) -> Result {
    guard let profile = bench.profile else { return try body() }
    return try profile.measure(part, direction, track: bench.track, lane: bench.firstLane, body)
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

  /// A team without threads of its own: a thread calls `open` and leads the team until it calls `close`; meanwhile
  /// the others serve in `join`.
  init(borrowing laneCount: Int) { (self.laneCount, bench) = (max(1, laneCount), Bench()) }

  /// A team whose tasks all run on the calling thread; everything else is as with so many threads.
  package init(simulating laneCount: Int) {
    (self.laneCount, bench) = (max(1, laneCount), Bench())
    isSimulated = true
  }

  private(set) var isSimulated = false
  /// Records the tasks of a simulated team.
  package var log: TaskLog?

  func open() { bench.open() }
  func join(lane: Int) { bench.serve(lane: lane, after: bench.opening) }
  func close() { bench.close() }

  deinit {
    bench.close()
    for thread in threads { pthread_join(thread, nil) }
  }

  /// Runs `body(task, lane)` for every task in 0 ..< count, and returns when all have ended.
  package func run(_ count: Int, _ body: Task) {
    Progress.note()
    if let log { return log.run(count, body) }
    if laneCount == 1 || count <= 1 || isSimulated {
      for task in 0..<count { body(task, 0) }
      return
    }
    bench.run(count, others: laneCount - 1, body)
  }

  /// Runs `body(lane)` once on each thread.
  package func onEachLane(_ body: (_ lane: Int) -> Void) {
    Progress.note()
    if laneCount == 1 { return body(0) }
    bench.run(laneCount, others: laneCount - 1, isFixed: true) { _, lane in body(lane) }
  }
}

/// The state that the threads of a team share. Threads refer to it and not to the team, so that a team can be
/// released while they sleep.
///
/// Starting a region: the caller writes the number of tasks and the closure, and then increments `region`; a thread
/// that sees the new number takes tasks from `nextTask` until all are taken, and then decrements `working`.
/// The caller takes tasks as well, and waits until `working` is 0.
private final class Bench: @unchecked Sendable {
  /// Announced when a region begins and when the bench is closed.
  private let lock = Lock()
  private let region = Atomic<UInt64>(0)
  private let nextTask = Atomic<Int>(0)
  private let working = Atomic<Int>(0)
  private let ending = Atomic<Bool>(false)
  // Written by the caller before it increments `region`, read by the threads after they have seen the new value.
  private var taskCount = 0
  /// Whether each thread runs the task that has its number, and no other.
  private var isFixed = false
  /// The newest region when the bench was opened: a thread that joins waits for the ones after it.
  private(set) var opening: UInt64 = 0
  var profile: Profile?
  var track = 0
  var firstLane = 0
  private var others = 0
  private let lent: UnsafeMutablePointer<ress_closure>

  /// How often an idle thread checks for the next region before it sleeps. Regions of a step follow each other in
  /// microseconds, while waking a sleeping thread takes some 50 µs.
  private static let spinCount = 4_000

  init() {
    lent = .allocate(capacity: 1)
    lent.initialize(to: ress_closure())
  }

  deinit { lent.deallocate() }

  func close() {
    lock.hold {
      ending.store(true, ordering: .releasing)
      lock.announce()
    }
  }

  /// Before threads join. They may do so at any time after it, because no region ends without them.
  func open() {
    opening = region.load(ordering: .relaxed)
    ending.store(false, ordering: .releasing)
  }

  func run(_ count: Int, others: Int, isFixed: Bool = false, _ body: Team.Task) {
    taskCount = count
    self.others = others
    self.isFixed = isFixed
    // A region must not allocate; withoutActuallyEscaping would allocate a box for the closure.
    lend(
      body, lent, { Unmanaged<Bench>.fromOpaque($0!).takeUnretainedValue().runLent() },
      Unmanaged.passUnretained(self).toOpaque())
  }

  private func runLent() {
    nextTask.store(0, ordering: .relaxed)
    working.store(others, ordering: .relaxed)
    lock.hold {
      region.wrappingAdd(1, ordering: .releasing)
      lock.announce()
    }
    take(lane: 0)
    var spins = 0
    while working.load(ordering: .acquiring) > 0 {
      spins += 1
      if spins > Bench.spinCount { sched_yield() }
    }
  }

  /// Takes tasks until there are none left.
  private func take(lane: Int) {
    if isFixed { return ress_call_lent(lent, Int64(lane), Int64(lane)) }
    while true {
      let task = nextTask.wrappingAdd(1, ordering: .relaxed).oldValue
      if task >= taskCount { return }
      ress_call_lent(lent, Int64(task), Int64(lane))
    }
  }

  /// The loop of a thread other than the caller, for the regions after that number, until the bench is closed.
  func serve(lane: Int, after first: UInt64 = 0) {
    var seen = first
    while true {
      var spins = 0
      while region.load(ordering: .acquiring) == seen && spins < Bench.spinCount { spins += 1 }
      if region.load(ordering: .acquiring) == seen {
        lock.hold {
          while region.load(ordering: .acquiring) == seen && !ending.load(ordering: .acquiring) { lock.wait() }
        }
      }
      if ending.load(ordering: .acquiring) { return }
      seen = region.load(ordering: .acquiring)
      if let profile, !isFixed {
        let begin = Profile.now()
        take(lane: lane)
        profile.note(track: track, lane: firstLane + lane, begin: begin)
      } else {
        take(lane: lane)
      }
      working.wrappingSubtract(1, ordering: .releasing)
    }
  }
}

/// Stores the closure's two words at `place`, calls `during(context)`, and clears them (CKernels/team.c).
@_silgen_name("ress_lend")
private func lend(
  _ body: Team.Task, _ place: UnsafeMutablePointer<ress_closure>,
  _ during: @convention(c) (UnsafeMutableRawPointer?) -> Void,
  _ context: UnsafeMutableRawPointer)

/// The argument of a new thread.
private final class Seat {
  let bench: Bench
  let lane: Int
  init(bench: Bench, lane: Int) {
    self.bench = bench
    self.lane = lane
  }
}

/// Divides a range into fixed pieces, which are the same for any number of threads.
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
