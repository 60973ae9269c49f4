// ress-exchange: how fast the exchanges between workers are, through the network thread, the mailbox and the `PeerExchange` that a worker has,
// without a model to compute.
//
//   ress-exchange host --ranks 2 --address ipc:///tmp/x                     stands where a coordinator would
//   ress-exchange rank --address ipc:///tmp/x --exchange zeromq [--name w0]   a worker; the first one prints a JSON line for each measurement
//
// Benchmarks/exchange.py starts all of it, under mpirun too, and Gloo on the same numbers of bytes. Timings are for people; no test reads them.

import Foundation

let arguments = BenchArguments(CommandLine.arguments.dropFirst())
do {
  switch arguments.command {
  case "host": try BenchHost(arguments).run()
  case "rank": try BenchRank(arguments).run()
  default: arguments.fail("say host or rank, not '\(arguments.command)'")
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
