// Byte-level byte-pair encoding. A token is a sequence of bytes. In each piece of a text, the adjacent pair that
// was learned first is joined first, until no pair is left. Sennrich et al., arXiv 1508.07909; on bytes: Radford et
// al., GPT-2 (2019). Every byte is a token, so every text can be encoded, whether it is UTF-8 or not.

/// A vocabulary and its merges. It is immutable, so threads can share it; the state of encoding is in
/// `BytePairEncoder`.
package final class BytePairs: Sendable {
  package struct Merge: Equatable, Sendable {
    package var left: Int32
    package var right: Int32
    /// The token that both become.
    package var joined: Int32

    package init(left: Int32, right: Int32, joined: Int32) {
      self.left = left
      self.right = right
      self.joined = joined
    }
  }

  package let pretokenizer: Pretokenizer
  /// The bytes of each token. Those of a special token are its text; an unused number has none.
  package let tokens: [[UInt8]]
  /// In the order in which they were learned.
  package let merges: [Merge]
  /// Tokens that are searched in a text before the pattern divides it.
  package let added: [AddedToken]
  /// The added tokens that represent no text.
  package var specials: [AddedToken] { added.filter(\.isSpecial) }
  let specialNumbers: Set<Int32>
  let addedTokens: AddedTokenFinder
  /// Whether a piece that is a token becomes that token, even if no sequence of merges leads to it
  /// (`ignore_merges`, as in Llama 3).
  package let takesWholePieces: Bool
  let wholePieces: [[UInt8]: Int32]
  /// The token of each byte.
  let bytes: [Int32]
  let pairs: PairTable

  /// - Throws: where a byte has no token, or where the parts of a merge do not add up to its result.
  package init(
    pretokenizer: Pretokenizer, tokens: [[UInt8]], merges: [Merge], added: [AddedToken], takesWholePieces: Bool = false
  ) throws(TokenizerError) {
    self.pretokenizer = pretokenizer
    self.tokens = tokens
    self.merges = merges
    self.added = added
    specialNumbers = Set(added.filter(\.isSpecial).map(\.token))
    addedTokens = AddedTokenFinder(added)
    let special = Set(added.map(\.token))
    self.takesWholePieces = takesWholePieces
    var whole: [[UInt8]: Int32] = [:]
    if takesWholePieces {
      for (token, text) in tokens.enumerated() where !text.isEmpty && !special.contains(Int32(token)) {
        whole[text] = Int32(token)
      }
    }
    wholePieces = whole
    var bytes = [Int32](repeating: -1, count: 256)
    for (token, text) in tokens.enumerated() where text.count == 1 && !special.contains(Int32(token)) {
      bytes[Int(text[0])] = Int32(token)
    }
    if let missing = bytes.firstIndex(of: -1) { throw .noTokenOfByte(missing) }
    self.bytes = bytes
    pairs = PairTable(capacity: merges.count)
    for (rank, merge) in merges.enumerated() {
      let all = [merge.left, merge.right, merge.joined]
      guard all.allSatisfy({ tokens.indices.contains(Int($0)) }),
        tokens[Int(merge.left)] + tokens[Int(merge.right)] == tokens[Int(merge.joined)]
      else { throw .badMerge(rank) }
      pairs.insert(merge, rank: Int32(rank))
    }
  }

  package var vocabulary: Int { tokens.count }

  /// The added token with that text.
  package func special(_ text: String) -> Int32? { added.first { $0.text == text }?.token }

  /// The bytes of tokens. Numbers outside of the vocabulary have none.
  package func decode(_ list: some Sequence<Int32>) -> [UInt8] {
    var text: [UInt8] = []
    for token in list where tokens.indices.contains(Int(token)) { text += tokens[Int(token)] }
    return text
  }
}

/// For each pair of tokens, what they become and how early that was learned. A hash table with open addressing, at
/// most half full.
final class PairTable: @unchecked Sendable {
  struct Entry {
    /// −1 for an empty slot.
    var left: Int32
    var right: Int32
    var rank: Int32
    var joined: Int32
  }

  static let none = Int32.max
  private let entries: UnsafeMutablePointer<Entry>
  private let mask: Int

  init(capacity: Int) {
    var size = 16
    while size < 2 * capacity { size *= 2 }
    mask = size - 1
    entries = .allocate(capacity: size)
    entries.initialize(repeating: Entry(left: -1, right: -1, rank: Self.none, joined: -1), count: size)
  }

  deinit { entries.deallocate() }

  /// Inserts a merge. Of several merges of one pair, the first counts.
  func insert(_ merge: BytePairs.Merge, rank: Int32) {
    var place = slot(merge.left, merge.right)
    while entries[place].left >= 0 {
      if entries[place].left == merge.left && entries[place].right == merge.right { return }
      place = (place + 1) & mask
    }
    entries[place] = Entry(left: merge.left, right: merge.right, rank: rank, joined: merge.joined)
  }

  /// The rank of a pair and what it becomes; the rank is `none` where the pair is not joined.
  @inline(__always)
  func find(_ left: Int32, _ right: Int32) -> (rank: Int32, joined: Int32) {
    var place = slot(left, right)
    while true {
      let entry = entries[place]
      if entry.left == left && entry.right == right { return (entry.rank, entry.joined) }
      if entry.left < 0 { return (Self.none, -1) }
      place = (place + 1) & mask
    }
  }

  @inline(__always)
  private func slot(_ left: Int32, _ right: Int32) -> Int {
    let key = UInt64(UInt32(bitPattern: left)) << 32 | UInt64(UInt32(bitPattern: right))
    return Int(truncatingIfNeeded: (key &* 0x9E37_79B9_7F4A_7C15) >> 20) & mask
  }
}

package enum TokenizerError: Error, Equatable, CustomStringConvertible {
  case noTokenOfByte(Int)
  case badMerge(Int)
  case file(path: String, problem: String)
  case vocabularyTooSmall(asked: Int, least: Int)
  case noText
  case badSpecial(text: String, problem: String)
  case badPattern(pattern: String, reason: String)
  /// A search for the pattern needs more work than the length of the text allows.
  case patternTooSlow(pattern: String)
  /// SentencePiece's library could not encode a text.
  case notEncoded

  package var description: String {
    switch self {
    case .noTokenOfByte(let byte):
      "the vocabulary has no token for byte \(byte); a byte-level tokenizer has one for each of the 256 bytes"
    case .badMerge(let rank): "merge \(rank + 1) names tokens that are not in the vocabulary, or do not make its result"
    case .file(let path, let problem): "\(path): \(problem)"
    case .vocabularyTooSmall(let asked, let least):
      "a vocabulary of \(asked) is too small: 256 bytes and the special tokens are \(least)"
    case .noText: "there is no text to learn from"
    case .badSpecial(let text, let problem): "the special token '\(text)' \(problem)"
    case .badPattern(let pattern, let reason): "the pattern \(pattern) cannot be used: \(reason)"
    case .patternTooSlow(let pattern):
      "a search for the pattern \(pattern) would take time that grows faster than the text; choose a tokenizer without it, or "
        + "divide the long runs of characters in the text"
    case .notEncoded: "SentencePiece's library could not encode a text; it may lack memory"
    }
  }
}
