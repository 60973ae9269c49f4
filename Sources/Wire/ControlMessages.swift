// Every message of the control plane: workers and commands to the coordinator, and back. JSON, one message a frame, with the
// protocol's version; what cannot be read is answered with an error and a line in the log.

import Configuration
import Foundation

/// To the coordinator.
package enum Request: Codable, Equatable, Sendable {
  // From workers
  case hello(WorkerDescription)
  case heartbeat(Heartbeat)
  /// The generation's data, model and state are loaded.
  case ready(generation: UInt32)
  case stepDone(generation: UInt32, StepRecord)
  case evaluated(generation: UInt32, EvaluationRecord)
  /// This worker's files of a checkpoint are on disk.
  case saved(generation: UInt32, step: Int, files: [CheckpointManifest.File])
  /// All steps of the run are done here.
  case finished(generation: UInt32)
  case failed(generation: UInt32, reason: String)
  /// The process ends, and why.
  case goodbye(reason: String)

  // From commands
  case submit(Submission)
  case follow(run: String)
  case cancel(run: String)
  case status
}

/// From the coordinator.
package enum Reply: Codable, Equatable, Sendable {
  // To workers
  /// Joined; `patienceSeconds` of silence count as loss, on both sides.
  case welcome(worker: WorkerID, patienceSeconds: Double)
  /// Still here: the answer to a heartbeat.
  case alive
  case assigned(Assignment)
  case begin(generation: UInt32)
  case stop(generation: UInt32, reason: String)

  // To commands
  case submitted(run: RunID, name: String)
  case event(RunEvent)
  case status(ClusterStatus)

  /// The request was understood and cannot be met, or was not understood.
  case refused(reason: String)
}

/// A worker process, as it introduces itself.
package struct WorkerDescription: Codable, Equatable, Sendable {
  package var name: String
  package var host: String
  package var process: Int
  /// Where peers reach it.
  package var dataAddress: String
  package var threads: Int
  /// What decides the bits of its results; see Kernels.Fingerprint.
  package var fingerprint: String
  package var program: String

  package init(
    name: String, host: String, process: Int, dataAddress: String, threads: Int, fingerprint: String, program: String
  ) {
    self.name = name
    self.host = host
    self.process = process
    self.dataAddress = dataAddress
    self.threads = threads
    self.fingerprint = fingerprint
    self.program = program
  }

  /// `worker-1 (node7, process 4711)`
  package var spoken: String { "\(name) (\(host), process \(process))" }
}

package struct Heartbeat: Codable, Equatable, Sendable {
  /// Generation it works in, 0 for none.
  package var generation: UInt32 = 0
  package var step = 0
  /// What it waits for and from whom, where it has waited for long.
  package var waiting: String?
  package var waitingSeconds = 0.0

  package init(generation: UInt32 = 0, step: Int = 0, waiting: String? = nil, waitingSeconds: Double = 0) {
    self.generation = generation
    self.step = step
    self.waiting = waiting
    self.waitingSeconds = waitingSeconds
  }
}

package struct Submission: Codable, Equatable, Sendable {
  package var configuration: RunConfiguration
  package var resume: Resume

  package enum Resume: Codable, Equatable, Sendable {
    /// A new run; its folder must hold no checkpoints.
    case no
    /// The newest checkpoint of the run that verifies.
    case newest
    case checkpoint(path: String)
  }

  package init(configuration: RunConfiguration, resume: Resume) {
    self.configuration = configuration
    self.resume = resume
  }
}

/// One worker's part in a generation.
package struct RosterEntry: Codable, Equatable, Sendable {
  package var worker: WorkerDescription
  package var units: Range<Int>
  package var experts: [Int]

  package init(worker: WorkerDescription, units: Range<Int>, experts: [Int]) {
    self.worker = worker
    self.units = units
    self.experts = experts
  }
}

/// What a worker needs to take part in a generation.
package struct Assignment: Codable, Equatable, Sendable {
  package var run: RunID
  package var generation: UInt32
  package var configuration: RunConfiguration
  package var roster: [RosterEntry]
  /// This worker's place in the roster.
  package var index: Int
  package var threads: Int
  /// Checkpoint to go on from; nil begins at step 0.
  package var checkpoint: String?
  package var firstStep: Int
  /// Folder that checkpoints are written to.
  package var folder: String

  package init(
    run: RunID, generation: UInt32, configuration: RunConfiguration, roster: [RosterEntry], index: Int, threads: Int,
    checkpoint: String?, firstStep: Int, folder: String
  ) {
    self.run = run
    self.generation = generation
    self.configuration = configuration
    self.roster = roster
    self.index = index
    self.threads = threads
    self.checkpoint = checkpoint
    self.firstStep = firstStep
    self.folder = folder
  }
}

