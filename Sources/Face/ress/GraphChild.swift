// Token graphs for the dashboard. The coordinator computes nothing itself, so it starts this program as a child: with
// low priority and a time limit, and a failure of the child affects no other process.

import Daemon
import Foundation
import Glibc

enum GraphChild {
  /// Processor time of a child. Its low priority can make it wait long on a busy machine, which is no reason to give it
  /// up.
  private static let processorSeconds = 120
  private static let limitSeconds = 1200.0
  /// Neighbours of a token that a page shows; more would be megabytes of useless data.
  private static let strongest = 32
  private static let outputLimit = 32 << 20

  static func compute(_ question: GraphQuestion) throws(GraphError) -> [UInt8] {
    let process = Process(), output = Pipe(), errors = Pipe()
    // The shell sets the limit of processor time and becomes this program.
    process.executableURL = URL(filePath: "/bin/sh")
    // A folder whose name begins with a dash must not be read as an option.
    let folder = question.checkpoint.hasPrefix("-") ? "./" + question.checkpoint : question.checkpoint
    process.arguments = [
      "-c", "ulimit -t \(processorSeconds); exec \"$0\" \"$@\"", "/proc/\(getpid())/exe",
      "graph", folder, "--split", question.split.rawValue, "--sample", "\(question.sample)",
      "--segment", "\(question.segment)", "--strongest", "\(strongest)", "--threads", "1", "--json",
    ]
    (process.standardInput, process.standardOutput, process.standardError) = (FileHandle.nullDevice, output, errors)
    do { try process.run() } catch { throw GraphError("the graph cannot be computed: \(error.localizedDescription)") }
    let identifier = process.processIdentifier
    setpriority(__priority_which_t(PRIO_PROCESS.rawValue), UInt32(identifier), 15)
    // After its end another process may have its number.
    let end: @Sendable () -> Void = { if process.isRunning { kill(identifier, SIGKILL) } }
    let watchdog = DispatchWorkItem(block: end)
    DispatchQueue.global().asyncAfter(deadline: .now() + limitSeconds, execute: watchdog)
    defer { watchdog.cancel() }
    // The error output fits into a pipe, so reading the two outputs one after the other cannot block.
    var json: [UInt8] = []
    while json.count <= outputLimit {
      let part = output.fileHandleForReading.availableData
      if part.isEmpty { break }
      json += part
    }
    if json.count > outputLimit { end() }
    let complaint = String(decoding: errors.fileHandleForReading.availableData, as: UTF8.self)
    process.waitUntilExit()
    guard json.count <= outputLimit else { throw GraphError("the graph is too large to be shown") }
    guard process.terminationReason == .exit else {
      throw GraphError(
        "the graph was not computed within \(processorSeconds) seconds of processor time, or there was not enough memory"
      )
    }
    guard process.terminationStatus == 0 else {
      let line = complaint.split(separator: "\n").first.map { String($0) } ?? "it failed without a message"
      throw GraphError(line.hasPrefix("ress: ") ? String(line.dropFirst(6)) : line)
    }
    return json
  }
}
