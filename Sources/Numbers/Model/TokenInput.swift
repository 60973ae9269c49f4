// The input of a model: tokens of one feature each, as in text, or of several features, as a cell of a table or a
// node of a graph has. The vector of a token is the sum of the embeddings of its features. Tokens may be related.

/// The tokens of a sequence, or its rest from some token on. It refers to memory that the caller keeps.
package struct TokenInput {
  private let features: UnsafePointer<Int32>
  /// Index of the first feature of each token, and the end of the last one's; nil where every token has one
  /// feature.
  private let bags: UnsafePointer<Int32>?
  package let count: Int
  /// The relations of these tokens; nil where the input gives none.
  let relations: TokenRelations?

  private init(
    _ features: UnsafePointer<Int32>, _ bags: UnsafePointer<Int32>?, count: Int, relations: TokenRelations?
  ) {
    self.features = features
    self.bags = bags
    self.count = count
    self.relations = relations
  }

  package init(_ tokens: UnsafeBufferPointer<Int32>) {
    self.init(tokens.baseAddress!, nil, count: tokens.count, relations: nil)
  }

  /// - Parameters:
  ///   - bags: has one more element than there are tokens; empty where every token has one feature.
  ///   - relations: those of all tokens, with kinds below the model's `relation_kinds`.
  package init(
    _ features: UnsafeBufferPointer<Int32>, bags: UnsafeBufferPointer<Int32>, relations: TokenRelations? = nil
  ) {
    self.init(
      features.baseAddress!, bags.isEmpty ? nil : bags.baseAddress,
      count: bags.isEmpty ? features.count : bags.count - 1, relations: relations)
  }

  /// The tokens from `first` on.
  func from(_ first: Int) -> TokenInput {
    TokenInput(
      bags == nil ? features + first : features, bags.map { $0 + first }, count: count - first,
      relations: relations.map { $0.from(first) })
  }

  /// The features of a token.
  package subscript(token: Int) -> UnsafeBufferPointer<Int32> {
    guard let bags else { return UnsafeBufferPointer(start: features + token, count: 1) }
    let start = Int(bags[token])
    return UnsafeBufferPointer(start: features + start, count: Int(bags[token + 1]) - start)
  }
}
