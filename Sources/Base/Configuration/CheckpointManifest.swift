// The manifest of a checkpoint: `manifest.json` in its folder. The coordinator writes it last, after all the files that
// it names are on disk, so a folder without a manifest, or whose files differ from it, is not a checkpoint.

package struct CheckpointManifest: Equatable, Sendable, Codable {
  /// Version of the folder's layout.
  package var format = currentFormat
  package var run: String
  package var runIdentifier: String
  /// Optimizer steps applied; with the configuration it is also the data cursor.
  package var step: Int
  /// The configuration that the run was started with.
  package var configuration: RunConfiguration
  /// Mean training loss of the last step applied (total, as logged).
  package var loss: Double?
  package var files: [File]
  /// Name and version of the program that wrote it.
  package var writer: String
  /// UTC, ISO 8601.
  package var created: String
  /// The generation that wrote it.
  package var generation: UInt32
  /// The digests of the run's data; nil in manifests of older programs.
  package var data: DataIdentity?
  /// Steps in a row, up to this one, that were not applied; nil for none, as in the manifests of older programs.
  package var leftOut: Int?

  /// The numerics fingerprint of the workers that trained it (`Fingerprint` in Kernels); nil where an older program
  /// wrote it, and for imported weights, which were not trained here.
  package var numerics: String?

  /// The checkpoint whose weights the run began with; nil for weights that were drawn from the seed.
  package var from: WeightSource?

  /// The loss of the evaluation after its step, in nats; nil where nothing was evaluated after it, and in manifests of
  /// older programs.
  package var validationLoss: Double?
  /// The best evaluation up to its step; nil before the first, and in manifests of older programs.
  package var evaluations: EvaluationStanding?

  package static let currentFormat = 2

  package struct File: Equatable, Sendable, Codable {
    package var name: String
    package var byteCount: Int
    /// SHA-256 in lower-case hexadecimal.
    package var sha256: String

    package init(name: String, byteCount: Int, sha256: String) {
      self.name = name
      self.byteCount = byteCount
      self.sha256 = sha256
    }
  }

  package init(
    run: String, runIdentifier: String, step: Int, configuration: RunConfiguration, loss: Double?, files: [File],
    writer: String, created: String, generation: UInt32 = 0, data: DataIdentity? = nil, leftOut: Int = 0,
    numerics: String? = nil, from: WeightSource? = nil
  ) {
    self.run = run
    self.runIdentifier = runIdentifier
    self.step = step
    self.configuration = configuration
    self.loss = loss
    self.files = files
    self.writer = writer
    self.created = created
    self.leftOut = leftOut > 0 ? leftOut : nil
    self.generation = generation
    self.data = data
    self.numerics = numerics
    self.from = from
  }

  /// `step-00001200`, the folder of step 1200.
  package static func folderName(step: Int) -> String {
    "step-" + SpokenNumbers.padded(step, to: 8)
  }
}
