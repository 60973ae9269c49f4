// Finds places where a long text may be cut so that its pieces can be tokenized independently, by several threads
// and in little memory.
//
// Such a cut must not change any token. The written pretokenizers' patterns end a piece where letters or digits end,
// whatever comes before, and they look ahead only at white space. Hence a place between a letter and another
// character, or between a digit and another character, is a safe cut, in any script. For other patterns the pieces
// are searched from the beginning of the text, and the border of one that no later text can change is a safe cut.
// With SentencePiece it is a space between two ASCII letters or digits, if the vocabulary has no piece across it.

package struct TextCutter {
  /// Longest text without a safe cut (a single word, or the letters of a genome) that is encoded together; a longer
  /// one is cut anyway.
  package static let longestWord = 1 << 20

  /// Tokens that are matched before the pattern. A cut must not be inside one.
  private let added: AddedTokenFinder
  private enum Rule {
    /// Between a letter or digit and another character.
    case characters
    /// At the borders of the pieces that it finds.
    case patterns(TextDivider)
    /// Before a space between two ASCII letters or digits.
    case spaces
    case nowhere
  }
  private let rule: Rule

  package init(_ tokenizer: Tokenizer = .byte) {
    switch tokenizer {
    case .byte: (added, rule) = (AddedTokenFinder([]), .characters)
    case .bytePairs(let table):
      added = table.added.contains { !$0.isSpecial } ? table.addedTokens : AddedTokenFinder([])
      if case .patterns(let division) = table.pretokenizer {
        rule = .patterns(TextDivider(division))
      } else {
        rule = .characters
      }
    case .pieces(let model): (added, rule) = (AddedTokenFinder([]), model.canBeCutAtSpaces ? .spaces : .nowhere)
    }
  }

  /// Bytes after a place that must be known to decide whether it is a safe cut: a character, or an added token.
  var margin: Int { max(4, added.longest) }

  /// The last safe cut after `lower`; nil where there is none.
  package func lastCut(_ text: UnsafeBufferPointer<UInt8>, after lower: Int = 0) -> Int? {
    switch rule {
    case .characters, .spaces: break
    case .patterns(let divider): return lastBorder(text, divider)
    case .nowhere: return nil
    }
    var place = text.count - margin
    while place > lower {
      if isCut(text, place) { return place }
      place -= 1
    }
    return nil
  }

  /// Where to cut a text without a safe cut: at its end, but not inside a character or an added token.
  func forcedCut(_ text: UnsafeBufferPointer<UInt8>) -> Int {
    let last = text.count - margin
    var place = last
    while place > max(0, last - 1024) {
      if text[place] & 0xC0 != 0x80, !added.touches(text, place) { return place }
      place -= 1
    }
    return last
  }

  /// Passes on a whole text in pieces of about `longestWord` bytes. With SentencePiece the second and later ones must
  /// be encoded as such, which `TextPiece.beginsDocument` shows.
  package func forEachPiece(_ text: [UInt8], _ body: ([UInt8]) throws -> Void) rethrows {
    var start = 0
    while text.count - start > 2 * Self.longestWord {
      let cut = text.withUnsafeBufferPointer { all in
        let piece = UnsafeBufferPointer(rebasing: all[start..<start + Self.longestWord])
        return lastCut(piece) ?? forcedCut(piece)
      }
      try body(Array(text[start..<start + cut]))
      start += cut
    }
    try body(start == 0 ? text : Array(text[start...]))
  }

  /// The last border of a pattern's piece in the text after the last added token.
  private func lastBorder(_ text: UnsafeBufferPointer<UInt8>, _ divider: TextDivider) -> Int? {
    guard text.count > margin else { return nil }
    var start = 0
    added.forEach(text, withSpecials: false) { plain in
      start = plain.baseAddress! - text.baseAddress!
    } token: { _ in
      start = text.count
    }
    guard start < text.count else { return nil }
    let plain = UnsafeBufferPointer(rebasing: text[start...])
    guard let border = divider.lastBorder(plain, before: plain.count - margin), border > 0,
      // An added token may take the white space before it.
      !added.hasOthers || CharacterClasses.read(plain, at: border - 1).class != .space,
      !added.touches(text, start + border)
    else { return nil }
    return start + border
  }

  private func isSpaceInText(_ text: UnsafeBufferPointer<UInt8>, _ place: Int) -> Bool {
    func isPlain(_ byte: UInt8) -> Bool {
      (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte & 0xDF)
    }
    return text[place] == 0x20 && isPlain(text[place - 1]) && isPlain(text[place + 1])
  }

  @inline(__always)
  private func isCut(_ text: UnsafeBufferPointer<UInt8>, _ place: Int) -> Bool {
    if case .spaces = rule { return isSpaceInText(text, place) }
    // `place` must be the end of a complete character.
    var first = place - 1
    while first > max(0, place - 4), text[first] & 0xC0 == 0x80 { first -= 1 }
    let (before, length) = CharacterClasses.read(text, at: first)
    guard first + length == place, before != .space else { return false }
    let after = CharacterClasses.read(text, at: place).class
    guard before != after else { return false }
    // A pattern's punctuation includes line ends after it, and may itself be followed by letters of the same piece.
    if before == .other, after != .space || text[place] == 10 || text[place] == 13 {
      return false
    }
    return !added.touches(text, place)
  }
}
