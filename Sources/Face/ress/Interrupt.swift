// Ctrl-C and SIGTERM, in the two forms that commands need: a value to check in a loop, or an event to wait for.

import Glibc
import Synchronization

enum Interrupt {
  private static let numbers = [SIGINT, SIGTERM, SIGHUP]
  /// The first signal, 0 before it.
  private static let firstNumber = Atomic<Int32>(0)

  /// Unblocks every signal. Call at the start, before any thread is started.
  static func unblock() {
    var none = sigset_t()
    sigemptyset(&none)
    pthread_sigmask(SIG_SETMASK, &none, nil)
  }

  // MARK: Checked in a loop

  /// Call once, at the start of a command whose loop checks `first`. The second signal ends the process at once.
  static func install() {
    // Initialise it here: a first use in the handler would take a lock that the interrupted thread might hold.
    _ = firstNumber.load(ordering: .relaxed)
    for number in numbers {
      handle(number, ignoredBefore: [SIGHUP]) { number in
        let (isFirst, _) = Interrupt.firstNumber.compareExchange(expected: 0, desired: number, ordering: .relaxed)
        if !isFirst { _exit(128 + number) }
      }
    }
  }

  /// The first signal that arrived; nil before it.
  static var first: Int32? {
    let number = firstNumber.load(ordering: .relaxed)
    return number == 0 ? nil : number
  }

  static var isRequested: Bool { first != nil }

  /// `Interrupt (signal 2)`
  static func name(_ number: Int32) -> String { String(cString: strsignal(number)) + " (signal \(number))" }

  /// - Parameter ignored: signals that stay ignored if the process was started with them ignored: SIGHUP by nohup, to
  ///   outlive its terminal, and SIGINT by a script's `&`, so that only the script ends the process.
  private static func handle(
    _ number: Int32, ignoredBefore ignored: [Int32], _ handler: @escaping @convention(c) (Int32) -> Void
  ) {
    let before = signal(number, handler)
    // SIG_IGN is the number 1, cast to a function pointer.
    if ignored.contains(number), unsafeBitCast(before, to: Int.self) == 1 { signal(number, SIG_IGN) }
  }

  // MARK: Waited for

  /// USR1 too: mpirun forwards it to its ranks, whereas on TERM it kills them before they have left in order.
  private static let awaited = numbers + [SIGUSR1]

  /// Call once, before any thread is started: threads inherit the mask, so only `wait` receives the signals. Threads
  /// that a library started before `main` receive them too, so there is a handler: without one, sigwait was seen to
  /// lose signals to such a thread, where the default action ends the process.
  static func block() {
    sem_init(came, 0, 0)
    _ = taken.load(ordering: .relaxed)
    for number in awaited {
      handle(number, ignoredBefore: [SIGHUP, SIGINT]) { number in
        Interrupt.taken.store(number, ordering: .relaxed)
        sem_post(Interrupt.came)
      }
    }
    var set = signals
    pthread_sigmask(SIG_BLOCK, &set, nil)
  }

  /// Waits for a signal and returns its name.
  static func wait() -> String {
    var set = signals
    pthread_sigmask(SIG_UNBLOCK, &set, nil)
    while sem_wait(came) != 0 {}
    let number = taken.load(ordering: .relaxed)
    return name(number)
  }

  /// The last signal, and the number of signals that were not waited for yet.
  private static let taken = Atomic<Int32>(0)
  nonisolated(unsafe) private static let came = UnsafeMutablePointer<sem_t>.allocate(capacity: 1)

  /// Calls `body` on a thread of its own when the first signal comes.
  static func whenRequested(_ body: @escaping @Sendable (String) -> Void) {
    final class Box: Sendable {
      let body: @Sendable (String) -> Void
      init(_ body: @escaping @Sendable (String) -> Void) { self.body = body }
    }
    var thread = pthread_t()
    let status = pthread_create(
      &thread, nil,
      { argument in
        let box = Unmanaged<Box>.fromOpaque(argument!).takeRetainedValue()
        box.body(Interrupt.wait())
        return nil
      }, Unmanaged.passRetained(Box(body)).toOpaque())
    precondition(status == 0, "cannot start a thread: error \(status)")
    pthread_detach(thread)
  }

  private static var signals: sigset_t {
    var set = sigset_t()
    sigemptyset(&set)
    for number in awaited { sigaddset(&set, number) }
    return set
  }
}
