// MPI without an MPI library: a plug-in that is missing or of another kind, and the polling intervals.
// Tests/EndToEnd/MPITests.swift starts real ranks.

import Foundation
import Testing
import Transport

@Suite struct MPITests {
  private func refusal(_ path: String) -> String {
    do {
      _ = try MPIWorld(plugin: path)
      return "taken"
    } catch { return "\(error)" }
  }

  @Test func `the error for a missing plug-in names the command that builds it`() {
    let reason = refusal("/nowhere/libress-mpi.so")
    #expect(
      reason.contains("/nowhere/libress-mpi.so, the MPI plug-in of ress, does not exist") && reason.contains("make mpi")
    )
    #expect(reason.contains("libopenmpi-dev") && reason.contains("openmpi-bin"))
  }

  @Test func `a file that is not a library is refused with the loader's reason`() throws {
    let text = NSTemporaryDirectory() + "ress-no-library-" + UUID().uuidString
    try "text".write(toFile: text, atomically: true, encoding: .utf8)
    defer { try? FileManager.default.removeItem(atPath: text) }
    #expect(refusal(text).contains("\(text) cannot be loaded"))
  }

  private static let compiler = ["/usr/bin/cc", "/usr/bin/gcc", "/usr/bin/clang"].first {
    FileManager.default.isExecutableFile(atPath: $0)
  }

  @Test(
    .enabled(if: compiler != nil, "other plug-ins are made with a C compiler: apt-get install gcc"),
    arguments: [
      (
        "static unsigned table[64] = {99}; void *ress_mpi(void) { return table; }",
        "has version 99, and this program needs 1; build it again: make mpi"
      ),
      ("int something_else;", "is not the MPI plug-in of ress"),
    ])
  func `a plug-in of another version is refused with both versions, and another library is refused`(
    source: String, refused: String
  ) throws {
    let stem = NSTemporaryDirectory() + "ress-other-plugin-" + UUID().uuidString
    defer { for end in [".c", ".so"] { try? FileManager.default.removeItem(atPath: stem + end) } }
    try source.write(toFile: stem + ".c", atomically: true, encoding: .utf8)
    let process = Process()
    process.executableURL = URL(filePath: Self.compiler!)
    process.arguments = ["-shared", "-fPIC", "-o", stem + ".so", stem + ".c"]
    try process.run()
    process.waitUntilExit()
    #expect(refusal(stem + ".so").contains(refused))
  }

  @Test func `only a process started by an MPI launcher is a rank`() {
    #expect(!MPIPlugin.isRank(environment: ["PATH": "/bin", "SLURM_PROCID": "1"]))
    for variable in ["OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK"] {
      #expect(MPIPlugin.isRank(environment: [variable: "0"]))
    }
    #expect(MPIPlugin.path(environment: [:], programFolder: "/opt/ress") == "/opt/ress/libress-mpi.so")
    #expect(MPIPlugin.path(environment: ["RESS_MPI_LIBRARY": "/x.so"], programFolder: "/opt/ress") == "/x.so")
  }

  @Test
  func
    `polling is immediate after a message, slows down in quiet, and is slowest where no thread waits`()
  {
    for awaited in [true, false] { #expect(PollPace.nap(after: .microseconds(10), isAwaited: awaited) == .zero) }
    let quiet = [100, 1000, 10_000, 1_000_000].map { Duration.microseconds($0) }
    for (less, more) in zip(quiet, quiet.dropFirst()) {
      #expect(PollPace.nap(after: less, isAwaited: false) <= PollPace.nap(after: more, isAwaited: false))
      #expect(PollPace.nap(after: more, isAwaited: true) <= PollPace.nap(after: more, isAwaited: false))
    }
    #expect(PollPace.nap(after: .seconds(3600), isAwaited: false) <= .milliseconds(1))
    #expect(PollPace.nap(after: .seconds(3600), isAwaited: true) > .zero)
  }
}
