// Several faults in one run: a coordinator that is stopped, a full disk, files in the way, two coordinators that
// want one run, and clients that take all connections. Every run is compared with the curve of an undisturbed one.

import Foundation
import Testing

#if canImport(Glibc)
  import Glibc
#endif

@Suite(.serialized) final class `Many faults in one run` {
  private let place: Workplace
  private let curve: [String]
  private var address: String
  /// Ends every process of the test.
  private var running: [Running] = []

  init() throws {
    place = try Workplace()
    address = "ipc://\(place.path)/cluster"
    let whole = try place.run(["train", "run.yaml", "--workers", "1", "--threads", "1", "--set", "training.steps=300"])
    #expect(whole.code == 0, "\(whole.output)\(whole.errors)")
    curve = place.curve("first")
  }

  private func cluster(launcher: [String] = []) throws -> (coordinator: Running, workers: [Running]) {
    let coordinator = try place.start(["coordinator", "--listen", address], launcher: launcher)
    let workers = try (1...2).map {
      try place.start([
        "worker", "--coordinator", address, "--name", "w\($0)", "--threads", "1", "--listen",
        "ipc://\(place.path)/data-\($0)",
      ])
    }
    running = [coordinator] + workers
    return (coordinator, workers)
  }

  private func submit(_ run: String, _ words: [String] = []) throws {
    let submitted = try place.run(
      [
        "submit", "run.yaml", "--coordinator", address, "--workers", "2", "--set", "run=\(run)", "--set",
        "training.steps=300",
      ]
        + words)
    #expect(submitted.code == 0, "\(submitted.errors)")
  }

  private func story(_ run: String) -> String {
    (try? place.run(["logs", run, "--coordinator", address]).output) ?? ""
  }

  private func state(_ run: String) throws -> String {
    try place.run(["status", run, "--coordinator", address, "--json"]).output
  }

  private func ends(_ run: String) throws -> Bool {
    try waitUntil(120) { try state(run).contains("\"finished\"") }
  }

  @Test func `a coordinator stopped for longer than patience_seconds loses no worker and no step`() throws {
    let (coordinator, _) = try cluster()
    try submit("stopped", ["--set", "cluster.patience_seconds=1"])
    #expect(waitUntil(60) { place.curve("stopped").count > 20 })
    kill(coordinator.process.processIdentifier, SIGSTOP)
    Thread.sleep(forTimeInterval: 4)
    kill(coordinator.process.processIdentifier, SIGCONT)
    #expect(try ends("stopped"), "\(story("stopped"))")
    let story = story("stopped")
    #expect(!story.contains("lost") && !story.contains("computed again"), "\(story)")
    #expect(coordinator.output.contains("the coordinator was stopped for"), "\(coordinator.output)")
    #expect(place.curve("stopped") == curve)
  }

