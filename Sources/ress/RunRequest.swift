// What `ress train` was asked for, checked before anything starts.

import Configuration
import Glibc
import Shell

struct RunRequest {
  var configuration: RunConfiguration
  /// nil: from the beginning. Empty: from the newest checkpoint that verifies. Else from this one.
  var resume: String?

  init(_ arguments: Arguments) throws {
    var overrides = arguments.texts("--set").map(ConfigurationOverride.init(set:))
    // After --set, because an option of its own is the plainer word.
    for (option, path) in [("--workers", "cluster.workers"), ("--threads", "cluster.threads")] {
      if let value = arguments.text(option) {
        overrides.append(ConfigurationOverride(option: option, path: path, value: value))
      }
    }
    configuration = try ConfigurationDecoder.decode(file: arguments.words[0], overrides: overrides)
    resume = arguments.text("--resume")
    if resume == nil, let folder = earlierCheckpoint {
      throw UsageError(
        "\(folder) is a checkpoint of an earlier run of this name; go on from it with --resume, or take another name with "
          + "--set run=NAME", command: "train")
    }
  }

  /// `checkpoints/RUN`
  var folder: String { "\(configuration.checkpoint.directory)/\(configuration.run)" }

  /// Threads of each worker where all of them share this machine.
  func threadsPerWorker(cores: Int) -> Int {
    let asked = configuration.cluster.threads
    return asked > 0 ? asked : max(1, cores / configuration.cluster.workers)
  }

  /// A complete step's folder, which a new run would mix its own with.
  private var earlierCheckpoint: String? {
    guard let stream = opendir(folder) else { return nil }
    defer { closedir(stream) }
    var names: [String] = []
    while let entry = readdir(stream) {
      let name = withUnsafeBytes(of: entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
      if name.hasPrefix("step-"), !name.hasSuffix(".tmp") { names.append(name) }
    }
    return names.max().map { "\(folder)/\($0)" }
  }
}
