// Divides text into pieces by the steps of a tokenizer.json: each step divides every piece of the step before it. So a
// later pattern never sees beyond the piece. Matches become pieces as in Hugging Face's `tokenizers`
// (`NormalizedString::split`).

/// One pre-tokenizer of a tokenizer.json.
package struct DivisionStep: Equatable, Sendable {
  /// What becomes of a match.
  package enum Behavior: String, Sendable, Codable {
    case removed = "Removed", isolated = "Isolated", contiguous = "Contiguous"
    case mergedWithPrevious = "MergedWithPrevious", mergedWithNext = "MergedWithNext"
  }

  package var pattern: String
  /// Whether the pattern is a text and not a regular expression.
  package var isLiteral = false
  package var behavior = Behavior.isolated
  /// Whether what does not match is treated as the match, and the reverse.
  package var isInverted = false

  package init(_ pattern: String, isLiteral: Bool = false, behavior: Behavior = .isolated, isInverted: Bool = false) {
    self.pattern = pattern
    self.isLiteral = isLiteral
    self.behavior = behavior
    self.isInverted = isInverted
  }
}

/// The compiled steps. They are immutable, so threads can share them.
package final class TextDivision: Sendable, Equatable {
  package let steps: [DivisionStep]
  let patterns: [Pattern]

  /// - Throws: where a pattern cannot be translated.
  package init(_ steps: [DivisionStep]) throws(TokenizerError) {
    self.steps = steps
    var patterns: [Pattern] = []
    for step in steps {
      do throws(PatternTranslation.Refusal) {
        patterns.append(try Pattern(step.pattern, isLiteral: step.isLiteral))
      } catch { throw .badPattern(pattern: step.pattern, reason: error.reason) }
    }
    self.patterns = patterns
  }

  package static func == (a: TextDivision, b: TextDivision) -> Bool { a.steps == b.steps }

  /// The pieces of one text. For many texts, a `TextDivider` is faster.
  package func pieces(of text: [UInt8]) throws(TokenizerError) -> [Range<Int>] {
    let divider = TextDivider(self)
    do throws(PatternSearch.Fault) {
      return try text.withUnsafeBufferPointer { bytes throws(PatternSearch.Fault) in try divider.pieces(of: bytes) }
    } catch { throw error.tokenizerError }
  }
}

/// Divides texts, on one thread.
struct TextDivider {
  private let division: TextDivision
  private let search = PatternSearch()

  init(_ division: TextDivision) { self.division = division }

  /// The pieces of a text, in order. Bytes that are not UTF-8 are pieces of their own.
  func pieces(of text: UnsafeBufferPointer<UInt8>) throws(PatternSearch.Fault) -> [Range<Int>] {
    search.begin(text)
    var pieces: [Range<Int>] = []
    var start = 0
    while start < text.count {
      let end = Self.validEnd(text, from: start)
      if end > start {
        var parts = [start..<end]
        for (step, pattern) in zip(division.steps, division.patterns) {
          var next: [Range<Int>] = []
          for part in parts { try divide(text, part, step, pattern, isWhole: true, into: &next) }
          parts = next
        }
        pieces += parts
      }
      if end < text.count { pieces.append(end..<end + 1) }
      start = end + 1
    }
    return pieces
  }

  /// The last place before `limit` at which a piece of the first step ends whatever text follows; nil where none is
  /// known.
  func lastBorder(_ text: UnsafeBufferPointer<UInt8>, before limit: Int) -> Int? {
    guard let step = division.steps.first, let pattern = division.patterns.first, !pattern.looksBack else { return nil }
    search.begin(text)
    var matches: [(range: Range<Int>, isMatch: Bool)] = []
    // The end of the text may be the middle of a character.
    let end = Self.validEnd(text, from: 0)
    guard end > 0, end > text.count - 4,
      (try? scan(text, 0..<end, pattern, isWhole: false, into: &matches)) != nil
    else { return nil }
    // Indices of matches before which a piece begins.
    let borders = matches.indices.dropFirst().filter { place in
      let (one, next) = (matches[place - 1], matches[place])
      guard next.range.lowerBound < limit else { return false }
      return switch step.behavior {
      case .isolated, .removed: true
      case .contiguous: one.isMatch != next.isMatch
      case .mergedWithPrevious: one.isMatch != step.isInverted && next.isMatch == step.isInverted
      case .mergedWithNext: one.isMatch == step.isInverted && next.isMatch != step.isInverted
      }
    }
    // Pieces before the border may have looked beyond it, as `\s+(?!\S)` does at white space. So the text up to the
    // border is divided again, as if it ended there. Between a letter or digit and another character that mostly
    // changes nothing, so the last such border is tried first.
    let likely = borders.last { place in
      let border = matches[place].range.lowerBound
      let (before, after) = (CharacterClasses.classBefore(text, border), CharacterClasses.read(text, at: border).class)
      return before != after && (before == .letter || before == .number)
    }
    for place in [likely, borders.last].compactMap({ $0 }) {
      let border = matches[place].range.lowerBound
      search.begin(text)
      var again: [(range: Range<Int>, isMatch: Bool)] = []
      guard (try? scan(text, 0..<border, pattern, isWhole: true, into: &again)) != nil else { continue }
      if again.elementsEqual(matches[..<place], by: { $0.range == $1.range && $0.isMatch == $1.isMatch }) {
        return border
      }
    }
    return nil
  }

