// How much memory this process can still get: what the machine has left, or what its control group (a container, a
// Slurm task, a systemd unit) has left where that is less. A run that does not fit is refused before it allocates,
// because on Linux an allocation that is too large usually ends later in a kill by the kernel, without a message.

import Foundation

package enum AvailableMemory {
  /// Available bytes, including swap; nil where the kernel does not report them.
  package static var byteCount: Int? {
    guard let machine = ofMachine(text("/proc/meminfo")) else { return nil }
    return min(machine, ofGroup(text("/proc/self/cgroup"), read: text) ?? machine)
  }

  /// Available bytes by the text of /proc/meminfo (proc(5)), whose numbers are in KiB.
  package static func ofMachine(_ information: String) -> Int? {
    func bytes(_ key: String) -> Int? {
      information.split(separator: "\n").first { $0.hasPrefix(key + ":") }.flatMap { Int($0.filter(\.isNumber)) }
        .map { $0 * 1024 }
    }
    return bytes("MemAvailable").map { $0 + (bytes("SwapFree") ?? 0) }
  }

  /// The smallest remainder among all control groups around the process; nil where none has a limit. Only version 2
  /// of control groups is read.
  /// - Parameter groups: the text of /proc/self/cgroup.
  package static func ofGroup(_ groups: String, read: (String) -> String) -> Int? {
    guard let line = groups.split(separator: "\n").first(where: { $0.hasPrefix("0::/") }) else { return nil }
    var path = line.dropFirst("0::".count)
    var least: Int?
    while true {
      let folder = path == "/" ? "/sys/fs/cgroup" : "/sys/fs/cgroup\(path)"
      func number(_ name: String) -> Int? { Int(read("\(folder)/\(name)").filter { !$0.isWhitespace }) }
      if let limit = number("memory.max"), let used = number("memory.current") {
        // Cached file pages count as used, but the kernel drops them when memory is needed.
        let cached = read("\(folder)/memory.stat").split(separator: "\n").first { $0.hasPrefix("inactive_file ") }
          .flatMap { Int($0.dropFirst("inactive_file ".count)) }
        least = min(least ?? .max, max(0, limit - used + (cached ?? 0)))
      }
      guard path.count > 1, let slash = path.lastIndex(of: "/") else { return least }
      path = slash == path.startIndex ? "/" : path[..<slash]
    }
  }

  private static func text(_ path: String) -> String {
    FileManager.default.contents(atPath: path).map { String(decoding: $0, as: UTF8.self) } ?? ""
  }
}

extension RunNeeds {
  /// Plans are accurate to about a fifth, so a run is refused only where 80 % of the planned memory is not available.
  private static let certainShare = 0.8

  /// The error message where workers of the run certainly lack memory; nil where they may have enough.
  /// - Parameters:
  ///   - workers: number of workers on this machine.
  ///   - available: bytes for all of them together.
  package func memoryComplaint(workers count: Int, available: Int) -> String? {
    let needed = memoryBytes
    guard Double(needed) * Double(count) * RunNeeds.certainShare > Double(available) else { return nil }
    func gigabytes(_ bytes: Int) -> String {
      let tenths = (bytes + 50_000_000) / 100_000_000
      return "\(tenths / 10).\(tenths % 10) GB"
    }
    let all = count == 1 ? "" : " and \(count) of them here \(gigabytes(needed * count))"
    return
      "the run does not fit: a worker needs \(gigabytes(needed)) of memory (\(gigabytes(modelBytes)) for parameters, moments and "
      + "gradients, \(gigabytes(activationBytes)) for activations)\(all), and \(gigabytes(available)) are available; `ress plan` "
      + "counts what other sizes and numbers of workers would need"
  }
}
