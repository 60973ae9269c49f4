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
    let (visible, neighbours) = meanSight
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

  /// Means over the tokens of a sequence: the number of visible tokens, and the number of neighbours.
  ///
  /// Sums over whole segments, because a sequence may have a thousand million tokens.
  package var meanSight: (visible: Double, neighbours: Double) {
    let (length, segment, cache) = (data.sequenceLength, model.segment, model.visibleCache)
    let most = Double(model.window) + (model.graphDegree.map(Double.init) ?? .infinity)
    var (visible, neighbours) = (0.0, 0.0)
    /// Adds `count` segments of `tokens` tokens each, before which `cached` tokens are visible.
    func add(_ count: Int, tokens: Int, cached: Int) {
      let (n, before, count) = (Double(tokens), Double(cached), Double(count))
      guard model.isCausal else {
        visible += count * n * (before + n)
        neighbours += count * n * min(before + n, most)
        return
      }
      visible += count * (n * before + n * (n + 1) / 2)
      // The first tokens of the segment see no more than `most` tokens, all later ones have `most` neighbours.
      let few = min(max(most - before, 0), n)
      neighbours += count * (few * before + few * (few + 1) / 2 + (n > few ? (n - few) * most : 0))
    }
    // Until the cache is full, each segment sees more than the one before it.
    let whole = length / segment, growing = min(whole, (cache + segment - 1) / segment)
    for index in 0..<growing { add(1, tokens: segment, cached: index * segment) }
    add(whole - growing, tokens: segment, cached: cache)
    add(1, tokens: length % segment, cached: min(whole * segment, cache))
    return (visible / Double(length), neighbours / Double(length))
  }

  /// Floating-point operations of a token, forward and backward: the backward has two products for each of the
  /// forward's.
  package func operationsPerToken(vocabulary: Int) -> Double { 3 * 2 * multiplyAdds(vocabulary: vocabulary) }
}
