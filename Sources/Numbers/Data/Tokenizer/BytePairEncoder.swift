// Encodes text with a byte-pair vocabulary.
//
// Most words of a text occur many times, so the tokens of short pieces are cached. A new piece is joined pair by
// pair: by a linear search for the next pair where it is short, and with a heap where it is long, so that a
// megabyte without a space takes seconds and not a day.

/// An encoder for one thread.
package struct BytePairEncoder: ~Copyable {
  private let table: BytePairs
  private let memory: PieceMemory
  private var heap = MergeHeap()
  /// Only for patterns.
  private let divider: TextDivider?
  /// Set where a text could not be divided by its pattern. The rest of that text was encoded as one piece.
  package private(set) var problem: TokenizerError?

  package init(_ table: BytePairs) {
    self.table = table
    memory = PieceMemory()
    if case .patterns(let division) = table.pretokenizer { divider = TextDivider(division) } else { divider = nil }
  }

  /// Appends the tokens of a text. Added tokens are recognised by their text. Special ones are recognised only
  /// `withSpecials`; otherwise their text is encoded like any other, which is right for documents from untrusted
  /// authors. Returns `problem`.
  @discardableResult
  package mutating func encode(
    _ text: UnsafeBufferPointer<UInt8>, withSpecials: Bool = false, into tokens: inout [Int32]
  ) -> TokenizerError? {
    let added = table.addedTokens
    guard added.hasOthers || withSpecials && added.hasSpecial else {
      encodePlain(text, into: &tokens)
      return problem
    }
    var parts: [(text: UnsafeBufferPointer<UInt8>, token: Int32)] = []
    added.forEach(text, withSpecials: withSpecials) {
      parts.append(($0, -1))
    } token: {
      parts.append((.init(rebasing: text[..<0]), $0))
    }
    for part in parts {
      if part.token >= 0 { tokens.append(part.token) } else { encodePlain(part.text, into: &tokens) }
    }
    return problem
  }

  package mutating func encode(_ text: String, withSpecials: Bool = false) -> [Int32] {
    var tokens: [Int32] = []
    var text = text
    _ = text.withUTF8 { encode($0, withSpecials: withSpecials, into: &tokens) }
    return tokens
  }

  private mutating func encodePlain(_ text: UnsafeBufferPointer<UInt8>, into tokens: inout [Int32]) {
    tokens.reserveCapacity(tokens.count + text.count / 4)
    if let divider {
      var pieces = [0..<text.count]
      do throws(PatternSearch.Fault) { pieces = try divider.pieces(of: text) } catch {
        problem = error.tokenizerError
      }
      for piece in pieces { encodePiece(UnsafeBufferPointer(rebasing: text[piece]), into: &tokens) }
      return
    }
    var start = 0
    while start < text.count {
      let end = table.pretokenizer.end(text, from: start)
      encodePiece(UnsafeBufferPointer(rebasing: text[start..<end]), into: &tokens)
      start = end
    }
  }

  @inline(__always)
  private mutating func encodePiece(_ piece: UnsafeBufferPointer<UInt8>, into tokens: inout [Int32]) {
    if piece.count == 1 { return tokens.append(table.bytes[Int(piece[0])]) }
    guard piece.count <= PieceMemory.longest else { return join(piece, into: &tokens) }
    let slot = memory.slot(of: piece)
    if memory.append(piece, slot, to: &tokens) { return }
    let before = tokens.count
    join(piece, into: &tokens)
    memory.keep(piece, slot, tokens, from: before)
  }

  /// Appends the tokens of a piece that is not in the cache.
  private mutating func join(_ piece: UnsafeBufferPointer<UInt8>, into tokens: inout [Int32]) {
    if table.takesWholePieces, let token = table.wholePieces[Array(piece)] { return tokens.append(token) }
    if piece.count <= Self.shortPiece {
      joinShort(piece, into: &tokens)
    } else {
      heap.join(piece, table, into: &tokens)
    }
  }

  /// Longest piece that is joined by linear search.
  private static let shortPiece = 48

  /// Applies the merges of a short piece: repeatedly the one that was learned first (the least rank), and of equal
  /// ones the leftmost, until no adjacent pair has a merge. O(n²), but faster than the heap for the short pieces
  /// that text mostly consists of.
  private func joinShort(_ piece: UnsafeBufferPointer<UInt8>, into tokens: inout [Int32]) {
    withUnsafeTemporaryAllocation(of: Int32.self, capacity: 2 * piece.count) { room in
      let parts = room.baseAddress!
      // Rank of the pair that begins at each part.
      let ranks = parts + piece.count
      var count = piece.count
      for place in 0..<count { parts[place] = table.bytes[Int(piece[place])] }
      for place in 0..<count - 1 { ranks[place] = table.pairs.find(parts[place], parts[place + 1]).rank }
      ranks[count - 1] = PairTable.none
      while true {
        var best = PairTable.none, place = 0
        for candidate in 0..<count - 1 where ranks[candidate] < best { (best, place) = (ranks[candidate], candidate) }
        guard best != PairTable.none else { break }
        parts[place] = table.pairs.find(parts[place], parts[place + 1]).joined
        count -= 1
        for later in place + 1..<max(place + 1, count) {
          parts[later] = parts[later + 1]
          ranks[later] = ranks[later + 1]
        }
        ranks[place] =
          place + 1 < count ? table.pairs.find(parts[place], parts[place + 1]).rank : PairTable.none
        if place > 0 { ranks[place - 1] = table.pairs.find(parts[place - 1], parts[place]).rank }
      }
      tokens.append(contentsOf: UnsafeBufferPointer(start: parts, count: count))
    }
  }
}

