// Starts `mpirun` with the workers of a run on this machine as its ranks.

import Foundation
import Glibc
import Transport

struct MPILaunch {
  /// Its name in messages and logs.
  static let name = "mpirun"
  /// The command line of another launcher, or of `mpirun` with options: "mpiexec.hydra", "mpirun --mca btl tcp,self".
  static let variable = "RESS_MPIRUN"

  private let program: String
  private let options: [String]
  private let ress: String

  /// Checks for everything that a launch needs, before anything is started.
  init() throws(ProcessError) {
    let words = ProcessInfo.processInfo.environment[Self.variable]?.split(separator: " ").map(String.init) ?? []
    program = words.first ?? Self.name
    options = Array(words.dropFirst())
    guard let path = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe") else {
      throw ProcessError(description: "cannot find this program in /proc, to start it by \(program)")
    }
    ress = path
    let plugin = RankStart.pluginPath
    guard access(plugin, R_OK) == 0 else {
      throw ProcessError(description: "cluster.exchange is mpi: \(MPIError.missing(path: plugin))")
    }
    guard Self.isOnPath(program) else {
      throw ProcessError(
        description:
          "cluster.exchange is mpi, but there is no \(program) on the PATH to start workers with; install one (on Debian: openmpi-bin), "
          + "or name it in \(Self.variable)")
    }
  }

  /// Starts one rank for each of these argument lists of `ress`.
  func start(ranks: [[String]], log: String) throws(ProcessError) -> ChildProcess {
    var words = options
    for (rank, own) in ranks.enumerated() {
      words += (rank == 0 ? [] : [":"]) + ["-n", "1", ress] + own
      // The launcher passes its input to its first rank. When this process ends, that rank ends, and the launcher ends
      // the others.
      if rank == 0 { words.append("--end-with-input") }
    }
    return try ChildProcess(
      name: Self.name, program: program, words: words, log: log, environment: Self.environment, endSignal: SIGUSR1)
  }

  /// Lets Open MPI start as root and with more ranks than cores, and keeps it from binding each rank to one core. These
  /// are variables, which other launchers ignore, under the names of versions 4 and 5.
  private static let environment = [
    "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_ALLOW_RUN_AS_ROOT": "1", "PRTE_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_rmaps_base_oversubscribe": "1", "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "OMPI_MCA_hwloc_base_binding_policy": "none", "PRTE_MCA_hwloc_default_binding_policy": "none",
  ]

  private static func isOnPath(_ program: String) -> Bool {
    if program.contains("/") { return access(program, X_OK) == 0 }
    let path = ProcessInfo.processInfo.environment["PATH"] ?? "/usr/bin:/bin"
    return path.split(separator: ":").contains { access("\($0)/\(program)", X_OK) == 0 }
  }
}
