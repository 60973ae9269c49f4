// The task of a dataset: what a model is trained to predict, and what the dataset's rows look like (docs/tasks.md).

import Configuration

package enum TaskKind: String, CaseIterable, Sendable {
  /// The next token.
  case lm
  /// A class for a text.
  case classify
  /// One of several answers.
  case multipleChoice = "multiple_choice"
  /// The position of the answer in a text.
  case span
  /// A class for each word.
  case tag
  /// A class for a statement about a table. The table's cells are tokens without an order.
  case tables
  /// A class for a node of a graph. The nodes around it are tokens without an order.
  case graphs

  package var head: Head {
    switch self {
    case .lm: .lm
    case .classify, .multipleChoice, .tables: .classify
    case .span: .span
    case .tag, .graphs: .tag
    }
  }

  /// Number of targets of an example with that many tokens.
  func targetCount(tokens: Int) -> Int {
    switch head {
    case .lm, .tag: tokens
    case .classify: 1
    case .span: 2
    }
  }

  /// Index of an example's first target. `token` is the index of its first token, `example` its own.
  func firstTarget(example: Int, token: Int) -> Int {
    switch head {
    case .lm, .tag: token
    case .classify: example
    case .span: 2 * example
    }
  }

  /// Whether rows have relations between tokens, or make them.
  package var hasRelations: Bool { self == .tag || hasBags }

  /// Whether tokens have several features.
  var hasBags: Bool { self == .tables || self == .graphs }
}
