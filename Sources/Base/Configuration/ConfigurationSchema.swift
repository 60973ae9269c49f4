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

  /// The fields outside the sections.
  static let top = ConfigurationSection(
    name: "", documentation: "At the top of the file, outside any section.",
    fields: [
      ConfigurationField("run", .name(\.run), "The run's name: its folder under checkpoint.directory.")
    ])

  static let model = ConfigurationSection(
    name: "model", documentation: "ReSSFormer's sizes, with the letters of docs/model.md.",
    fields: [
      ConfigurationField(
        "from", .textOrNull(\.model.from),
        "A checkpoint, or a run's folder, whose weights the run begins with (fine-tuning); null: weights from the seed."
      ),
      .choice("architecture", \.model.architecture, "The paper's model, or the dense baseline."),
      .choice("head", \.model.head, "The output: the next token, a class, a class for each token, or a span."),
      ConfigurationField(
        "classes", .whole(\.model.classes, 1...16_777_216), "Number of classes of `classify` and `tag`."),
      .choice(
        "class_pool", \.model.classPool,
        "What `classify` reads in a model with a memory: the memory's slots after the last segment, all tokens, or both."
      ),
      ConfigurationField(
        "ordered", .flag(\.model.ordered), "Whether tokens have an order; without it there is no recency and no cache."),
      ConfigurationField("width", .whole(\.model.width, 1...65_536), "d: width of the token vectors."),
      ConfigurationField(
        "heads", .whole(\.model.heads, 1...1_024), "h: attention heads; the width must be a multiple of it."),
      ConfigurationField(
        "steps", .whole(\.model.steps, 1...256), "K: steps of recurrence, the applications of the shared block."),
      ConfigurationField("segment", .whole(\.model.segment, 1...1_048_576), "T: tokens in a segment."),
      ConfigurationField(
        "memory_slots", .whole(\.model.memorySlots, 0...65_536), "m: memory slots; 0 turns the memory off."),
      ConfigurationField(
        "cache", .whole(\.model.cache, 0...1_048_576), "c: tokens that stay visible after their segment."),
      ConfigurationField(
        "window", .whole(\.model.window, 1...1_048_576), "W: the most recent tokens, which are always neighbours."),
      ConfigurationField(
        "structure_rank", .whole(\.model.structureRank, 1...4_096), "r: rank of the structure scores."),
      ConfigurationField(
        "graph_degree", .wholeOrNull(\.model.graphDegree, 0...1_048_576),
        "g: neighbours chosen by score beyond the window; null: every visible token."),
      ConfigurationField(
        "structure_bias", .flag(\.model.structureBias),
        "Whether the graph weights its edges, or only chooses neighbours."),
      ConfigurationField(
        "relation_kinds", .whole(\.model.relationKinds, 0...ModelConfiguration.mostRelationKinds),
        "Kinds of relations between tokens that are read from the dataset (`ress data prepare --relations`); 0: none."
      ),
      ConfigurationField(
        "relation_start", .real(\.model.relationStart, .notNegative),
        "Initial bias of the edges between related tokens."),
      ConfigurationField(
        "keys", .wholeOrNull(\.model.keys, 1...1_048_576),
        "k: attention weights kept for each query and head; null keeps all."),
      .choice("activation", \.model.activation, "The function that turns the kept scores into weights."),
      ConfigurationField(
        "forget_gates", .flag(\.model.forgetGates), "Whether scores decay with the content between two tokens."),
      .choice("score_scale", \.model.scoreScale, "Whether each attention head learns a factor for its scores."),
      ConfigurationField(
        "recency_taps", .whole(\.model.recencyTaps, 1...1_024),
        "w: taps before attention, including the token itself; 1 turns them off."),
      ConfigurationField(
        "expert_taps", .whole(\.model.expertTaps, 1...1_024),
        "w': taps before the experts, including the token itself; 1 turns them off."),
      ConfigurationField(
        "two_sided_taps", .flag(\.model.twoSidedTaps),
        "Whether taps read in both directions, if a token may see later ones."),
      ConfigurationField(
        "tap_start", .real(\.model.tapStart, .notNegative), "Initial standard deviation of the taps."),
      ConfigurationField(
        "embedding_start", .real(\.model.embeddingStart, .notNegative),
        "Initial standard deviation of the embedding."),
      ConfigurationField(
        "embedding_norm", .flag(\.model.embeddingNorm),
        "Whether token vectors are normalised before the first step of recurrence."),
      .choice("feed_forward", \.model.feedForward, "Routed experts, or one dense network with the same FLOPs."),
      ConfigurationField(
        "experts", .whole(\.model.experts, 1...9_999), "E: number of experts, in each block or in the pool."),
      ConfigurationField(
        "active_experts", .whole(\.model.activeExperts, 1...9_999), "e: number of experts that each token reaches."),
      ConfigurationField("expert_width", .whole(\.model.expertWidth, 1...1_048_576), "f: width of an expert."),
      .choice("gates", \.model.gates, "The function that turns the logits of the chosen experts into their weights."),
      ConfigurationField(
        "router_start", .real(\.model.routerStart, .notNegative), "Initial standard deviation of the router."),
      ConfigurationField(
        "shared_expert", .flag(\.model.sharedExpert),
        "Whether there is an expert that every token reaches, in addition to the routed ones."),
      ConfigurationField(
        "shared_width", .wholeOrNull(\.model.sharedWidth, 1...1_048_576),
        "Width of the shared expert; null: expert_width."),
      ConfigurationField(
        "shared_each_step", .flag(\.model.sharedEachStep),
        "Whether each step of recurrence has a shared expert of its own."),
      ConfigurationField(
        "separate_blocks", .flag(\.model.separateBlocks),
        "Separate blocks instead of one block that is applied K times."),
      ConfigurationField(
        "blocks", .wholeOrNull(\.model.blocks, 1...65_536),
        "Number of separate blocks, at most K; null: one for each step."),
      .choice(
        "block_order", \.model.blockOrder,
        "The steps of fewer blocks than K: in turn (cycle), or the first and the last step have blocks of their own, and the others share those in the middle (middle)."
      ),
      ConfigurationField(
        "pool_experts", .flag(\.model.poolExperts),
        "Whether separate blocks share one pool of experts and the writing of the memory."),
      .choice("positions", \.model.positions, "The positional encoding of the baseline."),
      ConfigurationField(
        "vocabulary", .wholeOrNull(\.model.vocabulary, 2...16_777_216), "V: number of tokens; null uses the dataset's."),
      .choice(
        "precision", \.model.precision,
        "The inputs of the large matrix products: single precision, or rounded to bf16."),
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
    name: "data", documentation: "The data that the run reads.",
    fields: [
      ConfigurationField(
        "path", .text(\.data.path), "The dataset that `ress data prepare` wrote: a file, or a folder of shards."),
      ConfigurationField(
        "mixture", .weights(\.data.mixture),
        "Several datasets instead of `path`, with their shares of the sequences."),
      ConfigurationField(
        "sequence_length", .whole(\.data.sequenceLength, 1...1_073_741_824), "Tokens in a training sequence."),
      .choice("documents", \.data.documents, "Concatenate documents, or start a new sequence with each."),
    ])

  static let training = ConfigurationSection(
    name: "training", documentation: "Length of the run, size of a step, seed and evaluation.",
    fields: [
      ConfigurationField("seed", .seed(\.training.seed), "The seed of all random numbers."),
      ConfigurationField(
        "steps", .whole(\.training.steps, 1...1_000_000_000), "Optimizer steps of the whole run."),
      ConfigurationField(
        "batch_sequences", .whole(\.training.batchSequences, 1...1_048_576), "Sequences in a step, over all workers."),
      ConfigurationField(
        "unit_sequences", .whole(\.training.unitSequences, 1...1_048_576),
        "Sequences in a unit; one worker computes the whole of a unit."),
      ConfigurationField(
        "bptt_segments", .wholeOrNull(\.training.bpttSegments, 1...1_048_576),
        "Segments through which gradients are propagated back; null: all."),
      .choice(
        "recompute", \.training.recompute,
        "Whether the backward computes forwards again to save memory; does not change results."),
      ConfigurationField(
        "freeze", .names(\.training.freeze),
        "Parts of the model that keep their weights: names of tensors, or beginnings of names, such as embed or experts."
      ),
      ConfigurationField(
        "skip_at_most", .whole(\.training.skipAtMost, 0...1_000_000_000),
        "Steps in a row that may be left out because a loss or gradient is not finite; after one more the run pauses."
      ),
      ConfigurationField(
        "evaluate_every", .whole(\.training.evaluateEvery, 0...1_000_000_000),
        "Steps between evaluations; 0: only at the end."),
      ConfigurationField(
        "evaluate_sequences", .whole(\.training.evaluateSequences, 0...1_048_576),
        "Sequences an evaluation reads; 0 turns evaluation off."),
      ConfigurationField(
        "stop_after", .whole(\.training.stopAfter, 0...1_000_000_000),
        "Evaluations in a row without a smaller loss, after which the run ends as finished; 0: it does all steps."),
      ConfigurationField(
        "clinic_every", .whole(\.training.clinicEvery, 0...1_000_000_000),
        "Steps between measurements of router and attention (`ress clinic`); 0: none. Does not change results."),
    ])

  static let optimizer = ConfigurationSection(
    name: "optimizer", documentation: "AdamW and its learning rate.",
    fields: [
      ConfigurationField("learning_rate", .real(\.optimizer.learningRate, .positive), "The learning rate's peak."),
      ConfigurationField("beta1", .real(\.optimizer.beta1, .belowOne), "Decay of the first moment."),
      ConfigurationField("beta2", .real(\.optimizer.beta2, .belowOne), "Decay of the second moment."),
      ConfigurationField("epsilon", .real(\.optimizer.epsilon, .positive), "Added to the denominator of the update."),
      ConfigurationField(
        "weight_decay", .real(\.optimizer.weightDecay, .notNegative), "Decoupled weight decay, only on matrices."),
      ConfigurationField(
        "clip", .real(\.optimizer.clip, .notNegative), "Largest norm of the gradient; 0 turns clipping off."),
      ConfigurationField(
        "warmup_steps", .whole(\.optimizer.warmupSteps, 0...1_000_000_000),
        "Steps in which the learning rate rises from 0 to its peak."),
      .choice("schedule", \.optimizer.schedule, "The learning rate after the warm-up."),
      ConfigurationField(
        "final_fraction", .real(\.optimizer.finalFraction, .share), "The final learning rate, as a share of the peak."),
      ConfigurationField(
        "decay_fraction", .real(\.optimizer.decayFraction, .share),
        "Length of the decay of wsd, as a share of all steps."),
    ])

  static let checkpoint = ConfigurationSection(
    name: "checkpoint", documentation: "The folder of checkpoints, and when they are written and removed.",
    fields: [
      ConfigurationField(
        "directory", .text(\.checkpoint.directory), "The folder of all runs; this one writes DIRECTORY/RUN."),
      ConfigurationField(
        "every", .whole(\.checkpoint.every, 0...1_000_000_000), "Steps between checkpoints; 0: only at the end."),
      ConfigurationField(
        "keep", .whole(\.checkpoint.keep, 0...1_000_000_000),
        "Number of newest checkpoints to keep; 0 keeps all. The newest one that verifies is always kept."),
      ConfigurationField(
        "keep_every", .whole(\.checkpoint.keepEvery, 0...1_000_000_000),
        "Checkpoints at multiples of this number of steps are always kept; 0: none."),
      ConfigurationField(
        "keep_best", .whole(\.checkpoint.keepBest, 0...1_000_000),
        "Number of checkpoints with the smallest validation losses to keep as well; a new smallest loss saves one, and RUN/best is a link to it. 0: none."
      ),
    ])

  static let cluster = ConfigurationSection(
    name: "cluster", documentation: "Workers and their connections. These keys do not change results.",
    fields: [
      ConfigurationField("workers", .whole(\.cluster.workers, 1...4_096), "Largest number of workers."),
      ConfigurationField(
        "minimum_workers", .whole(\.cluster.minimumWorkers, 1...4_096),
        "Smallest number of workers; with fewer the run waits."),
      ConfigurationField(
        "priority", .whole(\.cluster.priority, -1_000...1_000),
        "Runs of higher priority are placed first, and may take workers from others."),
      ConfigurationField(
        "threads", .whole(\.cluster.threads, 0...4_096),
        "Threads of each worker; 0 divides the machine's cores among its workers."),
      ConfigurationField(
        "teams", .wholeOrAuto(\.cluster.teams, 1...4_096),
        "Teams into which the threads of a worker are divided; each computes units of its own. auto weighs speed against the memory of each team."
      ),
      .choice(
        "exchange", \.cluster.exchange,
        "Transport of tokens and gradients between workers; with mpi, workers must be ranks of one launch (docs/mpi.md)."
      ),
      .choice(
        "same_machine", \.cluster.sameMachine,
        "How the workers of one machine exchange: memory shares memory for gradients and parameters, where no rows travel and all workers of the run are on the machine; messages sends everything over Unix sockets; network treats them like workers of several machines."
      ),
      .choice(
        "experts", \.cluster.experts,
        "Where experts compute: rows travel to the worker that owns an expert, or every worker has a copy of its weights; auto decides for each expert."
      ),
      ConfigurationField(
        "profile_steps", .whole(\.cluster.profileSteps, 0...1_000),
        "Steps whose time is measured by part of the model, into RUN/profile; 0: none."),
      ConfigurationField(
        "mirror_every", .whole(\.cluster.mirrorEvery, 0...1_000_000_000),
        "Steps between copies of each worker's state in a peer's memory; 0: none."),
      .choice(
        "state_copies", \.cluster.stateCopies,
        "Where a worker keeps copies of its own state and of a peer's: disk takes less memory; the copies are in files without names in TMPDIR, else /var/tmp, which must be on a disk."
      ),
      ConfigurationField(
        "audit", .real(\.cluster.audit, .share),
        "Share of the units that a second worker computes again, for comparison."),
      ConfigurationField(
        "patience_seconds", .real(\.cluster.patienceSeconds, .between(0.1, 3_600)),
        "Seconds of silence after which a worker or coordinator counts as lost."),
      ConfigurationField(
        "on_end", .textOrNull(\.cluster.onEnd),
        "A shell command for the end of the run, with RUN, STATE, REASON and FOLDER in its environment; other coordinators than that of `ress train` need --allow-commands."
      ),
    ])

  /// The section and field that a dotted path names.
  static func find(_ path: String) -> (section: ConfigurationSection, field: ConfigurationField)? {
    for section in sections {
      for field in section.fields where section.path(of: field) == path { return (section, field) }
    }
    return nil
  }

  /// `configuration` with the value that a key has in `other`.
  package static func replacing(
    _ path: String, in configuration: RunConfiguration, by other: RunConfiguration
  ) -> RunConfiguration {
    var mixed = configuration
    guard let field = find(path)?.field else { preconditionFailure("there is no key '\(path)'") }
    do throws(FieldComplaint) { try field.set(field.text(in: other), isPlain: true, in: &mixed) } catch {
      preconditionFailure("\(path) cannot be read back: \(error.message)")
    }
    return mixed
  }

  static let paths: [String] = sections.flatMap { section in section.fields.map(section.path(of:)) }
}
