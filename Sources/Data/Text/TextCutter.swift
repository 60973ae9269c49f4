// Where a long text may be cut, so that its pieces are encoded each for itself: threads share them, and a file of any size is read in
// little memory. A cut changes no token: each pattern ends a piece where letters or digits end, whatever stands before, and looks ahead
// only where white space is. So a place between a letter and anything else, or between a digit and anything else, is one in any script.

package struct TextCutter {
  /// Bytes of a text without such a place (one word, or the letters of a genome) that are encoded together; a longer one is cut anyway.
  package static let longestWord = 1 << 20

  /// Tokens that are matched before patterns are: no cut touches one.
  private let added: AddedTokenFinder

  package init(_ tokenizer: Tokenizer = .byte) {
    switch tokenizer {
    case .byte: added = AddedTokenFinder([])
    case .bytePairs(let table):
      added = table.added.contains { !$0.isSpecial } ? table.addedTokens : AddedTokenFinder([])
    }
  }

  /// Bytes behind a place that must be known before it can be said to be one: a character, or an added token.
  var margin: Int { max(4, added.longest) }

  /// The last such place after `lower`; nil where there is none.
  package func lastCut(_ text: UnsafeBufferPointer<UInt8>, after lower: Int = 0) -> Int? {
    var place = text.count - margin
    while place > lower {
      if isCut(text, place) { return place }
      place -= 1
    }
    return nil
  }

  /// Where a text without such a place is cut: at its end, but for the bytes of a character that is not there whole.
  func forcedCut(_ text: UnsafeBufferPointer<UInt8>) -> Int {
    let last = text.count - margin
    var place = last
    while place > max(0, last - 1024) {
      if text[place] & 0xC0 != 0x80, !added.touches(text, place) { return place }
      place -= 1
    }
    return last
  }

  /// Hands over a whole text in pieces of about `longestWord`.
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

  @inline(__always)
  private func isCut(_ text: UnsafeBufferPointer<UInt8>, _ place: Int) -> Bool {
    // A character that is not read from its first byte is none.
    var first = place - 1
    while first > max(0, place - 4), text[first] & 0xC0 == 0x80 { first -= 1 }
    let (before, length) = CharacterClasses.read(text, at: first)
    guard first + length == place, before != .space else { return false }
    let after = CharacterClasses.read(text, at: place).class
    guard before != after else { return false }
    // Punctuation takes the ends of lines with it, and may itself belong to letters that follow.
    if before == .other, after != .space || text[place] == 10 || text[place] == 13 {
      return false
    }
    return !added.touches(text, place)
  }
}
