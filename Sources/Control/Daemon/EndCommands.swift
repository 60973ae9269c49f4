// The commands of `cluster.on_end`: what a user wants done when a run comes to rest, such as a message to a phone. They
// run with the rights of the coordinator's process, so a coordinator runs them only if its administrator allows it; for
// `ress train` that is the user.
//
// Each command is a child of its own, which the loop neither waits for nor reads from. `timeout` (coreutils) ends it,
// and all processes of its group, after the limit, also if this process has died.

import Configuration
import Coordination
import Foundation
import RunFolder
import Synchronization
import Wire

#if canImport(Glibc)
  import Glibc
#endif

package final class EndCommands: Sendable {
  /// Seconds after which a command is ended.
  package static let limitSeconds = 60
  /// Commands at the same time; others wait.
  private static let most = 4
  /// Commands that may wait; more than that are not run.
  private static let mostWaiting = 256
  /// Bytes of a value in the environment.
  private static let valueLimit = 4096

  private struct State {
    var running = 0
    var waiting: [Job] = []
  }

  private struct Job: Sendable {
    let run: RunID
    let ending: Ending
  }

  private let limitSeconds: Int
  private let boundary: Boundary
  private let tell: @Sendable (RunID, String) -> Void
  private let state = Mutex(State())
  private let work = DispatchGroup()

  /// - Parameters:
  ///   - limitSeconds: seconds after which a command is ended.
  ///   - boundary: where the runs' folders may be.
  ///   - tell: receives a sentence for the run's story if its command failed.
  package init(
    limitSeconds: Int = EndCommands.limitSeconds, _ boundary: Boundary,
    tell: @escaping @Sendable (RunID, String) -> Void
  ) {
    (self.limitSeconds, self.boundary, self.tell) = (limitSeconds, boundary, tell)
  }

  /// Starts a run's command and returns at once.
  package func start(_ run: RunID, _ ending: Ending) {
    let job = Job(run: run, ending: ending)
    let begins = state.withLock { state -> Bool? in
      if state.running < Self.most {
        state.running += 1
        return true
      }
      guard state.waiting.count < Self.mostWaiting else { return nil }
      state.waiting.append(job)
      return false
    }
    switch begins {
    case true?: begin(job)
    case false?: break
    case nil: tell(run, "cluster.on_end was not run, because \(Self.mostWaiting) other commands wait")
    }
  }

  /// Waits until all commands have ended, each within its limit.
  package func wait() { work.wait() }

  /// Ends the service: commands that still wait are not run, and those that run are waited for, each within its limit.
  package func end() {
    let waiting = state.withLock { state in
      defer { state.waiting = [] }
      return state.waiting
    }
    for job in waiting { tell(job.run, "cluster.on_end was not run, because the coordinator ends") }
    work.wait()
  }

  private func begin(_ job: Job) {
    work.enter()
    let thread = Thread { [self] in
      var next: Job? = job
      while let job = next {
        if let sentence = perform(job) { tell(job.run, sentence) }
        next = state.withLock { state in
          if state.waiting.isEmpty {
            state.running -= 1
            return nil
          }
          return state.waiting.removeFirst()
        }
      }
      work.leave()
    }
    thread.name = "ress-on-end"
    thread.start()
  }

  /// Runs the command to its end. Returns the error, or nil.
  private func perform(_ job: Job) -> String? {
    let output = openOutput(job.ending.folder)
    defer { if let output { close(output) } }
    let place = output == nil ? "" : "; its output is in \(job.ending.folder)/\(Self.outputName)"
    let begun = ContinuousClock.now
    let words = ["timeout", "--kill-after=5", String(limitSeconds), "sh", "-c", job.ending.command]
    switch Self.spawn(words, Self.environment(job.ending), output) {
    case .failure(let error): return "cluster.on_end could not be run: \(error.reason)"
    case .success(let child):
      var status: Int32 = 0
      while waitpid(child, &status, 0) < 0 && errno == EINTR {}
      let signal = status & 0x7F, code = (status >> 8) & 0xFF
      if signal == 0, code == 0 { return nil }
      // 124: the command has ended on SIGTERM. Otherwise timeout kills the group, and with it itself.
      let isLate = begun.duration(to: .now) >= .seconds(limitSeconds)
      if (signal == 0 && code == 124) || (signal == SIGKILL && isLate) {
        return "cluster.on_end was ended after \(limitSeconds) s\(place)"
      }
      return signal == 0
        ? "cluster.on_end ended with code \(code)\(place)"
        : "cluster.on_end was ended by signal \(signal)\(place)"
    }
  }

  private static let outputName = "on-end.log"

  /// The file in the run's folder to which the command's output is appended; nil if it cannot be opened.
  private func openOutput(_ folder: String) -> Int32? {
    guard !folder.isEmpty else { return nil }
    return try? boundary.within(folder) { (pinned) throws(FolderError) in
      let file = open(
        pinned.path + "/" + Self.outputName, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0o644)
      guard file >= 0 else {
        throw FolderError.system(action: "write", path: folder, reason: String(cString: strerror(errno)))
      }
      return file
    }
  }

  /// This process's environment, and the run's name, state, reason and folder.
  static func environment(_ ending: Ending) -> [String] {
    let own = [
      ("RUN", ending.name), ("STATE", ending.state.rawValue), ("REASON", ending.reason), ("FOLDER", ending.folder),
    ]
    let names = Set(own.map(\.0))
    let inherited = ProcessInfo.processInfo.environment.filter { !names.contains($0.key) }.sorted { $0.key < $1.key }
    return inherited.map { "\($0.key)=\($0.value)" }
      // A text of a worker or user may contain any character; NUL would end it.
      + own.map { "\($0.0)=" + String($0.1.filter { $0 != "\0" }.prefix(valueLimit)) }
  }

  private struct SpawnError: Error { var reason: String }

  private static func spawn(
    _ words: [String], _ environment: [String], _ output: Int32?
  ) -> Result<pid_t, SpawnError> {
    var actions = posix_spawn_file_actions_t(), attributes = posix_spawnattr_t()
    posix_spawn_file_actions_init(&actions)
    posix_spawnattr_init(&attributes)
    defer {
      posix_spawn_file_actions_destroy(&actions)
      posix_spawnattr_destroy(&attributes)
    }
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0)
    if let output {
      posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO)
    } else {
      posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0)
    }
    posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO)
    // This process blocks and ignores signals that must end the command.
    var none = sigset_t(), ordinary = sigset_t()
    sigemptyset(&none)
    sigemptyset(&ordinary)
    for signal in [SIGPIPE, SIGINT, SIGTERM, SIGHUP, SIGXFSZ] { sigaddset(&ordinary, signal) }
    posix_spawnattr_setsigmask(&attributes, &none)
    posix_spawnattr_setsigdefault(&attributes, &ordinary)
    // A group of its own, so that Ctrl-C in a terminal reaches this process alone.
    posix_spawnattr_setpgroup(&attributes, 0)
    posix_spawnattr_setflags(
      &attributes, Int16(POSIX_SPAWN_SETPGROUP) | Int16(POSIX_SPAWN_SETSIGMASK) | Int16(POSIX_SPAWN_SETSIGDEF))
    var arguments = words.map { strdup($0) } + [nil]
    var variables = environment.map { strdup($0) } + [nil]
    defer { for text in arguments + variables { free(text) } }
    var child: pid_t = 0
    let status = posix_spawnp(&child, words[0], &actions, &attributes, &arguments, &variables)
    return status == 0 ? .success(child) : .failure(SpawnError(reason: String(cString: strerror(status))))
  }
}
