// The JSON data for the dashboard's page: columns of numbers, and for a run only the data that the page does not have
// yet.

import Configuration
import Foundation
import HTTP
import Wire

extension HTTPAnswer {
  static func json(code: Int = 200, _ value: some Encodable) -> HTTPAnswer {
    guard let bytes = try? JSON.encode(value) else { return HTTPAnswer(code: 500, "the answer cannot be encoded\n") }
    return HTTPAnswer(code: code, type: jsonType, bytes)
  }

  static let jsonType = "application/json"

  /// A sentence for a person.
  static func refusal(_ code: Int, _ sentence: String) -> HTTPAnswer { json(code: code, ["error": sentence]) }

  static func notYet(_ sentence: String) -> HTTPAnswer {
    var answer = json(code: 202, ["waiting": sentence])
    answer.retryAfter = 1
    return answer
  }
}

/// All runs and workers.
struct ClusterPage: Encodable {
  let program: String
  let time: Double
  let drawsGraphs: Bool
  let runs: [RunLine]
  let workers: [WorkerLine]
  let gone: [GoneLine]

  struct RunLine: Encodable {
    let id, name: String
    let state: RunState
    let reason: String
    let step, steps, priority: Int
    /// Number of its generations so far.
    let memberships: Int?
    let workers: [String]
    /// Its workers that are not silent.
    let heard: Int
    let minimumWorkers, wantedWorkers: Int
    let checkpoint: Int?
    let goodput: Double?
    /// Where its time went; only on the page of one run.
    let causes: [Cause]?
    /// Only on the page of one run.
    let costs: Costs?
    let loss, validation, best, tokensPerSecond, secondsPerStep: Double?
    /// When its first step began and its newest record was made, in seconds since 1970.
    let began, lastRecord: Double?
    /// Name of the user who submitted it.
    let owner: String?
    let dataset: String?
    /// Why the newest step was not applied.
    let skipped: String?
    /// The loss in a few points, for a small chart; empty for a run that is at rest.
    let spark: [Float]
  }

  struct Cause: Encodable {
    let cause: String
    let seconds: Double
  }

  /// Planned and measured costs; a field is nil where it is not known.
  struct Costs: Encodable {
    let expected, actual: Forecast
    let workers: [ClusterStatus.Share]
  }

  struct WorkerLine: Encodable {
    let name, host: String
    let process, threads: Int
    let run: String?
    let silentSeconds: Double
    let isSilent: Bool
    let waiting: String?
    let program: String
  }

  struct GoneLine: Encodable {
    let name, host, reason: String
    let process: Int
    let run: String?
    let secondsAgo: Double
  }

  /// What is known of all runs.
  struct Known {
    var status: ClusterStatus
    var pictures: [RunID: RunHistory]
    var latest: [RunID: PrometheusPage.Latest]
    var details: [RunID: RunDetails]
  }

  init(
    _ known: Known, program: String, time: Double, drawsGraphs: Bool, isAboutOne: Bool,
    _ nameOfOwner: (PublicKey) -> String
  ) {
    let status = known.status
    self.program = program
    self.time = time
    self.drawsGraphs = drawsGraphs
    let heard = Set(status.workers.filter { !$0.isSilent }.map(\.description.name))
    runs = status.runs.map { run in
      let picture = known.pictures[run.id], latest = known.latest[run.id], details = known.details[run.id]
      // The story of an old run is not read before someone opens it.
      let newest = picture?.newest ?? latest?.step
      let recent = picture?.curve.recent(steps: 20)
      return RunLine(
        id: run.id.description, name: run.name, state: run.state, reason: run.reason, step: run.step, steps: run.steps,
        priority: run.priority, memberships: run.memberships, workers: run.workers,
        heard: run.workers.count { heard.contains($0) }, minimumWorkers: run.minimumWorkers,
        wantedWorkers: run.wantedWorkers, checkpoint: run.checkpointStep, goodput: run.goodput.share,
        causes: isAboutOne
          ? ([("useful", run.goodput.useful)] + run.goodput.losses).map { Cause(cause: $0.0, seconds: $0.1) } : nil,
        costs: isAboutOne
          ? Costs(expected: run.forecast ?? Forecast(), actual: run.actual, workers: run.shares ?? []) : nil,
        loss: newest.flatMap { $0.isSound ? $0.task : nil },
        validation: (picture?.evaluations.last?.record ?? latest?.evaluation)?.loss, best: picture?.best?.loss,
        tokensPerSecond: recent?.tokensPerSecond ?? newest?.tokensPerSecond, secondsPerStep: recent?.secondsPerStep,
        began: picture?.began ?? latest?.began, lastRecord: picture?.lastRecord ?? newest?.time,
        owner: details?.owner.map(nameOfOwner), dataset: details?.configuration.data.names,
        skipped: newest.flatMap { $0.skipped ?? ($0.isSound ? nil : "its loss is not finite") },
        spark: run.state.isAtRest ? [] : picture?.curve.sketch(points: 48) ?? [])
    }
    workers = status.workers.map { worker in
      WorkerLine(
        name: worker.description.name, host: worker.description.host, process: worker.description.process,
        threads: worker.description.threads, run: worker.run, silentSeconds: worker.silentSeconds,
        isSilent: worker.isSilent, waiting: worker.waiting, program: worker.description.program)
    }
    gone = (status.gone ?? []).map { worker in
      GoneLine(
        name: worker.description.name, host: worker.description.host, reason: worker.reason,
        process: worker.description.process, run: worker.run, secondsAgo: worker.secondsAgo)
    }
  }
}

