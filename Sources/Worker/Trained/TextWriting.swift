// Writing text with a trained model: one text with all threads, or many at the same time with one thread each. The
// numbers of a text depend on its prompt, its options and its seed alone, so a text is the same alone and among
// others.

import Configuration
import Data
import Foundation
import Kernels
import Model
import Synchronization
import Training

/// A text to be written.
package struct TextRequest: Sendable {
  package var prompt: [Int32]
  /// Most tokens to write.
  package var count: Int
  package var options: SamplingOptions
  /// Strings before which the text ends.
  package var stops: [String]

  package init(prompt: [Int32], count: Int, options: SamplingOptions, stops: [String] = []) {
    self.prompt = prompt
    self.count = count
    self.options = options
    self.stops = stops
  }
}

package struct WrittenText: Equatable, Sendable {
  /// The text as bytes of UTF-8, without the prompt and without a stop string.
  package var bytes: [UInt8] = []
  /// Tokens that were drawn, those of a stop string included.
  package var tokenCount = 0
  /// The stop string that ended it; nil where it has all its tokens.
  package var stop: String?
}

extension TrainedModel {
  /// Continues a prompt and passes each piece of text to `each` as it is written.
  package func write(
    _ request: TextRequest, recurrence: Int? = nil, each: ([UInt8]) throws -> Void
  ) throws -> WrittenText {
    let decoder = Decoder(
      try decodingSizes([request], recurrence), weights: weights, team: team, exchange: experts)
    return try Self.write(request, decoder, try tokenizer, each: each)
  }

  /// Writes a text for each request, as many at a time as there are threads, and passes the texts to `each` in the
  /// order of the requests. The memory does not grow with the texts.
  package func write(
    _ requests: [TextRequest], recurrence: Int? = nil, each: @escaping (Int, WrittenText) throws -> Void
  ) throws {
    let tokenizer = try self.tokenizer
    let pool = DecoderPool(
      try decodingSizes(requests, recurrence), weights: weights, experts: experts, team: team, lanes: requests.count)
    let order = OrderedTexts(each)
    pool.run(requests.count) { number, decoder in
      do {
        try order.take(number, Self.write(requests[number], decoder, tokenizer) { _ in })
        return true
      } catch {
        order.fail(error)
        return false
      }
    }
    try order.finish()
  }

  private func decodingSizes(_ requests: [TextRequest], _ recurrence: Int?) throws -> Sizes {
    let model = manifest.configuration.model
    guard model.head == .lm else { throw ModelUseError.writesNoText(path: path, head: model.head) }
    let longest = requests.map { $0.prompt.count + $0.count }.max() ?? 0
    guard !model.isTransformer || longest <= model.segment else {
      throw ModelUseError.contextTooLong(path: path, tokens: longest, context: model.segment)
    }
    return try sizes(recurrence: recurrence)
  }

  private static func write(
    _ request: TextRequest, _ decoder: Decoder, _ tokenizer: Tokenizer, each: ([UInt8]) throws -> Void
  ) throws -> WrittenText {
    var text = WrittenText(), stops = StopStrings(request.stops)
    func add(_ bytes: [UInt8]) throws {
      text.bytes += bytes
      if !bytes.isEmpty { try each(bytes) }
    }
    try TextGenerator(decoder, request.options).generate(prompt: request.prompt, count: request.count) { token in
      text.tokenCount += 1
      let (bytes, stop) = stops.take(tokenizer.decode([token]))
      try add(bytes)
      text.stop = stop
      return stop == nil
    }
    try add(stops.rest())
    return text
  }
}

/// Passes texts on in the order of their numbers, whatever the order in which they are written.
private final class OrderedTexts: @unchecked Sendable {
  private struct State {
    var waiting: [Int: WrittenText] = [:]
    var next = 0
    var error: (any Error)?
  }

  private let state = Mutex(State())
  private let each: (Int, WrittenText) throws -> Void

  init(_ each: @escaping (Int, WrittenText) throws -> Void) { self.each = each }

  func take(_ number: Int, _ text: WrittenText) throws {
    try state.withLock { state in
      guard state.error == nil else { return }
      state.waiting[number] = text
      while let ready = state.waiting.removeValue(forKey: state.next) {
        try each(state.next, ready)
        state.next += 1
      }
    }
  }

  func fail(_ error: any Error) { state.withLock { $0.error = $0.error ?? error } }

  func finish() throws {
    if let error = state.withLock({ $0.error }) { throw error }
  }
}
