// Translates a pattern of a tokenizer.json for PCRE2.
//
// Hugging Face's `tokenizers` compiles patterns with Oniguruma, in the syntax of Ruby. Most of it means the same in
// PCRE2; what means something else is written differently here (`\s`, `\w`, `\h`, `\v`, `{1,3}+`, `\p{Han}`, …), and
// what has no equal is refused, because tokens that differ silently would make a model worse without an error.
//
// The classes of characters are those of PCRE2's version of Unicode (14 in Debian 12). Characters that were assigned
// later belong to no class of letters here.

struct PatternTranslation {
  /// Why a pattern is refused.
  struct Refusal: Error, Equatable { let reason: String }

  /// The pattern as PCRE2 reads it, in UTF-8.
  private(set) var output: [UInt8] = []
  /// Whether what matches may depend on the text before it. Such a text cannot be cut at the border of a piece.
  private(set) var looksBack = false
  private var input: [Unicode.Scalar]
  private var place = 0
  /// Where the last atom begins in `output`; nil where a quantifier has no atom.
  private var atom: Int?
  private var wasQuantified = false
  /// For each open group: where it begins, and whether case was ignored before it.
  private var groups: [(start: Int, ignoresCase: Bool)] = []
  private var ignoresCase = false

  /// White space of Unicode, which `\s` means in Oniguruma; PCRE2's `\s` has U+180E as well.
  private static let space =
    #"\x{09}-\x{0D}\x{20}\x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000}"#
  private static let notSpace =
    #"\x{00}-\x{08}\x{0E}-\x{1F}\x{21}-\x{84}\x{86}-\x{9F}\x{A1}-\x{167F}\x{1681}-\x{1FFF}\x{200B}-\x{2027}"#
    + #"\x{202A}-\x{202E}\x{2030}-\x{205E}\x{2060}-\x{2FFF}\x{3001}-\x{10FFFF}"#
  /// What `\w` means in brackets. Outside of them Oniguruma adds the superscripts and fractions of Latin-1.
  private static let wordInBrackets = #"\p{Alphabetic}\p{M}\p{Nd}\p{Pc}"#
  private static let word = wordInBrackets + #"\x{B2}\x{B3}\x{B9}\x{BC}-\x{BE}"#
  private static let categories: Set<String> = [
    "L", "Lu", "Ll", "Lt", "Lm", "Lo", "M", "Mn", "Mc", "Me", "N", "Nd", "Nl", "No", "P", "Pc", "Pd", "Ps", "Pe", "Pi",
    "Pf", "Po", "S", "Sm", "Sc", "Sk", "So", "Z", "Zs", "Zl", "Zp", "C", "Cc", "Cf", "Co", "Alphabetic",
  ]
  /// Pairs of letters that Oniguruma also finds as one character (ß, ﬀ, ﬁ, ﬂ, ﬆ, …) where case is ignored.
  private static let folded = ["ss", "ff", "fi", "fl", "st"]

  init(_ pattern: String) throws(Refusal) {
    input = Array(pattern.unicodeScalars)
    if input.isEmpty { throw Refusal(reason: "it is empty") }
    while let next = peek() { try element(next) }
    guard groups.isEmpty else { throw Refusal(reason: "a group is not closed") }
  }

  private func peek(_ offset: Int = 0) -> Unicode.Scalar? {
    input.indices.contains(place + offset) ? input[place + offset] : nil
  }

  private func continues(with text: String, at offset: Int = 0) -> Bool {
    text.unicodeScalars.enumerated().allSatisfy { peek(offset + $0.offset) == $0.element }
  }

  // MARK: Elements

  private mutating func element(_ next: Unicode.Scalar) throws(Refusal) {
    switch next {
    case "(": try group()
    case ")":
      guard let opened = groups.popLast() else { throw Refusal(reason: "a bracket closes no group") }
      output += ")".utf8
      place += 1
      (atom, wasQuantified, ignoresCase) = (opened.start, false, opened.ignoresCase)
    case "|", "$":
      output.append(UInt8(ascii: next))
      place += 1
      atom = nil
    case "^":
      output += "^".utf8
      place += 1
      (atom, looksBack) = (nil, true)
    case "*", "+", "?": try quantifier(String(next), length: 1)
    case "{": try interval()
    case "[": begin(try charactersInBrackets())
    case "\\": try escape()
    case ".":
      place += 1
      begin(".")
    default:
      place += 1
      begin(Self.quoted(next))
      if ignoresCase { try checkFolding() }
    }
  }

  private mutating func begin(_ text: String) {
    atom = output.count
    wasQuantified = false
    output += text.utf8
  }

  private static func quoted(_ scalar: Unicode.Scalar) -> String {
    let isPlain = scalar.value > 0x7F || scalar.properties.isAlphabetic || (0x30...0x39).contains(scalar.value)
    return isPlain || scalar == " " ? String(Character(scalar)) : "\\x{\(String(scalar.value, radix: 16))}"
  }

