// `ress submit --on slurm`: a run as one Slurm job. The job's script is in the program (Slurm/job.sh); what it needs lies in the run's folder, which
// all nodes see.

import Configuration
import Foundation
import Glibc
import RunFolder
import Shell
import Transport

enum SlurmError: Error, CustomStringConvertible {
  case noSlurm(String)
  case refused(code: Int32, String)

  var description: String {
    switch self {
    case .noSlurm(let reason): "Slurm's sbatch cannot be started here: \(reason)"
    case .refused(let code, let reason): "sbatch refused the job (code \(code)): \(reason)"
    }
  }
}

enum SlurmSubmission {
  /// Submits the run and returns the job's number.
  static func submit(_ request: RunRequest, options: [String]) throws -> String {
    let configuration = request.configuration
    let folder = request.folder
    let plugin = RankStart.pluginPath
    if configuration.cluster.exchange == .mpi, access(plugin, R_OK) != 0 { throw MPIError.missing(path: plugin) }
    try Durable.makeFolder(folder)
    let script = folder + "/slurm-job.sh", file = folder + "/slurm.yaml"
    try Durable.write(PackageResources.job_sh, to: script)
    try Durable.write(Array(ConfigurationEncoder.yaml(configuration).utf8), to: file)

    let process = Process()
    process.executableURL = URL(filePath: "/usr/bin/env")
    process.arguments =
      [
        "sbatch", "--parsable", "--job-name=ress-\(configuration.run)", "--ntasks=\(configuration.cluster.workers)",
        "--cpus-per-task=\(max(1, configuration.cluster.threads))", "--output=\(folder)/slurm-%j.log", "--export=ALL",
      ] + options.map { $0.hasPrefix("-") ? $0 : "--" + $0 } + [script]
    process.environment = ProcessInfo.processInfo.environment.merging([
      "RESS": try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe"), "RESS_CONFIG": file,
      "RESS_RUN": folder, "RESS_EXCHANGE": configuration.cluster.exchange.rawValue,
      "RESS_OTHER_DATA": request.acceptsOtherData ? "yes" : "",
    ]) { $1 }
    let output = Pipe(), errors = Pipe()
    (process.standardOutput, process.standardError) = (output, errors)
    do { try process.run() } catch { throw SlurmError.noSlurm(error.localizedDescription) }
    let said = output.fileHandleForReading.readDataToEndOfFile()
    let complaint = errors.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    func text(_ data: Data) -> String {
      String(decoding: data, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)
    }
    guard process.terminationStatus == 0 else {
      // `env` says 127 where there is no such program.
      throw process.terminationStatus == 127
        ? SlurmError.noSlurm("it is not on the PATH") : .refused(code: process.terminationStatus, text(complaint))
    }
    // JOB or JOB;CLUSTER
    return String(text(said).prefix { $0 != ";" })
  }
}
