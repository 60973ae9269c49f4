// Sampling tokens from logits.

import Kernels
import Model
import Testing
import Training

@Suite struct TextGeneratorTests {
  private let trainer = try! TrainerTests.trainer()

  private func generator(_ change: (inout SamplingOptions) -> Void = { _ in }) -> TextGenerator {
    var options = SamplingOptions()
    change(&options)
    let c = trainer.configuration
    let decoder = Decoder(
      Sizes(c.model, vocabulary: 11), weights: Weights(trainer.parameters, c.model), team: trainer.team,
      exchange: trainer.held.experts)
    return TextGenerator(decoder, options)
  }

  private func draw(_ generator: TextGenerator, _ logits: [Real], times: Int) -> [Int32] {
    logits.withUnsafeBufferPointer { logits in (0..<times).map { generator.draw(logits, at: UInt64($0)) } }
  }

  @Test func `temperature 0 chooses the likeliest token, the smaller one among equals`() {
    #expect(draw(generator { $0.temperature = 0 }, [1, 4, 2, 4], times: 3) == [1, 1, 1])
  }

  @Test func `top-p excludes the tokens beyond its share`() {
    // Probabilities 0.64, 0.24, 0.09, 0.03: a share of 0.8 needs the first two.
    let drawn = draw(
      generator {
        $0.topP = 0.8; $0.temperature = 1
      }, [3, 2, 1, 0], times: 500)
    #expect(Set(drawn) == [0, 1])
  }

  @Test func `tokens are drawn as often as their probability predicts`() {
    let drawn = draw(
      generator {
        $0.topP = 1; $0.temperature = 1
      }, [0, 1.0986123], times: 4000)
    let share = Double(drawn.count { $0 == 1 }) / 4000
    #expect(abs(share - 0.75) < 0.03)
  }

  @Test func `a forbidden token is never drawn`() {
    #expect(!draw(generator { $0.forbidden = [0] }, [9, 1, 1], times: 200).contains(0))
  }

  @Test func `a seed always gives the same text, another seed another, past the end of a segment`() throws {
    func text(seed: UInt64) throws -> [Int32] {
      var tokens: [Int32] = []
      try generator { $0.seed = seed }.generate(prompt: [1, 2, 3], count: 50) { tokens.append($0) }
      return tokens
    }
    #expect(try text(seed: 1) == text(seed: 1))
    #expect(try text(seed: 1) != text(seed: 2))
    #expect(try text(seed: 1).count == 50)
  }
}
