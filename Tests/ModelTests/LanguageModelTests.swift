// Properties of the whole model that must hold to the bit.

import Configuration
import Kernels
import Model
import Testing

@Suite struct LanguageModelTests {
  @Test(arguments: [0, 5, 7, 8, 9, 15, 16, 19])
  func `a changed token leaves every earlier logit bit-identical, across segment borders too`(changed: Int) throws {
    let tiny = TinyModel()
    var tokens = TinyModel.tokens(20)
    let before = try tiny.logits(tokens)
    tokens[changed] = (tokens[changed] + 1) % 13
    let after = try tiny.logits(tokens)
    let border = changed * tiny.vocabulary
    #expect(before[..<border] == after[..<border])
    #expect(before[border...] != after[border...])
  }

  @Test func `a token beyond the cache is still felt through the memory`() throws {
    var configuration = TinyModel.base
    configuration.cache = 0
    configuration.recencyTaps = 1
    let tokens = TinyModel.tokens(20)
    var changed = tokens
    changed[0] = (changed[0] + 1) % 13
    let last = 19 * 13..<20 * 13
    let tiny = TinyModel(configuration)
    #expect(try tiny.logits(tokens)[last] != tiny.logits(changed)[last])
    configuration.memorySlots = 0
    let forgetful = TinyModel(configuration)
    #expect(try forgetful.logits(tokens)[last] == forgetful.logits(changed)[last])
  }

  /// Losses, loads and every gradient, as bits.
  private func fingerprint(_ tiny: TinyModel) throws -> [[Real]] {
    let (losses, loads) = try tiny.loss([TinyModel.tokens(21), TinyModel.tokens(18, seed: 5)], gradient: true)
    return [[Real(losses.total), Real(losses.smooth), Real(losses.balance)], loads.map { Real($0) }]
      + tiny.gradientsByName().map(\.values)
  }

  @Test func `computing a segment again gives the same bits as keeping it`() throws {
    let kept = TinyModel(recompute: .never)
    let again = TinyModel(recompute: .always)
    #expect(!kept.model.recomputes && again.model.recomputes)
    #expect(try fingerprint(kept) == fingerprint(again))
  }

  @Test func `two and three threads give the same bits as one`() throws {
    // Wide enough for several tiles, heads and experts at once.
    var configuration = TinyModel.base
    configuration.segment = 200
    configuration.cache = 150
    configuration.graphDegree = 9
    let batch = [TinyModel.tokens(401), TinyModel.tokens(300, seed: 5)]
    var results: [[[Real]]] = []
    for threads in 1...3 {
      let tiny = TinyModel(configuration, maximumTokens: 400, threads: threads)
      let (losses, _) = try tiny.loss(batch, gradient: true)
      results.append([[Real(losses.total)]] + tiny.gradientsByName().map(\.values))
    }
    #expect(results[0] == results[1])
    #expect(results[0] == results[2])
  }

  @Test func `recompute auto keeps activations while they fit and gives them up when they do not`() {
    let sizes = Sizes(TinyModel.base, vocabulary: 13)
    let tiny = TinyModel()
    func recomputes(limit: Int) -> Bool {
      LanguageModel(
        sizes, maximumTokens: 80, recompute: .auto, memoryLimit: limit, team: tiny.team, exchange: tiny.experts
      ).recomputes
    }
    #expect(!recomputes(limit: .max))
    #expect(recomputes(limit: 1 << 10))
  }

  @Test func `activations of a recomputed sequence do not grow with its length`() {
    let sizes = Sizes(TinyModel.base, vocabulary: 13)
    let tiny = TinyModel()
    func bytes(_ tokens: Int) -> Int {
      LanguageModel(
        sizes, maximumTokens: tokens, recompute: .always, memoryLimit: 0, team: tiny.team, exchange: tiny.experts
      ).activationByteCount
    }
    // All that may grow is the memory at each segment's start, M · D numbers.
    let slots = TinyModel.base.memorySlots * TinyModel.base.width * MemoryLayout<Real>.stride
    #expect(bytes(800) - bytes(16) <= 98 * (slots + 64))
  }

  @Test(arguments: [1, 3, 8, 20])
  func `reading text in pieces gives the logits of reading it whole`(piece: Int) throws {
    let tiny = TinyModel(maximumTokens: 100)
    let tokens = TinyModel.tokens(100)
    let whole = try tiny.logits(tokens)
    let decoder = Decoder(
      Sizes(tiny.configuration, vocabulary: 13), weights: Weights(tiny.parameters, tiny.configuration), team: tiny.team,
      exchange: tiny.experts)
    var position = 0
    while position < tokens.count {
      let next = min(tokens.count, position + piece)
      let logits = try Array(decoder.append(Array(tokens[position..<next])))
      for token in 0..<13 {
        let expected = whole[(next - 1) * 13 + token]
        #expect(abs(logits[token] - expected) < 2e-4 * (1 + abs(expected)), "token \(next - 1)")
      }
      position = next
    }
  }
}
