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
      try generator { $0.seed = seed }.generate(prompt: [1, 2, 3], count: 50) {
        tokens.append($0)
        return true
      }
      return tokens
    }
    #expect(try text(seed: 1) == text(seed: 1))
    #expect(try text(seed: 1) != text(seed: 2))
    #expect(try text(seed: 1).count == 50)
  }

  @Test func `top-k excludes all but the likeliest tokens`() {
    let drawn = draw(
      generator {
        ($0.topK, $0.topP, $0.temperature) = (2, 1, 1)
      }, [1, 3, 2, 0], times: 500)
    #expect(Set(drawn) == [1, 2])
  }

  @Test func `a text ends where its reader returns false`() throws {
    var tokens: [Int32] = []
    try generator().generate(prompt: [1], count: 50) {
      tokens.append($0)
      return tokens.count < 7
    }
    #expect(tokens.count == 7)
  }

  @Test func `a text ends before the first stop string, however its bytes arrive`() {
    func text(_ pieces: [String], _ stops: [String]) -> (text: String, stop: String?) {
      var strings = StopStrings(stops)
      var bytes: [UInt8] = []
      for piece in pieces {
        let (more, stop) = strings.take(piece.utf8)
        bytes += more
        if let stop { return (String(decoding: bytes, as: UTF8.self), stop) }
      }
      return (String(decoding: bytes + strings.rest(), as: UTF8.self), nil)
    }
    for pieces in [["one two END three"], ["one two E", "ND thr", "ee"], "one two END three".map { "\($0)" }] {
      #expect(text(pieces, ["END", "three"]) == ("one two ", "END"))
      #expect(text(pieces, ["two E", "END"]) == ("one ", "two E"))
      #expect(text(pieces, ["ENDE"]) == ("one two END three", nil))
    }
    #expect(text(["a\n", "\nb"], ["\n\n"]) == ("a", "\n\n"))
    #expect(text(["aab"], ["ab", "aab"]) == ("", "aab"))
    #expect(text(["text"], []) == ("text", nil) && text(["text"], [""]) == ("text", nil))
    // Held back only as long as it may be a stop string.
    var strings = StopStrings(["stop"])
    #expect(strings.take("a st".utf8).text == Array("a ".utf8))
    #expect(strings.take("ep".utf8).text == Array("step".utf8) && strings.rest() == [])
  }
}
