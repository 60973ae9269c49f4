// The command line: parses the words, calls the function of the command, and turns its result into an exit code.

import CLinux
import Configuration
import Glibc
import Shell

func main(_ words: [String]) -> ExitCode {
  do {
    switch try ArgumentParser().parse(words) {
    case .version: Terminal.print(LibraryProbe.versionPage)
    case .help(let page): Terminal.print(page)
    case .run(let arguments): return try run(arguments)
    }
    return .done
  } catch let error as UsageError {
    Terminal.complain(error.description)
    return .wrongUse
  } catch let error as ConfigurationError {
    // Each line begins with its source location, which editors and terminals can open.
    for problem in error.problems { Terminal.complain(problem.description, by: nil) }
    return .wrongUse
  } catch {
    Terminal.complain("\(error)")
    return .failed
  }
}

func run(_ arguments: Arguments) throws -> ExitCode {
  switch arguments.command.name {
  case "train": return try train(arguments)
  case "coordinator": return try coordinator(arguments)
  case "worker": return try worker(arguments)
  case "submit": return try submit(arguments)
  case "runs": return try runs(arguments)
  case "status": return try status(arguments)
  case "keys new": return try keysNew(arguments)
  case "keys show": return try keysShow(arguments)
  case "keys allow": return try keysAllow(arguments)
  case "keys trust": return try keysTrust(arguments)
  case "keys revoke": return try keysRevoke(arguments)
  case "keys list": return try keysList(arguments)
  case "completion":
    Terminal.print(Completion.bash(CommandTable.all))
    return .done
  case "man":
    Terminal.print(ManualPage.text(CommandTable.all, version: Version.number))
    return .done
  case "metrics": return try metrics(arguments)
  case "compare": return try compare(arguments)
  case "sweep": return try sweep(arguments)
  case "clinic": return try clinic(arguments)
  case "logs": return try logs(arguments)
  case "cancel": return try cancel(arguments)
  case "pause": return try pause(arguments)
  case "resume": return try resume(arguments)
  case "scale": return try scale(arguments)
  case "plan": return try plan(arguments)
  case "drill": return try drill(arguments)
  case "data prepare": return try dataPrepare(arguments)
  case "data show": return try dataShow(arguments)
  case "data tokenizer train": return try tokenizerTrain(arguments)
  case "data tokenizer show": return try tokenizerShow(arguments)
  case "data tokenizer encode": return try tokenizerEncode(arguments)
  case "data tokenizer decode": return try tokenizerDecode(arguments)
  case "generate": return try generate(arguments)
  case "predict": return try predict(arguments)
  case "evaluate": return try evaluate(arguments)
  case "graph": return try graph(arguments)
  case "checkpoint list": return try checkpointList(arguments)
  case "checkpoint show": return try checkpointShow(arguments)
  case "checkpoint verify": return try checkpointVerify(arguments)
  case "checkpoint diff": return try checkpointDiff(arguments)
  case "checkpoint export": return try checkpointExport(arguments)
  case "checkpoint import": return try checkpointImport(arguments)
  case "checkpoint repair": return try checkpointRepair(arguments)
  case "config show": return try configShow(arguments)
  case "config reference": return configReference()
  case "doctor": return doctor(arguments)
  default: preconditionFailure("'\(arguments.command.name)' has a description and no function")
  }
}

// Every connection takes a descriptor, and so does every file.
_ = ress_raise_descriptors()
// The parent process may have blocked signals, and threads and children inherit that: Ctrl-C must work.
Interrupt.unblock()
// A file that may not grow further (ulimit -f) makes the write fail with an error instead of killing the process.
signal(SIGXFSZ, SIG_IGN)
exit(Terminal.exitCode(main(Array(CommandLine.arguments.dropFirst())).rawValue))
