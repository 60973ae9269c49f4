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
    case .run(let command, _): return try run(command)
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

func run(_ command: Command) throws -> ExitCode {
  switch command {
  case .train(let options): return try train(options)
  case .coordinator(let options): return try coordinator(options)
  case .worker(let options): return try worker(options)
  case .submit(let options): return try submit(options)
  case .sweep(let options): return try sweep(options)
  case .runs(let options): return try runs(options)
  case .status(let options): return try status(options)
  case .logs(let options): return try logs(options)
  case .compare(let options): return try compare(options)
  case .metrics(let options): return try metrics(options)
  case .clinic(let options): return try clinic(options)
  case .cancel(let options): return try cancel(options)
  case .pause(let options): return try pause(options)
  case .resume(let options): return try resume(options)
  case .scale(let options): return try scale(options)
  case .plan(let options): return try plan(options)
  case .drill(let options): return try drill(options)
  case .dataPrepare(let options): return try dataPrepare(options)
  case .dataShow(let options): return try dataShow(options)
  case .tokenizerTrain(let options): return try tokenizerTrain(options)
  case .tokenizerShow(let options): return try tokenizerShow(options)
  case .tokenizerEncode(let options): return try tokenizerEncode(options)
  case .tokenizerDecode(let options): return try tokenizerDecode(options)
  case .generate(let options): return try generate(options)
  case .predict(let options): return try predict(options)
  case .evaluate(let options): return try evaluate(options)
  case .graph(let options): return try graph(options)
  case .checkpointList(let options): return try checkpointList(options)
  case .checkpointShow(let options): return try checkpointShow(options)
  case .checkpointVerify(let options): return try checkpointVerify(options)
  case .checkpointDiff(let options): return try checkpointDiff(options)
  case .checkpointRepair(let options): return try checkpointRepair(options)
  case .checkpointExport(let options): return try checkpointExport(options)
  case .checkpointImport(let options): return try checkpointImport(options)
  case .keysNew(let options): return try keysNew(options)
  case .keysShow: return try keysShow()
  case .keysAllow(let options): return try keysAllow(options)
  case .keysTrust(let options): return try keysTrust(options)
  case .keysRevoke(let options): return try keysRevoke(options)
  case .keysList(let options): return try keysList(options)
  case .configShow(let options): return try configShow(options)
  case .configReference: return configReference()
  case .doctor(let options): return doctor(options)
  case .completion:
    Terminal.print(Completion.bash(CommandTable.all))
    return .done
  case .man:
    Terminal.print(ManualPage.text(CommandTable.all, version: Version.number))
    return .done
  }
}

// Every connection takes a descriptor, and so does every file.
_ = ress_raise_descriptors()
// The parent process may have blocked signals, and threads and children inherit that: Ctrl-C must work.
Interrupt.unblock()
// A file that may not grow further (ulimit -f) makes the write fail with an error instead of killing the process.
signal(SIGXFSZ, SIG_IGN)
exit(Terminal.exitCode(main(Array(CommandLine.arguments.dropFirst())).rawValue))
