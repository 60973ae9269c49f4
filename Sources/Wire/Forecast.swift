// What a run costs: as `ress plan` expects it, and as it turned out.

/// Nil where nothing is known.
package struct Forecast: Codable, Equatable, Sendable {
  /// Of a training step, without evaluations and what stands between steps.
  package var stepSeconds: Double?
  /// Resident memory of the worker that needs most.
  package var memoryBytes: Int?
  /// What each worker sends its peers in a step, without copies of the state: the mean over workers.
  package var sentBytes: Int?
  package var checkpointBytes: Int?

  package init(
    stepSeconds: Double? = nil, memoryBytes: Int? = nil, sentBytes: Int? = nil, checkpointBytes: Int? = nil
  ) {
    self.stepSeconds = stepSeconds
    self.memoryBytes = memoryBytes
    self.sentBytes = sentBytes
    self.checkpointBytes = checkpointBytes
  }
}
