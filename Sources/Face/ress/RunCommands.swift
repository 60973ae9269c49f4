// `ress submit`, `runs`, `status`, `logs`, `cancel`, `pause`, `resume` and `scale`: requests to a coordinator about
// runs.

import Configuration
import Daemon
import Shell
import Transport
import Wire

func submit(_ options: SubmitOptions) throws -> ExitCode {
  var request = try RunRequest(options.configuration, options.submission).anywhere
  if options.place == .slurm {
    request.notes = try Preflight.look(at: request.configuration)
    request.notes += try Preflight.lookAtSource(of: request, isHere: true)
    for note in request.notes { Terminal.complain(note) }
    let job = try SlurmSubmission.submit(request, options: options.sbatch)
    Terminal.print(
      options.json
        ? JSON.object([("run", .text(request.configuration.run)), ("job", .text(job))]).line
        : """
        run \(request.configuration.run) is Slurm job \(job)
          watch it:   tail -F \(request.folder)/slurm-\(job).log
          its state:  squeue -j \(job)
          end it:     scancel \(job)
          its curve:  \(request.folder)/metrics.jsonl
        """)
    return .done
  }
  request.notes = try Preflight.look(at: request.configuration, whereWorkersAre: options.coordinator)
  request.notes += try Preflight.lookAtSource(of: request, isHere: false)
  for note in request.notes { Terminal.complain(note) }
  let (run, name, _) = try ConnectionSecurity.client(options.coordinator).submit(request.submission)
  if options.json {
    Terminal.print(JSON.object([("run", .text(name)), ("id", .text(run.description))]).line)
  } else {
    let address = options.coordinator == CommandTable.standardAddress ? "" : " --coordinator \(options.coordinator)"
    Terminal.print(
      """
      run \(name) (\(run)) was submitted
        watch it:   ress logs \(name) -f\(address)
        its state:  ress status \(name)\(address)
        pause it:   ress pause \(name)\(address)
      """)
  }
  return .done
}

func runs(_ options: StatusOptions) throws -> ExitCode {
  let status = try ConnectionSecurity.client(options.coordinator).status()
  show(options.json ? StatusView.runsJSON(status) : [StatusView.runs(status)])
  return .done
}

func status(_ options: RunStatusOptions) throws -> ExitCode {
  var status = try ConnectionSecurity.client(options.coordinator).status()
  guard let name = options.run else {
    show(options.json ? StatusView.clusterJSON(status) : [StatusView.cluster(status)])
    return .done
  }
  guard let run = status.run(name) else {
    let known = status.runs.map(\.name).joined(separator: ", ")
    throw ClientError.refused(
      "no run '\(name)'; " + (known.isEmpty ? "the coordinator has no runs" : "the coordinator has \(known)"))
  }
  status.runs = [run]
  show(options.json ? StatusView.runsJSON(status) : [StatusView.run(run)])
  return .done
}

private func show(_ lines: [String]) { for line in lines { Terminal.print(line) } }

func logs(_ options: LogsOptions) throws -> ExitCode {
  let run = options.run
  let style: RunView.Style =
    options.json
    ? .json : options.follows && Terminal.isTerminal ? .terminal(columns: Terminal.columns) : .lines(every: 0)
  var view = RunView(style, run: run)
  var verdict = RunVerdict()
  let board = try options.tensorboard.map { try BoardWriter($0, run: run, nil) }
  func tell(_ event: RunEvent) {
    verdict.note(event)
    board?.note(event)
    Terminal.write(view.text(for: event, at: MonotonicClock.now.seconds))
  }
  if options.follows {
    // The run continues while the coordinator is absent, even for a long time, so this command keeps waiting.
    try ConnectionSecurity.client(options.coordinator).follow(run, absence: .seconds(600)) { event in
      tell(event)
      return false
    }
    return verdict.exitCode ?? .failed
  }
  try ConnectionSecurity.client(options.coordinator).story(run, event: tell)
  return .done
}

func cancel(_ options: RunOptions) throws -> ExitCode { try change(options.run, options.coordinator, .cancel) }
func pause(_ options: RunOptions) throws -> ExitCode { try change(options.run, options.coordinator, .pause) }
func resume(_ options: RunOptions) throws -> ExitCode { try change(options.run, options.coordinator, .resume) }

func scale(_ options: ScaleOptions) throws -> ExitCode {
  try change(options.run, options.coordinator, .scale(workers: options.workers))
}

private func change(_ run: String, _ coordinator: String, _ change: RunChange) throws -> ExitCode {
  Terminal.print(try ConnectionSecurity.client(coordinator).change(run, change))
  return .done
}
