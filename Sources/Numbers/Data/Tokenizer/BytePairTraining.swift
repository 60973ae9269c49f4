// Learns a byte-pair vocabulary: the most frequent pair of adjacent tokens becomes a token, repeatedly, until the
// vocabulary is full. Of equally frequent pairs, the one with the smaller tokens is taken first, as in Hugging
// Face's trainer, so that both learn the same.

/// Counts the pieces of texts, and learns a vocabulary from the counts.
package struct BytePairTraining {
  package var pretokenizer = Pretokenizer.gpt2
  /// Number of tokens to learn, including the 256 bytes and the special tokens.
  package var vocabulary = 8192
  /// Special tokens, which get the first numbers.
  package var specials = ["<|endoftext|>"]
  /// Least count of a pair that is joined.
  package var leastCount = 2
  private var counts: [[UInt8]: Int] = [:]

  package init() {}

  /// Counts the pieces of a text, which must begin and end at borders of pieces.
  package mutating func read(_ text: UnsafeBufferPointer<UInt8>) {
    var start = 0
    while start < text.count {
      let end = pretokenizer.end(text, from: start)
      counts[Array(text[start..<end]), default: 0] += 1
      start = end
    }
  }

  /// Adds the counts of another thread.
  package mutating func add(_ other: BytePairTraining) { counts.merge(other.counts, uniquingKeysWith: +) }

  package var pieceCount: Int { counts.count }

  /// Learns the vocabulary. `progress` is called with the number of tokens so far.
  package func learn(progress: (Int) -> Void = { _ in }) throws(TokenizerError) -> BytePairs {
    try checkSpecials()
    let least = 256 + specials.count
    guard vocabulary >= least else { throw .vocabularyTooSmall(asked: vocabulary, least: least) }
    guard !counts.isEmpty else { throw .noText }
    var tokens = specials.map { Array($0.utf8) } + ByteAlphabet.inOrder.map { [$0] }
    var numbers = Dictionary(uniqueKeysWithValues: tokens.enumerated().map { ($0.element, Int32($0.offset)) })
    var byteTokens = [Int32](repeating: 0, count: 256)
    for (place, byte) in ByteAlphabet.inOrder.enumerated() { byteTokens[Int(byte)] = Int32(specials.count + place) }
    // Sorted, so that equal counts give the same vocabulary in every process.
    var words = counts.sorted { $0.key.lexicographicallyPrecedes($1.key) }.map { piece, count in
      Word(parts: piece.map { byteTokens[Int($0)] }, count: count)
    }
    var pairs = PairCounts(words)
    var merges: [BytePairs.Merge] = []
    let specialTexts = Set(specials.map { Array($0.utf8) })
    while tokens.count < vocabulary, let (pair, places) = pairs.commonest(atLeast: leastCount) {
      let text = tokens[Int(pair.left)] + tokens[Int(pair.right)]
      // A token's text and its name in a file must be unique; those of special tokens are taken.
      if specialTexts.contains(text) || specialTexts.contains(Array(ByteAlphabet.text(of: text).utf8)) { continue }
      // Different pairs may produce the same token.
      let joined = numbers[text] ?? Int32(tokens.count)
      if joined == tokens.count {
        tokens.append(text)
        numbers[text] = joined
      }
      merges.append(BytePairs.Merge(left: pair.left, right: pair.right, joined: joined))
      for place in places {
        let count = words[Int(place)].count
        words[Int(place)].join(pair, to: joined) { changed, change in
          pairs.add(changed, change * count, in: place)
        }
      }
      pairs.offerChanged()
      progress(tokens.count)
    }
    return try BytePairs(
      pretokenizer: pretokenizer, tokens: tokens, merges: merges,
      added: specials.enumerated().map { AddedToken(text: $0.element, token: Int32($0.offset)) })
  }

  /// - Throws: where a special token is empty, listed twice, or the name of a byte.
  func checkSpecials() throws(TokenizerError) {
    var seen: Set<[UInt8]> = []
    for special in specials {
      let text = Array(special.utf8)
      if text.isEmpty { throw .badSpecial(text: special, problem: "is empty") }
      if text.count == 1 || ByteAlphabet.bytes(of: special)?.count == 1 {
        throw .badSpecial(
          text: special, problem: "is the name of a byte, which has a token of its own; take a longer text")
      }
      if !seen.insert(text).inserted { throw .badSpecial(text: special, problem: "is named twice") }
    }
  }
}

