// `ress submit`, `runs`, `status`, `logs`, `cancel`, `pause`, `resume` and `scale`: requests to a coordinator about runs.

import Daemon
import Shell
import Transport
import Wire

func submit(_ arguments: Arguments) throws -> ExitCode {
  var request = try RunRequest(arguments).anywhere
  if arguments.text("--on") == "slurm" {
    request.notes = try Preflight.look(at: request.configuration)
    request.notes += try Preflight.lookAtSource(of: request, isHere: true)
    for note in request.notes { Terminal.complain(note) }
    let job = try SlurmSubmission.submit(request, options: arguments.texts("--sbatch"))
    Terminal.print(
      arguments.has("--json")
        ? JSONText.object([("run", .text(request.configuration.run)), ("job", .text(job))])
        : """
        run \(request.configuration.run) is Slurm job \(job)
          watch it:   tail -F \(request.folder)/slurm-\(job).log
          its state:  squeue -j \(job)
          end it:     scancel \(job)
          its curve:  \(request.folder)/metrics.jsonl
        """)
    return .done
  }
  let address = arguments.text("--coordinator") ?? CommandTable.standardAddress
  request.notes = try Preflight.look(at: request.configuration, whereWorkersAre: address)
  request.notes += try Preflight.lookAtSource(of: request, isHere: false)
  for note in request.notes { Terminal.complain(note) }
  let (run, name, _) = try ConnectionSecurity.client(arguments).submit(request.submission)
  if arguments.has("--json") {
    Terminal.print(JSONText.object([("run", .text(name)), ("id", .text(run.description))]))
  } else {
    let address = arguments.text("--coordinator").map { " --coordinator \($0)" } ?? ""
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

func runs(_ arguments: Arguments) throws -> ExitCode {
  let status = try ConnectionSecurity.client(arguments).status()
  show(arguments.has("--json") ? StatusView.runsJSON(status) : [StatusView.runs(status)])
  return .done
}

func status(_ arguments: Arguments) throws -> ExitCode {
  var status = try ConnectionSecurity.client(arguments).status()
  guard let name = arguments.words.first else {
    show(arguments.has("--json") ? StatusView.clusterJSON(status) : [StatusView.cluster(status)])
    return .done
  }
  guard let run = status.run(name) else {
    let known = status.runs.map(\.name).joined(separator: ", ")
    throw ClientError.refused(
      "no run '\(name)'; " + (known.isEmpty ? "the coordinator has no runs" : "the coordinator has \(known)"))
  }
  status.runs = [run]
  show(arguments.has("--json") ? StatusView.runsJSON(status) : [StatusView.run(run)])
  return .done
}

private func show(_ lines: [String]) { for line in lines { Terminal.print(line) } }

func logs(_ arguments: Arguments) throws -> ExitCode {
  let run = arguments.words[0]
  let style: RunView.Style =
    arguments.has("--json")
    ? .json : arguments.has("--follow") && Terminal.isTerminal ? .terminal(columns: Terminal.columns) : .lines(every: 0)
  var view = RunView(style, run: run)
  var verdict = RunVerdict()
  let board = try arguments.text("--tensorboard").map { try BoardWriter($0, run: run, nil) }
  func tell(_ event: RunEvent) {
    verdict.note(event)
    board?.note(event)
    Terminal.write(view.text(for: event, at: MonotonicClock.now.seconds))
  }
  if arguments.has("--follow") {
    // The run continues while the coordinator is absent, even for a long time, so this command keeps waiting.
    try ConnectionSecurity.client(arguments).follow(run, absence: .seconds(600)) { event in
      tell(event)
      return false
    }
    return verdict.exitCode ?? .failed
  }
  try ConnectionSecurity.client(arguments).story(run, event: tell)
  return .done
}

func cancel(_ arguments: Arguments) throws -> ExitCode { try change(arguments, .cancel) }
func pause(_ arguments: Arguments) throws -> ExitCode { try change(arguments, .pause) }
func resume(_ arguments: Arguments) throws -> ExitCode { try change(arguments, .resume) }

func scale(_ arguments: Arguments) throws -> ExitCode {
  guard let workers = arguments.whole("--workers") else { preconditionFailure("the parser asks for --workers") }
  return try change(arguments, .scale(workers: workers))
}

private func change(_ arguments: Arguments, _ change: RunChange) throws -> ExitCode {
  Terminal.print(try ConnectionSecurity.client(arguments).change(arguments.words[0], change))
  return .done
}
