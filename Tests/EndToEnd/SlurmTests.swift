// Runs as jobs of a real Slurm with three nodes (scripts/slurm.sh). Nodes die, and time limits expire. Every run is
// compared with the undisturbed curve.

import Foundation
import TestSupport
import Testing

#if canImport(Glibc)
  import Glibc
#endif

/// A Slurm of the test's own, on this machine.
final class SlurmCluster {
  private let folder = "/tmp/ress-slurm-\(getpid())-" + UUID().uuidString.prefix(6)
  private let port = freePorts(12)

  init(nodes: Int) throws { try script("up", "\(nodes)") }

  deinit { try? script("down") }

  private var environment: [String: String] { ["SLURM_FOLDER": folder, "SLURM_PORT": "\(port)"] }
  var configuration: [String: String] { ["SLURM_CONF": folder + "/slurm.conf"] }

  func script(_ words: String...) throws {
    let path = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../../scripts/slurm.sh")
      .standardized
    try call(path.path, words)
  }

  /// Starts a command of Slurm, or the script, and returns its output.
  @discardableResult func call(_ program: String, _ words: [String]) throws -> String {
    let process = Process()
    process.executableURL = URL(filePath: "/usr/bin/env")
    process.arguments = [program] + words
    process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
      .merging(configuration) { $1 }
    // Output goes to a file, because daemons that are started would keep a pipe open.
    let path = NSTemporaryDirectory() + "ress-slurm-said-" + UUID().uuidString
    _ = FileManager.default.createFile(atPath: path, contents: nil)
    defer { try? FileManager.default.removeItem(atPath: path) }
    process.standardOutput = FileHandle(forWritingAtPath: path)
    process.standardInput = FileHandle.nullDevice
    try process.run()
    process.waitUntilExit()
    guard process.terminationStatus == 0 else { throw Failure(words: [program] + words) }
    return (try? String(contentsOfFile: path, encoding: .utf8)) ?? ""
  }

  struct Failure: Error { var words: [String] }

  static let canBeMade: Bool = {
    let tools = ["slurmctld", "slurmd", "munged", "sbatch"].allSatisfy { tool in
      ["/usr/sbin/", "/usr/bin/"].contains { access($0 + tool, X_OK) == 0 }
    }
    return tools && getuid() == 0
  }()
}

@Suite(
  .serialized,
  .enabled(
    if: SlurmCluster.canBeMade,
    "a Slurm needs root and its packages: apt-get install --no-install-recommends slurm-wlm munge"))
final class SlurmTests {
  private let place: Workplace
  private let slurm: SlurmCluster
  private let curve: [String]
  private static let long = ["--set", "training.steps=400", "--set", "checkpoint.every=100"]

  init() throws {
    place = try Workplace()
    slurm = try SlurmCluster(nodes: 3)
    let whole = try place.run(["train", "run.yaml", "--threads", "1", "--set", "run=whole"] + Self.long)
    #expect(whole.code == 0, "\(whole.output)\(whole.errors)")
    curve = place.curve("whole")
    #expect(curve.count == 420)
  }

