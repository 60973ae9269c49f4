// `ress sweep`: trains all runs of a sweep on this machine, in a coordinator's queue, or as a Slurm array, and prints
// the table.

import Configuration
import Glibc
import Shell

func sweep(_ options: SweepOptions) throws -> ExitCode {
  let folder = try SweepFolder(options)
  var report = SweepReport(folder, isJSON: options.json)
  if options.isDryRun {
    report.list()
    return .done
  }
  signal(SIGPIPE, SIG_IGN)
  try folder.prepare()
  switch options.place {
  case .here: return try LocalSweep.go(folder, &report)
  case .coordinator: return try QueueSweep(folder: folder, address: options.coordinator).go(&report)
  case .slurm: return try SlurmSweep.submit(folder, options: options.sbatch, atOnce: options.atOnce, &report)
  }
}

/// What is printed: a line for each run as it ends, and the table at the end. The file results.csv is written again
/// with each.
struct SweepReport {
  private let folder: SweepFolder
  private let isJSON: Bool
  /// Results of runs that are not finished, by name.
  private var unfinished: [String: SweepResult] = [:]

  init(_ folder: SweepFolder, isJSON: Bool) {
    self.folder = folder
    self.isJSON = isJSON
  }

  func list() {
    let table = folder.table()
    for row in table.rows { Terminal.print(isJSON ? SweepTable.json(row) : row.run.name) }
    if !isJSON { Terminal.print("\(Format.count(table.rows.count, "run")), in \(folder.path)") }
  }

  /// The runs that are still to be trained.
  func begin() -> [SweepFolder.Job] {
    let open = folder.jobs.filter { folder.finished($0.run) == nil }
    let done = folder.jobs.count - open.count
    if !isJSON {
      Terminal.print(
        "sweep of \(Format.count(folder.jobs.count, "run")) in \(folder.path)"
          + (done > 0 ? ", of which \(done) are finished" : ""))
    }
    return open
  }

  /// The line in which a run's progress is redrawn.
  var progress: RunView.Style { .brief(columns: Terminal.isTerminal && !isJSON ? Terminal.columns : nil) }

  /// A sentence for people.
  func say(_ sentence: String) { if !isJSON { Terminal.print(sentence) } }

  /// On a terminal, a line that the next output replaces.
  func show(_ line: String) {
    if !isJSON, Terminal.isTerminal { Terminal.write("\r\(line.prefix(max(0, Terminal.columns - 1)))\u{1B}[K") }
  }

  /// A run has ended, or was interrupted.
  mutating func note(_ job: SweepFolder.Job, _ result: SweepResult) throws {
    if result.state == .finished { try folder.finish(job.run, result) } else { unfinished[job.run.name] = result }
    let table = folder.table(unfinished)
    try folder.write(table)
    let place = folder.jobs.firstIndex { $0.run == job.run }! + 1
    if isJSON {
      if let row = table.rows.first(where: { $0.run == job.run }) {
        Terminal.print(SweepTable.json(row, event: "ended"))
      }
      return
    }
    let loss =
      result.validation.map { "validation loss \(Format.fixed($0, 4))" }
      ?? result.training.map { "training loss \(Format.fixed($0, 4))" } ?? "no loss"
    let end = result.state == .finished ? "" : ", \(result.state.rawValue)\(result.reason.map { ": " + $0 } ?? "")"
    show("")
    Terminal.print(
      "\(place)/\(folder.jobs.count)  \(job.run.name)  \(loss)  \(Format.duration(seconds: result.seconds))\(end)")
  }

  /// A Slurm job has the runs.
  func submitted(_ job: String, count: Int, path: String) {
    Terminal.print(
      isJSON
        ? JSON.object([("event", .text("job")), ("job", .text(job)), ("runs", .whole(count))]).line
        : """
        Slurm job \(job) has \(Format.count(count, "run"))
          its state:  squeue -j \(job)
          its logs:   tail -F \(path)/slurm-\(job)_*.log
          end it:     scancel \(job)
          the table:  the same command again
        """)
  }

  /// The table, and the exit code of a sweep that went through all its runs.
  func end() throws -> ExitCode {
    let table = folder.table(unfinished)
    try folder.write(table)
    if isJSON {
      // Each run was printed as it ended, but not those that were finished before.
      for line in table.json { Terminal.print(line) }
    } else {
      Terminal.print("\n" + table.text)
      Terminal.print("\n\(folder.tablePath)\ncompare: ress compare \(folder.path)")
    }
    return table.rows.allSatisfy { $0.result.state == .finished } ? .done : .failed
  }
}
