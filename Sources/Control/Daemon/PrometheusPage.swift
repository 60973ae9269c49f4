// A coordinator's metrics for Prometheus, in text exposition format 0.0.4.

import Wire

package enum PrometheusPage {
  /// Facts about a run that are not in its status.
  package struct Latest: Equatable, Sendable {
    package var step: StepRecord?
    package var evaluation: EvaluationRecord?
    package var router: RouterRecord?
    /// Steps of its curve that were not applied; nil while its story is being read.
    package var skipped: Int?
    /// When its first step began, in seconds since 1970, if that was looked up.
    package var began: Double?

    package init() {}
  }

  package static func text(_ status: ClusterStatus, _ latest: [RunID: Latest], program: String) -> String {
    var page = Page()
    page.family("ress_build_info", "gauge", "The coordinator's version.", [([("program", program)], 1)])
    let heard = status.workers.filter { !$0.isSilent }
    let busy = heard.count { $0.run != nil }
    page.family(
      "ress_workers", "gauge", "Connected workers; silent ones have sent nothing for two seconds.",
      [
        ([("state", "busy")], Double(busy)), ([("state", "free")], Double(heard.count - busy)),
        ([("state", "silent")], Double(status.workers.count - heard.count)),
      ])
    page.family(
      "ress_worker_silent_seconds", "gauge", "Seconds since the last message of a worker.",
      status.workers.map {
        ([("worker", $0.description.name), ("host", $0.description.host), ("run", $0.run ?? "")], $0.silentSeconds)
      })
    // Only the newest run of a name, because a series must not occur twice.
    var runs: [ClusterStatus.Run] = []
    for run in status.runs.reversed() where !runs.contains(where: { $0.name == run.name }) { runs.append(run) }
    runs.reverse()
    func each(_ name: String, _ help: String, _ value: (ClusterStatus.Run) -> Double?) {
      page.family(name, "gauge", help, runs.compactMap { run in value(run).map { ([("run", run.name)], $0) } })
    }
    page.family(
      "ress_run_state", "gauge", "1 for the state that a run is in.",
      runs.flatMap { run in
        RunState.allCases.map { ([("run", run.name), ("state", $0.rawValue)], run.state == $0 ? 1 : 0) }
      })
    each("ress_run_step", "Steps that are done.") { Double($0.step) }
    each("ress_run_steps", "Steps of the whole run.") { Double($0.steps) }
    each("ress_run_workers", "Workers that the run has.") { Double($0.workers.count) }
    each("ress_run_workers_wanted", "Workers that it may have.") { Double($0.wantedWorkers) }
    each("ress_run_generation", "Memberships so far.") { $0.memberships.map { Double($0) } }
    each("ress_run_checkpoint_step", "Step of the newest committed checkpoint.") {
      $0.checkpointStep.map { Double($0) }
    }
    page.family(
      "ress_run_seconds_total", "counter", "Where the run's time went.",
      runs.flatMap { run in
        ([("useful", run.goodput.useful)] + run.goodput.losses.map { ($0.cause, $0.seconds) }).map {
          ([("run", run.name), ("cause", $0.0)], $0.1)
        }
      })
    each(
      "ress_run_loss", "Task loss of the newest step, nats a target; NaN where the step was not applied."
    ) { run in latest[run.id]?.step.map { $0.isSound ? $0.task : .nan } }
    page.family(
      "ress_run_skipped_steps_total", "counter",
      "Steps that were not applied because a loss or a gradient was not finite.",
      runs.compactMap { run in latest[run.id]?.skipped.map { ([("run", run.name)], Double($0)) } })
    each("ress_run_gradient_norm", "Norm of the newest step's gradient, before clipping.") {
      latest[$0.id]?.step?.gradientNorm
    }
    each("ress_run_learning_rate", "Learning rate of the newest step.") { latest[$0.id]?.step?.learningRate }
    each("ress_run_tokens_per_second", "Tokens per second of the newest step.") { latest[$0.id]?.step?.tokensPerSecond }
    each("ress_run_largest_expert_load", "Largest load of an expert in the newest step, over the mean.") {
      latest[$0.id]?.step?.largestLoad
    }
    each("ress_run_validation_loss", "Loss of the newest evaluation, nats a target.") {
      latest[$0.id]?.evaluation?.loss
    }
    func eachStep(_ name: String, _ help: String, _ values: (RouterRecord) -> [Double]) {
      page.family(
        name, "gauge", help,
        runs.flatMap { run in
          (latest[run.id]?.router.map(values) ?? []).enumerated().map {
            ([("run", run.name), ("recurrence", String($0 + 1))], $1)
          }
        })
    }
    eachStep(
      "ress_run_router_entropy", "Entropy of the router's softmax, mean over tokens, nats, by step of recurrence."
    ) {
      $0.entropy
    }
    eachStep(
      "ress_run_expert_spread",
      "Evenness of the experts' loads, by step of recurrence; 1: all are equal, 0: the router has collapsed."
    ) {
      $0.spread
    }
    eachStep("ress_run_truncation", "Share of queries whose sparsemax support is larger than k, by step of recurrence.")
    {
      $0.truncation
    }
    return page.text
  }

  private struct Page {
    var text = ""

    mutating func family(_ name: String, _ type: String, _ help: String, _ samples: [([(String, String)], Double)]) {
      guard !samples.isEmpty else { return }
      text += "# HELP \(name) \(help)\n# TYPE \(name) \(type)\n"
      for (labels, value) in samples {
        let list = labels.map { "\($0)=\"\(Self.escaped($1))\"" }.joined(separator: ",")
        let number = value.isNaN ? "NaN" : value.isInfinite ? (value > 0 ? "+Inf" : "-Inf") : "\(value)"
        text += "\(name){\(list)} \(number)\n"
      }
    }

    private static func escaped(_ text: String) -> String {
      text.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"").replacing("\n", with: "\\n")
    }
  }
}