  /// Submits a run with one worker on each of that many nodes, and waits until it has recorded some steps.
  private func begin(
    _ run: String, nodes: Int = 3, more: [String] = [], environment: [String: String] = [:]
  ) throws -> String {
    let submit = try place.start(
      [
        "submit", "run.yaml", "--on", "slurm", "--workers", "\(nodes)", "--threads", "1", "--set", "run=\(run)",
        "--set",
        "cluster.minimum_workers=1", "--sbatch", "nodes=\(nodes)", "--sbatch", "ntasks-per-node=1", "--json",
      ] + Self.long + more, environment: loopback.merging(environment) { $1 })
    #expect(submit.exitCode(within: 60) == 0, "\(submit.output)")
    let job = String(try #require(submit.output.firstMatch(of: /"job": "(\d+)"/)).1)
    #expect(waitUntil(60) { place.curve(run).count > 30 }, "\(log(run, job))")
    return job
  }

  /// Nothing leaves this machine.
  private var loopback: [String: String] { slurm.configuration.merging(["RESS_NETWORK": "127.0.0.0/8"]) { $1 } }

  private static func longer(_ steps: Int) -> [String] {
    ["--set", "training.steps=\(steps)", "--set", "checkpoint.every=100", "--set", "checkpoint.keep=3"]
  }

  /// The undisturbed curve of a run that is long enough for faults to be noticed.
  private func prepareLonger(_ steps: Int) throws {
    let whole = try place.run(["train", "run.yaml", "--threads", "1", "--set", "run=longer"] + Self.longer(steps))
    #expect(whole.code == 0, "\(whole.errors)")
  }

  private func log(_ run: String, _ job: String) -> String {
    (try? String(contentsOfFile: "\(place.path)/checkpoints/\(run)/slurm-\(job).log", encoding: .utf8)) ?? "no log"
  }

  private func expectSameEnd(_ run: String, _ job: String, as whole: String = "whole") throws {
    let ended = waitUntil(150) {
      Thread.sleep(forTimeInterval: 0.3)
      return log(run, job).contains("ends with ")
    }
    #expect(ended && log(run, job).contains("ends with 0"), "\(log(run, job))")
    #expect(place.curve(run) == (whole == "whole" ? curve : place.curve(whole)), "\(log(run, job))")
    let compared = try place.run(["checkpoint", "diff", "checkpoints/\(whole)", "checkpoints/\(run)"])
    #expect(compared.code == 0, "\(compared.output)\(compared.errors)")
    // The keys of an attempt are removed at its end.
    let left = try FileManager.default.contentsOfDirectory(atPath: "\(place.path)/checkpoints/\(run)")
    #expect(!left.contains { $0.hasPrefix("slurm-\(job)-") })
  }

  @Test func `a job continues without a node that dies, with the same curve`() throws {
    try place.hold(at: 200)
    let job = try begin("crashed")
    try slurm.script("crash-node", "3")
    try place.release()
    try expectSameEnd("crashed", job)
    #expect(log("crashed", job).contains("node3-2") && log("crashed", job).contains("is lost"))
  }

  @Test(.enabled(if: LocalMPI.isHere, LocalMPI.reason))
  func `a job over MPI restarts its ranks when one is killed, and ends with the same curve`() throws {
    let plugin = try LocalMPI.build(into: place.path)
    try place.hold(at: 200)
    let submit = try place.start(
      [
        "submit", "run.yaml", "--on", "slurm", "--workers", "3", "--threads", "1", "--set", "run=ranks", "--set",
        "cluster.exchange=mpi", "--sbatch", "nodes=3", "--sbatch", "ntasks-per-node=1", "--json",
      ] + Self.long, environment: loopback.merging(plugin) { $1 }.merging(LocalMPI.environment) { $1 })
    #expect(submit.exitCode(within: 30) == 0, "\(submit.output)")
    let job = String(try #require(submit.output.firstMatch(of: /"job": "(\d+)"/)).1)
    #expect(waitUntil(60) { place.curve("ranks").count > 130 }, "\(log("ranks", job))")
    let story = log("ranks", job)
    #expect(story.contains("of 3 in an MPI world"), "\(story)")
    let victim = try #require(story.firstMatch(of: /worker node2-1 \(\S+, process (\d+)\)/)?.1, "\(story)")
    try #require(ObservedProcess(Int32(victim)!), "\(story)").send(SIGKILL)
    try place.release()
    try expectSameEnd("ranks", job)
    #expect(log("ranks", job).contains("the ranks have ended, and are started again"), "\(log("ranks", job))")
    #expect(log("ranks", job).contains("load from the checkpoint of step"))
  }

  @Test func `a job near its time limit saves, is requeued, and continues`() throws {
    try place.hold(at: 200)
    let job = try begin("requeued")
    // The signal that Slurm sends by `--signal=B:USR1@180`.
    try slurm.call("scancel", ["--signal=USR1", "--batch", job])
    #expect(waitUntil(60) { log("requeued", job).contains("the time limit is near") }, "\(log("requeued", job))")
    try place.release()
    try expectSameEnd("requeued", job)
    let story = log("requeued", job)
    #expect(story.contains("job \(job), attempt 0") && story.contains("job \(job), attempt 1"))
    #expect(story.contains("the time limit is near") && story.contains("requeueing the job"))
    // It did not start again from its first step.
    #expect(!(story.components(separatedBy: "attempt 1").last ?? "").contains("step 1/400"))
  }

  @Test func `a task on a node whose slurmd has died works on, with the same curve`()
    throws
  {
    try place.hold(at: 200)
    let job = try begin("orphaned")
    try slurm.script("lose-node", "3")
    try place.release()
    try expectSameEnd("orphaned", job)
    #expect(!log("orphaned", job).contains("is lost"), "its worker was there all the time")
  }

  @Test
  func `a job whose only node loses its slurmd restarts elsewhere, and its old attempt ends`()
    throws
  {
    try prepareLonger(5000)
    // Its only node: Slurm requeues the job, because all of it seems lost, although it still runs.
    let job = try begin("fenced", nodes: 1, more: Self.longer(5000))
    let first = String(
      try #require(log("fenced", job).firstMatch(of: /attempt 0, on node\[?(\d)/), "\(log("fenced", job))").1)
    try slurm.script("lose-node", first)
    // Slurm does the same by itself after SlurmdTimeout.
    try slurm.call("scontrol", ["update", "nodename=node\(first)", "state=down", "reason=lost"])
    try expectSameEnd("fenced", job, as: "longer")
    let story = log("fenced", job)
    #expect(
      story.contains("job \(job), attempt 1") && story.contains("attempt \(job)-1 has begun, so this one ends"),
      "\(story)")
  }

  @Test func `a job whose first node dies with the coordinator is requeued by its workers`()
    throws
  {
    try prepareLonger(1500)
    let job = try begin("headless", more: Self.longer(1500), environment: ["RESS_RETURN_WITHIN": "8"])
    // Not a crash, which would close its connections; Slurm's tasks end when they lose the connection to their
    // srun.
    try slurm.script("freeze-node", "1")
    #expect(waitUntil(60) { log("headless", job).contains("the coordinator is gone") }, "\(log("headless", job))")
    // The job needs three nodes and waits until the third is back, as after a power failure.
    try slurm.script("crash-node", "1")
    try slurm.script("start-node", "1")
    try expectSameEnd("headless", job, as: "longer")
    let story = log("headless", job)
    #expect(story.contains("the coordinator is gone") && story.contains("job \(job), attempt 1"), "\(story)")
  }

  @Test func `an attempt that was replaced by a newer one ends by itself, with its workers`() throws {
    try place.hold(at: 200)
    let job = try begin("overtaken")
    try "999-1\n".write(
      toFile: "\(place.path)/checkpoints/overtaken/slurm-attempt", atomically: true, encoding: .utf8)
    let ended = waitUntil(30) {
      Thread.sleep(forTimeInterval: 0.3)
      return ((try? slurm.call("squeue", ["--noheader", "--jobs", job])) ?? "").isEmpty
    }
    #expect(
      ended && log("overtaken", job).contains("attempt 999-1 has begun, so this one ends"), "\(log("overtaken", job))")
    #expect(place.curve("overtaken").count < 420 && place.steps("overtaken") <= 200)
  }

  @Test func `an active run, a finished run and a job array are refused, and no file is changed`()
    throws
  {
    func submit(_ run: String, _ more: String..., environment: [String: String] = [:]) throws -> Running {
      let submit = try place.start(
        ["submit", "run.yaml", "--on", "slurm", "--threads", "1", "--set", "run=\(run)"] + more,
        environment: loopback.merging(environment) { $1 })
      #expect(submit.exitCode(within: 60) != nil)
      return submit
    }
    let job = try begin("held", nodes: 1, more: ["--set", "training.steps=100000"])
    let again = try submit("held")
    #expect(
      again.process.terminationStatus == 1
        && again.output.contains("run held is Slurm job \(job) already, which is RUNNING"),
      "\(again.output)")
    // Two jobs submitted at the same time: the job itself checks as well.
    try FileManager.default.removeItem(atPath: "\(place.path)/checkpoints/held/slurm-job")
    let log = try slurm.call(
      "env",
      [
        "RESS=false", "RESS_RUN=\(place.path)/checkpoints/held", "RESS_CONFIG=none", "SLURM_JOB_ID=999999",
        "RESS_NETWORK=127.0.0.0/8", "bash", "-c", "bash '\(place.path)/checkpoints/held/slurm-job.sh' || echo refused",
      ])
    #expect(log.contains("run held is Slurm job \(job) already") && log.contains("refused"), "\(log)")

    for option in ["array=0-1", "-a0-1", "wrap=true", "export=NONE"] {
      let refused = try submit("array", "--sbatch", option)
      #expect(refused.process.terminationStatus == 1 && refused.output.contains("cannot be given to sbatch"))
    }
    let inherited = try submit("array", environment: ["SBATCH_ARRAY_INX": "0-1"])
    #expect(inherited.process.terminationStatus == 1 && inherited.output.contains("unset the variable"))
    #expect(!FileManager.default.fileExists(atPath: place.path + "/checkpoints/array"))

    // `whole` was trained by `ress train`.
    let before = place.contents("checkpoints/whole")
    let done = try submit("whole", "--set", "optimizer.learning_rate=0.02")
    #expect(done.process.terminationStatus == 1 && done.output.contains("already holds checkpoints"), "\(done.output)")
    let nothing = try submit("nothing", "--resume")
    #expect(nothing.process.terminationStatus == 1 && nothing.output.contains("nothing to resume"), "\(nothing.output)")
    let other = try submit("whole", "--resume", "--set", "model.width=16")
    #expect(other.process.terminationStatus == 1 && other.output.contains("cannot be resumed"), "\(other.output)")
    let odd = try submit("odd", environment: ["RESS_NETWORK": "10.1.0.0"])
    #expect(odd.process.terminationStatus == 1 && odd.output.contains("is not a network such as"), "\(odd.output)")
    #expect(
      place.contents("checkpoints/whole").filter { $0.key != "slurm-submit.lock" } == before)

