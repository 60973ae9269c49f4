// Runs whose data travels over a real MPI, with ranks of a real launch. Each is compared with the curve of workers
// over ZeroMQ.

import Foundation
import TestSupport
import Testing

#if canImport(Glibc)
  import Glibc
#endif

/// The MPI of this machine, and the plug-in built with it.
enum LocalMPI {
  static let isHere = ["mpicc", "mpirun"].allSatisfy { access("/usr/bin/" + $0, X_OK) == 0 }
  static let reason: Comment = "data over MPI need one: apt-get install libopenmpi-dev openmpi-bin"

  /// Permits mpirun as root, and more ranks than cores.
  static let environment = [
    "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "OMPI_MCA_hwloc_base_binding_policy": "none",
  ]

  /// A second MPI, in addition to the one whose commands are `mpicc` and `mpirun`.
  static let hasMPICH = ["mpicc.mpich", "mpirun.mpich"].allSatisfy { access("/usr/bin/" + $0, X_OK) == 0 }

  /// Builds the plug-in into a folder, and returns the environment variable that names it.
  static func build(into folder: String, compiler: String = "mpicc") throws -> [String: String] {
    let script = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../../scripts/mpi.sh")
      .standardized
    let process = Process()
    process.executableURL = script
    process.arguments = [folder]
    process.environment = ProcessInfo.processInfo.environment.merging(["MPICC": compiler]) { $1 }
    process.standardOutput = FileHandle.nullDevice
    try process.run()
    process.waitUntilExit()
    #expect(process.terminationStatus == 0)
    return ["RESS_MPI_LIBRARY": folder + "/libress-mpi.so"]
  }
}

