// `ress submit`, `runs`, `status`, `logs` and `cancel`: what one asks a coordinator about runs.

import Daemon
import Shell
import Transport
import Wire

private func client(_ arguments: Arguments) throws -> CoordinatorClient {
  try CoordinatorClient(arguments.text("--coordinator") ?? CommandTable.standardAddress)
}

func submit(_ arguments: Arguments) throws -> ExitCode {
  let request = try RunRequest(arguments).anywhere
  let run = try client(arguments).submit(request.submission)
  let name = request.configuration.run
  if arguments.has("--json") {
    Terminal.print(JSONText.object([("run", .text(name)), ("id", .text(run.description))]))
  } else {
    let address = arguments.text("--coordinator").map { " --coordinator \($0)" } ?? ""
    Terminal.print("run \(name) (\(run)) was submitted; watch it with: ress logs \(name) -f\(address)")
  }
  return .done
}

func runs(_ arguments: Arguments) throws -> ExitCode {
  let status = try client(arguments).status()
  show(arguments.has("--json") ? StatusView.runsJSON(status) : [StatusView.runs(status)])
  return .done
}

func status(_ arguments: Arguments) throws -> ExitCode {
  let status = try client(arguments).status()
  show(arguments.has("--json") ? StatusView.clusterJSON(status) : [StatusView.cluster(status)])
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
  func tell(_ event: RunEvent) {
    verdict.note(event)
    Terminal.write(view.text(for: event, at: MonotonicClock.now.seconds))
  }
  if arguments.has("--follow") {
    try client(arguments).follow(run, event: tell)
    return verdict.exitCode ?? .failed
  }
  try client(arguments).story(run, event: tell)
  return .done
}

func cancel(_ arguments: Arguments) throws -> ExitCode {
  let name = try client(arguments).cancel(arguments.words[0])
  Terminal.print("run \(name) is cancelled; go on with: ress submit CONFIG --resume")
  return .done
}
