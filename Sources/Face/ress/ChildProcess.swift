// Processes that `ress train` starts and that must not outlive it. Three mechanisms ensure this: the command ends them
// on every way out; each reads a pipe whose other end only this process holds, and which the kernel closes even after
// kill -9; and a worker whose coordinator is silent ends by itself.

@preconcurrency import Glibc
import Transport

struct ProcessError: Error, CustomStringConvertible {
  var description: String
}

/// A child with its own process group, so that Ctrl-C reaches this process alone, which then ends the run in order.
final class ChildProcess {
  enum Ending: Equatable {
    case exited(Int32)
    case signalled(Int32)
  }

  let name: String
  let log: String
  let identifier: pid_t
  /// The writing end of the child's standard input; closing it ends the child.
  private let leash: Int32
  private(set) var ending: Ending?

  /// The signal that asks it to end in order.
  private let endSignal: Int32

  /// Starts this program with other arguments, or another program. Output and errors are appended to the file at `log`.
  init(
    name: String, program: String = "/proc/self/exe", words: [String], log: String,
    environment: [String: String] = [:], endSignal: Int32 = SIGTERM
  ) throws(ProcessError) {
    self.endSignal = endSignal
    self.name = name
    self.log = log
    var pipe: [Int32] = [-1, -1]
    guard Glibc.pipe(&pipe) == 0 else { throw Self.failure("cannot make a pipe for \(name)", errno) }
    for end in pipe { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
    defer { close(pipe[0]) }

    var actions = posix_spawn_file_actions_t(), attributes = posix_spawnattr_t()
    posix_spawn_file_actions_init(&actions)
    posix_spawnattr_init(&attributes)
    defer {
      posix_spawn_file_actions_destroy(&actions)
      posix_spawnattr_destroy(&attributes)
    }
    posix_spawn_file_actions_adddup2(&actions, pipe[0], STDIN_FILENO)
    posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, log, O_WRONLY | O_CREAT | O_APPEND, 0o644)
    posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO)
    posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETPGROUP))
    posix_spawnattr_setpgroup(&attributes, 0)

    var arguments = ([program == "/proc/self/exe" ? "ress" : program] + words).map { strdup($0) } + [nil]
    defer { for argument in arguments { free(argument) } }
    var variables = environment.map { strdup("\($0.key)=\($0.value)") }
    defer { for variable in variables.prefix(environment.count) { free(variable) } }
    var inherited = environ
    while let variable = inherited.pointee {
      // This process may be an MPI rank; its children must not be.
      if !MPIPlugin.rankVariables.contains(where: { strncmp(variable, $0 + "=", $0.utf8.count + 1) == 0 }) {
        variables.append(variable)
      }
      inherited += 1
    }
    variables.append(nil)
    var identifier: pid_t = 0
    let status = posix_spawnp(&identifier, program, &actions, &attributes, &arguments, &variables)
    guard status == 0 else {
      close(pipe[1])
      throw Self.failure("cannot start \(name) (its log would be \(log))", status)
    }
    self.identifier = identifier
    leash = pipe[1]
  }

  /// Asks the kernel whether the child has ended, without waiting for it.
  func poll() -> Ending? {
    if ending == nil {
      var status: Int32 = 0
      if waitpid(identifier, &status, WNOHANG) == identifier { ending = Self.ending(status) }
    }
    return ending
  }

  /// Asks children to end, waits for at most `seconds`, and then kills them.
  static func end(_ children: [ChildProcess], within seconds: Double) {
    for child in children { child.send(child.endSignal) }
    var waited = 0.0
    while waited < seconds, children.contains(where: { $0.poll() == nil }) {
      usleep(20_000)
      waited += 0.02
    }
    for child in children { child.kill() }
  }

  /// Sends a signal, unless the child has ended: its number may then be another process's.
  func send(_ signal: Int32) {
    if poll() == nil { Glibc.kill(identifier, signal) }
  }

  /// Sends SIGKILL and waits until the process has ended.
  func kill() {
    guard poll() == nil else { return }
    Glibc.kill(identifier, SIGKILL)
    var status: Int32 = 0
    if waitpid(identifier, &status, 0) == identifier { ending = Self.ending(status) }
  }

  deinit { close(leash) }

  private static func ending(_ status: Int32) -> Ending {
    let signal = status & 0x7F
    return signal == 0 ? .exited((status >> 8) & 0xFF) : .signalled(signal)
  }

  private static func failure(_ what: String, _ code: Int32) -> ProcessError {
    ProcessError(description: "\(what): \(String(cString: strerror(code)))")
  }
}

extension ChildProcess.Ending: CustomStringConvertible {
  var description: String {
    switch self {
    case .exited(let code): "ended with code \(code)"
    case .signalled(let signal): "was ended by signal \(signal) (\(String(cString: strsignal(signal))))"
    }
  }
}

/// The child's side of the pipe.
enum Leash {
  /// Ends this process at once when standard input closes, because its parent has ended. A checkpoint that is half
  /// written then has no manifest and does not count.
  static func follow() {
    var thread = pthread_t()
    let status = pthread_create(
      &thread, nil,
      { _ in
        var byte: UInt8 = 0
        while true {
          let count = read(STDIN_FILENO, &byte, 1)
          if count == 0 || (count < 0 && errno != EINTR) { _exit(1) }
        }
      }, nil)
    precondition(status == 0, "cannot start a thread: error \(status)")
    pthread_detach(thread)
  }
}
