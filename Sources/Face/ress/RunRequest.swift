// A submission of `ress train` or `ress submit`, checked before anything starts.

import Configuration
import Foundation
import Shell
import Wire

struct RunRequest {
  var configuration: RunConfiguration
  var resume: Submission.Resume
  /// Whether the dataset may differ from the checkpoint's.
  var acceptsOtherData: Bool
  var acceptsOtherNumerics: Bool
  /// Remarks about the data, for the run's story.
  var notes: [String] = []
  /// A submission that is sent twice with the same key makes one run.
  private let key: String

  /// A run from its beginning.
  init(_ configuration: RunConfiguration) {
    self.configuration = configuration
    resume = .no
    acceptsOtherData = false
    acceptsOtherNumerics = false
    key = String(UInt64.random(in: .min ... .max), radix: 16)
  }

  init(_ file: String, _ options: SubmissionOptions) throws(ConfigurationError) {
    key = options.key ?? String(UInt64.random(in: .min ... .max), radix: 16)
    configuration = try ConfigurationDecoder.decode(file: file, overrides: options.overrides)
    acceptsOtherData = options.acceptsOtherData
    acceptsOtherNumerics = options.acceptsOtherNumerics
    resume =
      switch options.resume {
      case nil: .no
      case "": .newest
      case .some(let path): .checkpoint(path: path)
      }
  }

  var submission: Submission {
    var submission = Submission(
      configuration: configuration, resume: resume, key: key, forecast: ForecastFile.forecast(of: configuration))
    if acceptsOtherData { submission.acceptsOtherData = true }
    if acceptsOtherNumerics { submission.acceptsOtherNumerics = true }
    submission.notes = notes.isEmpty ? nil : notes
    return submission
  }

  /// `checkpoints/RUN`
  var folder: String { "\(configuration.checkpoint.directory)/\(configuration.run)" }

  /// Threads of each worker where all of them share this machine.
  func threadsPerWorker(cores: Int) -> Int {
    let asked = configuration.cluster.threads
    return asked > 0 ? asked : max(1, cores / configuration.cluster.workers)
  }

  /// The same with absolute paths, because the coordinator and its workers were started in other folders.
  var anywhere: RunRequest {
    var request = self
    if !configuration.data.path.isEmpty {
      request.configuration.data.path = Self.absolute(configuration.data.path)
    }
    for index in configuration.data.mixture.indices {
      request.configuration.data.mixture[index].path = Self.absolute(configuration.data.mixture[index].path)
    }
    if !configuration.model.from.isEmpty {
      request.configuration.model.from = Self.absolute(configuration.model.from)
    }
    request.configuration.checkpoint.directory = Self.absolute(configuration.checkpoint.directory)
    if case .checkpoint(let path) = resume { request.resume = .checkpoint(path: Self.absolute(path)) }
    return request
  }

  private static func absolute(_ path: String) -> String {
    path.hasPrefix("/") ? path : FileManager.default.currentDirectoryPath + "/" + path
  }
}
