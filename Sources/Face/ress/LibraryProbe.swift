// Facts that only the C libraries know: their versions, and whether a local socket works.

import CHDF5
import CZeroMQ
import Configuration
import Glibc
import Kernels
import Shell

enum LibraryProbe {
  static func libraries() -> [MachineFacts.Library] {
    [
      MachineFacts.Library("libzmq", zeroMQVersion()), MachineFacts.Library("HDF5", hdf5Version()),
      MachineFacts.Library("libyaml", YAMLLibrary.version),
    ]
  }

  /// How the program was built, and the libraries that it uses: `ress --version`.
  static var versionPage: String {
    #if arch(x86_64)
      let machine = "x86_64"
    #elseif arch(arm64)
      let machine = "arm64"
    #else
      let machine = "another machine"
    #endif
    #if DEBUG
      let build = "debug"
    #else
      let build = "release"
    #endif
    #if swift(>=6.3)
      let swift = "Swift 6.3 or newer"
    #else
      let swift = "Swift 6.2"
    #endif
    let libraries = libraries().map { "\($0.name) \($0.version)" }.joined(separator: ", ")
    return """
      \(Version.program)
      \(build) for \(machine), \(MemoryLayout<Real>.size == 4 ? "single" : "double") precision, \(swift)
      \(libraries)
      """
  }

  private static func zeroMQVersion() -> String {
    var (major, minor, patch): (Int32, Int32, Int32) = (0, 0, 0)
    zmq_version(&major, &minor, &patch)
    let curve = zmq_has("curve") == 1 ? ", with CURVE" : ""
    return "\(major).\(minor).\(patch)\(curve)"
  }

  private static func hdf5Version() -> String {
    var (major, minor, release): (UInt32, UInt32, UInt32) = (0, 0, 0)
    return H5get_libversion(&major, &minor, &release) >= 0 ? "\(major).\(minor).\(release)" : "unknown"
  }

  /// Sends one message over an ipc address in the folder. Returns why that failed, or nil.
  static func ipcFailure(folder: String) -> String? {
    let path = "\(folder)/ress-doctor-\(getpid()).sock"
    defer { unlink(path) }
    let context = zmq_ctx_new()
    defer { zmq_ctx_term(context) }
    let receiver = zmq_socket(context, ZMQ_PULL), sender = zmq_socket(context, ZMQ_PUSH)
    defer {
      zmq_close(sender)
      zmq_close(receiver)
    }
    for socket in [receiver, sender] {
      var milliseconds: Int32 = 1_000, none: Int32 = 0
      zmq_setsockopt(socket, ZMQ_RCVTIMEO, &milliseconds, MemoryLayout<Int32>.size)
      zmq_setsockopt(socket, ZMQ_SNDTIMEO, &milliseconds, MemoryLayout<Int32>.size)
      zmq_setsockopt(socket, ZMQ_LINGER, &none, MemoryLayout<Int32>.size)
    }
    func reason(_ what: String) -> String { "\(what) ipc://\(path): \(String(cString: zmq_strerror(zmq_errno())))" }
    guard zmq_bind(receiver, "ipc://\(path)") == 0 else { return reason("cannot listen on") }
    guard zmq_connect(sender, "ipc://\(path)") == 0 else { return reason("cannot connect to") }
    var byte: UInt8 = 7, answer: UInt8 = 0
    guard zmq_send(sender, &byte, 1, 0) == 1 else { return reason("cannot send to") }
    guard zmq_recv(receiver, &answer, 1, 0) == 1, answer == byte else { return reason("nothing arrived at") }
    return nil
  }
}