  /// - Throws: where two letters in a row could also be matched by one character.
  private func checkFolding() throws(Refusal) {
    let last = String(String.UnicodeScalarView(input[max(0, place - 2)..<place])).lowercased()
    if Self.folded.contains(last) {
      throw Refusal(reason: "'\(last)' where case is ignored also means a single character, which PCRE2 does not match")
    }
  }

  private mutating func group() throws(Refusal) {
    let before = ignoresCase
    var opening = "("
    place += 1
    if peek() == "?" {
      let known = [("?:", "?:"), ("?=", "?="), ("?!", "?!"), ("?>", "?>"), ("?<=", "?<="), ("?<!", "?<!")]
      if let (text, written) = known.first(where: { continues(with: $0.0) }) {
        place += text.unicodeScalars.count
        opening += written
        looksBack = looksBack || text.hasPrefix("?<")
      } else if continues(with: "?i:") {
        place += 3
        opening += "?i:"
        ignoresCase = true
      } else if continues(with: "?-i:") {
        place += 4
        opening += "?-i:"
        ignoresCase = false
      } else if continues(with: "?i)") {
        place += 3
        output += "(?i)".utf8
        (ignoresCase, atom) = (true, nil)
        return
      } else {
        throw Refusal(
          reason: "a group '(\(String(String.UnicodeScalarView(input[place..<min(place + 3, input.count)])))…'")
      }
    }
    groups.append((output.count, before))
    output += opening.utf8
    atom = nil
  }

  // MARK: Repetition

  private mutating func quantifier(_ text: String, length: Int) throws(Refusal) {
    guard atom != nil else { throw Refusal(reason: "'\(text)' repeats nothing") }
    guard !wasQuantified else { throw Refusal(reason: "a repetition of a repetition") }
    place += length
    output += text.utf8
    // `++`, `*+`, `?+` keep what they matched, and `+?`, `*?`, `??` take as little as possible, in both.
    if let next = peek(), next == "+" || next == "?" {
      output.append(UInt8(ascii: next))
      place += 1
    }
    wasQuantified = true
  }

  /// `{2}`, `{2,}`, `{,3}`, `{2,3}`. In Ruby's syntax a `+` after it repeats again, and a `?` after `{2}` makes it
  /// optional.
  private mutating func interval() throws(Refusal) {
    var end = place + 1
    while end < input.count, input[end] == "," || ("0"..."9").contains(input[end]) { end += 1 }
    let bounds = input[(place + 1)..<end].split(separator: ",", omittingEmptySubsequences: false)
    guard end < input.count, input[end] == "}", (1...2).contains(bounds.count), bounds.contains(where: { !$0.isEmpty })
    else { throw Refusal(reason: "a brace that does not begin a repetition; \\{ means the character") }
    guard let start = atom, !wasQuantified else { throw Refusal(reason: "a repetition repeats nothing") }
    let numbers = bounds.map { String(String.UnicodeScalarView($0)) }
    guard numbers.allSatisfy({ ($0.isEmpty ? 0 : Int($0) ?? .max) <= 1000 }) else {
      throw Refusal(reason: "a repetition of more than 1,000 times")
    }
    place = end + 1
    let isExact = numbers.count == 1
    output += "{\(numbers[0].isEmpty ? "0" : numbers[0])\(isExact ? "" : "," + numbers[1])}".utf8
    wasQuantified = true
    switch peek() {
    case "+":
      place += 1
      output.insert(contentsOf: "(?:".utf8, at: start)
      output += ")+".utf8
    case "?" where isExact: throw Refusal(reason: "'?' after an exact repetition")
    case "?":
      place += 1
      output += "?".utf8
    default: break
    }
  }

  // MARK: Characters

  private mutating func escape() throws(Refusal) {
    if continues(with: "\\b") || continues(with: "\\B") {
      let (w, isInside) = ("[\(Self.word)]", peek(1) == "B")
      place += 2
      output +=
        (isInside
        ? "(?:(?<=\(w))(?=\(w))|(?<!\(w))(?!\(w)))" : "(?:(?<=\(w))(?!\(w))|(?<!\(w))(?=\(w)))").utf8
      (atom, looksBack) = (nil, true)
      return
    }
    for anchor in ["\\A", "\\z", "\\Z"] where continues(with: anchor) {
      place += 2
      output += anchor.utf8
      (atom, looksBack) = (nil, true)
      return
    }
    if continues(with: "\\R") {
      place += 2
      return begin("\\R")
    }
    if continues(with: "\\W") {
      place += 2
      return begin("[^\(Self.word)]")
    }
    let isWord = continues(with: "\\w")
    let (text, isSet) = try character()
    begin(isWord ? "[\(Self.word)]" : isSet ? "[\(text)]" : text)
    if ignoresCase { try checkFolding() }
  }

