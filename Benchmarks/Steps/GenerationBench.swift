// Measures how fast texts are written: one alone, and several at the same time.

import Configuration
import Foundation
import Kernels
import Model
import Synchronization
import Training

enum GenerationBench {
  /// Prints a JSON line for each number of texts: tokens a second over all texts, and the memory of the decoders.
  static func run(_ arguments: BenchArguments) throws {
    let shape = try Shape(
      arguments.text("--shape", "bench-small"), file: arguments.text("--shapes", Shape.standardFile))
    let threads = Int(arguments.number("--threads", 1)), tokens = Int(arguments.number("--tokens", 512))
    let model = shape.configuration.model
    let layout = ParameterLayout(model, vocabulary: shape.vocabulary)
    let owned = Array(0..<model.expertCount)
    let parameters = ParameterBuffer(layout, experts: owned)
    parameters.initialize(seed: 1)
    let team = Team(laneCount: threads), weights = Weights(parameters, model)
    let experts = LocalExperts(model, parameters: parameters, held: owned, team: team)
    for texts in arguments.text("--texts", "1,16").split(separator: ",").compactMap({ Int($0) }) {
      let pool = DecoderPool(
        Sizes(model, vocabulary: shape.vocabulary), weights: weights, experts: experts, team: team, lanes: texts)
      _ = write(texts, tokens: min(32, tokens), pool)
      let seconds = write(texts, tokens: tokens, pool)
      print(
        JSONLine([
          ("program", "\"ress\""), ("shape", "\"\(shape.name)\""), ("threads", "\(threads)"), ("texts", "\(texts)"),
          ("tokens", "\(tokens)"), ("tokens_per_second", JSONLine.number(Double(texts * tokens) / seconds)),
          ("memory_mib", JSONLine.number(Double(pool.byteCount) / 1_048_576)),
          ("kernels", "\"\(Fingerprint.kernelClone)\""),
        ]).text)
    }
  }

  /// Seconds in which the texts were written, each from a prompt of one token.
  private static func write(_ texts: Int, tokens: Int, _ pool: DecoderPool) -> Double {
    let begun = ContinuousClock.now
    pool.run(texts) { number, decoder in
      var options = SamplingOptions()
      options.seed = UInt64(number)
      do { try TextGenerator(decoder, options).generate(prompt: [1], count: tokens) { _ in true } } catch {
        fatalError("text \(number): \(error)")
      }
      return true
    }
    let elapsed = begun.duration(to: .now).components
    return Double(elapsed.seconds) + Double(elapsed.attoseconds) * 1e-18
  }
}
