// Added tokens: tokens that are searched in a text before the pattern divides it. Some are special and represent no
// text (such as <|endoftext|>); others were added to a vocabulary for texts such as runs of spaces or the tags of
// tools. Matching follows Hugging Face's `tokenizers` (`AddedVocabulary`): from left to right, longest first; first
// the tokens that no normalizer changes, then the others in what is left.

package struct AddedToken: Equatable, Sendable {
  /// Its text.
  package var text: String
  package var token: Int32
  /// Whether it represents no text. Then it is matched only on request, and left out when tokens are decoded.
  package var isSpecial = true
  /// `lstrip` and `rstrip`: whether it includes the white space before and after it.
  package var takesSpaceBefore = false
  package var takesSpaceAfter = false
  /// Whether it is matched only where no letter, digit, mark or underscore is next to it.
  package var isSingleWord = false
  /// Whether it is matched after the tokens for which this is false.
  package var isNormalized = false

  package init(text: String, token: Int32) {
    self.text = text
    self.token = token
  }
}

/// Searches added tokens. It is immutable, so threads can share it.
struct AddedTokenFinder: Sendable {
  /// The texts as a trie of bytes.
  private struct Tree: Sendable {
    /// The next node for each byte, 256 per node; 0 for none.
    var next = [Int32](repeating: 0, count: 256)
    /// Index of the token whose text ends at a node, or −1.
    var ends: [Int32] = [-1]

    mutating func insert(_ text: [UInt8], _ token: Int) {
      var node = 0
      for byte in text {
        if next[node * 256 + Int(byte)] == 0 {
          next[node * 256 + Int(byte)] = Int32(ends.count)
          next += [Int32](repeating: 0, count: 256)
          ends.append(-1)
        }
        node = Int(next[node * 256 + Int(byte)])
      }
      ends[node] = Int32(token)
    }

    /// The longest text that begins at a place.
    @inline(__always)
    func longest(_ text: UnsafeBufferPointer<UInt8>, at start: Int) -> (end: Int, token: Int)? {
      var node = Int(next[Int(text[start])]), place = start + 1
      if node == 0 { return nil }
      var found: (Int, Int)?
      while true {
        if ends[node] >= 0 { found = (place, Int(ends[node])) }
        guard place < text.count else { break }
        node = Int(next[node * 256 + Int(text[place])])
        if node == 0 { break }
        place += 1
      }
      return found
    }
  }

  private let tokens: [AddedToken]
  private var trees = [Tree(), Tree()]
  /// Length of the longest text in bytes.
  private(set) var longest = 0
  private(set) var hasSpecial = false
  /// Whether there are tokens that are matched in every text.
  private(set) var hasOthers = false

  init(_ tokens: [AddedToken]) {
    self.tokens = tokens
    for (place, token) in tokens.enumerated() where !token.text.isEmpty {
      let text = Array(token.text.utf8)
      trees[token.isNormalized ? 1 : 0].insert(text, place)
      longest = max(longest, text.count)
      if token.isSpecial { hasSpecial = true } else { hasOthers = true }
    }
  }

  /// Divides a text into added tokens and the text between them, in order.
  func forEach(
    _ text: UnsafeBufferPointer<UInt8>, withSpecials: Bool, plain: (UnsafeBufferPointer<UInt8>) -> Void,
    token: (Int32) -> Void
  ) {
    split(text, trees[0], withSpecials, token) { rest in split(rest, trees[1], withSpecials, token, plain) }
  }

  private func split(
    _ text: UnsafeBufferPointer<UInt8>, _ tree: Tree, _ withSpecials: Bool, _ report: (Int32) -> Void,
    _ plain: (UnsafeBufferPointer<UInt8>) -> Void
  ) {
    if tree.ends.count == 1 { return plain(text) }
    // Beginning of the text that is not matched yet.
    var done = 0, place = 0
    while place < text.count {
      guard let (found, number) = tree.longest(text, at: place) else {
        place += 1
        continue
      }
      let token = tokens[number]
      var (start, end) = (place, found)
      place = found
      if token.isSpecial && !withSpecials { continue }
      if token.isSingleWord, Self.isWord(text, before: start) || Self.isWord(text, after: end) { continue }
      if token.takesSpaceBefore { start = max(Self.spaceStart(text, before: start), done) }
      if token.takesSpaceAfter { end = Self.spaceEnd(text, after: end) }
      if done < start { plain(UnsafeBufferPointer(rebasing: text[done..<start])) }
      report(token.token)
      done = end
    }
    if done < text.count { plain(UnsafeBufferPointer(rebasing: text[done...])) }
  }

  /// Whether the text of an added token, special or not, ends at a place, begins there, or extends across it.
  func touches(_ text: UnsafeBufferPointer<UInt8>, _ place: Int) -> Bool {
    if longest == 0 { return false }
    for start in max(0, place - longest)...min(place, text.count - 1) {
      for tree in trees { if let (end, _) = tree.longest(text, at: start), end >= place { return true } }
    }
    return false
  }

  // MARK: Characters next to a token

  private static func scalar(_ text: UnsafeBufferPointer<UInt8>, before place: Int) -> (Unicode.Scalar, length: Int)? {
    guard place > 0 else { return nil }
    var first = place - 1
    while first > max(0, place - 4), text[first] & 0xC0 == 0x80 { first -= 1 }
    guard let (value, length) = CharacterClasses.scalar(text, at: first), first + length == place else { return nil }
    return Unicode.Scalar(value).map { ($0, length) }
  }

  private static func scalar(_ text: UnsafeBufferPointer<UInt8>, after place: Int) -> (Unicode.Scalar, length: Int)? {
    guard place < text.count, let (value, length) = CharacterClasses.scalar(text, at: place) else { return nil }
    return Unicode.Scalar(value).map { ($0, length) }
  }

  private static func isWord(_ text: UnsafeBufferPointer<UInt8>, before place: Int) -> Bool {
    scalar(text, before: place).map { isWord($0.0) } ?? false
  }

  private static func isWord(_ text: UnsafeBufferPointer<UInt8>, after place: Int) -> Bool {
    scalar(text, after: place).map { isWord($0.0) } ?? false
  }

  /// `\w` as in Unicode Technical Standard 18.
  private static func isWord(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.properties.generalCategory {
    case .nonspacingMark, .spacingMark, .enclosingMark, .decimalNumber, .connectorPunctuation: true
    default: scalar.properties.isAlphabetic || scalar.properties.isJoinControl
    }
  }

  private static func spaceStart(_ text: UnsafeBufferPointer<UInt8>, before place: Int) -> Int {
    var place = place
    while let (scalar, length) = scalar(text, before: place), scalar.properties.isWhitespace { place -= length }
    return place
  }

  private static func spaceEnd(_ text: UnsafeBufferPointer<UInt8>, after place: Int) -> Int {
    var place = place
    while let (scalar, length) = scalar(text, after: place), scalar.properties.isWhitespace { place += length }
    return place
  }
}