private struct Pair: Hashable {
  var left: Int32
  var right: Int32

  static func < (a: Pair, b: Pair) -> Bool { (a.left, a.right) < (b.left, b.right) }
}

private struct Word {
  var parts: [Int32]
  let count: Int

  /// Joins every occurrence of a pair, from left to right, and reports changed counts: pairs that disappeared (−1)
  /// and new ones (1).
  mutating func join(_ pair: Pair, to joined: Int32, changed: (Pair, Int) -> Void) {
    var place = 0
    while place + 1 < parts.count {
      if parts[place] == pair.left, parts[place + 1] == pair.right {
        if place > 0 {
          changed(Pair(left: parts[place - 1], right: pair.left), -1)
          changed(Pair(left: parts[place - 1], right: joined), 1)
        }
        parts[place] = joined
        parts.remove(at: place + 1)
        if place + 1 < parts.count {
          changed(Pair(left: pair.right, right: parts[place + 1]), -1)
          changed(Pair(left: joined, right: parts[place + 1]), 1)
        }
      }
      place += 1
    }
  }
}

/// How often each pair occurs, and in which words. The most frequent pair is found with a heap. Its entries may be
/// outdated, and are checked when they reach the top; that is correct because counts only decrease until a pair is
/// pushed again.
private struct PairCounts {
  private var counts: [Pair: Int] = [:]
  private var places: [Pair: [Int32]] = [:]
  private var heap: [(pair: Pair, count: Int)] = []
  /// Pairs whose count has increased since they were last pushed.
  private var grown: Set<Pair> = []

  init(_ words: [Word]) {
    for (place, word) in words.enumerated() {
      for (left, right) in zip(word.parts, word.parts.dropFirst()) {
        add(Pair(left: left, right: right), word.count, in: Int32(place))
      }
    }
    offerChanged()
  }

  mutating func add(_ pair: Pair, _ change: Int, in place: Int32) {
    counts[pair, default: 0] += change
    guard change > 0 else { return }
    grown.insert(pair)
    if places[pair]?.last != place { places[pair, default: []].append(place) }
  }

  mutating func offerChanged() {
    for pair in grown { if let count = counts[pair], count > 0 { push((pair, count)) } }
    grown.removeAll(keepingCapacity: true)
  }

  /// Removes the most frequent pair. Returns it, and the words that may contain it.
  mutating func commonest(atLeast least: Int) -> (Pair, [Int32])? {
    while let (pair, count) = pop() {
      let now = counts[pair] ?? 0
      if now != count {
        if now > 0 { push((pair, now)) }
        continue
      }
      guard count >= least else { return nil }
      counts[pair] = nil
      // A word may be listed twice, with another one in between.
      return (pair, Array(Set(places.removeValue(forKey: pair) ?? [])))
    }
    return nil
  }

  private func comes(_ a: Int, before b: Int) -> Bool {
    heap[a].count != heap[b].count ? heap[a].count > heap[b].count : heap[a].pair < heap[b].pair
  }

  private mutating func push(_ entry: (Pair, Int)) {
    heap.append(entry)
    var place = heap.count - 1
    while place > 0, comes(place, before: (place - 1) / 2) {
      heap.swapAt(place, (place - 1) / 2)
      place = (place - 1) / 2
    }
  }

  private mutating func pop() -> (pair: Pair, count: Int)? {
    guard let first = heap.first else { return nil }
    let last = heap.removeLast()
    guard !heap.isEmpty else { return first }
    heap[0] = last
    var place = 0
    while true {
      var best = place
      for child in [2 * place + 1, 2 * place + 2] where child < heap.count && comes(child, before: best) {
        best = child
      }
      if best == place { return first }
      heap.swapAt(place, best)
      place = best
    }
  }
}
