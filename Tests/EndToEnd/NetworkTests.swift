// Runs over a network whose cables are pulled and whose packets are lost. Hosts are network namespaces
// (scripts/hosts.sh). Every run is compared with the undisturbed curve.

import Foundation
import Synchronization
import TestSupport
import Testing

#if canImport(Glibc)
  import Glibc
#endif

/// Hosts on one switch, as `scripts/hosts.sh` makes them.
final class Hosts {
  /// At most 8 letters, and different in every process and test.
  private let name =
    "r" + String(getpid(), radix: 36) + String(Hosts.count.wrappingAdd(1, ordering: .relaxed).newValue, radix: 36) + "h"
  private static let count = Atomic<Int>(0)

  init(_ count: Int) throws { try run("up", "\(count)") }

  deinit { try? run("down") }

  /// The namespace of host `number`, from 1.
  func callAsFunction(_ number: Int) -> String { name + "\(number)" }

  func run(_ words: String...) throws {
    let process = Process()
    process.executableURL = URL(filePath: Hosts.script)
    process.arguments = words
    process.environment = ProcessInfo.processInfo.environment.merging(["HOSTS": name]) { $1 }
    try process.run()
    process.waitUntilExit()
    guard process.terminationStatus == 0 else { throw Failure(words: words) }
  }

  struct Failure: Error { var words: [String] }

  /// Whether namespaces can be created: as root, where iproute2 and nftables are installed.
  static let canBeMade: Bool = {
    let tools = ["ip", "tc", "nft"].allSatisfy { tool in
      ["/usr/sbin/", "/sbin/", "/usr/bin/", "/bin/"].contains { access($0 + tool, X_OK) == 0 }
    }
    // Containers often do not have the privilege.
    return tools && getuid() == 0 && (try? Hosts(1)) != nil
  }()

  private static let script = URL(filePath: #filePath).deletingLastPathComponent()
    .appending(path: "../../scripts/hosts.sh").standardized.path
}

@Suite(
  .serialized,
  .enabled(
    if: Hosts.canBeMade, "network namespaces need root, iproute2 and nftables: apt-get install iproute2 nftables"))
final class NetworkTests {
  private let place: Workplace
  private let hosts: Hosts
  private let curve: [String]
  private var coordinator: Running!
  private var workers: [Running] = []
  private static let long = ["--set", "training.steps=150", "--set", "checkpoint.every=50"]
  private static let address = "tcp://10.79.0.1:7077"

  init() throws {
    place = try Workplace()
    hosts = try Hosts(4)
    let whole = try place.run(["train", "run.yaml", "--threads", "1", "--set", "run=whole"] + Self.long)
    #expect(whole.code == 0, "\(whole.output)\(whole.errors)")
    curve = place.curve("whole")
    #expect(curve.count == 158)
  }

  /// The coordinator on host 1, a worker on each of hosts 2, 3 and 4, and a run on all three.
  private func begin(_ run: String) throws {
    coordinator = try place.start(
      ["coordinator", "--listen", Self.address, "--insecure", "--store", "runs.db", "--patience", "2"], host: hosts(1))
    for number in 2...4 {
      workers.append(
        try place.start(
          [
            "worker", "--coordinator", Self.address, "--name", "w\(number)", "--threads", "1", "--listen",
            "tcp://10.79.0.\(number):*", "--insecure",
          ], host: hosts(number)))
    }
    let submit = try place.start(
      ["submit", "run.yaml", "--coordinator", Self.address, "--workers", "3", "--set", "run=\(run)"] + Self.long
        + ["--set", "cluster.patience_seconds=2"], host: hosts(1))
    #expect(submit.exitCode(within: 20) == 0, "\(submit.output)")
  }

  /// Waits for the run's end on the coordinator's host, and returns its events.
  private func expectSameEnd(_ run: String) throws -> String {
    let logs = try place.start(["logs", run, "-f", "--coordinator", Self.address], host: hosts(1))
    let code = logs.exitCode(within: 120)
    #expect(code == 0, "\(logs.output)\n\(coordinator.output)\n\(workers.map(\.output).joined(separator: "\n---\n"))")
    #expect(place.curve(run) == curve, "\(logs.output)")
    let compared = try place.run(["checkpoint", "diff", "checkpoints/whole", "checkpoints/\(run)"])
    #expect(compared.code == 0, "\(compared.output)\(compared.errors)")
    return logs.output
  }

  @Test func `a worker whose cable is pulled is replaced, and rejoins when the cable is back`() throws {
    try place.hold(at: 80)
    try begin("cut")
    #expect(place.reaches("cut", 25))
    try hosts.run("cut", "4")
    // The other workers go beyond every step that all have computed.
    try place.hold(at: 120)
    #expect(place.reaches("cut", 110), "\(coordinator.output)")
    try hosts.run("join", "4")
    try place.release()
    let story = try expectSameEnd("cut")
    #expect(story.contains("worker w4 ("), "\(story)")
    #expect(waitUntil(30) { workers[2].output.components(separatedBy: "joined the coordinator").count > 2 })
  }

  @Test func `a cable that is back within patience_seconds costs only time`() throws {
    try place.hold(at: 120)
    try begin("blink")
    for (round, host) in ["2", "3", "1"].enumerated() {
      #expect(place.reaches("blink", 20 * (round + 1)))
      try hosts.run("cut", host)
      // This duration is what the test is about; it must be shorter than the patience.
      usleep(300_000)
      try hosts.run("join", host)
    }
    try place.release()
    _ = try expectSameEnd("blink")
  }

  @Test func `a coordinator that is cut off continues its run afterwards`() throws {
    try place.hold(at: 140)
    try begin("alone")
    #expect(place.reaches("alone", 25))
    try hosts.run("cut", "1")
    // Longer than the patience of every process.
    #expect(
      waitUntil(30) { coordinator.output.components(separatedBy: " is lost: ").count > 3 }, "\(coordinator.output)")
    try hosts.run("join", "1")
    try place.release()
    _ = try expectSameEnd("alone")
  }

  @Test func `lost packets and a slow line change no result`() throws {
    for host in ["2", "3"] { try hosts.run("loss", host, "2") }
    try hosts.run("rate", "4", "50mbit")
    try begin("lossy")
    _ = try expectSameEnd("lossy")
  }
}