/// The picture of one run, or its changes.
struct RunPage: Encodable {
  let id: String
  /// The number of the last event in it, which the page sends with its next request, together with the shape.
  let event: Int
  let shape: String
  /// Whether it is complete, or continues the data that were sent before.
  let isWhole: Bool
  /// Whether older parts of the story are still being read.
  let isReading: Bool
  let curve: Columns
  let evaluations: [EvaluationLine]
  let generations: [GenerationLine]
  let story: [StoryLine]
  let checkpoints: [CheckpointLine]
  let newest: StepRecord?
  let router: RouterRecord?

  struct Columns: Encodable {
    var width: Int
    var first: [Int] = [], last: [Int] = [], skipped: [Int] = []
    var loss = BandColumns(), throughput = BandColumns(), gradientNorm = BandColumns()
    var learningRate: [Float?] = []
    /// Of the steps of each point, all together.
    var tokens: [Int] = [], seconds: [Float] = []
  }

  struct BandColumns: Encodable {
    var minimum: [Float?] = [], mean: [Float?] = [], maximum: [Float?] = []

    mutating func append(_ band: Band?) {
      minimum.append(band.map { Float($0.minimum) })
      mean.append(band.map { Float($0.mean) })
      maximum.append(band.map { Float($0.maximum) })
    }
  }

  struct EvaluationLine: Encodable {
    let step: Int
    let loss: Double
    let metrics: [EvaluationRecord.Metric]
  }

  struct GenerationLine: Encodable {
    let ordinal: Int
    let number: UInt32
    let step: Int
    let time: Double?
    let workers: [Member]
  }

  struct Member: Encodable {
    let name, host: String
    let process, threads: Int
    let units: [Int]
    let experts: [Int]
  }

  struct StoryLine: Encodable {
    let event, step: Int
    let time: Double?
    let kind, text: String
  }

  struct CheckpointLine: Encodable {
    let step: Int
    let path: String
    let isGone: Bool
    let loss: Double?
    let byteCount: Int?

    init(_ checkpoint: RunHistory.Checkpoint) {
      (step, path) = (checkpoint.step, checkpoint.path)
      switch checkpoint.found {
      case .manifest(let loss, let byteCount): (isGone, self.loss, self.byteCount) = (false, loss, byteCount)
      case .nothing: (isGone, loss, byteCount) = (true, nil, nil)
      case nil: (isGone, loss, byteCount) = (false, nil, nil)
      }
    }
  }

  init(_ run: ClusterStatus.Run, _ picture: RunHistory, since: Int, shape known: String?, isReading: Bool) {
    id = run.id.description
    event = picture.event
    shape = "\(picture.curve.width).\(picture.cuts)"
    isWhole = known != shape || since > picture.event || since == 0
    self.isReading = isReading
    let after = isWhole ? 0 : since
    curve = picture.curve.buckets.filter { $0.event > after }.reduce(into: Columns(width: picture.curve.width)) {
      $0.first.append($1.first)
      $0.last.append($1.last)
      $0.skipped.append($1.skipped)
      $0.loss.append($1.loss)
      $0.throughput.append($1.throughput)
      $0.gradientNorm.append($1.gradientNorm)
      $0.learningRate.append($1.learningRate.map { Float($0.mean) })
      $0.tokens.append($1.tokens)
      $0.seconds.append(Float($1.seconds))
    }
    evaluations = picture.evaluations.filter { $0.event > after }.map {
      EvaluationLine(step: $0.record.step, loss: $0.record.loss, metrics: $0.record.metrics)
    }
    generations = picture.generations.filter { $0.event > after }.map {
      GenerationLine(
        ordinal: $0.ordinal, number: $0.number, step: $0.step, time: $0.time,
        workers: $0.roster.map {
          Member(
            name: $0.worker.name, host: $0.worker.host, process: $0.worker.process, threads: $0.worker.threads,
            units: [$0.units.lowerBound, $0.units.upperBound], experts: $0.experts)
        })
    }
    story = picture.story.filter { $0.event > after }.map {
      let kind =
        switch $0.kind {
        case .began: "began"
        case .notice: "notice"
        case .state(let state): state.rawValue
        }
      return StoryLine(event: $0.event, step: $0.step, time: $0.time, kind: kind, text: $0.text)
    }
    // All of them, because one that was sent before may have been removed since.
    checkpoints = picture.checkpoints.map { CheckpointLine($0) }
    newest = picture.newest
    router = picture.router
  }
}

/// What a run was submitted with.
struct DetailsPage: Encodable {
  let id, name, folder: String
  let owner: String?
  /// Digests of the dataset and its tokenizer.
  let dataset, tokenizer: String?
  let configuration: [Key]

  struct Key: Encodable {
    let key, value, meaning: String
    let isDefault: Bool
  }

  init(_ details: RunDetails, owner: String?) {
    (id, name, folder, self.owner) = (details.id.description, details.name, details.folder, owner)
    (dataset, tokenizer) = (details.data?.dataset, details.data?.tokenizer)
    let standard = RunConfiguration()
    configuration = ConfigurationSchema.sections.flatMap { section in
      section.fields.map { field in
        let value = field.text(in: details.configuration)
        return Key(
          key: section.path(of: field), value: value, meaning: field.documentation,
          isDefault: value == field.text(in: standard))
      }
    }
  }
}
