// `ress submit --on slurm`: a run as one Slurm job. The job's script is built into the program (Slurm/job.sh); its
// files are in the run's folder, which all nodes share.

import Configuration
import Daemon
import Foundation
import Glibc
import RunFolder
import Shell
import Transport

enum SlurmError: Error, CustomStringConvertible {
  case noSlurm(String)
  case refused(code: Int32, String)
  case option(String, reason: String)
  case atWork(run: String, job: String, state: String)
  case cannotBegin(String)
  case network(String)

  var description: String {
    switch self {
    case .noSlurm(let reason): "Slurm's sbatch cannot be started here: \(reason)"
    case .refused(let code, let reason): "sbatch refused the job (code \(code)): \(reason)"
    case .option(let option, let reason): "\(option) cannot be given to sbatch for a run: \(reason)"
    case .atWork(let run, let job, let state):
      "run \(run) is Slurm job \(job) already, which is \(state); `scancel \(job)` ends it, or choose another name with --set run=NAME"
    case .cannotBegin(let reason): reason
    case .network(let text): "RESS_NETWORK is '\(text)', which is not a network such as 10.1.0.0/16"
    }
  }
}

enum SlurmSubmission {
  /// Submits the run and returns the job's number.
  static func submit(_ request: RunRequest, options: [String]) throws -> String {
    var configuration = request.configuration
    let folder = request.folder
    let plugin = RankStart.pluginPath
    if configuration.cluster.exchange == .mpi, access(plugin, R_OK) != 0 { throw MPIError.missing(path: plugin) }
    try check(options, ProcessInfo.processInfo.environment)
    try Durable.makeFolder(folder)
    // Of two submissions at the same time, the second one waits.
    let lock = try SubmissionLock(folder)
    defer { lock.release() }
    if let (job, state) = try jobAtWork(folder) {
      throw SlurmError.atWork(run: configuration.run, job: job, state: state)
    }
    if let reason = RunFolderWork.complaint(request.submission) { throw SlurmError.cannotBegin(reason) }
    // A job that is requeued before its first checkpoint begins with the same weights, also when their run has newer
    // ones by then.
    if !configuration.model.from.isEmpty, request.resume == .no {
      configuration.model.from = try CheckpointFolder.resolve(configuration.model.from, files: false).path
    }
    // Job numbers may be used again.
    try? FileManager.default.removeItem(atPath: folder + "/slurm-begun")
    let script = folder + "/slurm-job.sh", file = folder + "/slurm.yaml"
    try Durable.write(PackageResources.job_sh, to: script)
    try Durable.write(Array(ConfigurationEncoder.yaml(configuration).utf8), to: file)

    let environment = ProcessInfo.processInfo.environment.merging([
      "RESS": try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe"), "RESS_CONFIG": file,
      "RESS_RUN": folder, "RESS_EXCHANGE": configuration.cluster.exchange.rawValue, "RESS_RESUME": resume(request),
      "RESS_OTHER_DATA": request.acceptsOtherData ? "1" : "",
      "RESS_ACCEPT_NUMERICS": request.acceptsOtherNumerics ? "1" : "",
    ]) { $1 }
    let (code, said, complaint) = try call(
      [
        "sbatch", "--parsable", "--job-name=ress-\(configuration.run)", "--ntasks=\(configuration.cluster.workers)",
        "--cpus-per-task=\(max(1, configuration.cluster.threads))", "--output=\(folder)/slurm-%j.log", "--export=ALL",
      ] + options.map { $0.hasPrefix("-") ? $0 : "--" + $0 } + [script], environment: environment)
    guard code == 0 else {
      // `env` ends with 127 if there is no such program.
      throw code == 127 ? SlurmError.noSlurm("it is not on the PATH") : .refused(code: code, complaint)
    }
    // JOB or JOB;CLUSTER
    let job = String(said.prefix { $0 != ";" })
    try Durable.write(Array(job.utf8), to: folder + "/" + jobName)
    return job
  }

  /// The file that names the job that was submitted last.
  private static let jobName = "slurm-job"

  private static func resume(_ request: RunRequest) -> String {
    switch request.resume {
    case .no: ""
    case .newest: "newest"
    case .checkpoint(let path): path
    }
  }

