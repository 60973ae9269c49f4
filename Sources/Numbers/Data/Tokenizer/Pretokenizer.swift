// Divides text into pieces that tokens do not cross: roughly words, each with the space before it. The patterns are
// published as regular expressions. The two commonest are written out as code here, because a backtracking engine
// would be by far the slowest part of encoding; any other is a `TextDivision`.

package enum Pretokenizer: Equatable, Sendable {
  /// GPT-2's: 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
  case gpt2
  /// GPT-4's, and Llama 3's: (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|
  /// ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
  case gpt4
  /// The patterns of a tokenizer.json, one after the other.
  case patterns(TextDivision)

  /// Those that are written out as code. A vocabulary can be learned with them.
  package static let written: [Pretokenizer] = [.gpt2, .gpt4]

  /// `gpt2` or `gpt4`; for others a short description.
  package var name: String {
    switch self {
    case .gpt2: "gpt2"
    case .gpt4: "gpt4"
    case .patterns(let division): division.steps.count == 1 ? "its own" : "\(division.steps.count) of its own"
    }
  }

  package var pattern: String {
    switch self {
    case .patterns(let division): division.steps.map(\.pattern).joined(separator: ", then ")
    case .gpt2: #"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"#
    case .gpt4:
      #"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"#
    }
  }

  /// The end of the piece that begins at `start`, which must be inside the text. Only for those that are written out.
  @inline(__always)
  func end(_ text: UnsafeBufferPointer<UInt8>, from start: Int) -> Int {
    switch self {
    case .gpt2: Self.gpt2End(text, start)
    case .gpt4: Self.gpt4End(text, start)
    case .patterns: preconditionFailure("pieces of patterns are found by TextDivider")
    }
  }

  private static let space = UInt8(ascii: " ")

  private static func gpt2End(_ text: UnsafeBufferPointer<UInt8>, _ start: Int) -> Int {
    if text[start] == UInt8(ascii: "'"), let end = contraction(text, start, anyCase: false) { return end }
    // A space belongs to what follows, unless that is white space too.
    var place = text[start] == space && start + 1 < text.count ? start + 1 : start
    var (kind, length) = CharacterClasses.read(text, at: place)
    if kind == .space {
      // All white space except the last character, which may belong to what follows.
      (place, kind) = (start, .space)
      return spaceEnd(text, start)
    }
    place += length
    return run(text, place, of: kind)
  }

  private static func gpt4End(_ text: UnsafeBufferPointer<UInt8>, _ start: Int) -> Int {
    let byte = text[start]
    if byte == UInt8(ascii: "'"), let end = contraction(text, start, anyCase: true) { return end }
    let (kind, length) = CharacterClasses.read(text, at: start)
    let next = start + length
    if kind == .letter { return run(text, next, of: .letter) }
    if kind == .number {
      var end = next
      for _ in 0..<2 {
        guard end < text.count, case (.number, let more) = CharacterClasses.read(text, at: end) else { break }
        end += more
      }
      return end
    }
    let isLineEnd = isLineEnd(byte)
    // Any other character, except a line end, is one piece with letters that follow it.
    if !isLineEnd, next < text.count, case (.letter, let more) = CharacterClasses.read(text, at: next) {
      return run(text, next + more, of: .letter)
    }
    if kind == .other { return lineEnds(text, run(text, next, of: .other)) }
    if byte == space, next < text.count, case (.other, let more) = CharacterClasses.read(text, at: next) {
      return lineEnds(text, run(text, next + more, of: .other))
    }
    // White space up to the last line end in it.
    var end = start, lastLineEnd: Int?
    while end < text.count, case (.space, let more) = CharacterClasses.read(text, at: end) {
      if Self.isLineEnd(text[end]) { lastLineEnd = end + 1 }
      end += more
    }
    return lastLineEnd ?? spaceEnd(text, start)
  }

  @inline(__always)
  private static func isLineEnd(_ byte: UInt8) -> Bool { byte == 10 || byte == 13 }

  @inline(__always)
  private static func run(_ text: UnsafeBufferPointer<UInt8>, _ start: Int, of kind: CharacterClass) -> Int {
    var place = start
    while place < text.count {
      let (next, length) = CharacterClasses.read(text, at: place)
      guard next == kind else { break }
      place += length
    }
    return place
  }

  private static func lineEnds(_ text: UnsafeBufferPointer<UInt8>, _ start: Int) -> Int {
    var place = start
    while place < text.count, isLineEnd(text[place]) { place += 1 }
    return place
  }

  /// `\s+(?!\S)|\s+`: white space up to the end of the text; or all of it except the last character, where
  /// something follows.
  private static func spaceEnd(_ text: UnsafeBufferPointer<UInt8>, _ start: Int) -> Int {
    var place = start, last = start
    while place < text.count, case (.space, let length) = CharacterClasses.read(text, at: place) {
      last = place
      place += length
    }
    return place == text.count || last == start ? place : last
  }

  /// 's, 't, 're, 've, 'm, 'll, 'd.
  private static func contraction(_ text: UnsafeBufferPointer<UInt8>, _ start: Int, anyCase: Bool) -> Int? {
    func letter(_ offset: Int) -> UInt8 {
      guard start + offset < text.count else { return 0 }
      let byte = text[start + offset]
      return anyCase && (65...90).contains(byte) ? byte | 0x20 : byte
    }
    let (first, second) = (letter(1), letter(2))
    switch first {
    case UInt8(ascii: "s"), UInt8(ascii: "t"), UInt8(ascii: "m"), UInt8(ascii: "d"): return start + 2
    case UInt8(ascii: "r") where second == UInt8(ascii: "e"), UInt8(ascii: "v") where second == UInt8(ascii: "e"),
      UInt8(ascii: "l") where second == UInt8(ascii: "l"):
      return start + 3
    // U+017F, the long s, equals an s when case is ignored.
    case 0xC5 where anyCase && second == 0xBF: return start + 3
    default: return nil
    }
  }
}