/// One step of a run, as it is logged. Step n is the n-th, counted from 1: `step` optimizer steps are done.
package struct StepRecord: Codable, Equatable, Sendable {
  package var step: Int
  package var loss: Double
  package var task: Double
  package var smooth: Double
  package var balance: Double
  package var routerZ: Double
  package var gradientNorm: Double
  package var learningRate: Double
  package var tokens: Int
  package var seconds: Double
  package var loads: [Int]

  package init(
    step: Int, loss: Double, task: Double, smooth: Double, balance: Double, routerZ: Double, gradientNorm: Double,
    learningRate: Double, tokens: Int, seconds: Double, loads: [Int]
  ) {
    self.step = step
    self.loss = loss
    self.task = task
    self.smooth = smooth
    self.balance = balance
    self.routerZ = routerZ
    self.gradientNorm = gradientNorm
    self.learningRate = learningRate
    self.tokens = tokens
    self.seconds = seconds
    self.loads = loads
  }
}

package struct EvaluationRecord: Codable, Equatable, Sendable {
  package var step: Int
  /// Mean cross-entropy of the validation sequences, nats a token.
  package var loss: Double
  package var sequences: Int

  package init(step: Int, loss: Double, sequences: Int) {
    self.step = step
    self.loss = loss
    self.sequences = sequences
  }
}

package enum RunState: String, Codable, Equatable, Sendable {
  /// Waits for the run before it.
  case queued
  /// Waits for workers, or for them to be ready.
  case placing
  case running
  case finished, failed, cancelled

  package var isEnd: Bool { self == .finished || self == .failed || self == .cancelled }
}

/// What happens in a run, from its first line to its last.
package enum RunEvent: Codable, Equatable, Sendable {
  case began(name: String, firstStep: Int, steps: Int, checkpoint: String?)
  case state(RunState, reason: String)
  case placed(generation: UInt32, roster: [RosterEntry])
  case stepped(StepRecord)
  case evaluated(EvaluationRecord)
  case saved(step: Int, path: String)
  case said(String)
}

package struct ClusterStatus: Codable, Equatable, Sendable {
  package struct Worker: Codable, Equatable, Sendable {
    package var description: WorkerDescription
    /// Name of the run it works for.
    package var run: String?
    package var silentSeconds: Double

    package init(description: WorkerDescription, run: String?, silentSeconds: Double) {
      self.description = description
      self.run = run
      self.silentSeconds = silentSeconds
    }
  }
  package struct Run: Codable, Equatable, Sendable {
    package var id: RunID
    package var name: String
    package var state: RunState
    package var reason: String
    package var step: Int
    package var steps: Int

    package init(id: RunID, name: String, state: RunState, reason: String, step: Int, steps: Int) {
      self.id = id
      self.name = name
      self.state = state
      self.reason = reason
      self.step = step
      self.steps = steps
    }
  }
  package var runs: [Run]
  package var workers: [Worker]

  package init(runs: [Run], workers: [Worker]) {
    self.runs = runs
    self.workers = workers
  }
}

/// Messages as frames: JSON of `{"version": 1, "message": …}`.
package enum ControlCodec {
  package static let version = 1
  /// A configuration with a roster of a thousand workers stays far below; more is refused unread.
  package static let largestFrame = 4 << 20

  private struct Envelope<Message: Codable>: Codable {
    var version: Int
    var message: Message
  }
  private struct Version: Codable { var version: Int }

  package static func encode<Message: Codable>(_ message: Message) -> [UInt8] {
    let encoder = JSONEncoder()
    encoder.outputFormatting = .sortedKeys
    // Losses may be NaN, which JSON does not know.
    encoder.nonConformingFloatEncodingStrategy = .convertToString(
      positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
    do {
      return try Array(encoder.encode(Envelope(version: version, message: message)))
    } catch {
      preconditionFailure("a message of type \(Message.self) does not encode: \(error)")
    }
  }

  package static func decode<Message: Codable>(_ type: Message.Type, from frame: [UInt8]) throws(WireError) -> Message {
    guard frame.count <= largestFrame else {
      throw .malformed("a frame of \(frame.count) bytes; \(largestFrame) are allowed")
    }
    let decoder = JSONDecoder()
    decoder.nonConformingFloatDecodingStrategy = .convertFromString(
      positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
    let data = Data(frame)
    guard let theirs = try? decoder.decode(Version.self, from: data) else { throw .malformed("no versioned JSON") }
    guard theirs.version == version else { throw .wrongVersion(theirs: theirs.version, ours: version) }
    do {
      return try decoder.decode(Envelope<Message>.self, from: data).message
    } catch let error as DecodingError {
      throw .malformed(describe(error))
    } catch {
      throw .malformed("\(error)")
    }
  }

  private static func describe(_ error: DecodingError) -> String {
    switch error {
    case .keyNotFound(let key, _): "no field '\(key.stringValue)'"
    case .typeMismatch(_, let context), .valueNotFound(_, let context), .dataCorrupted(let context):
      context.codingPath.map(\.stringValue).joined(separator: ".") + ": " + context.debugDescription
    @unknown default: "\(error)"
    }
  }
}