  /// Refuses options with which the job would not be one run.
  static func check(_ options: [String], _ environment: [String: String]) throws {
    for option in options {
      let bare = option.drop { $0 == "-" }
      let name = bare.prefix { $0 != "=" && $0 != " " }
      let isShort = option.hasPrefix("-") && !option.hasPrefix("--")
      // Long options may be abbreviated.
      func means(_ long: String) -> Bool { !isShort && name.count > 1 && long.hasPrefix(name) }
      if means("array") || isShort && name.hasPrefix("a") {
        throw SlurmError.option(
          option, reason: "a run is one job, and the tasks of an array would all write into its folder")
      }
      if means("wrap") || means("test-only") || means("wait") || isShort && name.hasPrefix("W") {
        throw SlurmError.option(option, reason: "the job has a script of its own, and this command only submits it")
      }
      if means("export") {
        throw SlurmError.option(option, reason: "the job needs the environment that this command sets")
      }
    }
    if let array = environment["SBATCH_ARRAY_INX"], !array.isEmpty {
      throw SlurmError.option(
        "SBATCH_ARRAY_INX=\(array) in the environment", reason: "a run is one job; unset the variable")
    }
    if let network = environment["RESS_NETWORK"], !network.isEmpty {
      let parts = network.split(separator: "/", omittingEmptySubsequences: false)
      let numbers = (parts.first ?? "").split(separator: ".", omittingEmptySubsequences: false)
      let isNetwork =
        parts.count == 2 && numbers.count == 4 && numbers.allSatisfy { UInt8($0) != nil }
        && UInt8(parts[1]).map { $0 <= 32 } == true
      guard isNetwork else { throw SlurmError.network(network) }
    }
  }

  /// A job of the run that has not ended, and its state. Files in the run's folder name the jobs; Slurm reports their
  /// states.
  private static func jobAtWork(_ folder: String) throws -> (job: String, state: String)? {
    var jobs: [String] = []
    for name in [jobName, "slurm-attempt"] {
      guard let text = try? String(contentsOfFile: folder + "/" + name, encoding: .utf8) else { continue }
      let job = String(text.prefix { $0.isNumber })
      if !job.isEmpty, !jobs.contains(job) { jobs.append(job) }
    }
    for job in jobs {
      let (code, said, complaint) = try call(["squeue", "--noheader", "--jobs=\(job)", "--format=%T"])
      if code == 127 { throw SlurmError.noSlurm("squeue is not on the PATH") }
      guard code == 0 else {
        if complaint.contains("Invalid job id") { continue }
        throw SlurmError.noSlurm("squeue does not report whether job \(job) of this run has ended: \(complaint)")
      }
      // The next job waits for a job that is about to end.
      if let state = said.split(separator: "\n").first.map(String.init), state != "COMPLETING" { return (job, state) }
    }
    return nil
  }

  /// Starts a program of Slurm's.
  static func call(
    _ words: [String], environment: [String: String]? = nil
  ) throws -> (code: Int32, output: String, errors: String) {
    let process = Process()
    process.executableURL = URL(filePath: "/usr/bin/env")
    process.arguments = words
    if let environment { process.environment = environment }
    let output = Pipe(), errors = Pipe()
    (process.standardOutput, process.standardError) = (output, errors)
    do { try process.run() } catch { throw SlurmError.noSlurm(error.localizedDescription) }
    let said = output.fileHandleForReading.readDataToEndOfFile()
    let complaint = errors.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    func text(_ data: Data) -> String {
      String(decoding: data, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)
    }
    return (process.terminationStatus, text(said), text(complaint))
  }
}

/// Held while a run is submitted.
private struct SubmissionLock {
  private let descriptor: Int32

  init(_ folder: String) throws {
    let path = folder + "/slurm-submit.lock"
    descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o644)
    guard descriptor >= 0 else {
      throw FolderError.system(action: "create", path: path, reason: String(cString: strerror(errno)))
    }
    while flock(descriptor, LOCK_EX) != 0 {
      // A file system without locks: of two submissions at the same time, the second job ends itself.
      guard errno == EINTR else { break }
    }
  }

  func release() { close(descriptor) }
}
