// The start and the end of a worker that was started by an MPI launcher. It loads the plug-in and joins the world. At
// its end it either leaves together with all other ranks or exits at once, because an MPI call that waits for a dead
// rank never returns.

import Foundation
import Glibc
import Shell
import Synchronization
import Transport
import Worker

enum RankStart {
  /// The worker was asked to end; a launcher asks all its ranks.
  static let wasAsked = Atomic<Bool>(false)

  /// The path of the plug-in.
  static var pluginPath: String {
    let program = (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? ""
    return MPIPlugin.path(
      environment: ProcessInfo.processInfo.environment,
      programFolder: URL(filePath: program).deletingLastPathComponent().path)
  }

  /// The world of this process; nil if no MPI launcher started it or the plug-in is missing, because a cluster may
  /// start every program with PMIx.
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

  /// Returns if the process may exit in order; otherwise ends it here.
  static func ending(_ process: WorkerProcess, _ code: ExitCode) -> ExitCode {
    // The world is broken: an orderly exit would call functions of MPI that no longer work.
    if !process.hasLeftWorld { _exit(ExitCode.failed.rawValue) }
    return code
  }
}
