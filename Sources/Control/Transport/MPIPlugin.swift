// Finds, loads and checks the MPI plug-in, a shared library beside the program. The program itself is not linked to
// an MPI library, so that one program works with any MPI, and without one.

import CMPI

#if canImport(Glibc)
  import Glibc
#endif

package enum MPIError: Error, Equatable, CustomStringConvertible {
  case missing(path: String)
  case notLoaded(path: String, reason: String)
  case noPlugin(path: String)
  case otherVersion(path: String, theirs: Int, ours: Int)
  /// An error that the MPI library reports.
  case failed(reason: String)

  private static let build =
    "build it where the program was built: make mpi (on Debian it needs libopenmpi-dev and openmpi-bin)"

  package var description: String {
    switch self {
    case .missing(let path): "\(path), the MPI plug-in of ress, does not exist; \(Self.build)"
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
  /// The environment variable that names another file.
  package static let variable = "RESS_MPI_LIBRARY"

  /// The path of the plug-in.
  package static func path(environment: [String: String], programFolder: String) -> String {
    environment[variable].flatMap { $0.isEmpty ? nil : $0 } ?? "\(programFolder)/\(fileName)"
  }

  /// Environment variables in which launchers give a rank its number: Open MPI's mpirun, PMIx (Slurm and others),
  /// PMI (MPICH, Intel MPI).
  package static let rankVariables = ["OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK"]

  /// Whether this process was started as a rank of an MPI launch.
  package static func isRank(environment: [String: String]) -> Bool {
    rankVariables.contains { environment[$0] != nil }
  }

  static func load(_ path: String) throws(MPIError) -> UnsafePointer<ress_mpi_table> {
    guard access(path, F_OK) == 0 else { throw .missing(path: path) }
    // RTLD_GLOBAL, because MPI libraries load components that look up the library's symbols in the global scope.
    // Never unloaded.
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
