// What can be known of a run before anything waits for it: whether its data are there and its model is one for them, whether there is
// enough to validate on, and whether the model fits into this machine. An error that a user can make is told where they make it, and not
// after the queue.

import Configuration
import Data
import Foundation
import Shell
import Training
import Transport
import Worker

enum Preflight {
  /// Of a run whose workers may be elsewhere: data that are not on this machine may be on theirs.
  static func look(at configuration: RunConfiguration, whereWorkersAre address: String) throws -> [String] {
    let paths = configuration.data.mixture.isEmpty ? [configuration.data.path] : configuration.data.mixture.map(\.path)
    // A Unix socket is on the same machine; a port may be forwarded from another.
    if !address.hasPrefix("ipc://"), let missing = paths.first(where: { !FileManager.default.fileExists(atPath: $0) }) {
      Terminal.complain("\(missing) is not on this machine, so nobody has looked at the data; the workers will")
      return []
    }
    return try look(at: configuration)
  }

  /// Reads the header, the tokenizer and the task of the run's data. Returns what the user should know all the same.
  /// - Throws: what a worker would fail with: data that are missing, damaged, too short, or not for this model.
  static func look(at configuration: RunConfiguration) throws -> [String] {
    let corpus = try Corpus(configuration.data)
    let source = try TaskSource(corpus, configuration)
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
      "evaluations read \(count) sequence\(count == 1 ? "" : "s") and not training.evaluate_sequences (\(asked)): the validation split of "
        + "\(corpus.path) holds no more"
    ]
  }

  /// Of a run whose workers are all on this machine.
  static func weigh(_ configuration: RunConfiguration) throws {
    guard let available = AvailableMemory.byteCount else { return }
    let needs = RunNeeds(
      onMachinesLikeThis: configuration, vocabulary: try Corpus.vocabulary(of: configuration), hosts: 1)
    if let complaint = needs.memoryComplaint(workers: needs.workers, available: available) {
      throw ProcessError(description: complaint)
    }
  }
}
