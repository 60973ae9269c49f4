// The multiply-adds of a model, counted from its configuration: the minimum for any program.

extension RunConfiguration {
  /// Multiply-adds in matrix products for one token in the forward: the mean over a sequence of `data.sequence_length`.
  /// Benchmarks/pytorch/time_step.py counts the same.
  package func multiplyAdds(vocabulary: Int) -> Double {
    let (d, length) = (Double(model.width), data.sequenceLength)
    let dense = 3 * d * Double(model.denseWidth)
    let forget = model.forgets ? d * Double(model.heads) : 0
    let head = model.head == .classify ? 0 : d * Double(model.head == .lm ? vocabulary : model.headClasses)
    if model.isTransformer {
      let visible = model.isCausal ? Double(length + 1) / 2 : Double(length)
      return Double(model.steps) * (4 * d * d + 2 * visible * d + dense + forget) + head
    }
    // Means over the tokens of a sequence: the number of visible tokens, and the number of neighbours.
    var (visible, neighbours) = (0.0, 0.0)
    let most = model.window + (model.graphDegree ?? .max / 2)
    for token in 0..<length {
      let first = token / model.segment * model.segment
      let own = model.isCausal ? token - first + 1 : min(model.segment, length - first)
      let seen = min(first, model.visibleCache) + own
      visible += Double(seen) / Double(length)
      neighbours += Double(min(seen, most)) / Double(length)
    }
    let slots = Double(model.slots)
    let kept = min(Double(model.keys ?? .max), neighbours + slots)
    let attention = 4 * d * d + forget + (neighbours + slots + kept) * d
    // Relations add no product: a bias is added to a score, and related tokens take places that others would have.
    let graph = Double(model.structureRank) * (2 * d + visible)
    let experts =
      Double(model.routedExperts) * d + 3 * d
      * Double(model.expertWidth * (model.routedExperts > 0 ? model.activeExperts : 0))
    // Scores and sums of the pool; its maps and those of the slots' keys and values act on the slots' rows alone.
    let maps = slots * d * d
    let memory = 2 * slots * d + maps / Double(model.segment)
    let once = 2 * maps / Double(model.segment) + maps / Double(length)
    return Double(model.steps) * (attention + graph + experts + dense + memory) + once + head
  }

  /// Floating-point operations of a token, forward and backward: the backward has two products for each of the
  /// forward's.
  package func operationsPerToken(vocabulary: Int) -> Double { 3 * 2 * multiplyAdds(vocabulary: vocabulary) }
}