  private func divide(
    _ text: UnsafeBufferPointer<UInt8>, _ part: Range<Int>, _ step: DivisionStep, _ pattern: Pattern, isWhole: Bool,
    into pieces: inout [Range<Int>]
  ) throws(PatternSearch.Fault) {
    var found: [(range: Range<Int>, isMatch: Bool)] = []
    try scan(text, part, pattern, isWhole: isWhole, into: &found)
    if step.isInverted { for place in found.indices { found[place].isMatch.toggle() } }
    var made: [Range<Int>] = []
    switch step.behavior {
    case .isolated: made = found.map(\.range)
    case .removed: made = found.filter { !$0.isMatch }.map(\.range)
    case .contiguous:
      var wasMatch: Bool?
      for (range, isMatch) in found {
        if wasMatch == isMatch {
          made[made.count - 1] = made[made.count - 1].lowerBound..<range.upperBound
        } else {
          made.append(range)
        }
        wasMatch = isMatch
      }
    case .mergedWithPrevious:
      var wasMatch = false
      for (range, isMatch) in found {
        if isMatch, !wasMatch, let last = made.popLast() {
          made.append(last.lowerBound..<range.upperBound)
        } else {
          made.append(range)
        }
        wasMatch = isMatch
      }
    case .mergedWithNext:
      var wasMatch = false
      for (range, isMatch) in found.reversed() {
        if isMatch, !wasMatch, let next = made.popLast() {
          made.append(range.lowerBound..<next.upperBound)
        } else {
          made.append(range)
        }
        wasMatch = isMatch
      }
      made.reverse()
    }
    pieces += made.lazy.filter { !$0.isEmpty }
  }

  /// Divides a part into matches and what is between them. Where the part is not whole, it ends where a match is not
  /// certain.
  private func scan(
    _ text: UnsafeBufferPointer<UInt8>, _ part: Range<Int>, _ pattern: Pattern, isWhole: Bool,
    into found: inout [(range: Range<Int>, isMatch: Bool)]
  ) throws(PatternSearch.Fault) {
    let inside = UnsafeBufferPointer(rebasing: text[part])
    var done = 0, from = 0, lastEnd = -1
    while from <= inside.count {
      let range: Range<Int>
      switch try search.find(pattern, in: inside, from: from, isWhole: isWhole) {
      case .match(let found): range = found
      case .none:
        if !isWhole { return }
        from = inside.count + 1
        continue
      case .unknown: return
      }
      // As in `tokenizers`, an empty match directly after a match does not count.
      if range.isEmpty, range.lowerBound == lastEnd {
        from = range.upperBound + 1
        while from < inside.count, inside[from] & 0xC0 == 0x80 { from += 1 }
        continue
      }
      if done < range.lowerBound { found.append((part.lowerBound + done..<part.lowerBound + range.lowerBound, false)) }
      found.append((part.lowerBound + range.lowerBound..<part.lowerBound + range.upperBound, true))
      (done, from, lastEnd) = (range.upperBound, range.upperBound, range.upperBound)
    }
    if done < inside.count { found.append((part.lowerBound + done..<part.upperBound, false)) }
  }

  /// The end of the valid UTF-8 that begins at `start`.
  private static func validEnd(_ text: UnsafeBufferPointer<UInt8>, from start: Int) -> Int {
    var place = start
    while place < text.count {
      if text[place] < 0x80 {
        place += 1
      } else if let (_, length) = CharacterClasses.scalar(text, at: place) {
        place += length
      } else {
        break
      }
    }
    return place
  }
}
