// `ress train`: a run on this machine, with a coordinator in this process and workers as children, or a run that is
// submitted to a coordinator elsewhere. Both are followed in the same way.

import Configuration
import Daemon
import Foundation
import Glibc
import RunFolder
import RunStore
import Shell
import Synchronization
import Transport
import Wire

func train(_ options: TrainOptions) throws -> ExitCode {
  // A reader that closes the pipe (`ress train … | head`) must not end the training.
  signal(SIGPIPE, SIG_IGN)
  var request = try RunRequest(options.configuration, options.submission)
  let view = RunWatch.view(of: request, json: options.json)
  let board = try options.tensorboard.map {
    try BoardWriter($0, run: request.configuration.run, request.configuration)
  }
  Interrupt.install()
  if let address = options.coordinator {
    request = request.anywhere
    request.notes = try Preflight.look(at: request.configuration, whereWorkersAre: address)
    request.notes += try Preflight.lookAtSource(of: request, isHere: false)
    let client = try ConnectionSecurity.client(address)
    return try RunWatch.follow(request, client, view: view, board: board)
  }
  request.notes = try Preflight.look(at: request.configuration)
  request.notes += try Preflight.lookAtSource(of: request, isHere: true)
  try Preflight.weigh(request.configuration)
  return try LocalRun.train(request, view: view, board: board)
}

enum LocalRun {
  /// Longer than any other wait in this program.
  private static let patienceSeconds = 1e6

  /// - Parameter watch: called with each event of the run.
  static func train(
    _ request: RunRequest, view: RunView, board: BoardWriter? = nil, watch: (RunEvent) -> Void = { _ in }
  ) throws -> ExitCode {
    let configuration = request.configuration
    try Durable.makeFolder(request.folder)
    // The paths of sockets must be short and unique.
    let sockets = try TemporaryFolder(name: "ress-train")
    defer { sockets.remove() }

    let log = try LogFile(request.folder + "/coordinator.log")
    var options = CoordinatorDaemon.Options(listen: "ipc://\(sockets.path)/coordinator", program: Version.program)
    options.patienceSeconds = configuration.cluster.patienceSeconds
    // In the run's folder, so that a run keeps its identifier and story when it is resumed.
    options.store = request.folder + "/coordinator.db"
    options.pausesUnfinished = true
    // The command is the user's own.
    options.allowsCommands = true
    options.log = log.write
    options.alarm = { Terminal.complain($0) }
    let brokenStore = Mutex<String?>(nil)
    options.fail = { reason in brokenStore.withLock { $0 = reason } }
    let daemon: CoordinatorDaemon
    do { daemon = try CoordinatorDaemon(options) } catch let error as StoreError {
      throw ProcessError(
        description: error.advised(
          inUse:
            "run \(configuration.run) is being trained there; wait for its end, or choose another name with --set run=NAME",
          foreign: "move it away, or choose another name with --set run=NAME"))
    }
    daemon.start()
    defer { daemon.stop() }

    let workers = try LocalWorkers(
      count: configuration.cluster.workers, threads: request.threadsPerWorker(cores: MachineProbe.cores()),
      coordinator: daemon.endpoint, sockets: sockets.path, logs: request.folder,
      exchange: configuration.cluster.exchange)
    // Before the coordinator ends, so that it receives their goodbyes.
    defer { workers.end() }
    // A coordinator in this process is never given up because of its silence: it waits for a disk, and the run
    // continues.
    let client = try CoordinatorClient(daemon.endpoint, patienceSeconds: LocalRun.patienceSeconds)
    client.givesUp = { brokenStore.withLock { $0 } }
    return try RunWatch.follow(request, client, view: view, board: board, workers: workers, watch: watch)
  }
}

enum RunWatch {
  /// Submits the run and follows it until it has ended. The first signal saves the run and ends it, so that it can be
  /// resumed.
  static func follow(
    _ request: RunRequest, _ client: CoordinatorClient, view: RunView, board: BoardWriter? = nil,
    workers: LocalWorkers? = nil, watch: (RunEvent) -> Void = { _ in }
  ) throws -> ExitCode {
    var view = view
    var verdict = RunVerdict()
    var isEnding = false
    func show(_ event: RunEvent) { Terminal.write(view.text(for: event, at: MonotonicClock.now.seconds)) }

    let (run, _, after) = try client.submit(request.submission)
    try client.follow(run.description, after: after) {
      if let signal = Interrupt.first, !isEnding {
        isEnding = true
        show(.said("\(Interrupt.name(signal)): saving the run before it ends; a second signal ends it at once"))
      }
      for sentence in workers?.newlyEnded(restarting: verdict.hasWorkers) ?? [] { show(.said(sentence)) }
      if let workers, workers.isGone { return .abandon(reason: workers.epitaph) }
      return isEnding ? .pause : nil
    } event: { event in
      verdict.note(event)
      board?.note(event)
      watch(event)
      show(event)
      if case .state(let state, _) = event { return state.isAtRest }
      return false
    }
    showProfiles(request, show)
    if let signal = Interrupt.first, verdict.exitCode != .done { return ExitCode(signal: signal) }
    return verdict.exitCode ?? .failed
  }

  /// Prints the workers' profiles of their steps, if this machine can read the run's folder.
  private static func showProfiles(_ request: RunRequest, _ show: (RunEvent) -> Void) {
    guard request.configuration.cluster.profileSteps > 0 else { return }
    let folder = request.folder + "/profile"
    let names = ((try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []).sorted()
    for name in names where name.hasSuffix(".txt") {
      guard let text = try? String(contentsOfFile: "\(folder)/\(name)", encoding: .utf8) else { continue }
      show(.said(text))
    }
    if !names.isEmpty { show(.said("traces for chrome://tracing or ui.perfetto.dev: \(folder)/*.json")) }
  }

  /// The view for the kind of standard output: a terminal, a pipe, or JSON.
  static func view(of request: RunRequest, json: Bool) -> RunView {
    let style: RunView.Style =
      json ? .json : Terminal.isTerminal ? .terminal(columns: Terminal.columns) : .lines(every: 0)
    return RunView(style, run: request.configuration.run)
  }
}

extension Instant {
  var seconds: Double { Double(nanoseconds) * 1e-9 }
}
