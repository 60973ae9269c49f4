// The configuration of a run, as values. A configuration file names every field in snake case, in the section of its
// type (`model.structure_rank`); `ConfigurationDecoder` reads it and refuses unknown keys.
//
// Two runs with equal configurations have the same curve, bit for bit. Fields that are marked "never changes a number"
// may differ.

/// A whole run: the model, its data, how it is trained and where it runs.
package struct RunConfiguration: Equatable, Sendable, Codable {
  /// The run's name: its folder under `checkpoint.directory`.
  package var run = "run"
  package var model = ModelConfiguration()
  package var data = DataConfiguration()
  package var training = TrainingConfiguration()
  package var optimizer = OptimizerConfiguration()
  package var checkpoint = CheckpointConfiguration()
  package var cluster = ClusterConfiguration()

  package init() {}
}

/// ReSSFormer's sizes, with the letters of docs/model.md.
package struct ModelConfiguration: Equatable, Sendable, Codable {
  /// A warm start: the checkpoint, or the folder of the run, whose weights the run begins with; empty: all weights are
  /// drawn from the seed.
  package var from = ""
  package var architecture = Architecture.ressformer
  /// The output of the model, and with it the tokens that a token may see: `lm` is causal, the others are
  /// bidirectional.
  package var head = Head.lm
  /// Classes of the heads `tag` and `classify`.
  package var classes = 2
  /// What the head `classify` reads, in a model with a memory; without one it reads the tokens.
  package var classPool = ClassPool.tokens
  /// Whether the order of tokens has a meaning; without it there are no taps and no cache.
  package var ordered = true
  /// d: width of a token's vector.
  package var width = 128
  /// h: attention heads; the width is a multiple of it.
  package var heads = 4
  /// K: applications of the shared block.
  package var steps = 4
  /// T: tokens in a segment.
  package var segment = 256
  /// m: memory slots; 0 turns the segment-level memory off.
  package var memorySlots = 16
  /// c: tokens whose keys, values and structure keys stay visible after their segment.
  package var cache = 128
  /// W: the most recent tokens, which are always neighbours; at least 1, because a token sees itself.
  package var window = 16
  /// r: rank of the structure scores.
  package var structureRank = 16
  /// g: neighbours chosen by score beyond the window; nil: every visible token is one.
  package var graphDegree: Int? = 32
  /// Whether the graph's edge weights are added to the attention scores; without it the graph only chooses neighbours.
  package var structureBias = true
  /// Kinds of relations between tokens that the model reads from its dataset; 0: none.
  package var relationKinds = 0
  /// Bias of every kind at the start.
  package var relationStart = 2.0
  /// k: attention weights kept for each query and head; nil keeps all.
  package var keys: Int? = 16
  /// The function that turns the kept scores into weights.
  package var activation = Activation.softmax
  /// Whether scores decay with the content between two tokens, for each attention head at a learned rate.
  package var forgetGates = true
  /// Whether each attention head learns a factor for its scores.
  package var scoreScale = ScoreScale.learned
  /// w: taps before attention, the token itself included; 1 turns them off.
  package var recencyTaps = 4
  /// w′: taps before the router and the experts, the token itself included; 1 turns them off.
  package var expertTaps = 4
  /// Whether taps read in both directions, if a token may see later ones.
  package var twoSidedTaps = true
  /// Standard deviation of the taps at the start.
  package var tapStart = 0.6
  /// Standard deviation of `embed/weight` at the start.
  package var embeddingStart = 0.1
  /// Whether token vectors are normalised before the first step.
  package var embeddingNorm = true
  /// Whether a token goes to routed experts, or through one dense network with the same FLOPs.
  package var feedForward = FeedForward.experts
  /// E: experts; of each block, where separate blocks have experts of their own.
  package var experts = 8
  /// e: number of experts that each token reaches.
  package var activeExperts = 2
  /// f: width of an expert.
  package var expertWidth = 256
  /// The function that turns the logits of the chosen experts into their weights.
  package var gates = Gates.sigmoid
  /// Standard deviation of `router/weight` at the start.
  package var routerStart = 0.1
  /// Whether there is an expert that every token reaches, in addition to the routed ones.
  package var sharedExpert = true
  /// Its width; nil: that of an expert.
  package var sharedWidth: Int? = nil
  /// Whether each step of recurrence has a shared expert of its own.
  package var sharedEachStep = true
  /// Blocks with weights of their own instead of one applied K times.
  package var separateBlocks = false
  /// Number of separate blocks; nil: one for each step.
  package var blocks: Int? = nil
  /// The steps that use the same block, where there are fewer blocks than steps.
  package var blockOrder = BlockOrder.cycle
  /// Whether separate blocks share one pool of experts and the weights that write the memory, or each has its own.
  package var poolExperts = false
  /// The positional encoding of the baseline.
  package var positions = Positions.rotary
  /// V: number of tokens; nil uses the dataset's vocabulary.
  package var vocabulary: Int? = nil
  /// Whether the factors of the large products are rounded to bf16.
  package var precision = Precision.fp32
  /// λ_s, weight of the penalty on how fast the graph changes.
  package var smoothWeight = 1e-2
  /// λ_b, weight of the load-balance loss.
  package var balanceWeight = 1e-3
  /// λ_z, weight of the router's z-loss.
  package var routerZWeight = 1e-4
  /// u, the balancer's step on `router/bias` after each optimizer step.
  package var balancerRate = 1e-3

  package init() {}
}