/// A cache of the tokens of short pieces. A piece has one possible slot, where it replaces the piece before it.
private final class PieceMemory {
  static let longest = 24
  private static let mostTokens = 8
  private static let size = 1 << 15

  private struct Entry {
    var key: (UInt64, UInt64, UInt64) = (0, 0, 0)
    /// 0 for an empty slot.
    var length: UInt8 = 0
    var count: UInt8 = 0
    var tokens: (Int32, Int32, Int32, Int32, Int32, Int32, Int32, Int32) = (0, 0, 0, 0, 0, 0, 0, 0)
  }
  private let entries: UnsafeMutablePointer<Entry>
  /// Key of the piece for which `slot` was called last.
  private var key: (UInt64, UInt64, UInt64) = (0, 0, 0)

  init() {
    entries = .allocate(capacity: Self.size)
    entries.initialize(repeating: Entry(), count: Self.size)
  }

  deinit { entries.deallocate() }

  /// The slot of a piece: its bytes, padded with zeros, are the key, and a mix of the key's words (multipliers of
  /// SplitMix64 and of the fractional golden ratio) selects the slot. Keeps the key for `append` and `keep`.
  @inline(__always)
  func slot(of piece: UnsafeBufferPointer<UInt8>) -> Int {
    @inline(__always) func word(_ start: Int) -> UInt64 {
      let bytes = UnsafeRawPointer(piece.baseAddress!)
      if start + 8 <= piece.count { return bytes.loadUnaligned(fromByteOffset: start, as: UInt64.self) }
      var value: UInt64 = 0, shift: UInt64 = 0
      var place = start
      while place < piece.count {
        value |= UInt64(piece[place]) << shift
        shift += 8
        place += 1
      }
      return value
    }
    key = (word(0), piece.count > 8 ? word(8) : 0, piece.count > 16 ? word(16) : 0)
    var mixed = (key.0 ^ (key.0 >> 29)) &* 0xBF58_476D_1CE4_E5B9
    mixed = (mixed ^ key.1 ^ (mixed >> 31)) &* 0x94D0_49BB_1331_11EB
    mixed = (mixed ^ key.2 ^ (mixed >> 30)) &* 0x9E37_79B9_7F4A_7C15
    return Int(truncatingIfNeeded: mixed >> 33) & (Self.size - 1)
  }

