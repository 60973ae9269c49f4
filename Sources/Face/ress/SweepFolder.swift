// A sweep's folder, and the configurations of its runs. It holds for each run NAME
//
//   NAME.yaml       its configuration, every key spelled out
//   NAME/           the run's folder
//   NAME.finished   its result, once it is finished: the run is not trained again
//
// and results.csv. So a sweep that is interrupted at any point is continued from what is on disk.

import Configuration
import Coordination
import Foundation
import RunFolder
import Shell
import Wire

enum SweepError: Error, CustomStringConvertible {
  case changed(run: String, file: String, [(key: String, a: String, b: String)])
  case inUse(folder: String, holder: String)

  var description: String {
    switch self {
    case .changed(let run, let file, let differences):
      "the sweep has run \(run) with another configuration: "
        + differences.prefix(3).map { "\($0.key) was \($0.a) and is now \($0.b)" }.joined(separator: ", ")
        + (differences.count > 3 ? ", and \(differences.count - 3) more keys differ" : "")
        + "; choose another name with --name NAME, or remove \(file) and the run's other files beside it"
    case .inUse(let folder, let holder):
      "another sweep is at work in \(folder)\(holder.isEmpty ? "" : " (\(holder))"); wait for its end, or choose another name with --name NAME"
    }
  }
}

struct SweepFolder {
  struct Job {
    var run: Sweep.Run
    var configuration: RunConfiguration
  }

  let sweep: Sweep
  let jobs: [Job]
  /// `checkpoints/NAME`
  let path: String

  /// Decodes and checks the configurations of all runs; nothing is written.
  init(_ options: SweepOptions) throws {
    let file = options.configuration
    let base = options.overrides
    let configuration = try ConfigurationDecoder.decode(file: file, overrides: base)
    sweep = try Sweep(run: configuration.run, over: options.over, limit: options.limit)
    let name = options.name ?? configuration.run + "-sweep"
    // A name that cannot be a folder is refused as that of a run is.
    _ = try ConfigurationDecoder.decode(
      file: file, overrides: base + [ConfigurationOverride(option: "--name", path: "run", value: name)])
    path = "\(configuration.checkpoint.directory)/\(name)"
    jobs = try Self.jobs(sweep, file, base, path)
  }

  /// All problems of all runs, each of them once: a wrong value is part of many runs.
  private static func jobs(
    _ sweep: Sweep, _ file: String, _ base: [ConfigurationOverride], _ path: String
  ) throws -> [Job] {
    var jobs: [Job] = [], problems: [ConfigurationProblem] = []
    for run in sweep.runs {
      let values = run.settings.map { setting in
        var override = ConfigurationOverride(set: "\(setting.key)=\(setting.value)")
        override.spelling = "--over \(override.setting)"
        return override
      }
      let own = [
        ConfigurationOverride(set: "run=\(run.name)"), ConfigurationOverride(set: "checkpoint.directory=\(path)"),
      ]
      do throws(ConfigurationError) {
        let configuration = try ConfigurationDecoder.decode(file: file, overrides: base + values + own)
        jobs.append(Job(run: run, configuration: configuration))
      } catch {
        // A wrong key is wrong with each of its values.
        for problem in error.problems where !problems.contains(where: { $0.message == problem.message }) {
          problems.append(problem)
        }
      }
    }
    if !problems.isEmpty { throw ConfigurationError(problems) }
    return jobs
  }

  // MARK: Files

  func folder(_ run: Sweep.Run) -> String { "\(path)/\(run.name)" }
  func file(_ run: Sweep.Run) -> String { "\(path)/\(run.name).yaml" }
  private func mark(_ run: Sweep.Run) -> String { "\(path)/\(run.name).finished" }
  var tablePath: String { path + "/results.csv" }

  /// Makes the folder and writes the configurations.
  /// - Throws: `SweepError.changed` if a run was begun with a configuration that gives other numbers.
  func prepare() throws {
    try Durable.makeFolder(path)
    for job in jobs {
      let file = file(job.run)
      if let old = try? ConfigurationDecoder.decode(file: file), !old.decidesSameNumbers(as: job.configuration) {
        let differences = ConfigurationEncoder.differences(old, job.configuration).filter { difference in
          !["cluster.", "checkpoint."].contains { difference.key.hasPrefix($0) }
        }
        throw SweepError.changed(run: job.run.name, file: file, differences)
      }
    }
    for job in jobs { try Durable.write(Array(ConfigurationEncoder.yaml(job.configuration).utf8), to: file(job.run)) }
  }

  /// Held while this process trains runs here.
  func lock() throws -> FileLock? {
    let holder = "process \(ProcessInfo.processInfo.processIdentifier) on \(ProcessInfo.processInfo.hostName)"
    do throws(LockError) { return try FileLock(path + "/sweep.lock", holder: holder) } catch {
      if case .held(let other) = error { throw SweepError.inUse(folder: path, holder: other) }
      // A file system without locks.
      return nil
    }
  }

  /// The curve in the run's folder; nil if the run has not begun.
  func curve(_ run: Sweep.Run) -> RunCurve? {
    (try? String(contentsOfFile: MetricsFile(folder: folder(run)).path, encoding: .utf8)).map { RunCurve(metrics: $0) }
  }

  /// The result of a run that is finished; nil if it is not. A Slurm task leaves an empty file.
  func finished(_ run: Sweep.Run) -> SweepResult? {
    guard let data = FileManager.default.contents(atPath: mark(run)) else { return nil }
    return (try? JSON.decode(SweepResult.self, from: data)) ?? curve(run).map { SweepResult(.finished, $0) }
  }

  func finish(_ run: Sweep.Run, _ result: SweepResult) throws {
    try Durable.write(JSON.encode(result), to: mark(run))
  }

  /// How a run that is not finished begins: again from its newest checkpoint, if it has begun before.
  func resume(_ run: Sweep.Run) -> Submission.Resume {
    let folder = folder(run)
    let hasBegun = [MetricsFile(folder: folder).path, folder + "/" + Assignment.tokenName].contains {
      FileManager.default.fileExists(atPath: $0)
    }
    return hasBegun || !CheckpointFolder.steps(folder).isEmpty ? .newest : .no
  }

  /// The results that are on disk; `others` are those of runs that are not finished.
  func table(_ others: [String: SweepResult] = [:]) -> SweepTable {
    SweepTable(
      sweep,
      jobs.map { job in
        let result = finished(job.run) ?? others[job.run.name] ?? open(job.run)
        return SweepTable.Row(run: job.run, result: result, folder: folder(job.run))
      })
  }

  private func open(_ run: Sweep.Run) -> SweepResult {
    curve(run).map { SweepResult($0.isEmpty ? .waiting : .begun, $0) } ?? SweepResult(.waiting)
  }

  func write(_ table: SweepTable) throws { try Durable.write(Array(table.csv.utf8), to: tablePath) }
}
