// The prediction of `ress plan`, stored until the run is submitted from this machine: `ress status` compares it with
// the actual run. One file for each configuration, in the user's cache folder; if it is lost, only that line of `ress
// status` is missing.

import Configuration
import Data
import Foundation
import RunFolder
import Shell
import Trained
import Wire

struct ForecastFile {
  let path: String

  /// - Parameter vocabulary: nil if this machine does not have the dataset.
  init(_ configuration: RunConfiguration, vocabulary: Int?) {
    var costs = configuration
    // The name and the length of a run do not change the cost of a step.
    (costs.run, costs.checkpoint, costs.data.path, costs.data.mixture) = ("", CheckpointConfiguration(), "", [])
    (costs.training.steps, costs.training.seed, costs.optimizer) = (1, 1, OptimizerConfiguration())
    costs.model.vocabulary = vocabulary ?? configuration.model.vocabulary
    let what = ((try? JSON.encode(costs)) ?? []) + Array(Version.program.utf8)
    let environment = ProcessInfo.processInfo.environment
    let base = environment["XDG_CACHE_HOME"].flatMap { $0.isEmpty ? nil : $0 } ?? NSHomeDirectory() + "/.cache"
    path = "\(base)/ress/forecasts/\(SHA256.of(what).prefix(32)).json"
  }

  /// The prediction for a run: its plan on this machine, or else the numbers that can be counted. Nil if the vocabulary
  /// is unknown.
  static func forecast(of configuration: RunConfiguration) -> Forecast? {
    guard let vocabulary = try? Corpus.vocabulary(of: configuration) else { return nil }
    if let planned = ForecastFile(configuration, vocabulary: vocabulary).read() { return planned }
    return RunNeeds(onMachinesLikeThis: configuration, vocabulary: vocabulary).forecast(stepSeconds: nil)
  }

  func read() -> Forecast? {
    guard let data = FileManager.default.contents(atPath: path) else { return nil }
    return try? JSON.decode(Forecast.self, from: data)
  }

  func write(_ forecast: Forecast) throws {
    try Durable.makeFolder((path as NSString).deletingLastPathComponent)
    try Durable.write(try JSON.encode(forecast), to: path)
  }
}