/// The model of the paper, or the dense one that it is compared with.
package enum Architecture: String, Equatable, Sendable, Codable, CaseIterable { case ressformer, transformer }

/// Next token; one class a sequence; one a token; the start and end of an answer.
package enum Head: String, Equatable, Sendable, Codable, CaseIterable { case lm, classify, tag, span }

/// The mean over the memory's slots, over the sequence's tokens, or the sum of both means.
package enum ClassPool: String, Equatable, Sendable, Codable, CaseIterable { case memory, tokens, both }

package enum FeedForward: String, Equatable, Sendable, Codable, CaseIterable { case experts, dense }

/// The softmax of the chosen experts' logits, or the logistic function of each, which does not fix their sum.
package enum Gates: String, Equatable, Sendable, Codable, CaseIterable { case softmax, sigmoid }

/// The factors of the products with the model's large maps: as they are, or rounded to bf16. Sums are single precision
/// either way.
package enum Precision: String, Equatable, Sendable, Codable, CaseIterable { case fp32, bf16 }

/// Whether the scale of an attention head's scores follows from its width, or is learned.
package enum ScoreScale: String, Equatable, Sendable, Codable, CaseIterable { case fixed, learned }

/// The steps that use the same block, where there are fewer blocks than steps: the blocks in turn, or the first and the
/// last step have blocks of their own, and the steps between them share the others.
package enum BlockOrder: String, Equatable, Sendable, Codable, CaseIterable { case cycle, middle }

package enum Positions: String, Equatable, Sendable, Codable, CaseIterable { case rotary, learned, none }

/// How attention turns its k largest scores into weights. The first two give exact zeros to scores far below the best.
package enum Activation: String, Equatable, Sendable, Codable, CaseIterable { case sparsemax, entmax15, softmax }

package struct DataConfiguration: Equatable, Sendable, Codable {
  /// The prepared dataset (`ress data prepare`): a file, or a folder of shards.
  package var path = ""
  /// Several datasets instead of one, with the share of each.
  package var mixture: [WeightedPath] = []
  /// Tokens in a training sequence (targets; the file has one more token at its start).
  package var sequenceLength = 1024
  /// Whether a sequence may continue from one document into the next.
  package var documents = DocumentLayout.packed

  package init() {}

  /// The data, for messages: a path, or the paths of a mixture.
  package var names: String { mixture.isEmpty ? path : mixture.map(\.path).joined(separator: ", ") }
}

/// A dataset of a mixture. Weights are shares of their sum.
package struct WeightedPath: Equatable, Sendable, Codable {
  package var path: String
  package var weight: Double

  package init(path: String, weight: Double) {
    self.path = path
    self.weight = weight
  }
}

/// How documents become sequences.
package enum DocumentLayout: String, Equatable, Sendable, Codable, CaseIterable {
  /// Concatenated and cut into sequences of equal length.
  case packed
  /// Each document starts a new sequence; a long one is cut into several.
  case separate
}

package struct TrainingConfiguration: Equatable, Sendable, Codable {
  package var seed: UInt64 = 1
  /// Optimizer steps of the whole run.
  package var steps = 1000
  /// Sequences in a step, over all workers.
  package var batchSequences = 8
  /// Sequences in a unit; one worker computes the whole of a unit.
  package var unitSequences = 1
  /// Segments through which gradients are propagated back, through the memory; nil: the whole sequence.
  package var bpttSegments: Int? = nil
  /// Whether the backward computes a segment's forward again; never changes a number.
  package var recompute = Recompute.auto
  /// Parts of the model whose weights do not change: names of tensors, or beginnings of names (`ParameterLayout`).
  package var freeze: [String] = []
  /// Steps in a row that may be left out, because a loss or the gradient is not finite, before the run pauses.
  package var skipAtMost = 2
  /// Steps between evaluations on the validation split; 0: only at the end.
  package var evaluateEvery = 100
  /// Sequences an evaluation reads; 0 turns evaluation off.
  package var evaluateSequences = 16
  /// Evaluations without a smaller loss than before, after which the run ends; 0: it never ends early.
  package var stopAfter = 0
  /// Steps between measurements of the router, by step of recurrence; 0: none. Never changes a number.
  package var clinicEvery = 10

  package init() {}

  /// Units a step.
  package var unitCount: Int { batchSequences / unitSequences }
}

