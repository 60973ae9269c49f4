// The errors of a configuration, with their locations, so that a user can find and fix them. The decoder collects as
// many problems as it can: a file with three mistakes takes one attempt, not three.

/// The source of a value of a configuration.
package enum ConfigurationSource: Equatable, Sendable, CustomStringConvertible {
  /// A file as a whole, such as one that cannot be read.
  case file(String)
  /// Lines and columns are counted from 1.
  case place(file: String, line: Int, column: Int)
  /// An option of the command line, as it was written: `--set model.width=64`.
  case option(String)

  package var description: String {
    switch self {
    case .file(let name): name
    case .place(let file, let line, let column): "\(file):\(line):\(column)"
    case .option(let text): text
    }
  }

  /// The order of two locations in one file; other sources have no order.
  func isBefore(_ other: ConfigurationSource) -> Bool {
    guard case .place(_, let line, let column) = self, case .place(_, let otherLine, let otherColumn) = other else {
      return false
    }
    return (line, column) < (otherLine, otherColumn)
  }
}

/// One mistake: its location, and what was expected and found there.
package struct ConfigurationProblem: Equatable, Sendable, CustomStringConvertible {
  package var source: ConfigurationSource
  package var message: String

  package init(_ source: ConfigurationSource, _ message: String) {
    self.source = source
    self.message = message
  }

  package var description: String { "\(source): \(message)" }
}

/// Every mistake found, in the order of the file, then of the options.
package struct ConfigurationError: Error, Equatable, Sendable, CustomStringConvertible {
  package var problems: [ConfigurationProblem]

  package init(_ problems: [ConfigurationProblem]) {
    precondition(!problems.isEmpty, "an error without a problem")
    self.problems = problems
  }

  package init(_ source: ConfigurationSource, _ message: String) {
    self.init([ConfigurationProblem(source, message)])
  }

  package var description: String { problems.map(\.description).joined(separator: "\n") }
}
