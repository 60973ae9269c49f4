// A sweep as one Slurm job: an array whose tasks are the runs, each on one node (Slurm/sweep.sh). The command only
// submits it; called again, it shows the table, and submits what is not finished if the job has ended.

import Configuration
import Foundation
import RunFolder
import Shell
import Wire

enum SlurmSweep {
  /// Files in the sweep's folder: the number of its newest job, and the names of that job's runs, one for each task.
  private static let jobName = "slurm-job", listName = "slurm-runs"

  static func submit(
    _ folder: SweepFolder, options: [String], atOnce: Int?, _ report: inout SweepReport
  ) throws -> ExitCode {
    let environment = ProcessInfo.processInfo.environment
    try SlurmSubmission.check(options, environment)
    let path = folder.path.hasPrefix("/") ? folder.path : FileManager.default.currentDirectoryPath + "/" + folder.path
    let lock = try folder.lock()
    defer { withExtendedLifetime(lock) {} }
    let open = report.begin()
    if let (job, states) = try atWork(path) {
      report.say("Slurm job \(job) is at work: \(states)")
      _ = try report.end()
      return .done
    }
    guard let first = open.first else { return try report.end() }
    for job in open {
      do { for note in try Preflight.look(at: job.configuration) { Terminal.complain(note) } } catch {
        throw ProcessError(description: "run \(job.run.name): \(error)")
      }
    }
    let script = path + "/slurm-sweep.sh"
    try Durable.write(PackageResources.sweep_sh, to: script)
    try Durable.write(Array(open.map { $0.run.name + "\n" }.joined().utf8), to: path + "/" + listName)
    // A run that needs more than one node is a job of its own: `ress submit --on slurm`.
    let cluster = first.configuration.cluster, threads = max(1, cluster.threads)
    let (code, said, complaint) = try SlurmSubmission.call(
      [
        "sbatch", "--parsable", "--job-name=ress-\((path as NSString).lastPathComponent)",
        "--array=0-\(open.count - 1)" + (atOnce.map { "%\($0)" } ?? ""), "--nodes=1", "--ntasks=1",
        "--cpus-per-task=\(open.map { max(1, $0.configuration.cluster.threads) * $0.configuration.cluster.workers }.max()!)",
        "--output=\(path)/slurm-%A_%a.log", "--export=ALL",
      ] + options.map { $0.hasPrefix("-") ? $0 : "--" + $0 } + [script],
      environment: environment.merging([
        "RESS": try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe"), "RESS_SWEEP": path,
        "RESS_THREADS": String(threads),
      ]) { $1 })
    guard code == 0 else {
      throw code == 127 ? SlurmError.noSlurm("it is not on the PATH") : SlurmError.refused(code: code, complaint)
    }
    let job = String(said.prefix { $0 != ";" })
    try Durable.write(Array(job.utf8), to: path + "/" + jobName)
    try folder.write(folder.table())
    report.submitted(job, count: open.count, path: path)
    return .done
  }

  /// The newest job and the number of its tasks by state, if it has not ended.
  private static func atWork(_ path: String) throws -> (job: String, states: String)? {
    guard let text = try? String(contentsOfFile: path + "/" + jobName, encoding: .utf8) else { return nil }
    let job = String(text.prefix { $0.isNumber })
    guard !job.isEmpty else { return nil }
    // --array: a line for each task that waits, too.
    let (code, said, complaint) = try SlurmSubmission.call(
      ["squeue", "--noheader", "--array", "--jobs=\(job)", "--format=%T"])
    if code == 127 { throw SlurmError.noSlurm("squeue is not on the PATH") }
    guard code == 0 else {
      if complaint.contains("Invalid job id") { return nil }
      throw SlurmError.noSlurm("squeue does not report whether job \(job) of this sweep has ended: \(complaint)")
    }
    let states = said.split(separator: "\n").map { $0.lowercased() }.filter { $0 != "completing" }
    guard !states.isEmpty else { return nil }
    let counts = Dictionary(grouping: states) { $0 }.mapValues(\.count)
    return (job, counts.sorted { $0.key < $1.key }.map { "\($0.value) \($0.key)" }.joined(separator: ", "))
  }
}
