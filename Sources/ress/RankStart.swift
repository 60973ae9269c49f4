// How a worker begins and ends that was started by an MPI launcher: it loads the plug-in and enters the world, and on its way out it either
// leaves with all others or ends on the spot, for whoever waits in MPI for a rank that is gone waits for ever.

import Foundation
import Glibc
import Shell
import Synchronization
import Transport
import Worker

enum RankStart {
  /// The worker was told to end, which a launcher tells all ranks.
  static let wasAsked = Atomic<Bool>(false)

  /// The plug-in that this program would load.
  static var pluginPath: String {
    let program = (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? ""
    return MPIPlugin.path(
      environment: ProcessInfo.processInfo.environment,
      programFolder: URL(filePath: program).deletingLastPathComponent().path)
  }

  /// The world of this process; nil where no MPI launcher started it, or nothing here speaks MPI: a cluster may start everything with PMIx.
  static func world() throws -> MPIWorld? {
    let environment = ProcessInfo.processInfo.environment
    guard MPIPlugin.isRank(environment: environment) else { return nil }
    let path = pluginPath
    guard access(path, F_OK) == 0 || environment[MPIPlugin.variable] != nil else {
      Log.write(
        "started as an MPI rank, but \(MPIError.missing(path: path)). Until then it takes part in runs over ZeroMQ alone"
      )
      return nil
    }
    let world = try MPIWorld(plugin: path)
    Log.write("rank \(world.place.rank) of \(world.place.size) in an MPI world, by \(world.library)")
    return world
  }

  /// What the process may end with in order; otherwise it ends here.
  static func ending(_ process: WorkerProcess, _ code: ExitCode) -> ExitCode {
    // The world is broken: an orderly exit would ask MPI's library for things that it cannot do any more.
    if !process.hasLeftWorld { _exit(ExitCode.failed.rawValue) }
    return code
  }
}
