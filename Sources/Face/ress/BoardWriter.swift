// Event files for TensorBoard, and `ress metrics`.

import Configuration
import Foundation
import RunFolder
import Shell
import Wire

/// Writes a run's curves to a folder as its events arrive: `DIR/RUN/events.out.tfevents.…`. A failed write is reported
/// once and does not affect the run.
final class BoardWriter {
  private let path: String
  private var handle: FileHandle?
  private var hasBegun = false
  private let configuration: RunConfiguration?

  /// - Parameter configuration: shown beside the curves; nil where it is not known.
  init(_ folder: String, run: String, _ configuration: RunConfiguration?) throws {
    self.configuration = configuration
    let folder = folder + "/" + run
    try Durable.makeFolder(folder)
    // Names are unique: a resumed run writes another file, which TensorBoard merges with the earlier ones.
    let now = Int(Date().timeIntervalSince1970)
    path = "\(folder)/events.out.tfevents.\(now).\(ProcessInfo.processInfo.hostName).\(getpid())"
    guard FileManager.default.createFile(atPath: path, contents: nil), let handle = FileHandle(forWritingAtPath: path)
    else { throw FolderError.system(action: "write", path: path, reason: String(cString: strerror(errno))) }
    self.handle = handle
  }

  func note(_ event: RunEvent) {
    // An event that is read later still has the time at which it happened.
    let now = event.time ?? Date().timeIntervalSince1970
    if case .state(let state, _) = event, hasBegun { put(TensorBoard.records(of: state, at: now)) }
    let records = TensorBoard.records(of: event, at: now)
    guard !records.isEmpty else { return }
    if !hasBegun {
      hasBegun = true
      var first = 0
      if case .stepped(let record) = event { first = record.step }
      put(TensorBoard.beginning(step: first, at: now))
      if let configuration { put(TensorBoard.records(of: configuration, at: now)) }
    }
    put(records)
  }

  private func put(_ bytes: [UInt8]) {
    guard !bytes.isEmpty else { return }
    do { try handle?.write(contentsOf: Data(bytes)) } catch {
      Terminal.complain("\(path): \(error.localizedDescription); the curves are in the run's metrics.jsonl")
      handle = nil
    }
  }
}

func metrics(_ options: MetricsOptions) throws -> ExitCode {
  let folder = options.folder
  let path = folder + "/metrics.jsonl"
  guard let text = try? String(contentsOfFile: path, encoding: .utf8) else {
    throw FolderError.missing(
      path: path,
      hint: CheckpointFolder.hint(forMissing: folder) ?? "a run writes it into its folder, checkpoints/RUN")
  }
  guard let board = options.tensorboard else {
    Terminal.write(MetricsTable(text).csv)
    return .done
  }
  // A checkpoint's manifest has the configuration.
  let configuration = try CheckpointFolder.newest(folder, files: false)?.manifest.configuration
  let writer = try BoardWriter(board, run: (folder as NSString).lastPathComponent, configuration)
  for line in text.split(separator: "\n") {
    if let event = MetricsTable.event(line) { writer.note(event) }
  }
  return .done
}