@Suite(.serialized, .enabled(if: LocalMPI.isHere, LocalMPI.reason)) final class MPITests {
  private let place: Workplace
  private let plugin: [String: String]
  private let curve: [String]
  private static let long = ["--set", "training.steps=150", "--set", "checkpoint.every=25"]

  init() throws {
    place = try Workplace()
    plugin = try LocalMPI.build(into: place.path)
    let whole = try place.run(
      ["train", "run.yaml", "--workers", "2", "--threads", "1", "--set", "run=zeromq"] + Self.long)
    #expect(whole.code == 0, "\(whole.output)\(whole.errors)")
    curve = place.curve("zeromq")
    #expect(curve.count == 158)
  }

  private func train(_ run: String, workers: Int, environment: [String: String] = [:]) throws -> Running {
    try place.start(
      [
        "train", "run.yaml", "--workers", "\(workers)", "--threads", "1", "--set", "run=\(run)", "--set",
        "cluster.exchange=mpi",
      ] + Self.long, environment: plugin.merging(environment) { $1 })
  }

  private func log(_ run: String) -> String {
    (try? String(contentsOfFile: "\(place.path)/checkpoints/\(run)/mpirun.log", encoding: .utf8)) ?? "no log"
  }

  private func expectSame(_ run: String, _ words: String) throws {
    #expect(place.curve(run) == curve, "\(words)\n\(log(run))")
    let compared = try place.run(["checkpoint", "diff", "checkpoints/zeromq", "checkpoints/\(run)"])
    #expect(compared.code == 0, "\(compared.output)\(compared.errors)")
  }

  /// The process of one rank below `ress train`, found by its worker's name.
  private func rank(_ name: String, below running: Running) -> ObservedProcess? {
    running.family.first { process in
      let words =
        FileManager.default.contents(atPath: "/proc/\(process.identifier)/cmdline")?.split(separator: 0)
        .map { String(decoding: $0, as: UTF8.self) } ?? []
      return words.first?.hasSuffix("ress") == true && words.contains("worker")
        && words.firstIndex(of: "--name").map { words[$0 + 1] } == name
    }
  }

  @Test(arguments: [2, 3]) func `ranks give the curve and the tensors of workers over ZeroMQ, and end in order`(
    workers: Int
  ) throws {
    let running = try train("ranks", workers: workers)
    #expect(running.exitCode(within: 120) == 0, "\(running.output)\n\(log("ranks"))")
    try expectSame("ranks", running.output)
    #expect(log("ranks").contains("rank \(workers - 1) of \(workers) in an MPI world, by Open MPI"))
    // The message with which mpirun complains about a rank that ended without MPI_Finalize.
    #expect(
      !log("ranks").contains("non-zero exit code") && !log("ranks").contains("without calling"), "\(log("ranks"))")
  }

  @Test func `kill -9 of a rank ends its world, another is started, and the run resumes by itself`()
    throws
  {
    let running = try train("killed", workers: 3)
    #expect(waitUntil(60) { place.curve("killed").count > 45 }, "\(running.output)\n\(log("killed"))")
    let victim = try #require(rank("worker-2", below: running))
    victim.send(SIGKILL)
    #expect(running.exitCode(within: 120) == 0, "\(running.output)\n\(log("killed"))")
    try expectSame("killed", running.output)
    #expect(
      running.output.contains("mpirun (pid") && running.output.contains("it is started again"), "\(running.output)")
    // Whether steps are computed again depends on how far the newest checkpoint was behind when the rank died.
    #expect(running.output.contains(/load from the checkpoint of step \d+/), "\(running.output)")
  }

  @Test(.enabled(if: LocalMPI.hasMPICH, "a second MPI is tried too: apt-get install mpich libmpich-dev"))
  func `the same program works with another MPI`() throws {
    let plugin = try LocalMPI.build(into: place.path, compiler: "mpicc.mpich")
    let running = try train("other", workers: 2, environment: plugin.merging(["RESS_MPIRUN": "mpirun.mpich"]) { $1 })
    #expect(running.exitCode(within: 120) == 0, "\(running.output)\n\(log("other"))")
    try expectSame("other", running.output)
    #expect(log("other").contains("in an MPI world, by MPICH"), "\(log("other"))")
  }

  @Test func `when the command is killed, no process of its world is left`() throws {
    let running = try train("orphans", workers: 2)
    #expect(waitUntil(60) { place.curve("orphans").count > 5 }, "\(running.output)\n\(log("orphans"))")
    let family = running.family.dropFirst()
    #expect(family.count >= 3)
    kill(running.process.processIdentifier, SIGKILL)
    // A zombie counts as ended, because a test's container may have no process that reaps it.
    #expect(waitUntil(20) { family.allSatisfy { !$0.isRunning } }, "\(log("orphans"))")
  }

  @Test
  func `ranks started by hand take part in runs over MPI and over ZeroMQ, and end without an error`()
    throws
  {
    let cluster = try TestCluster(place)
    let ranks = try place.start(
      ["worker", "--coordinator", cluster.address, "--threads", "1"],
      environment: plugin.merging(LocalMPI.environment) { $1 }, launcher: ["mpirun", "-n", "2"])
    for (run, exchange) in [("byhand", "mpi"), ("either", "zeromq"), ("again", "mpi")] {
      let submitted = try place.run(
        [
          "submit", "run.yaml", "--coordinator", cluster.address, "--workers", "2", "--set", "run=\(run)", "--set",
          "cluster.exchange=\(exchange)",
        ] + Self.long)
      #expect(submitted.code == 0, "\(submitted.errors)")
      let logs = try place.start(["logs", run, "-f", "--coordinator", cluster.address])
      #expect(logs.exitCode(within: 90) == 0, "\(logs.output)\n\(ranks.output)")
      try expectSame(run, logs.output)
    }
    // mpirun passes the signal on to its ranks. The process that was `env` is now mpirun.
    kill(ranks.process.processIdentifier, SIGUSR1)
    #expect(ranks.exitCode(within: 20) == 0, "\(ranks.output)")
    #expect(!ranks.output.contains("non-zero exit code"), "\(ranks.output)")
  }

  @Test func `workers over ZeroMQ are not ranks, even if their parent is one`() throws {
    let running = try place.start(
      ["train", "run.yaml", "--workers", "2", "--threads", "1", "--set", "run=inside"],
      environment: plugin.merging(["PMIX_RANK": "0", "PMIX_NAMESPACE": "nobody"]) { $1 })
    #expect(running.exitCode(within: 60) == 0, "\(running.output)")
    let said = try String(contentsOfFile: "\(place.path)/checkpoints/inside/worker-1.log", encoding: .utf8)
    #expect(said.contains("joined the coordinator") && !said.contains("MPI"), "\(said)")
  }

  @Test func `a missing plug-in or launcher is reported before anything is started`() throws {
    let bare = try train("bare", workers: 2, environment: ["RESS_MPI_LIBRARY": "/nowhere/libress-mpi.so"])
    #expect(bare.exitCode(within: 30) == 1)
    #expect(
      bare.output.contains("/nowhere/libress-mpi.so, the MPI plug-in of ress, does not exist")
        && bare.output.contains("make mpi"), "\(bare.output)")
    let alone = try train("alone", workers: 2, environment: ["RESS_MPIRUN": "no-such-launcher"])
    #expect(alone.exitCode(within: 30) == 1)
    #expect(alone.output.contains("there is no no-such-launcher on the PATH"), "\(alone.output)")
  }

  @Test func `a run over MPI waits for ranks where there are only workers, and explains how to start some`() throws {
    let cluster = try TestCluster(place)
    try cluster.start("a", "b")
    _ = try place.run(
      [
        "submit", "run.yaml", "--coordinator", cluster.address, "--workers", "2", "--set", "run=waits", "--set",
        "cluster.exchange=mpi",
      ])
    #expect(
      try waitUntil(20) {
        try cluster.ask("runs").output.contains("none of the 2 free workers is a rank: start workers with mpirun")
      }, "\(cluster.logs)")
  }
}