  @Test func `a full disk stops neither run nor program, and everything is written when there is room again`()
    throws
  {
    // Limits files to 60 kB: too little for a checkpoint and, after some steps, for the store.
    let training = try place.start(
      ["train", "run.yaml", "--workers", "2", "--threads", "1", "--set", "run=full", "--set", "training.steps=300"],
      launcher: ["prlimit", "--fsize=60000:unlimited"])
    #expect(
      waitUntil(120) {
        training.output.contains("nothing is answered until that is possible again") || !training.process.isRunning
      })
    #expect(training.process.isRunning, "\(training.output)")
    for process in training.family {
      let raised = Process()
      raised.executableURL = URL(filePath: "/usr/bin/env")
      raised.arguments = ["prlimit", "--pid", "\(process.identifier)", "--fsize=unlimited"]
      try raised.run()
      raised.waitUntilExit()
    }
    #expect(training.exitCode(within: 120) == 0, "\(training.output)")
    #expect(training.output.contains("the store can be written again"), "\(training.output)")
    #expect(place.curve("full") == curve)
    let checkpoint = try place.run(["checkpoint", "verify", "checkpoints/full"])
    #expect(checkpoint.code == 0 && checkpoint.output.contains("step-00000300: whole"), "\(checkpoint.output)")
  }

  @Test func `lines that could not be written are added to metrics.jsonl later, and an event reports it`()
    throws
  {
    _ = try cluster()
    try submit("holes")
    #expect(waitUntil(60) { place.curve("holes").count > 5 })
    let path = "\(place.path)/checkpoints/holes/metrics.jsonl"
    // A folder in the file's place. The coordinator may create the file again in between.
    #expect(
      waitUntil(10) {
        unlink(path)
        return mkdir(path, 0o755) == 0
      })
    #expect(
      waitUntil(60) {
        story("holes").contains("the run continues, and the missing lines are written from the store")
      })
    rmdir(path)
    #expect(try ends("holes"))
    #expect(waitUntil(60) { place.curve("holes") == curve }, "\(place.curve("holes").count) lines of \(curve.count)")
    #expect(waitUntil(10) { story("holes").contains("metrics.jsonl is complete again") })
  }

  @Test func `two coordinators cannot write one run, and the error for the second names the process that does`() throws
  {
    _ = try cluster()
    try submit("wanted")
    #expect(waitUntil(60) { place.curve("wanted").count > 5 })
    let other = try place.run(["train", "run.yaml", "--set", "run=wanted", "--set", "training.steps=300", "--resume"])
    #expect(
      other.code == 1 && (other.output + other.errors).contains("is being written by another coordinator, process "),
      "\(other.output)\(other.errors)")
    #expect(try ends("wanted"))
    #expect(place.curve("wanted") == curve)
    // The run is free when it has ended.
    let after = try place.run(["train", "run.yaml", "--set", "run=wanted", "--set", "training.steps=302", "--resume"])
    #expect(after.code == 0, "\(after.output)\(after.errors)")
  }

  @Test func `clients that take every connection prevent no checkpoint from being committed`() throws {
    // This run and its two workers need about forty descriptors for files; the others are for connections.
    let port = UInt16(42_000 + Int(getpid()) % 10_000)
    address = "tcp://127.0.0.1:\(port)"
    let (coordinator, workers) = try cluster(launcher: ["prlimit", "--nofile=160:160"])
    try submit("crowded")
    #expect(waitUntil(60) { place.curve("crowded").count > 5 })
    var strangers: [Int32] = []
    defer { for stranger in strangers { close(stranger) } }
    func knock() {
      while strangers.count > 400 { close(strangers.removeFirst()) }
      var there = sockaddr_in()
      there.sin_family = sa_family_t(AF_INET)
      there.sin_port = in_port_t(port).bigEndian
      there.sin_addr.s_addr = inet_addr("127.0.0.1")
      let stranger = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_NONBLOCK.rawValue), 0)
      guard stranger >= 0 else { return }
      strangers.append(stranger)
      _ = withUnsafePointer(to: &there) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
          connect(stranger, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
        }
      }
    }
    #expect(
      waitUntil(120) {
        for _ in 0..<20 { knock() }
        return place.curve("crowded").count == curve.count
      }, "\(coordinator.output)\(workers[0].output)")
    for stranger in strangers { close(stranger) }
    strangers = []
    #expect(try ends("crowded"), "\(story("crowded"))\(coordinator.output)")
    #expect(place.curve("crowded") == curve)
    let story = story("crowded")
    #expect(!story.contains("paused") && !story.contains("lost"), "\(story)")
  }

  @Test func `commands that fail on a full disk report it and do not crash`() throws {
    let words = (0..<200_000).map { "word\($0 % 977)" }.joined(separator: " ")
    try words.write(toFile: place.path + "/long.txt", atomically: true, encoding: .utf8)
    let exported = try place.run(["checkpoint", "export", "checkpoints/first", "--out", "m.safetensors"])
    #expect(exported.code == 0, "\(exported.errors)")
    // Limits at which HDF5 cannot begin a file, cannot write its tensors, and cannot write what it buffers until
    // the file is closed. An error message still fits.
    for limit in [1_000, 5_000, 50_000, 120_000] {
      for words in [
        ["data", "prepare", "long.txt", "--out", "long-\(limit).h5"],
        ["checkpoint", "import", "m.safetensors", "--run", "import-\(limit)"],
      ] {
        let command = try place.start(words, launcher: ["prlimit", "--fsize=\(limit):\(limit)"])
        #expect(command.exitCode(within: 60) == 1, "\(words): \(command.output)")
        #expect(command.process.terminationReason == .exit)
        #expect(command.output.contains("File too large"), "\(limit), \(words): \(command.output)")
      }
    }
  }
}
