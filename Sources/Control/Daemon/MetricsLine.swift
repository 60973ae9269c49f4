// Lines of `metrics.jsonl` and `router.jsonl`.

import Configuration
import RunFolder
import Wire

extension RunEvent {
  /// The file in which the event is recorded.
  func recordFile(in folder: String) -> MetricsFile {
    if case .examined = self { MetricsFile(routerIn: folder) } else { MetricsFile(folder: folder) }
  }

  /// The event's line in that file; numbers are printed so that they read back to the same bits.
  var metricsLine: String {
    let time = time.map { [("time", JSON.real($0))] } ?? []
    switch self {
    case .stepped(let r):
      let skipped = r.skipped.map { [("skipped", JSON.text($0))] } ?? []
      return JSON.object(
        [
          ("step", .whole(r.step)), ("loss", .real(r.loss)), ("task", .real(r.task)), ("smooth", .real(r.smooth)),
          ("balance", .real(r.balance)), ("router_z", .real(r.routerZ)), ("gradient_norm", .real(r.gradientNorm)),
          ("learning_rate", .real(r.learningRate)), ("tokens", .whole(r.tokens)), ("seconds", .real(r.seconds)),
        ] + time + [("loads", .list(r.loads))] + skipped
      ).compact
    case .evaluated(let r):
      return JSON.object(
        [("step", .whole(r.step)), ("validation_loss", .real(r.loss)), ("sequences", .whole(r.sequences))] + time
          + r.metrics.map { ($0.name, .real($0.value)) }
      ).compact
    case .examined(let r):
      return JSON.object(
        [
          ("step", .whole(r.step)), ("active", .whole(r.active)), ("loads", .array(r.loads.map { .list($0) })),
          ("entropy", .list(r.entropy)), ("bias", .array(r.bias.map { .list($0) })),
          ("truncation", .list(r.truncation)),
        ] + time
      ).compact
    case .began, .state, .placed, .saved, .said: return "{}"
    }
  }
}