  /// Appends the cached tokens of the piece; false where the slot has another piece.
  @inline(__always)
  func append(_ piece: UnsafeBufferPointer<UInt8>, _ slot: Int, to tokens: inout [Int32]) -> Bool {
    let entry = entries + slot
    guard Int(entry.pointee.length) == piece.count, entry.pointee.key == key else { return false }
    let count = Int(entry.pointee.count)
    if count == 1 {
      tokens.append(entry.pointee.tokens.0)
    } else {
      withUnsafePointer(to: &entry.pointee.tokens) { pointer in
        pointer.withMemoryRebound(to: Int32.self, capacity: Self.mostTokens) {
          tokens.append(contentsOf: UnsafeBufferPointer(start: $0, count: count))
        }
      }
    }
    return true
  }

  /// Caches the tokens that were appended from `start` on, unless there are too many for an entry.
  func keep(_ piece: UnsafeBufferPointer<UInt8>, _ slot: Int, _ tokens: [Int32], from start: Int) {
    let count = tokens.count - start
    guard count <= Self.mostTokens else { return }
    entries[slot].key = key
    entries[slot].length = UInt8(piece.count)
    entries[slot].count = UInt8(count)
    withUnsafeMutablePointer(to: &entries[slot].tokens) { pointer in
      pointer.withMemoryRebound(to: Int32.self, capacity: Self.mostTokens) {
        for place in 0..<count { $0[place] = tokens[start + place] }
      }
    }
  }
}

/// Joins a long piece in O(n log n): always the pair that was learned first and, of equal ones, the leftmost.
private struct MergeHeap {
  private struct Candidate {
    var rank: Int32
    var place: Int32
    var left: Int32
    var right: Int32

    @inline(__always)
    static func < (a: Self, b: Self) -> Bool { (a.rank, a.place) < (b.rank, b.place) }
  }
  private var candidates: [Candidate] = []

  mutating func join(_ piece: UnsafeBufferPointer<UInt8>, _ table: BytePairs, into tokens: inout [Int32]) {
    var parts = piece.map { table.bytes[Int($0)] }
    // A linked list of the remaining parts; −1 at its ends.
    var next = parts.indices.map { $0 + 1 < parts.count ? $0 + 1 : -1 }
    var previous = parts.indices.map { $0 - 1 }
    candidates.removeAll(keepingCapacity: true)
    func offer(_ heap: inout MergeHeap, _ place: Int) {
      guard place >= 0, next[place] >= 0 else { return }
      let (left, right) = (parts[place], parts[next[place]])
      let rank = table.pairs.find(left, right).rank
      if rank != PairTable.none {
        heap.push(Candidate(rank: rank, place: Int32(place), left: left, right: right))
      }
    }
    for place in parts.indices { offer(&self, place) }
    while let candidate = pop() {
      let place = Int(candidate.place)
      // One of the two parts may have been joined with another meanwhile; then the candidate is outdated.
      guard parts[place] == candidate.left, next[place] >= 0, parts[next[place]] == candidate.right else { continue }
      let gone = next[place]
      parts[place] = table.pairs.find(candidate.left, candidate.right).joined
      parts[gone] = -1
      next[place] = next[gone]
      if next[gone] >= 0 { previous[next[gone]] = place }
      offer(&self, place)
      offer(&self, previous[place])
    }
    var place = 0
    while place >= 0 {
      tokens.append(parts[place])
      place = next[place]
    }
  }

  private mutating func push(_ candidate: Candidate) {
    candidates.append(candidate)
    var place = candidates.count - 1
    while place > 0, candidates[place] < candidates[(place - 1) / 2] {
      candidates.swapAt(place, (place - 1) / 2)
      place = (place - 1) / 2
    }
  }

  /// Removes the candidate with the least rank and, of equal ones, the leftmost; nil where the heap is empty.
  private mutating func pop() -> Candidate? {
    guard let first = candidates.first else { return nil }
    let last = candidates.removeLast()
    guard !candidates.isEmpty else { return first }
    candidates[0] = last
    var place = 0
    while true {
      var least = place
      for child in [2 * place + 1, 2 * place + 2]
      where child < candidates.count && candidates[child] < candidates[least] {
        least = child
      }
      if least == place { return first }
      candidates.swapAt(place, least)
      place = least
    }
  }
}
