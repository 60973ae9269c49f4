// A process as the system tells it from all others. Its number alone does not: after some 32,000 processes, which busy
// tests start within minutes, the system gives it to another one, which no test may wait for or end.

import Foundation

#if canImport(Glibc)
  import Glibc
#endif

package struct ObservedProcess: Equatable, Sendable {
  package let identifier: Int32
  /// Clock ticks between the start of the system and that of the process.
  private let start: UInt64

  /// Nil where there is no process with this number.
  package init?(_ identifier: Int32) {
    guard let status = Status(identifier) else { return nil }
    (self.identifier, start) = (identifier, status.start)
  }

  /// Whether the system still has the process, perhaps as a zombie.
  package var exists: Bool { ObservedProcess(identifier) == self }
  /// Whether it can still do anything.
  package var isRunning: Bool {
    guard let status = Status(identifier) else { return false }
    return status.start == start && status.state != "Z"
  }

  /// Sends a signal to this process, and to no later one with its number.
  package func send(_ signal: Int32) { if exists { kill(identifier, signal) } }

  /// This process and all its descendants; empty where it has ended, because the system gives the children of a process
  /// that ended another parent.
  package var family: [ObservedProcess] {
    guard exists else { return [] }
    let names = (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []
    let parents = names.compactMap { Int32($0) }.compactMap { number in
      Status(number).map { (number, parent: $0.parent) }
    }
    var family = [identifier]
    var next = 0
    while next < family.count {
      family += parents.filter { $0.parent == family[next] }.map(\.0).sorted()
      next += 1
    }
    let found = family.compactMap { ObservedProcess($0) }
    return exists ? found : []
  }

  /// Fields of /proc/PID/stat (proc(5)).
  private struct Status {
    var state: Substring
    var parent: Int32
    var start: UInt64

    init?(_ identifier: Int32) {
      guard let text = try? String(contentsOfFile: "/proc/\(identifier)/stat", encoding: .utf8),
        // The second field, the program's name in parentheses, may contain anything.
        let close = text.lastIndex(of: ")")
      else { return nil }
      let fields = text[close...].split(separator: " ")
      guard fields.count > 20, let parent = Int32(fields[2]), let start = UInt64(fields[20]) else { return nil }
      (state, self.parent, self.start) = (fields[1], parent, start)
    }
  }
}
