// What must hold between fields. A field's own range is in the schema; here are the rules that name two.
// Each problem points to the field that was written last, since that is where the mistake most likely is.

extension Decoding {
  mutating func checkRelations() {
    let model = configuration.model, training = configuration.training
    check(
      model.width.isMultiple(of: model.heads), ["model.heads", "model.width"],
      "the width must be a multiple of the heads, and \(model.width) is not one of \(model.heads)"
        + "; take a width of \(Self.multiple(of: model.heads, atLeast: model.width))")
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
      "a transformer reads a sequence as one segment, and \(configuration.data.sequenceLength) tokens are more than "
        + "\(model.segment); raise model.segment or lower data.sequence_length")
    check(
      !model.isTransformer || model.positions != .rotary || (model.width / model.heads).isMultiple(of: 2),
      ["model.positions", "model.heads", "model.width"],
      "rotary positions turn pairs, and a head of width \(model.width / model.heads) is odd"
        + "; take an even width / heads, or learned positions")
    check(
      model.expertCount <= 9_999, ["model.experts", "model.steps", "model.separate_blocks"],
      "\(model.steps) separate blocks of \(model.experts) experts make \(model.expertCount), and 9999 is the most")
    let visible = model.visibleCache + model.segment
    let candidates =
      min(model.window + (model.graphDegree ?? visible), visible) + model.slots
    check(
      model.isTransformer || candidates < 65_536,
      ["model.graph_degree", "model.window", "model.memory_slots", "model.segment", "model.cache"],
      "a token would weigh \(candidates) neighbours and memory slots, and 65535 are the most"
        + "; lower graph_degree, window or memory_slots")
    check(
      training.batchSequences.isMultiple(of: training.unitSequences),
      ["training.unit_sequences", "training.batch_sequences"],
      "batch_sequences must be a multiple of unit_sequences, and \(training.batchSequences) is not one of "
        + "\(training.unitSequences); take a batch of "
        + "\(Self.multiple(of: training.unitSequences, atLeast: training.batchSequences))")
    let units = training.batchSequences / training.unitSequences
    check(
      configuration.cluster.workers <= units,
      ["cluster.workers", "training.batch_sequences", "training.unit_sequences"],
      "\(configuration.cluster.workers) workers have only \(units) unit\(units == 1 ? "" : "s") a step to share "
        + "(batch_sequences / unit_sequences); raise batch_sequences or lower workers")
    check(
      configuration.cluster.minimumWorkers <= configuration.cluster.workers,
      ["cluster.minimum_workers", "cluster.workers"],
      "at least \(configuration.cluster.minimumWorkers) workers and at most \(configuration.cluster.workers) cannot be met"
        + "; lower minimum_workers or raise workers")
    check(
      !configuration.data.path.isEmpty || !configuration.data.mixture.isEmpty, ["data.path"],
      "no dataset is given; set 'path' under 'data' to a file that `ress data prepare` wrote")
    check(
      configuration.data.path.isEmpty || configuration.data.mixture.isEmpty, ["data.mixture", "data.path"],
      "'path' and 'mixture' both name what to read; leave one of them out")
    check(
      configuration.data.mixture.count <= 1024, ["data.mixture"],
      "a mixture of \(configuration.data.mixture.count) datasets; 1024 is the most, each with its place in 1,024 sequences"
    )
    check(
      !configuration.checkpoint.directory.isEmpty, ["checkpoint.directory"],
      "checkpoints need a folder; set 'directory' under 'checkpoint', such as 'checkpoints'")
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