  /// A character after a backslash, or a set of characters, as it is written inside brackets.
  private mutating func character() throws(Refusal) -> (text: String, isSet: Bool) {
    guard let next = peek(1) else { throw Refusal(reason: "it ends with a backslash") }
    place += 2
    switch next {
    case "s": return (Self.space, true)
    case "S": return (Self.notSpace, true)
    case "d": return (try property("Nd", isNegated: false), true)
    case "D": return (try property("Nd", isNegated: true), true)
    case "w":
      try refuseFolding()
      return (Self.wordInBrackets, true)
    case "h": return ("0-9A-Fa-f", true)
    case "p", "P": return (try property(isNegated: next == "P"), true)
    case "t": return ("\\x{09}", false)
    case "n": return ("\\x{0A}", false)
    case "v": return ("\\x{0B}", false)
    case "f": return ("\\x{0C}", false)
    case "r": return ("\\x{0D}", false)
    case "a": return ("\\x{07}", false)
    case "e": return ("\\x{1B}", false)
    case "x" where peek() == "{": return (try code(closing: true, most: 6), false)
    case "x": return (try code(closing: false, most: 2, limit: 0x7F), false)
    case "u": return (try code(closing: false, most: 4, least: 4), false)
    default:
      guard next.value < 0x80, !next.properties.isAlphabetic, !("0"..."9").contains(next) else {
        throw Refusal(reason: "'\\\(Character(next))'")
      }
      return (Self.quoted(next), false)
    }
  }

  private mutating func code(closing: Bool, most: Int, least: Int = 1, limit: UInt32 = 0x10FFFF) throws(Refusal)
    -> String
  {
    if closing { place += 1 }
    var digits = ""
    while digits.count < most, let next = peek(), next.properties.isASCIIHexDigit {
      digits.unicodeScalars.append(next)
      place += 1
    }
    if closing {
      guard peek() == "}" else { throw Refusal(reason: "'\\x{\(digits)' is not closed") }
      place += 1
    }
    guard digits.count >= least, let value = UInt32(digits, radix: 16), value <= limit, Unicode.Scalar(value) != nil
    else {
      throw Refusal(reason: "the code '\(digits)' does not mean a character")
    }
    return "\\x{\(digits)}"
  }

  private mutating func property(isNegated: Bool) throws(Refusal) -> String {
    guard peek() == "{", let end = input[place...].firstIndex(of: "}") else {
      throw Refusal(reason: "\\p without braces")
    }
    var name = String(String.UnicodeScalarView(input[(place + 1)..<end]))
    place = end + 1
    let isInverted = name.hasPrefix("^")
    if isInverted { name.removeFirst() }
    guard !name.isEmpty, name.unicodeScalars.allSatisfy({ $0.properties.isAlphabetic || $0 == "_" }) else {
      throw Refusal(reason: "the property '\(name)'")
    }
    return try property(name, isNegated: isNegated != isInverted)
  }

  /// By default PCRE2 takes the name of a script for all characters that are used in it; `sc:` means the script itself.
  private func property(_ name: String, isNegated: Bool) throws(Refusal) -> String {
    try refuseFolding()
    return (isNegated ? "\\P{" : "\\p{") + (Self.categories.contains(name) ? name : "sc:" + name) + "}"
  }

  private func refuseFolding() throws(Refusal) {
    if ignoresCase { throw Refusal(reason: "a class of characters where case is ignored") }
  }

  /// `[…]` as PCRE2 reads it.
  private mutating func charactersInBrackets() throws(Refusal) -> String {
    place += 1
    var text = "["
    if peek() == "^" {
      place += 1
      text += "^"
    }
    guard peek() != "]" else { throw Refusal(reason: "an empty bracket") }
    // Whether a '-' here would make a range, and whether one has begun.
    var mayBegin = false, hasBegun = false
    func add(_ item: String, isSet: Bool) throws(Refusal) {
      guard !hasBegun || !isSet else { throw Refusal(reason: "a range that ends with a class") }
      text += item
      (mayBegin, hasBegun) = (!isSet && !hasBegun, false)
    }
    while let next = peek() {
      switch next {
      case "]":
        guard !hasBegun else { throw Refusal(reason: "a range without an end") }
        place += 1
        return text + "]"
      case "[":
        guard continues(with: "[:"), let (name, set) = Self.posix.first(where: { continues(with: "[:\($0.0):]") })
        else {
          throw Refusal(reason: "a bracket inside a bracket; \\[ means the character")
        }
        try refuseFolding()
        place += name.unicodeScalars.count + 4
        try add(set, isSet: true)
      case "&" where peek(1) == "&": throw Refusal(reason: "an intersection, '&&'")
      case "-" where mayBegin && peek(1) != "]":
        place += 1
        text += "-"
        (mayBegin, hasBegun) = (false, true)
      case "\\":
        if ["\\b", "\\B", "\\W", "\\R", "\\A", "\\z", "\\Z"].contains(where: { continues(with: $0) }) {
          throw Refusal(reason: "'\\\(Character(input[place + 1]))' inside a bracket")
        }
        let (item, isSet) = try character()
        try add(item, isSet: isSet)
      default:
        place += 1
        try add(Self.quoted(next), isSet: false)
      }
    }
    throw Refusal(reason: "a bracket is not closed")
  }

  private static let posix = [
    ("alpha", #"\p{Alphabetic}"#), ("digit", #"\p{Nd}"#), ("space", space), ("punct", #"\p{P}\p{S}"#),
    ("xdigit", "0-9A-Fa-f"),
  ]
}
