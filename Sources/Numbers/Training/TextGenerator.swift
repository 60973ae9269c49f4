// Generates text: temperature, then nucleus sampling (arXiv 1904.09751), which draws from the smallest set of
// tokens whose probabilities add up to at least `topP`.

import Kernels
import Model

package struct SamplingOptions: Equatable, Sendable {
  /// 0 always takes the likeliest token.
  package var temperature = 0.8
  package var topP = 0.95
  /// Only the likeliest `topK` tokens are drawn; 0 for no limit.
  package var topK = 0
  package var seed: UInt64 = 1
  /// Tokens that are never drawn.
  package var forbidden: Set<Int32> = []

  package init() {}
}

package struct TextGenerator {
  private let decoder: Decoder
  private let options: SamplingOptions
  private let random: Philox

  package init(_ decoder: Decoder, _ options: SamplingOptions) {
    self.decoder = decoder
    self.options = options
    random = Philox(seed: options.seed, stream: 0x6E6)
  }

  /// Reads the prompt, then draws up to `count` tokens and passes each to `each` as it is drawn; `each` returns
  /// whether to continue. Its memory does not grow with the text.
  package func generate(prompt: [Int32], count: Int, each: (Int32) throws -> Bool) throws {
    decoder.begin()
    guard count > 0 else { return }
    var logits = try decoder.append(prompt)
    for index in 0..<count {
      let token = draw(logits, at: UInt64(index))
      guard try each(token) else { return }
      if index + 1 < count { logits = try decoder.append([token]) }
    }
  }

  /// Draws one token from logits; `place` selects the random number.
  package func draw(_ logits: UnsafeBufferPointer<Real>, at place: UInt64) -> Int32 {
    var ranked = ranked(logits)
    guard let best = ranked.first, options.temperature > 0 else { return Int32(ranked.first ?? 0) }
    if options.topK > 0, ranked.count > options.topK { ranked.removeLast(ranked.count - options.topK) }
    let weights = ranked.map {
      SameEverywhere.exp(max(-700, (Double(logits[$0]) - Double(logits[best])) / options.temperature))
    }
    let total = weights.reduce(0, +)
    var nucleus = 0.0
    var size = 0
    while size < weights.count && (size == 0 || nucleus < options.topP * total) {
      nucleus += weights[size]
      size += 1
    }
    var left = random.uniform(place) * nucleus
    for index in 0..<size {
      left -= weights[index]
      if left < 0 { return Int32(ranked[index]) }
    }
    return Int32(ranked[size - 1])
  }

  /// The allowed tokens, the likeliest first. Tokens with equal logits are ordered by number, so that a seed always
  /// gives the same text.
  private func ranked(_ logits: UnsafeBufferPointer<Real>) -> [Int] {
    let allowed = logits.indices.filter { !options.forbidden.contains(Int32($0)) }
    guard options.temperature > 0 else {
      return allowed.max { logits[$0] == logits[$1] ? $0 > $1 : logits[$0] < logits[$1] }.map { [$0] } ?? []
    }
    return allowed.sorted { logits[$0] == logits[$1] ? $0 < $1 : logits[$0] > logits[$1] }
  }
}
