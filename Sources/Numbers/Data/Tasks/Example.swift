// One example of a task while it is prepared: tokens, and targets for them.

/// An example to be written to a dataset.
struct Example {
  /// Features of all tokens.
  var features: [Int32] = []
  /// Index of the first feature of each token, and the end of the last one's; empty where every token has one
  /// feature.
  var bags: [Int32] = []
  /// Targets in the form that the head needs (docs/model.md, "Heads"): a class, a class per token, or a first and a
  /// last token. −1 for none.
  var targets: [Int32] = []
  /// Whether it begins a question. The examples of one question, one for each choice, follow each other.
  var beginsQuestion = true
  /// Right answers, for tasks whose answer is a piece of text.
  var answers: [String] = []
  /// Relations between tokens, in both directions.
  var relations: Set<Relation> = []

  var tokenCount: Int { bags.isEmpty ? features.count : bags.count - 1 }

  /// Appends a token that has several features.
  mutating func append(bag: [Int32]) {
    if bags.isEmpty { bags = [0] }
    features += bag
    bags.append(Int32(features.count))
  }

  /// Relates two tokens: `other` is of a kind for `token`, and `token` of a kind for `other`.
  mutating func relate(_ token: Int, _ other: Int, _ kind: Int, back: Int? = nil) {
    relations.insert(Relation(token: Int32(token), other: Int32(other), kind: Int32(kind)))
    relations.insert(Relation(token: Int32(other), other: Int32(token), kind: Int32(back ?? kind)))
  }

  /// Token, related token and kind of each relation, in ascending order: the form in which a dataset has them.
  var relationTriples: [Int32] { relations.sorted().flatMap { [$0.token, $0.other, $0.kind] } }
}

/// That a token is related to another in some way.
struct Relation: Hashable, Comparable {
  var token, other, kind: Int32

  static func < (a: Relation, b: Relation) -> Bool { (a.token, a.other, a.kind) < (b.token, b.other, b.kind) }
}

/// The names of classes, numbered in the order in which they occur.
struct LabelNames {
  private(set) var names: [String] = []
  private var numbers: [String: Int32] = [:]
  private var areNumbers: Bool?

  /// The number of a label. Whole numbers are classes themselves, true and false are 1 and 0, and names are
  /// numbered as they occur. Nil for anything else, and where numbers and names are mixed.
  mutating func number(of label: Any?) -> Int32? {
    switch label {
    case let text as String:
      guard areNumbers != true else { return nil }
      areNumbers = false
      if let known = numbers[text] { return known }
      let next = Int32(names.count)
      names.append(text)
      numbers[text] = next
      return next
    case let value as Int where (0..<1 << 24).contains(value):
      guard areNumbers != false else { return nil }
      areNumbers = true
      while names.count <= value { names.append("\(names.count)") }
      return Int32(value)
    default: return nil
    }
  }
}
