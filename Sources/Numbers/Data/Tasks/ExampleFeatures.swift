// Features in addition to those of the tokenizer: the kind and place of a table's cell, the distance of a graph's
// node. In the vocabulary they are numbered after the tokenizer's tokens.

enum TableFeatures {
  static let caption = 0, statement = 1, header = 2, cell = 3
  static let rows = 64, columns = 32, places = 64
  static let count = 4 + rows + columns + places

  /// The last number is used for all larger ones as well.
  static func row(_ row: Int) -> Int { 4 + min(row, rows - 1) }
  static func column(_ column: Int) -> Int { 4 + rows + min(column, columns - 1) }
  /// The position of a word in the statement.
  static func place(_ place: Int) -> Int { 4 + rows + columns + min(place, places - 1) }
}

/// The distance of a node from the node whose class is asked.
enum GraphFeatures {
  static let hops = 3
}

/// The kinds of relations that the nodes of a graph have.
enum GraphRelation {
  static let edge = 0
}
