// `ress doctor`: gathers the facts of this machine; `DoctorReport` judges them.

import Configuration
import Glibc
import Kernels
import Shell

func doctor(_ options: JSONOptions) -> ExitCode {
  let report = DoctorReport(MachineProbe.facts())
  Terminal.print(options.json ? report.json : report.text)
  return report.isUsable ? .done : .failed
}

enum MachineProbe {
  static func facts() -> MachineFacts {
    var facts = MachineFacts()
    facts.program = Version.program
    facts.system = system()
    facts.libraries = LibraryProbe.libraries()
    let processor = processor()
    facts.processor = processor.name
    facts.processorFlags = processor.flags
    facts.cores = cores()
    (facts.memoryBytes, facts.availableMemoryBytes) = memory()
    facts.openFileLimit = openFileLimit()
    let temporary = TemporaryFolder.standard
    facts.temporary = folder(temporary)
    facts.checkpoints = folder("checkpoints")
    facts.ipcFailure = ipcFailure()
    facts.fingerprint = Fingerprint.measure()
    facts.kernelClone = Fingerprint.kernelClone
    facts.gigaflops = gigaflops()
    facts.bf16 = ProductSpeed.measure()
    return facts
  }

  /// In a folder like the one that `ress train` makes for its sockets.
  private static func ipcFailure() -> String? {
    do throws(ProcessError) {
      let folder = try TemporaryFolder(name: "ress-doctor")
      defer { folder.remove() }
      return LibraryProbe.ipcFailure(folder: folder.path)
    } catch {
      return error.description
    }
  }

  private static func system() -> String {
    var name = utsname()
    uname(&name)
    func text<T>(_ field: T) -> String {
      withUnsafeBytes(of: field) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
    }
    let release = lines(of: "/etc/os-release").first { $0.hasPrefix("PRETTY_NAME=") }
    let distribution = release.map { $0.dropFirst("PRETTY_NAME=".count).filter { $0 != "\"" } } ?? text(name.sysname)
    return "\(distribution), Linux \(text(name.release)), \(text(name.machine))"
  }

  /// Cores that this process may use: fewer than the machine's in a container or under taskset.
  static func cores() -> Int {
    let line = lines(of: "/proc/self/status").first { $0.hasPrefix("Cpus_allowed:") }
    // A mask in hexadecimal, with words separated by commas.
    let allowed = line?.dropFirst("Cpus_allowed:".count).compactMap(\.hexDigitValue).reduce(0) {
      $0 + $1.nonzeroBitCount
    }
    return allowed ?? max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN)))
  }

  static func processor() -> (name: String, flags: Set<String>) {
    var name = "unknown processor", flags: Set<String> = []
    for line in lines(of: "/proc/cpuinfo") {
      let parts = line.split(separator: ":", maxSplits: 1)
      guard parts.count == 2 else { continue }
      let value = parts[1].drop { $0 == " " }
      switch parts[0].prefix(while: { $0 != "\t" }) {
      case "model name": name = String(value)
      case "flags", "Features":
        flags = Set(value.split(separator: " ").map(String.init))
        return (name, flags)
      default: break
      }
    }
    return (name, flags)
  }

  static func memory() -> (total: Int, available: Int) {
    func bytes(_ key: String) -> Int {
      let line = lines(of: "/proc/meminfo").first { $0.hasPrefix(key + ":") }
      return (line.flatMap { Int($0.filter(\.isNumber)) } ?? 0) * 1024
    }
    return (bytes("MemTotal"), bytes("MemAvailable"))
  }

  private static func openFileLimit() -> Int {
    var limit = rlimit()
    guard getrlimit(__rlimit_resource_t(UInt32(RLIMIT_NOFILE.rawValue)), &limit) == 0 else { return 0 }
    return Int(clamping: limit.rlim_cur)
  }

  /// A folder that does not exist yet is writable if it can be made.
  private static func folder(_ path: String) -> MachineFacts.Folder {
    let place = access(path, F_OK) == 0 ? path : "."
    var status = statvfs()
    let free = statvfs(place, &status) == 0 ? Int(clamping: status.f_bavail) * Int(clamping: status.f_frsize) : nil
    return MachineFacts.Folder(path: path, isWritable: access(place, W_OK) == 0, freeBytes: free)
  }

  /// The best of some products on one thread, so that a busy moment does not count.
  private static func gigaflops() -> Double {
    let size = 256
    let (arena, (x, y, z)) = Arena.build { ($0.matrix(size, size), $0.matrix(size, size), $0.matrix(size, size)) }
    return withExtendedLifetime(arena) {
      Philox(seed: 1, stream: 1).fillNormal(x.pointer, count: x.count, deviation: 1)
      Philox(seed: 1, stream: 2).fillNormal(y.pointer, count: y.count, deviation: 1)
      var best = Duration.seconds(3600)
      for _ in 0..<20 {
        best = min(best, ContinuousClock().measure { BLAS.multiplyTransposed(x, y, into: z) })
      }
      let seconds = Double(best.components.attoseconds) * 1e-18 + Double(best.components.seconds)
      return 2 * Double(size * size * size) / seconds * 1e-9
    }
  }

  /// The lines of a small file; empty if it cannot be read.
  private static func lines(of path: String) -> [String] {
    guard let file = fopen(path, "r") else { return [] }
    defer { fclose(file) }
    var bytes: [UInt8] = []
    while bytes.count < 1 << 20 {
      let chunk = [UInt8](unsafeUninitializedCapacity: 1 << 14) { buffer, count in
        count = fread(buffer.baseAddress, 1, buffer.count, file)
      }
      if chunk.isEmpty { break }
      bytes += chunk
    }
    return String(decoding: bytes, as: UTF8.self).split(separator: "\n").map(String.init)
  }
}
