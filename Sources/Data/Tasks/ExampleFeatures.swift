// Features beside those of the tokenizer: what a cell's column or a node's distance is. They stand behind its tokens in the vocabulary.

enum TableFeatures {
  static let caption = 0, statement = 1, header = 2, cell = 3
  static let rows = 64, columns = 32, places = 64
  static let count = 4 + rows + columns + places

  /// The last one stands for all beyond.
  static func row(_ row: Int) -> Int { 4 + min(row, rows - 1) }
  static func column(_ column: Int) -> Int { 4 + rows + min(column, columns - 1) }
  /// A word's place in the statement.
  static func place(_ place: Int) -> Int { 4 + rows + columns + min(place, places - 1) }
}

/// A node's distance from the one that is asked about.
enum GraphFeatures {
  static let hops = 3
}
