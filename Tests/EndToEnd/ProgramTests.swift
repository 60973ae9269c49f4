// `ress` as a process: exit codes, and what is written to standard output and to standard error.

import Configuration
import Foundation
import Testing

#if canImport(Glibc)
  import Glibc
#endif

/// The result of `ress`.
struct Finished {
  var code: Int32
  var output: String
  var errors: String
}

/// The program is in the folder of the test bundle.
func program(_ name: String = "ress") throws -> URL {
  let bundle = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
  return URL(filePath: bundle).deletingLastPathComponent().appending(path: name)
}

/// Runs `ress` with these arguments and waits for it.
func ress(_ words: [String], folder: URL? = nil) throws -> Finished { try run("ress", words, folder: folder) }

func run(_ name: String, _ words: [String], folder: URL? = nil) throws -> Finished {
  let process = Process()
  process.executableURL = try program(name)
  process.arguments = words
  process.currentDirectoryURL = folder
  let output = Pipe(), errors = Pipe()
  (process.standardOutput, process.standardError) = (output, errors)
  process.standardInput = FileHandle.nullDevice
  try process.run()
  // A command that hangs must not block the tests: its children end with it or by themselves.
  let identifier = process.processIdentifier
  let watchdog = DispatchWorkItem { kill(identifier, SIGKILL) }
  DispatchQueue.global().asyncAfter(deadline: .now() + 1200, execute: watchdog)
  defer { watchdog.cancel() }
  // The standard error of these commands fits a pipe's buffer, so the two pipes can be read one after the other.
  let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
  let complaints = String(decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
  process.waitUntilExit()
  return Finished(code: process.terminationStatus, output: text, errors: complaints)
}

@Suite struct `The program` {
  @Test func `version and help end with 0 and go to standard output`() throws {
    let version = try ress(["--version"])
    #expect(version.code == 0 && version.output.hasPrefix("ress \(Version.number)\n") && version.errors.isEmpty)
    #expect(version.output.contains("single precision") && version.output.contains("libzmq 4."))
    for command in [["help"], ["train", "--help"], ["data", "prepare", "--help"], ["help", "checkpoint", "show"]] {
      let help = try ress(command)
      #expect(help.code == 0 && help.output.contains("Usage: ress") && help.errors.isEmpty)
    }
  }

  @Test func `output that cannot be written is reported with exit code 1, and a closed pipe is not an error`() throws {
    func end(_ words: [String], output: FileHandle) throws -> (code: Int32, errors: String) {
      let process = Process()
      process.executableURL = try program()
      process.arguments = words
      let errors = Pipe()
      (process.standardOutput, process.standardError) = (output, errors)
      process.standardInput = FileHandle.nullDevice
      try process.run()
      let said = String(decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
      process.waitUntilExit()
      return (process.terminationStatus, said)
    }
    for words in [["help"], ["--version"], ["man"], ["config", "reference"]] {
      let full = try end(words, output: try #require(FileHandle(forWritingAtPath: "/dev/full")))
      #expect(full.code == 1, "\(words)")
      #expect(
        full.errors == "ress: the output cannot be written completely: No space left on device\n",
        "\(words): \(full.errors)")
    }
    let pipe = Pipe()
    try pipe.fileHandleForReading.close()
    let gone = try end(["help"], output: pipe.fileHandleForWriting)
    #expect(gone.errors.isEmpty)
  }

  @Test func `wrong use ends with 2 and names the nearest command`() throws {
    let finished = try ress(["trian", "x.yaml"])
    #expect(finished.code == 2 && finished.output.isEmpty)
    #expect(finished.errors == "ress: unknown command 'trian'; did you mean 'train'?\nTry 'ress help'.\n")
    #expect(try ress([]).code == 2)
  }

  @Test func `mistakes in a configuration end with 2, and each is reported with its place`() throws {
    let folder = FileManager.default.temporaryDirectory.appending(path: "ress-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    try "data: {path: x}\nmodel:\n  structre_rank: 3\n  width: abc\n"
      .write(to: folder.appending(path: "c.yaml"), atomically: true, encoding: .utf8)
    let finished = try ress(["config", "show", "c.yaml"], folder: folder)
    #expect(finished.code == 2 && finished.output.isEmpty)
    #expect(
      finished.errors == """
        c.yaml:3:3: unknown key 'structre_rank' in 'model'; did you mean 'structure_rank'?
        c.yaml:4:10: expected a whole number, found 'abc'

        """)
  }

  @Test func `the output of config show is a configuration with the same values`() throws {
    let folder = FileManager.default.temporaryDirectory.appending(path: "ress-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    let path = folder.appending(path: "c.yaml").path
    try "data: {path: x}\n".write(toFile: path, atomically: true, encoding: .utf8)
    let shown = try ress(["config", "show", path, "--set", "model.width=64"])
    #expect(shown.code == 0)
    let configuration = try ConfigurationDecoder.decode(text: shown.output, name: "shown")
    #expect(configuration.model.width == 64 && configuration.data.path == "x")
  }

  @Test func `the doctor finds this machine usable, for people and for programs`() throws {
    let finished = try ress(["doctor"])
    #expect(finished.code == 0, "\(finished.output)")
    #expect(finished.output.contains("GFLOP/s"))
    let json = try JSONSerialization.jsonObject(with: Data(try ress(["doctor", "--json"]).output.utf8))
    #expect((json as? [String: Any])?["usable"] as? Bool == true)
  }

  /// Processors to emulate: the first has no AVX, the second has AVX2 but no AVX-512.
  @Test(
    .enabled(
      if: FileManager.default.isExecutableFile(atPath: "/usr/bin/qemu-x86_64"),
      "qemu-x86_64 (package qemu-user) is not here"),
    arguments: [("Nehalem", "baseline"), ("Haswell", "x86-64-v3")], ["fp32", "bf16"])
  func `older processors compute the same curve to the bit, with the kernels that they have`(
    emulation: (processor: String, clone: String), precision: String
  )
    throws
  {
    let (processor, clone) = emulation
    let bench = try program("ress-bench").path
    let here = try run("ress-bench", ["losses", "--precision", precision]).output.split(separator: "\n")
    let emulated = Process()
    let output = Pipe()
    emulated.executableURL = URL(filePath: "/usr/bin/qemu-x86_64")
    emulated.arguments = ["-cpu", processor, bench, "losses", "--precision", precision]
    // ress-bench times OpenBLAS too; a kernel set that the environment forces on it would be this machine's.
    emulated.environment = ProcessInfo.processInfo.environment.filter { !$0.key.hasPrefix("OPENBLAS_") }
    (emulated.standardOutput, emulated.standardError) = (output, FileHandle.nullDevice)
    try emulated.run()
    let there = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self).split(
      separator: "\n")
    emulated.waitUntilExit()
    #expect(emulated.terminationStatus == 0)
    #expect(there.first?.hasSuffix(clone) == true, "\(there)")
    // The fingerprint hashes products, a norm and a softmax; the lines have losses and gradient norms after each step.
    #expect(here.first?.split(separator: " ").first == there.first?.split(separator: " ").first)
    #expect(here.count == 4 && here.dropFirst() == there.dropFirst(), "\(here) here, \(there) on \(processor)")
  }

  /// Every kernel, at sizes around its vectors and blocks, in both precisions.
  @Test(
    .enabled(
      if: FileManager.default.isExecutableFile(atPath: "/usr/bin/qemu-aarch64")
        && FileManager.default.fileExists(atPath: "/usr/aarch64-linux-gnu/lib/libc.a"),
      "qemu-aarch64 (package qemu-user) or libc6-dev-arm64-cross is not here"))
  func `the kernels compute the same bits on arm64`() throws {
    let script = (#filePath as NSString).deletingLastPathComponent + "/../KernelBits/run.sh"
    let bits = Process()
    let output = Pipe()
    bits.executableURL = URL(filePath: "/bin/bash")
    bits.arguments = [script]
    (bits.standardOutput, bits.standardError) = (output, output)
    try bits.run()
    let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    bits.waitUntilExit()
    #expect(bits.terminationStatus == 0 && text.contains("have the same bits on arm64"), "\(text)")
  }

  /// ress-bench counts every call of malloc and related functions in its process.
  @Test(
    arguments: [["--threads", "1"], ["--threads", "2"], ["--threads", "4", "--teams", "2", "--units", "4"]],
    ["bench-small", "dense-small"])
  func `a steady training step does not call the allocator`(division: [String], shape: String) throws {
    let bench = try run("ress-bench", ["allocations", "--shape", shape] + division)
    #expect(bench.code == 0 && bench.output.hasPrefix("0 allocations in 5 steps"), "\(bench.output)\(bench.errors)")
  }
}
