// Connections that can be cut without root rights: every connection between the processes of a drill goes through
// sockets of this process, which knows the process at the other end from the kernel (SO_PEERCRED). Cutting closes no
// connection; bytes stop arriving, as when a network switch dies.

import CLinux
import Foundation
import Glibc
import Synchronization

/// Relays between Unix sockets: one thread for each direction, so that a reader that is stopped blocks no other
/// connection.
final class Switchboard: Sendable {
  private struct State {
    var cutOff: Set<pid_t> = []
    var descriptors: Set<Int32> = []
    var isClosed = false
  }

  private let state = Mutex(State())

  /// Listens at `path` and connects each client with `target`, a socket of process `owner` (nil: of the process that
  /// then listens there).
  func relay(_ path: String, to target: String, owner: pid_t? = nil) throws(ProcessError) {
    let listener = Self.makeSocket()
    guard Self.with(path, { bind(listener, $0, $1) }) == 0, listen(listener, 64) == 0 else {
      let reason = String(cString: strerror(errno))
      Glibc.close(listener)
      throw ProcessError(description: "cannot listen at \(path): \(reason)")
    }
    keep(listener)
    thread { [self] in
      while true {
        let near = ress_accept(listener)
        if near < 0 && errno == EINTR { continue }
        guard near >= 0 else { return forget(listener) }
        connect(near, to: target, owner)
      }
    }
  }

  /// From now on no data reach or leave the process.
  func cut(_ process: pid_t) { state.withLock { _ = $0.cutOff.insert(process) } }

  /// Data flow again, and delayed data arrive.
  func reconnect(_ process: pid_t) { state.withLock { _ = $0.cutOff.remove(process) } }

  func close() {
    state.withLock { state in
      state.isClosed = true
      // Their threads wake up and close them.
      for descriptor in state.descriptors { shutdown(descriptor, Int32(SHUT_RDWR)) }
    }
  }

  private func connect(_ near: Int32, to target: String, _ owner: pid_t?) {
    let far = Self.makeSocket()
    guard Self.with(target, { Glibc.connect(far, $0, $1) }) == 0 else {
      // Nothing listens there: close the client's connection at once, as on a real network.
      Glibc.close(near)
      Glibc.close(far)
      return
    }
    let ends = Set([ress_peer(near), owner].compactMap { $0 })
    // Each thread reads one descriptor and writes to a copy of the other, so that each closes its own.
    for (source, target) in [(near, dup(far)), (far, dup(near))] {
      keep(source)
      thread { [self] in
        carry(from: source, to: target, ends)
        forget(source)
        Glibc.close(target)
      }
    }
  }

  /// Copies bytes until one side closes its connection, then closes the other.
  private func carry(from source: Int32, to target: Int32, _ ends: Set<pid_t>) {
    var buffer = [UInt8](repeating: 0, count: 1 << 16)
    while true {
      let count = read(source, &buffer, buffer.count)
      if count < 0 && errno == EINTR { continue }
      while state.withLock({ !$0.isClosed && !$0.cutOff.isDisjoint(with: ends) }) { usleep(2000) }
      var sent = 0
      while sent < count {
        let written = buffer.withUnsafeBytes {
          send(target, $0.baseAddress! + sent, count - sent, Int32(MSG_NOSIGNAL))
        }
        if written < 0 && errno == EINTR { continue }
        guard written > 0 else { break }
        sent += written
      }
      if count <= 0 || sent < count {
        shutdown(target, Int32(SHUT_RDWR))
        return
      }
    }
  }

  // MARK: Sockets and threads

  private func keep(_ descriptor: Int32) {
    state.withLock { state in
      state.descriptors.insert(descriptor)
      if state.isClosed { shutdown(descriptor, Int32(SHUT_RDWR)) }
    }
  }

  private func forget(_ descriptor: Int32) {
    state.withLock { _ = $0.descriptors.remove(descriptor) }
    Glibc.close(descriptor)
  }

  private func thread(_ body: @escaping @Sendable () -> Void) {
    let thread = Thread(block: body)
    thread.name = "ress-drill-cable"
    thread.start()
  }

  private static func makeSocket() -> Int32 {
    let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    precondition(descriptor >= 0, "cannot make a socket: \(String(cString: strerror(errno)))")
    return descriptor
  }

  /// Calls `body` with the address of a path; −1 where it is too long for one.
  private static func with(_ path: String, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Int32) -> Int32 {
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    let bytes = Array(path.utf8CString)
    guard bytes.count <= MemoryLayout.size(ofValue: address.sun_path) else {
      errno = ENAMETOOLONG
      return -1
    }
    withUnsafeMutableBytes(of: &address.sun_path) { room in bytes.withUnsafeBytes { room.copyMemory(from: $0) } }
    return withUnsafePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, socklen_t(MemoryLayout<sockaddr_un>.size)) }
    }
  }
}
