// One thing to learn: tokens, and what is asked of them.

/// An example on its way into a dataset.
struct Example {
  /// Features of all tokens.
  var features: [Int32] = []
  /// First feature of each token, and the end of the last one's; empty where each token is one feature.
  var bags: [Int32] = []
  /// As the head wants them (docs/model.md, "Heads"): a class, a class a token, or a first and a last token. −1 asks for nothing.
  var targets: [Int32] = []
  /// Whether it begins a question; the answers that are offered to one question follow each other.
  var beginsQuestion = true
  /// Texts that are right, where an answer is a piece of text.
  var answers: [String] = []

  var tokenCount: Int { bags.isEmpty ? features.count : bags.count - 1 }

  /// Adds a token that is the sum of features.
  mutating func append(bag: [Int32]) {
    if bags.isEmpty { bags = [0] }
    features += bag
    bags.append(Int32(features.count))
  }
}

/// Names of classes in the order of their numbers.
struct LabelNames {
  private(set) var names: [String] = []
  private var numbers: [String: Int32] = [:]
  private var areNumbers: Bool?

  /// Whole numbers are classes themselves; true and false are 1 and 0; names are numbered as they come. Nil for anything else.
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
