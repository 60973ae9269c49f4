// Where a run's first weights come from, if not from its seed: a warm start.

/// A checkpoint of another run, whose weights a run begins with.
package struct WeightSource: Equatable, Hashable, Sendable, Codable {
  /// The checkpoint's folder.
  package var path: String
  /// The run that wrote it, and the number of optimizer steps in it.
  package var run: String
  package var step: Int
  /// SHA-256 of its manifest, in hexadecimal. The manifest has the digests of all its files.
  package var sha256: String

  package init(path: String, run: String, step: Int, sha256: String) {
    self.path = path
    self.run = run
    self.step = step
    self.sha256 = sha256
  }

  /// `checkpoints/base/step-00000600 (run base, step 600, SHA-256 0f3a…)`
  package var spoken: String { "\(path) (run \(run), step \(step), SHA-256 \(sha256.prefix(12))…)" }
}
