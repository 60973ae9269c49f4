// Rules between fields. The range of a single field is in the schema. Each problem points to the field that was written
// last, because the mistake most likely is there.

extension Decoding {
  mutating func checkRelations() {
    let model = configuration.model, training = configuration.training
    check(
      model.width.isMultiple(of: model.heads), ["model.heads", "model.width"],
      "the width must be a multiple of the heads, but \(model.width) is not one of \(model.heads)"
        + "; use a width of \(Self.multiple(of: model.heads, atLeast: model.width))")
    check(
      model.activeExperts <= model.experts, ["model.active_experts", "model.experts"],
      "a token cannot reach \(model.activeExperts) experts of \(model.experts)"
        + "; lower active_experts or raise experts")
    check(
      model.ordered || model.head != .lm, ["model.ordered", "model.head"],
      "a language model predicts the next token, so its tokens have an order"
        + "; set ordered: true, or a head of classify, tag or span")
    check(
      !model.isTransformer || configuration.data.sequenceLength <= model.segment,
      ["data.sequence_length", "model.segment", "model.architecture"],
      "a transformer reads a sequence as one segment, but \(configuration.data.sequenceLength) tokens are more than "
        + "\(model.segment); raise model.segment or lower data.sequence_length")
    check(
      !model.isTransformer || model.positions != .rotary || (model.width / model.heads).isMultiple(of: 2),
      ["model.positions", "model.heads", "model.width"],
      "rotary positions rotate pairs of components, but the width of a head is odd (\(model.width / model.heads))"
        + "; use an even width / heads, or learned positions")
    check(
      model.blocks == nil || model.separateBlocks && !model.isTransformer,
      ["model.blocks", "model.separate_blocks", "model.architecture"],
      model.isTransformer
        ? "every layer of a transformer is a block of its own; leave out blocks"
        : "one block is applied K times where blocks are not separate; set separate_blocks: true, or leave out blocks")
    check(
      model.blocks ?? 1 <= model.steps, ["model.blocks", "model.steps"],
      "\(SpokenNumbers.count(model.steps, "step")) cannot use \(SpokenNumbers.count(model.blocks ?? 1, "block")); lower blocks or raise steps"
    )
    check(
      model.blockOrder == .cycle || model.blocks ?? 3 >= 3, ["model.block_order", "model.blocks"],
      "the first and the last block are not shared, so the steps between them need a third one; raise blocks to 3, or set "
        + "block_order: cycle")
    check(
      model.expertCount <= 9_999, ["model.experts", "model.steps", "model.separate_blocks", "model.pool_experts"],
      "\(model.blockCount) separate blocks of \(model.experts) experts make \(model.expertCount) experts, but 9999 is the maximum"
        + "; lower experts, or set pool_experts: true")
    let visible = model.visibleCache + model.segment
    let candidates =
      min(model.window + (model.graphDegree ?? visible), visible) + model.slots
    check(
      model.isTransformer || candidates < 65_536,
      ["model.graph_degree", "model.window", "model.memory_slots", "model.segment", "model.cache"],
      "a token would attend to \(candidates) neighbours and memory slots, but 65535 is the maximum"
        + "; lower graph_degree, window or memory_slots")
    check(
      training.batchSequences.isMultiple(of: training.unitSequences),
      ["training.unit_sequences", "training.batch_sequences"],
      "batch_sequences must be a multiple of unit_sequences, but \(training.batchSequences) is not one of "
        + "\(training.unitSequences); use a batch of "
        + "\(Self.multiple(of: training.unitSequences, atLeast: training.batchSequences))")
    let units = training.batchSequences / training.unitSequences
    check(
      configuration.cluster.workers <= units,
      ["cluster.workers", "training.batch_sequences", "training.unit_sequences"],
      "\(configuration.cluster.workers) workers have only \(SpokenNumbers.count(units, "unit")) a step to share "
        + "(batch_sequences / unit_sequences); raise batch_sequences or lower workers")
    check(
      configuration.cluster.minimumWorkers <= configuration.cluster.workers,
      ["cluster.minimum_workers", "cluster.workers"],
      "minimum_workers is \(configuration.cluster.minimumWorkers), but workers is only \(configuration.cluster.workers)"
        + "; lower minimum_workers or raise workers")
    let evaluates = training.evaluateSequences > 0
    check(
      training.stopAfter == 0 || evaluates && training.evaluateEvery > 0,
      ["training.stop_after", "training.evaluate_every", "training.evaluate_sequences"],
      "stop_after counts evaluations, but there are none during the run; set evaluate_every and evaluate_sequences")
    check(
      configuration.checkpoint.keepBest == 0 || evaluates,
      ["checkpoint.keep_best", "training.evaluate_sequences"],
      "keep_best compares validation losses, but nothing is evaluated; set evaluate_sequences")
    check(
      !configuration.data.path.isEmpty || !configuration.data.mixture.isEmpty, ["data.path"],
      "no dataset is given; set 'path' under 'data' to a file that `ress data prepare` wrote")
    check(
      configuration.data.path.isEmpty || configuration.data.mixture.isEmpty, ["data.mixture", "data.path"],
      "'path' and 'mixture' are both given; leave one of them out")
    check(
      configuration.data.mixture.count <= 1024, ["data.mixture"],
      "a mixture of \(configuration.data.mixture.count) datasets, but 1024 is the maximum, because each has a place in 1,024 sequences"
    )
    check(
      !configuration.checkpoint.directory.isEmpty, ["checkpoint.directory"],
      "checkpoints need a folder; set 'directory' under 'checkpoint' to a folder such as 'checkpoints'")
  }

  /// Reports a broken rule over the named fields, unless one of them was refused already.
  private mutating func check(_ holds: Bool, _ paths: [String], _ message: String) {
    guard !holds, refused.isDisjoint(with: paths) else { return }
    let given = paths.compactMap { sources[$0] }
    let option = given.last { source in if case .option = source { true } else { false } }
    problems.append(ConfigurationProblem(option ?? given.first ?? .file(name), message))
  }

  private static func multiple(of divisor: Int, atLeast value: Int) -> Int { (value + divisor - 1) / divisor * divisor }
}
