// The plug-in that speaks MPI: found beside the program, loaded, and checked. The program itself knows no MPI library, so one program
// works with all of them, and without any.

import CMPI

#if canImport(Glibc)
  import Glibc
#endif

package enum MPIError: Error, Equatable, CustomStringConvertible {
  case missing(path: String)
  case notLoaded(path: String, reason: String)
  case noPlugin(path: String)
  case otherVersion(path: String, theirs: Int, ours: Int)
  /// What MPI itself says.
  case failed(reason: String)

  private static let build =
    "build it where the program was built: make mpi (on Debian it needs libopenmpi-dev and openmpi-bin)"

  package var description: String {
    switch self {
    case .missing(let path): "there is no \(path), which speaks MPI for ress; \(Self.build)"
    case .notLoaded(let path, let reason):
      "\(path) cannot be loaded: \(reason); \(Self.build), with the MPI that is used here"
    case .noPlugin(let path): "\(path) is not the MPI plug-in of ress; \(Self.build)"
    case .otherVersion(let path, let theirs, let ours):
      "\(path) has version \(theirs), and this program needs \(ours); build it again: make mpi"
    case .failed(let reason): "MPI: \(reason)"
    }
  }
}

package enum MPIPlugin {
  package static let fileName = "libress-mpi.so"
  /// The variable that names another file.
  package static let variable = "RESS_MPI_LIBRARY"

  /// Where the plug-in is looked for.
  package static func path(environment: [String: String], programFolder: String) -> String {
    environment[variable].flatMap { $0.isEmpty ? nil : $0 } ?? "\(programFolder)/\(fileName)"
  }

  /// What launchers tell a rank by: Open MPI's mpirun, PMIx (Slurm among others), and PMI (MPICH, Intel MPI).
  package static let rankVariables = ["OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK"]

  /// Whether this process was started as one of the ranks of an MPI launch.
  package static func isRank(environment: [String: String]) -> Bool {
    rankVariables.contains { environment[$0] != nil }
  }

  static func load(_ path: String) throws(MPIError) -> UnsafePointer<ress_mpi_table> {
    guard access(path, F_OK) == 0 else { throw .missing(path: path) }
    // MPI libraries load parts of their own, which look for the library's names among all that is loaded. It is never unloaded.
    guard let library = dlopen(path, RTLD_NOW | RTLD_GLOBAL) else {
      throw .notLoaded(path: path, reason: String(cString: dlerror()))
    }
    guard let symbol = dlsym(library, RESS_MPI_SYMBOL) else { throw .noPlugin(path: path) }
    let table = unsafeBitCast(symbol, to: ress_mpi_symbol.self)()!
    let version = Int(table.pointee.version)
    guard version == Int(RESS_MPI_VERSION) else {
      throw .otherVersion(path: path, theirs: version, ours: Int(RESS_MPI_VERSION))
    }
    return table
  }
}
