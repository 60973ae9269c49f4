// What a dataset asks of a model, and with it which rows it is made of (docs/tasks.md).

import Configuration

package enum TaskKind: String, CaseIterable, Sendable {
  /// The next token.
  case lm
  /// A class for a text.
  case classify
  /// One of several answers.
  case multipleChoice = "multiple_choice"
  /// Where in a text the answer stands.
  case span
  /// A class for each word.
  case tag
  /// A class for a statement about a table, whose cells are tokens without order.
  case tables
  /// A class for a node of a graph, whose neighbours are tokens without order.
  case graphs

  package var head: Head {
    switch self {
    case .lm: .lm
    case .classify, .multipleChoice, .tables: .classify
    case .span: .span
    case .tag, .graphs: .tag
    }
  }

  /// Targets of an example of so many tokens.
  func targetCount(tokens: Int) -> Int {
    switch head {
    case .lm, .tag: tokens
    case .classify: 1
    case .span: 2
    }
  }

  /// Where an example's targets begin, its first token and its number among the examples given.
  func firstTarget(example: Int, token: Int) -> Int {
    switch head {
    case .lm, .tag: token
    case .classify: example
    case .span: 2 * example
    }
  }

  /// Whether a token is a bag of features.
  var hasBags: Bool { self == .tables || self == .graphs }
}
