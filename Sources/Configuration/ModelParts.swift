// Which parts a model has, as its switches say (docs/model.md, "Parts that can be changed or left out"). The baseline is the
// model with most of them off.

extension ModelConfiguration {
  package var isTransformer: Bool { architecture == .transformer }

  /// Whether a token sees only itself and earlier ones.
  package var isCausal: Bool { head == .lm }

  /// Blocks with weights of their own.
  package var blockCount: Int { separateBlocks || isTransformer ? steps : 1 }

  /// Routed experts of a block.
  package var routedExperts: Int { feedForward == .dense || isTransformer ? 0 : experts }

  /// Routed experts of the whole model; block t has those from t · `routedExperts`.
  package var expertCount: Int { blockCount * routedExperts }

  /// The experts of the model that a share of each block's experts makes: a worker gets its part of every block, so that it has
  /// work at every step of recurrence.
  package func experts(in share: Range<Int>) -> [Int] {
    (0..<blockCount).flatMap { block in share.map { block * routedExperts + $0 } }
  }

  /// Width of the network that every token passes: the shared expert, or the dense one in place of all experts. 0: none.
  package var denseWidth: Int {
    if routedExperts == 0 { return (activeExperts + (sharedExpert ? 1 : 0)) * expertWidth }
    return sharedExpert ? expertWidth : 0
  }

  package var slots: Int { isTransformer ? 0 : memorySlots }
  package var visibleCache: Int { isTransformer || !ordered ? 0 : cache }
  package var taps: Int { isTransformer || !ordered ? 1 : recencyTaps }

  /// Rows of `head/weight`; the language model has none, it ties to the embedding.
  package var headClasses: Int {
    switch head {
    case .lm: 0
    case .tag, .classify: classes
    case .span: 2
    }
  }
}
