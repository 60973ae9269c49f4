// ress-exchange: measures the exchanges between workers, with a real worker's network thread, mailbox and
// `PeerExchange`, but without a model.
//
//   ress-exchange host --ranks 2 --address ipc:///tmp/x                       takes the place of the coordinator
//   ress-exchange rank --address ipc:///tmp/x --exchange zeromq [--name w0]   a worker; the first one prints a JSON line per measurement
//
// Benchmarks/exchange.py starts all of these, also under mpirun, and Gloo with the same numbers of bytes. Times are
// for people to read; no test depends on them.

import Foundation

let arguments = BenchArguments(CommandLine.arguments.dropFirst())
do {
  switch arguments.command {
  case "host": try BenchHost(arguments).run()
  case "rank": try BenchRank(arguments).run()
  default: arguments.fail("unknown command '\(arguments.command)'; use host or rank")
  }
} catch {
  arguments.fail("\(error)")
}

/// `--name value` pairs after a command.
struct BenchArguments {
  let command: String
  private var values: [String: String] = [:]

  init(_ words: some Collection<String>) {
    var words = Array(words)
    command = words.isEmpty ? "" : words.removeFirst()
    while words.count >= 2 {
      values[words[0]] = words[1]
      words.removeFirst(2)
    }
    if let word = words.first { fail("'\(word)' has no value") }
  }

  func text(_ name: String, _ standard: String? = nil) -> String {
    guard let value = values[name] ?? standard else { fail("\(name) is missing") }
    return value
  }

  func fail(_ message: String) -> Never {
    FileHandle.standardError.write(Data("ress-exchange: \(message)\n".utf8))
    exit(2)
  }
}
