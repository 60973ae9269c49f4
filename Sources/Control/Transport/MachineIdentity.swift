// Which processes are so close to this one that the operating system lets them share memory and Unix sockets.

#if canImport(Glibc)
  import Glibc
#endif

package enum MachineIdentity {
  /// A hash of the machine's boot, the network and process namespaces, and the user; nil where one of them cannot be
  /// read. A virtual machine that is cloned while it runs has the boot of its original, so equality is a reason to try,
  /// and no proof. Network namespaces stand for hosts in tests and benchmarks, and are treated as such.
  package static let current: UInt64? = {
    guard let boot = ProcessFile.text(of: "/proc/sys/kernel/random/boot_id"),
      let network = target(of: "/proc/self/ns/net"), let processes = target(of: "/proc/self/ns/pid")
    else { return nil }
    return hash("\(boot) \(network) \(processes) \(getuid())")
  }()

  /// FNV-1a, 64 bits.
  package static func hash(_ text: String) -> UInt64 {
    text.utf8.reduce(0xcbf2_9ce4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
  }

  /// `net:[4026531840]`
  private static func target(of link: String) -> String? {
    withUnsafeTemporaryAllocation(of: CChar.self, capacity: 64) { buffer in
      let count = readlink(link, buffer.baseAddress!, buffer.count)
      return count > 0 ? String(decoding: buffer[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self) : nil
    }
  }
}
