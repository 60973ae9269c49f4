// What a run costs: as `ress plan` forecasts it, and as it was measured.

/// A field is nil where its value is not known.
package struct Forecast: Codable, Equatable, Sendable {
  /// Seconds of a training step, without evaluations and without pauses between steps.
  package var stepSeconds: Double?
  /// Seconds of a step that a worker does not compute, averaged over workers: it waits for others and for messages.
  package var waitSeconds: Double?
  /// Resident memory, in bytes, of the worker that needs most.
  package var memoryBytes: Int?
  /// Bytes that a worker sends its peers in a step, averaged over workers; copies of the state are not included.
  package var sentBytes: Int?
  /// Bytes of one checkpoint, over all of its files.
  package var checkpointBytes: Int?

  package init(
    stepSeconds: Double? = nil, waitSeconds: Double? = nil, memoryBytes: Int? = nil, sentBytes: Int? = nil,
    checkpointBytes: Int? = nil
  ) {
    self.stepSeconds = stepSeconds
    self.waitSeconds = waitSeconds
    self.memoryBytes = memoryBytes
    self.sentBytes = sentBytes
    self.checkpointBytes = checkpointBytes
  }
}