    // A cancelled job leaves no private key, and its name can be used again.
    try slurm.call("scancel", [job])
    #expect(
      waitUntil(60) {
        Thread.sleep(forTimeInterval: 0.2)
        let left = try? FileManager.default.contentsOfDirectory(atPath: "\(place.path)/checkpoints/held")
        return left?.contains { $0.hasPrefix("slurm-\(job)-") } == false
      }, "\(self.log("held", job))")
    let resumed = try submit("held", "--resume", "--set", "training.steps=410", "--json")
    #expect(resumed.process.terminationStatus == 0, "\(resumed.output)")
    let next = String(try #require(resumed.output.firstMatch(of: /"job": "(\d+)"/)).1)
    #expect(waitUntil(120) { self.log("held", next).contains("ends with 0") }, "\(self.log("held", next))")
    #expect(self.log("held", next).contains("continuing after step"), "\(self.log("held", next))")
  }

  @Test func `errors of Slurm are shown in its own words`() throws {
    let submit = try place.start(
      ["submit", "run.yaml", "--on", "slurm", "--sbatch", "partition=nowhere"], environment: slurm.configuration)
    #expect(submit.exitCode(within: 30) == 1)
    #expect(submit.output.contains("sbatch refused the job") && submit.output.contains("partition"), "\(submit.output)")
  }
}
