// `ress compare`: finds the runs that a user names, in folders and at a coordinator, and shows them side by side.

import Configuration
import Daemon
import Foundation
import RunFolder
import Shell
import Wire

func compare(_ options: CompareOptions) throws -> ExitCode {
  var finder = RunFinder(coordinator: options.coordinator)
  var runs: [Comparison.Run] = []
  for word in options.runs {
    for run in try finder.find(word) where !runs.contains(where: { $0.source == run.source }) { runs.append(run) }
  }
  Comparison.distinguish(&runs)
  if let path = options.plot {
    let plot = CurvePlot(runs.map { ($0.name, $0.curve) }, axis: options.axis, smooth: options.smooth)
    try Durable.write(Array(plot.svg.utf8), to: path)
  }
  let comparison = Comparison(runs, target: options.target)
  if options.json {
    for line in ComparisonView.json(comparison) { Terminal.print(line) }
  } else {
    Terminal.print(ComparisonView.text(comparison))
    if let path = options.plot {
      Terminal.print("\n\(path): the \(runs.count == 1 ? "curve of a run" : "curves of \(runs.count) runs")")
    }
  }
  return .done
}

enum ComparisonError: Error, CustomStringConvertible {
  case noMetrics(folder: String)
  case unknown(String, reason: String)

  var description: String {
    switch self {
    case .noMetrics(let folder):
      "\(folder) holds neither a metrics.jsonl nor runs that have one; a run writes it from its first step on"
    case .unknown(let name, let reason): "there is no folder '\(name)' and no checkpoints/\(name), and \(reason)"
    }
  }
}

/// Finds runs by the words of a user.
struct RunFinder {
  private let address: String?
  private var client: CoordinatorClient?

  init(coordinator: String?) { address = coordinator }

  mutating func find(_ word: String) throws -> [Comparison.Run] {
    if address == nil || word.contains("/") {
      if let runs = try Self.local(word) ?? Self.local("checkpoints/" + word) { return runs }
    }
    do { return [try remote(word)] } catch let error as ClientError where address == nil {
      throw ComparisonError.unknown(word, reason: "\(error)")
    }
  }

  /// The run, or the runs, at a path; nil if there is nothing.
  private static func local(_ path: String) throws -> [Comparison.Run]? {
    var isFolder: ObjCBool = false
    guard FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) else { return nil }
    guard isFolder.boolValue else { return [try run(file: path)] }
    if let run = try run(folder: path) { return [run] }
    let names = try FileManager.default.contentsOfDirectory(atPath: path).sorted()
    let runs = try names.compactMap { try run(folder: path + "/" + $0) }
    guard !runs.isEmpty else { throw ComparisonError.noMetrics(folder: path) }
    return runs
  }

  private static func run(folder: String) throws -> Comparison.Run? {
    let path = MetricsFile(folder: folder).path
    return FileManager.default.fileExists(atPath: path) ? try run(file: path) : nil
  }

  private static func run(file path: String) throws -> Comparison.Run {
    let text = String(decoding: try Durable.read(path), as: UTF8.self)
    let folder = URL(filePath: path).deletingLastPathComponent().standardized.path
    let isRun = (path as NSString).lastPathComponent == "metrics.jsonl"
    let name = ((isRun ? folder : path) as NSString).lastPathComponent
    return Comparison.Run(
      name: name, source: path, configuration: isRun ? configuration(in: folder) : nil, curve: RunCurve(metrics: text))
  }

  /// That of the newest checkpoint.
  private static func configuration(in folder: String) -> RunConfiguration? {
    (try? CheckpointFolder.newest(folder, files: false))??.manifest.configuration
  }

  private mutating func remote(_ word: String) throws -> Comparison.Run {
    let address = address ?? CommandTable.standardAddress
    let client = try self.client ?? ConnectionSecurity.client(address)
    self.client = client
    var curve = RunCurve()
    try client.story(word) { curve.note($0) }
    let details = try? client.details(of: word)
    return Comparison.Run(
      name: details?.name ?? word, source: "\(address) \(details?.id.description ?? word)",
      configuration: details?.configuration, curve: curve)
  }
}

extension Comparison {
  /// Runs of the same name are called by where they are.
  static func distinguish(_ runs: inout [Run]) {
    let names = Dictionary(grouping: runs, by: \.name)
    for index in runs.indices where names[runs[index].name]!.count > 1 {
      let source = runs[index].source
      runs[index].name = source.hasSuffix("/metrics.jsonl") ? String(source.dropLast("/metrics.jsonl".count)) : source
    }
  }
}
