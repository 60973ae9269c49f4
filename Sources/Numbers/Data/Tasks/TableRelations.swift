// Which tokens of a table and of a statement about it are related.

/// The kinds of relations of tables.
enum TableRelation {
  /// Cells of one row, cells of one column, a header and the cells of its column.
  static let row = 0, column = 1, header = 2
  /// A word of the statement, and the header or cell whose text it is part of.
  static let mention = 3
  static let count = 4
}

extension Example {
  /// Relates the cells of one row, the cells of one column, and the header of a column with its cells.
  /// - Parameter places: row and column of each token; nil for a token outside of the grid, and no row for a header.
  mutating func relateCells(_ places: [(row: Int?, column: Int)?]) {
    var rows: [Int: [Int]] = [:], columns: [Int: [Int]] = [:], headers: [Int: Int] = [:]
    for (token, place) in places.enumerated() {
      guard let place else { continue }
      guard let row = place.row else {
        headers[place.column] = token
        continue
      }
      for other in rows[row, default: []] { relate(token, other, TableRelation.row) }
      for other in columns[place.column, default: []] { relate(token, other, TableRelation.column) }
      if let header = headers[place.column] { relate(token, header, TableRelation.header) }
      rows[row, default: []].append(token)
      columns[place.column, default: []].append(token)
    }
  }
}

/// Finds the headers and cells that a statement mentions. A statement mentions a text if it has the text's words one
/// after the other, in upper or lower case. A mention within a longer one does not count: `new york city` does not
/// mention the cell `york`. The source is RAT-SQL's schema linking, of which these are the exact matches (arXiv
/// 1911.04942).
struct TableMentions {
  /// The tokens with each text, by its first word.
  private var texts: [String: [(words: [String], token: Int)]] = [:]

  /// Adds the text of a header or cell.
  mutating func add(_ text: String, token: Int) {
    let words = text.split(whereSeparator: \.isWhitespace).map { $0.lowercased() }
    guard let first = words.first else { return }
    texts[first, default: []].append((words, token))
  }

  /// The number of each word of a mention with the header or cell that is mentioned, in ascending order of words.
  func find(in statement: [Substring]) -> [(word: Int, token: Int)] {
    let words = statement.map { $0.lowercased() }
    var mentions: [(word: Int, token: Int)] = []
    // The end of the longest mention that begins before a word.
    var reach = 0
    for start in words.indices {
      let found = texts[words[start], default: []].filter { words[start...].starts(with: $0.words) }
      guard let longest = found.map(\.words.count).max(), start + longest > reach else { continue }
      reach = start + longest
      for text in found where text.words.count == longest {
        mentions += (start..<reach).map { ($0, text.token) }
      }
    }
    return mentions
  }
}
