// Every key of a configuration, once. To add one: add its field to `RunConfiguration`, a line here, and run
// `ress config reference > docs/configuration.md` (a test compares them).

/// A group of keys: a mapping of the file, or (with an empty name) its top level.
package struct ConfigurationSection: Sendable {
  package let name: String
  package let documentation: String
  package let fields: [ConfigurationField]

  /// `model.width`: how `--set` and messages name a field.
  package func path(of field: ConfigurationField) -> String { name.isEmpty ? field.name : "\(name).\(field.name)" }
}

package enum ConfigurationSchema {
  package static let sections = [top, model, data, training, optimizer, checkpoint, cluster]

  /// The fields beside the sections.
  static let top = ConfigurationSection(
    name: "", documentation: "At the top of the file, outside any section.",
    fields: [
      ConfigurationField("run", .name(\.run), "The run's name: its folder under checkpoint.directory.")
    ])

  static let model = ConfigurationSection(
    name: "model", documentation: "ReSSFormer's sizes, with the letters of docs/model.md.",
    fields: [
      .choice("architecture", \.model.architecture, "The model of the paper, or the dense baseline."),
      .choice("head", \.model.head, "What is asked: the next token, a class, a class a token, or a span."),
      ConfigurationField("classes", .whole(\.model.classes, 1...16_777_216), "Classes of `classify` and `tag`."),
      ConfigurationField(
        "ordered", .flag(\.model.ordered), "Whether tokens have an order; without it there is no recency and no cache."),
      ConfigurationField("width", .whole(\.model.width, 1...65_536), "d: width of a token's vector."),
      ConfigurationField(
        "heads", .whole(\.model.heads, 1...1_024), "h: attention heads; the width must be a multiple of it."),
      ConfigurationField("steps", .whole(\.model.steps, 1...256), "K: applications of the shared block."),
      ConfigurationField("segment", .whole(\.model.segment, 1...1_048_576), "T: tokens a segment."),
      ConfigurationField(
        "memory_slots", .whole(\.model.memorySlots, 0...65_536), "m: memory slots; 0 turns the memory off."),
      ConfigurationField(
        "cache", .whole(\.model.cache, 0...1_048_576), "c: tokens that stay visible after their segment."),
      ConfigurationField(
        "window", .whole(\.model.window, 1...1_048_576), "W: the most recent tokens, always neighbours."),
      ConfigurationField(
        "structure_rank", .whole(\.model.structureRank, 1...4_096), "r: rank of the structure scores."),
      ConfigurationField(
        "graph_degree", .wholeOrNull(\.model.graphDegree, 0...1_048_576),
        "g: neighbours chosen by score beyond the window; null: every visible token."),
      ConfigurationField(
        "structure_bias", .flag(\.model.structureBias), "Whether the graph weighs edges, or only chooses neighbours."),
      ConfigurationField(
        "keys", .wholeOrNull(\.model.keys, 1...1_048_576),
        "k: attention weights kept a query and head; null keeps all."),
      .choice("activation", \.model.activation, "How the kept scores become weights."),
      ConfigurationField(
        "forget_gates", .flag(\.model.forgetGates), "Whether scores decay with what lies between two tokens."),
      .choice("score_scale", \.model.scoreScale, "Whether each head learns a factor of its scores."),
      ConfigurationField(
        "recency_taps", .whole(\.model.recencyTaps, 1...1_024),
        "w: taps before attention, the token itself included; 1: none."),
      ConfigurationField(
        "expert_taps", .whole(\.model.expertTaps, 1...1_024),
        "w': taps before the experts, the token itself included; 1: none."),
      ConfigurationField(
        "two_sided_taps", .flag(\.model.twoSidedTaps), "Whether taps look both ways where a token sees later ones."),
      ConfigurationField(
        "tap_start", .real(\.model.tapStart, .notNegative), "Standard deviation of the taps at the start."),
      ConfigurationField(
        "embedding_start", .real(\.model.embeddingStart, .notNegative),
        "Standard deviation of the embedding at the start."),
      ConfigurationField(
        "embedding_norm", .flag(\.model.embeddingNorm), "Whether token vectors are normalised before the first step."),
      .choice("feed_forward", \.model.feedForward, "Routed experts, or one dense network of the same FLOPs."),
      ConfigurationField("experts", .whole(\.model.experts, 1...9_999), "E: experts, of each block."),
      ConfigurationField("active_experts", .whole(\.model.activeExperts, 1...9_999), "e: experts a token reaches."),
      ConfigurationField("expert_width", .whole(\.model.expertWidth, 1...1_048_576), "f: width of an expert."),
      .choice("gates", \.model.gates, "How the logits of the chosen experts become their weights."),
      ConfigurationField(
        "router_start", .real(\.model.routerStart, .notNegative), "Standard deviation of the router at the start."),
      ConfigurationField(
        "shared_expert", .flag(\.model.sharedExpert), "An expert that every token reaches, beside the routed ones."),
      ConfigurationField(
        "shared_width", .wholeOrNull(\.model.sharedWidth, 1...1_048_576),
        "Width of the shared expert; null: expert_width."),
      ConfigurationField(
        "shared_each_step", .flag(\.model.sharedEachStep),
        "Whether each step of recurrence has a shared expert of its own."),
      ConfigurationField(
        "separate_blocks", .flag(\.model.separateBlocks), "K blocks of their own instead of one applied K times."),
      .choice("positions", \.model.positions, "How the baseline knows where a token stands."),
      ConfigurationField(
        "vocabulary", .wholeOrNull(\.model.vocabulary, 2...16_777_216), "V: tokens known; null takes the dataset's."),
      ConfigurationField(
        "smooth_weight", .real(\.model.smoothWeight, .notNegative), "λ_s: weight of the graph's smoothness loss."),
      ConfigurationField(
        "balance_weight", .real(\.model.balanceWeight, .notNegative), "λ_b: weight of the load-balance loss."),
      ConfigurationField(
        "router_z_weight", .real(\.model.routerZWeight, .notNegative), "λ_z: weight of the router's z-loss."),
      ConfigurationField(
        "balancer_rate", .real(\.model.balancerRate, .notNegative), "u: the balancer's step on the router's bias."),
    ])

  static let data = ConfigurationSection(
    name: "data", documentation: "What the run reads.",
    fields: [
      ConfigurationField(
        "path", .text(\.data.path), "The dataset, as `ress data prepare` wrote it: a file, or a folder of shards."),
      ConfigurationField(
        "mixture", .weights(\.data.mixture),
        "Several datasets instead of `path`, and the share of the sequences that each gives."),
      ConfigurationField(
        "sequence_length", .whole(\.data.sequenceLength, 1...1_073_741_824), "Tokens a training sequence."),
      .choice("documents", \.data.documents, "Documents one behind the other, or each in sequences of its own."),
    ])

  static let training = ConfigurationSection(
    name: "training", documentation: "How long, how much at a time, and from which seed.",
    fields: [
      ConfigurationField("seed", .seed(\.training.seed), "The seed of all random numbers."),
      ConfigurationField(
        "steps", .whole(\.training.steps, 1...1_000_000_000), "Optimizer steps of the whole run."),
      ConfigurationField(
        "batch_sequences", .whole(\.training.batchSequences, 1...1_048_576), "Sequences a step, over all workers."),
      ConfigurationField(
        "unit_sequences", .whole(\.training.unitSequences, 1...1_048_576),
        "Sequences a unit; one worker computes a unit whole."),
      ConfigurationField(
        "bptt_segments", .wholeOrNull(\.training.bpttSegments, 1...1_048_576),
        "Segments that gradients travel back; null: all."),
      .choice(
        "recompute", \.training.recompute, "Compute forwards again to save memory; never changes a number."),
      ConfigurationField(
        "skip_at_most", .whole(\.training.skipAtMost, 0...1_000_000_000),
        "Steps in a row that may be left out because a loss or a gradient is not finite; after one more the run pauses."
      ),
      ConfigurationField(
        "evaluate_every", .whole(\.training.evaluateEvery, 0...1_000_000_000),
        "Steps between evaluations; 0: only at the end."),
      ConfigurationField(
        "evaluate_sequences", .whole(\.training.evaluateSequences, 0...1_048_576),
        "Sequences an evaluation reads; 0 turns evaluation off."),
      ConfigurationField(
        "clinic_every", .whole(\.training.clinicEvery, 0...1_000_000_000),
        "Steps between looks at router and attention (`ress clinic`); 0: none. Never changes a number."),
    ])

  static let optimizer = ConfigurationSection(
    name: "optimizer", documentation: "AdamW and its learning rate.",
    fields: [
      ConfigurationField("learning_rate", .real(\.optimizer.learningRate, .positive), "The learning rate's peak."),
      ConfigurationField("beta1", .real(\.optimizer.beta1, .belowOne), "Decay of the first moment."),
      ConfigurationField("beta2", .real(\.optimizer.beta2, .belowOne), "Decay of the second moment."),
      ConfigurationField("epsilon", .real(\.optimizer.epsilon, .positive), "Keeps the update finite."),
      ConfigurationField(
        "weight_decay", .real(\.optimizer.weightDecay, .notNegative), "Decoupled decay, on matrices alone."),
      ConfigurationField(
        "clip", .real(\.optimizer.clip, .notNegative), "Largest norm of the gradient; 0 turns clipping off."),
      ConfigurationField(
        "warmup_steps", .whole(\.optimizer.warmupSteps, 0...1_000_000_000), "Steps of the rise from 0 to the peak."),
      .choice("schedule", \.optimizer.schedule, "How the learning rate falls after its rise."),
      ConfigurationField(
        "final_fraction", .real(\.optimizer.finalFraction, .share), "The last learning rate, as a share of the peak."),
      ConfigurationField(
        "decay_fraction", .real(\.optimizer.decayFraction, .share), "The falling part of wsd, as a share of all steps."),
    ])

  static let checkpoint = ConfigurationSection(
    name: "checkpoint", documentation: "Where and when the run is saved.",
    fields: [
      ConfigurationField(
        "directory", .text(\.checkpoint.directory), "The folder of all runs; this one writes DIRECTORY/RUN."),
      ConfigurationField(
        "every", .whole(\.checkpoint.every, 0...1_000_000_000), "Steps between checkpoints; 0: only at the end."),
      ConfigurationField(
        "keep", .whole(\.checkpoint.keep, 0...1_000_000_000),
        "Newest checkpoints that stay; 0 keeps all. The last one that verifies always stays."),
      ConfigurationField(
        "keep_every", .whole(\.checkpoint.keepEvery, 0...1_000_000_000),
        "Checkpoints of every so many steps stay in any case; 0: none."),
    ])

  static let cluster = ConfigurationSection(
    name: "cluster", documentation: "Who computes. Nothing here changes a number of the run.",
    fields: [
      ConfigurationField("workers", .whole(\.cluster.workers, 1...4_096), "Workers of the run, at most."),
      ConfigurationField(
        "minimum_workers", .whole(\.cluster.minimumWorkers, 1...4_096), "Workers without which it waits."),
      ConfigurationField(
        "priority", .whole(\.cluster.priority, -1_000...1_000),
        "Runs of higher priority come first, and may take workers from others."),
      ConfigurationField(
        "threads", .whole(\.cluster.threads, 0...4_096), "Threads a worker; 0 shares the machine's cores."),
      .choice(
        "exchange", \.cluster.exchange,
        "What carries tokens and gradients between workers; mpi: workers must be ranks of one launch (docs/mpi.md)."),
      ConfigurationField(
        "profile_steps", .whole(\.cluster.profileSteps, 0...1_000),
        "Steps whose time is taken down by part, into RUN/profile; 0: none."),
      ConfigurationField(
        "mirror_every", .whole(\.cluster.mirrorEvery, 0...1_000_000_000),
        "Steps between copies of each worker's state in a peer's memory; 0: none."),
      ConfigurationField(
        "audit", .real(\.cluster.audit, .share),
        "Share of the units that a second worker computes again, to the same bits."),
      ConfigurationField(
        "patience_seconds", .real(\.cluster.patienceSeconds, .between(0.1, 3_600)),
        "Silence after which a worker or coordinator counts as lost."),
    ])

  /// The section and field that a dotted path names.
  static func find(_ path: String) -> (section: ConfigurationSection, field: ConfigurationField)? {
    for section in sections {
      for field in section.fields where section.path(of: field) == path { return (section, field) }
    }
    return nil
  }

  static let paths: [String] = sections.flatMap { section in section.fields.map(section.path(of:)) }
}
