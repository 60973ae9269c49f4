// A regular expression, compiled by PCRE2, and the search for it in linear time.
//
// PCRE2 backtracks: with `\s+$`, a megabyte of spaces would take it hours. Two measures bound the work. From a place,
// it may first take `steps` attempts and look `window` bytes ahead, which is enough for words. Where it needs more, it
// gets more, and what it gets is paid from a budget in proportion to the length of the text. An exhausted budget is an
// error; a slow machine is not, since no clock is read.

import CPCRE2

/// A compiled pattern. It is immutable, so threads can share it.
final class Pattern: @unchecked Sendable {
  /// The pattern as it was given.
  let source: String
  /// Whether what matches may depend on the text before it.
  let looksBack: Bool
  fileprivate let code: OpaquePointer

  /// - Parameter isLiteral: whether the pattern is a text to be found as it is.
  init(_ source: String, isLiteral: Bool) throws(PatternTranslation.Refusal) {
    self.source = source
    let translated: [UInt8]
    if isLiteral {
      guard !source.isEmpty else { throw PatternTranslation.Refusal(reason: "it is empty") }
      translated = source.unicodeScalars.flatMap { Array("\\x{\(String($0.value, radix: 16))}".utf8) }
      looksBack = false
    } else {
      let translation = try PatternTranslation(source)
      (translated, looksBack) = (translation.output, translation.looksBack)
    }
    var error: Int32 = 0, place = 0
    let compiled = ress_pcre_compile(translated, translated.count, &error, &place)
    guard let compiled else {
      var text = [UInt8](repeating: 0, count: 256)
      ress_pcre_error_text(error, &text, text.count)
      throw PatternTranslation.Refusal(reason: String(decoding: text.prefix { $0 != 0 }, as: UTF8.self))
    }
    code = compiled
  }

  deinit { ress_pcre_free(code) }
}

/// Searches for patterns, on one thread.
final class PatternSearch {
  enum Fault: Error, Equatable {
    /// The budget is exhausted, or memory is.
    case tooSlow(pattern: String)

    var tokenizerError: TokenizerError {
      switch self {
      case .tooSlow(let pattern): .patternTooSlow(pattern: pattern)
      }
    }
  }

  enum Found: Equatable {
    case match(Range<Int>)
    case none
    /// What matches from there on depends on text that is still to come.
    case unknown(from: Int)
  }

  private let match: OpaquePointer
  private let context: OpaquePointer
  /// Attempts and bytes that may still be used beyond what every place has.
  private var budget = 0

  private static let steps = 1_000, window = 4_096
  private static let budgetPerByte = 100, leastBudget = 1 << 20
  /// Most memory of a search, for patterns that repeat a group.
  private static let kibibytes: UInt32 = 256 << 10

  init() {
    // A search needs the borders of the whole match alone.
    match = pcre2_match_data_create_8(1, nil)
    context = ress_pcre_context_create()
  }

  deinit {
    ress_pcre_match_free(match)
    ress_pcre_context_free(context)
  }

  /// Sets the budget for a text.
  func begin(_ text: UnsafeBufferPointer<UInt8>) { budget = Self.leastBudget + Self.budgetPerByte * text.count }

  /// The first match that begins at `from` or later. The text must be UTF-8.
  /// - Parameter isWhole: whether the text ends at its end, or more of it is to come.
  func find(
    _ pattern: Pattern, in text: UnsafeBufferPointer<UInt8>, from: Int, isWhole: Bool
  ) throws(Fault) -> Found {
    var from = from
    while from <= text.count {
      let end = Self.characterStart(text, min(text.count, from + Self.window))
      switch attempt(pattern, text, from, end, isWhole, isAnchored: false, steps: Self.steps) {
      case .match(let range): return .match(range)
      case .none where end == text.count: return .none
      case .none: from = end
      case .partial(let start) where start > from: from = start
      case .partial, .limit:
        // Place by place, with more where that is necessary.
        let last = end
        while from < last || from == text.count {
          switch try patiently(pattern, text, from, isWhole) {
          case .none where from == text.count: return .none
          case .none: from = Self.nextCharacter(text, from)
          case let found: return found
          }
        }
      }
    }
    return .none
  }

  /// A match that begins exactly at `from`.
  private func patiently(
    _ pattern: Pattern, _ text: UnsafeBufferPointer<UInt8>, _ from: Int, _ isWhole: Bool
  ) throws(Fault) -> Found {
    var steps = Self.steps, window = Self.window
    while true {
      let end = Self.characterStart(text, min(text.count, from + window))
      switch attempt(pattern, text, from, end, isWhole, isAnchored: true, steps: steps) {
      case .match(let range): return .match(range)
      case .none: return .none
      case .partial where end == text.count: return .unknown(from: from)
      case .partial:
        window *= 4
        try pay(min(window, text.count - from), pattern)
      case .limit:
        steps *= 10
        try pay(steps, pattern)
      }
    }
  }

  private func pay(_ amount: Int, _ pattern: Pattern) throws(Fault) {
    budget -= amount
    if budget < 0 { throw .tooSlow(pattern: pattern.source) }
  }

  private enum Attempt { case match(Range<Int>), none, partial(from: Int), limit }

  private func attempt(
    _ pattern: Pattern, _ text: UnsafeBufferPointer<UInt8>, _ from: Int, _ end: Int, _ isWhole: Bool, isAnchored: Bool,
    steps: Int
  ) -> Attempt {
    let isPartial = end < text.count || !isWhole
    let code = ress_pcre_search(
      pattern.code, text.baseAddress, end, from, isAnchored ? 1 : 0, isPartial ? 1 : 0, UInt32(clamping: steps),
      Self.kibibytes, match, context)
    switch code {
    case ress_pcre_no_match(): return .none
    case ress_pcre_partial(): return .partial(from: pcre2_get_startchar_8(match))
    case 0...: return .match(ress_pcre_match_start(match)..<ress_pcre_match_end(match))
    // The limit of attempts, or that of memory.
    default: return .limit
    }
  }

  private static func characterStart(_ text: UnsafeBufferPointer<UInt8>, _ place: Int) -> Int {
    var place = place
    while place < text.count, text[place] & 0xC0 == 0x80 { place -= 1 }
    return place
  }

  private static func nextCharacter(_ text: UnsafeBufferPointer<UInt8>, _ place: Int) -> Int {
    var place = place + 1
    while place < text.count, text[place] & 0xC0 == 0x80 { place += 1 }
    return place
  }
}