package enum Recompute: String, Equatable, Sendable, Codable, CaseIterable { case auto, always, never }

package struct OptimizerConfiguration: Equatable, Sendable, Codable {
  package var learningRate = 8e-3
  package var beta1 = 0.9
  package var beta2 = 0.95
  package var epsilon = 1e-8
  /// Decoupled weight decay, only on matrices.
  package var weightDecay = 0.1
  /// Largest global norm of the gradient; 0 turns clipping off.
  package var clip = 1.0
  package var warmupSteps = 50
  package var schedule = Schedule.cosine
  /// The learning rate's last value, as a share of `learningRate`.
  package var finalFraction = 0.1
  /// Length of the last, falling part of `wsd`, as a share of the run's steps.
  package var decayFraction = 0.2

  package init() {}
}

/// The learning rate after its linear warm-up.
package enum Schedule: String, Equatable, Sendable, Codable, CaseIterable { case cosine, wsd, constant }

package struct CheckpointConfiguration: Equatable, Sendable, Codable {
  /// Runs write below it: `DIRECTORY/RUN/step-00001200`.
  package var directory = "checkpoints"
  /// Steps between checkpoints; 0: only at the end.
  package var every = 200
  /// Newest checkpoints that are kept; 0 keeps all.
  package var keep = 0
  /// Checkpoints of every so many steps are kept in any case; 0: none.
  package var keepEvery = 0
  /// Number of checkpoints with the smallest validation losses that are kept in any case, and whether an evaluation
  /// with the smallest loss so far writes one; 0: neither.
  package var keepBest = 0

  package init() {}
}

package struct ClusterConfiguration: Equatable, Sendable, Codable {
  /// Workers of the run, at most; never changes a number.
  package var workers = 1
  /// The smallest number of workers; with fewer the run waits.
  package var minimumWorkers = 1
  /// Runs of higher priority are placed first, and may take workers from others.
  package var priority = 0
  /// Threads of each worker; 0 divides the machine's cores among its workers. Never changes a number.
  package var threads = 0
  /// Teams into which a worker's threads are divided, at most; 0: the program decides. Never changes a number.
  package var teams = 0
  /// The transport between workers. Never changes a number.
  package var exchange = Exchange.zeromq
  /// How the workers of one machine exchange. Never changes a number.
  package var sameMachine = SameMachine.memory
  /// Whether rows travel to experts, or the weights of experts to all workers. Never changes a number.
  package var experts = ExpertChoice.auto
  /// Steps whose time is measured by part of the model, from the sixth of a generation on; 0: none. Never changes a
  /// number.
  package var profileSteps = 0
  /// Steps between copies of each worker's state in a peer's memory; 0: none.
  package var mirrorEvery = 10
  /// Where a worker keeps copies of the state: its own, and that of the peer whose mirror it is. Never changes a
  /// number.
  package var stateCopies = CopyPlace.memory
  /// Share of the units that a second worker computes again, for comparison to the bit.
  package var audit = 0.0
  /// Seconds of silence after which a worker, a peer or the coordinator counts as lost.
  package var patienceSeconds = 10.0
  /// A command of the shell that the coordinator runs when the run comes to rest, if its administrator allows that;
  /// empty: none.
  package var onEnd = ""

  package init() {}
}

/// How the workers of one machine exchange: gradients and parameters in memory that they share, where no rows travel,
/// and everything else in messages over Unix sockets; everything in messages over Unix sockets; or like workers of
/// several machines.
package enum SameMachine: String, Equatable, Sendable, Codable, CaseIterable { case memory, messages, network }

/// Where copies of the state are: in the worker's memory, or in files without names in TMPDIR, else /var/tmp.
package enum CopyPlace: String, Equatable, Sendable, Codable, CaseIterable { case memory, disk }

/// The transport of tokens and gradients between workers.
package enum Exchange: String, Equatable, Sendable, Codable, CaseIterable { case zeromq, mpi }
