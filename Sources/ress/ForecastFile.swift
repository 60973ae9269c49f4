// What `ress plan` expected of a run, kept for whoever submits that run from this machine: `ress status` holds it against what came. A
// file a configuration in the user's cache folder; losing it costs a line of `ress status`.

import Configuration
import Data
import Foundation
import RunFolder
import Shell
import Wire
import Worker

struct ForecastFile {
  let path: String

  /// - Parameter vocabulary: nil where the dataset is not here.
  init(_ configuration: RunConfiguration, vocabulary: Int?) {
    var costs = configuration
    // What a run is called and how long it goes on does not change what a step costs.
    (costs.run, costs.checkpoint, costs.data.path, costs.data.mixture) = ("", CheckpointConfiguration(), "", [])
    (costs.training.steps, costs.training.seed, costs.optimizer) = (1, 1, OptimizerConfiguration())
    costs.model.vocabulary = vocabulary ?? configuration.model.vocabulary
    let encoder = JSONEncoder()
    encoder.outputFormatting = .sortedKeys
    let what = ((try? encoder.encode(costs)) ?? Data()) + Data(Version.program.utf8)
    let environment = ProcessInfo.processInfo.environment
    let base = environment["XDG_CACHE_HOME"].flatMap { $0.isEmpty ? nil : $0 } ?? NSHomeDirectory() + "/.cache"
    path = "\(base)/ress/forecasts/\(SHA256.of(Array(what)).prefix(32)).json"
  }

  /// What is expected of a run: as it was planned on this machine, else what can be counted. Nil where the vocabulary is unknown.
  static func forecast(of configuration: RunConfiguration) -> Forecast? {
    guard let vocabulary = try? Corpus.vocabulary(of: configuration) else { return nil }
    if let planned = ForecastFile(configuration, vocabulary: vocabulary).read() { return planned }
    return RunNeeds(onMachinesLikeThis: configuration, vocabulary: vocabulary).forecast(stepSeconds: nil)
  }

  func read() -> Forecast? {
    guard let data = FileManager.default.contents(atPath: path) else { return nil }
    return try? JSONDecoder().decode(Forecast.self, from: data)
  }

  func write(_ forecast: Forecast) throws {
    try Durable.makeFolder((path as NSString).deletingLastPathComponent)
    try Durable.write(Array(try JSONEncoder().encode(forecast)), to: path)
  }
}
