// Ctrl-C and SIGTERM, in the two forms that commands need: a question to ask in a loop, or something to wait for.

import Glibc
import Synchronization

enum Interrupt {
  private static let numbers = [SIGINT, SIGTERM, SIGHUP]
  /// The first signal, 0 before it.
  private static let firstNumber = Atomic<Int32>(0)

  /// Makes the process reachable for every signal. Call at the start, before any thread is started.
  static func unblock() {
    var none = sigset_t()
    sigemptyset(&none)
    pthread_sigmask(SIG_SETMASK, &none, nil)
  }

  // MARK: A question

  /// Call once, at the start of a command whose loop looks at `first`. The second signal ends the process at once.
  static func install() {
    // A first use in the handler would initialise it there, with a lock that the interrupted thread might hold.
    _ = firstNumber.load(ordering: .relaxed)
    for number in numbers {
      handle(number, ignoredBefore: [SIGHUP]) { number in
        let (isFirst, _) = Interrupt.firstNumber.compareExchange(expected: 0, desired: number, ordering: .relaxed)
        if !isFirst { _exit(128 + number) }
      }
    }
  }

  /// The first signal that came; nil before it.
  static var first: Int32? {
    let number = firstNumber.load(ordering: .relaxed)
    return number == 0 ? nil : number
  }

  static var isRequested: Bool { first != nil }

  /// `Interrupt (signal 2)`
  static func name(_ number: Int32) -> String { String(cString: strsignal(number)) + " (signal \(number))" }

  /// - Parameter ignored: signals that stay ignored where the process was started so: SIGHUP by nohup, to outlive its terminal, and SIGINT
  ///   by a script's `&`, to be ended by the script alone.
  private static func handle(
    _ number: Int32, ignoredBefore ignored: [Int32], _ handler: @escaping @convention(c) (Int32) -> Void
  ) {
    let before = signal(number, handler)
    // SIG_IGN is the number 1 in the place of a function.
    if ignored.contains(number), unsafeBitCast(before, to: Int.self) == 1 { signal(number, SIG_IGN) }
  }

  // MARK: Something to wait for

  /// USR1 too: mpirun hands it on to its ranks, while a TERM of its own ends them before they have left.
  private static let awaited = numbers + [SIGUSR1]

  /// Call once, before any thread is started: threads inherit the mask, and only `wait` then takes the signals. A library's thread that was
  /// there before `main` (OpenBLAS has some) takes them too, so there is a handler: without one, sigwait was seen to lose them to such a
  /// thread, which knows nothing but to end the process.
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

  /// Waits for a signal and names it.
  static func wait() -> String {
    var set = signals
    pthread_sigmask(SIG_UNBLOCK, &set, nil)
    while sem_wait(came) != 0 {}
    let number = taken.load(ordering: .relaxed)
    return name(number)
  }

  /// The last signal, and a count of those that nobody has waited for yet.
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
