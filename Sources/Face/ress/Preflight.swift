// Checks of a run before it is queued: whether its data exist and fit the model, whether there is enough validation
// data, and whether the model fits into this machine. A user's mistake is reported at the submission, not after waiting
// in the queue.

import Configuration
import Data
import Foundation
import Model
import Shell
import Trained
import Training
import Transport

enum Preflight {
  /// Checks a run whose workers may be on other machines: data that are not on this machine may be on theirs.
  static func look(at configuration: RunConfiguration, whereWorkersAre address: String) throws -> [String] {
    let paths = configuration.data.mixture.isEmpty ? [configuration.data.path] : configuration.data.mixture.map(\.path)
    // A Unix socket is on the same machine; a port may be forwarded from another.
    if !address.hasPrefix("ipc://"), let missing = paths.first(where: { !FileManager.default.fileExists(atPath: $0) }) {
      Terminal.complain(
        "\(missing) is not on this machine, so the data are not checked here; the workers will check them")
      return []
    }
    return try look(at: configuration)
  }

  /// Reads the header, the tokenizer and the task of the run's data. Returns remarks for the user about data that are
  /// accepted.
  /// - Throws: the error with which a worker would fail: data that are missing, damaged, too short, or do not fit the
  ///   model.
  static func look(at configuration: RunConfiguration) throws -> [String] {
    let corpus = try Corpus(configuration.data)
    let source = try TaskSource(corpus, configuration)
    if let complaint = FrozenParts.complaint(configuration) { throw ProcessError(description: complaint) }
    guard try source.sequences(.train).sequenceCount > 0 else { throw source.tooSmall(.train) }
    let asked = configuration.training.evaluateSequences
    guard asked > 0 else { return [] }
    let validation = try source.sequences(.validation)
    guard validation.sequenceCount > 0 else {
      return ["nothing is evaluated: \(source.tooSmall(.validation))"]
    }
    let count = validation.questionCount
    guard count < asked else { return [] }
    return [
      "evaluations read \(Format.count(count, "sequence")) and not training.evaluate_sequences (\(asked)): the validation split of "
        + "\(corpus.path) has no more"
    ]
  }

  /// Compares a new run with the checkpoint whose weights it begins with: sizes and tokenizer. Returns remarks for the
  /// user. A checkpoint that is not on this machine may be on the workers'.
  static func lookAtSource(of request: RunRequest, isHere: Bool) throws -> [String] {
    let path = request.configuration.model.from
    guard !path.isEmpty, request.resume == .no, isHere || FileManager.default.fileExists(atPath: path),
      let corpus = try? Corpus(request.configuration.data)
    else { return [] }
    let start = try WarmStart(path, for: request.configuration, corpus)
    return start.drawn.isEmpty
      ? [] : ["\(start.drawn.joined(separator: ", ")) is drawn from the seed: \(path) has another one, or none"]
  }

  /// Checks a run whose workers are all on this machine.
  static func weigh(_ configuration: RunConfiguration) throws {
    guard let available = AvailableMemory.byteCount else { return }
    let needs = RunNeeds(
      onMachinesLikeThis: configuration, vocabulary: try Corpus.vocabulary(of: configuration), hosts: 1)
    if let complaint = needs.memoryComplaint(workers: needs.workers, available: available) {
      throw ProcessError(description: complaint)
    }
  }
}
