// What a model reads: tokens of one feature each, as text has, or of several, as a cell of a table or a node of a graph has. A token's
// vector is the sum of its features' embeddings.

/// The tokens of a sequence, or of its rest. It borrows what its maker keeps.
package struct TokenInput {
  private let features: UnsafePointer<Int32>
  /// Where each token's features begin, and where the last one's end; nil where each token is one feature.
  private let bags: UnsafePointer<Int32>?
  package let count: Int

  private init(_ features: UnsafePointer<Int32>, _ bags: UnsafePointer<Int32>?, count: Int) {
    self.features = features
    self.bags = bags
    self.count = count
  }

  package init(_ tokens: UnsafeBufferPointer<Int32>) {
    self.init(tokens.baseAddress!, nil, count: tokens.count)
  }

  /// - Parameter bags: one number more than there are tokens; empty where each token is one feature.
  package init(_ features: UnsafeBufferPointer<Int32>, bags: UnsafeBufferPointer<Int32>) {
    self.init(
      features.baseAddress!, bags.isEmpty ? nil : bags.baseAddress,
      count: bags.isEmpty ? features.count : bags.count - 1)
  }

  /// The tokens from `first` on.
  func from(_ first: Int) -> TokenInput {
    TokenInput(bags == nil ? features + first : features, bags.map { $0 + first }, count: count - first)
  }

  /// The features of a token.
  package subscript(token: Int) -> UnsafeBufferPointer<Int32> {
    guard let bags else { return UnsafeBufferPointer(start: features + token, count: 1) }
    let start = Int(bags[token])
    return UnsafeBufferPointer(start: features + start, count: Int(bags[token + 1]) - start)
  }
}
