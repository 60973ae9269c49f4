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
      !configuration.data.path.isEmpty, ["data.path"],
      "no dataset is given; set 'path' under 'data' to a file that `ress data prepare` wrote")
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
