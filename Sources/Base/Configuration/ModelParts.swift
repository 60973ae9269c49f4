// The parts of a model, according to its switches (docs/model.md, "Parts that can be changed or left out"). The
// baseline is the model with most of them off.

extension ModelConfiguration {
  /// Whether equal weights mean the same in both models. Where a run's first weights came from does not matter to the
  /// weights it has now.
  package func hasSameMeaning(as other: ModelConfiguration) -> Bool {
    var other = other
    other.from = from
    return self == other
  }

  package var isTransformer: Bool { architecture == .transformer }

  /// Whether a token sees only itself and earlier ones.
  package var isCausal: Bool { head == .lm }

  /// Blocks with weights of their own.
  package var blockCount: Int { isTransformer ? steps : separateBlocks ? blocks ?? steps : 1 }

  /// The block whose weights a step uses. Steps beyond the trained ones use the block of the last one.
  package func block(ofStep step: Int) -> Int {
    let step = min(step, steps - 1), last = blockCount - 1
    switch blockOrder {
    case .cycle: return step % (last + 1)
    case .middle:
      // The blocks between the first and the last one take even shares of the steps, one after the other.
      if step == 0 || last == 0 { return 0 }
      return step == steps - 1 ? last : 1 + (step - 1) * (last - 1) / (steps - 2)
    }
  }

  /// Routed experts among which a step's router chooses.
  package var routedExperts: Int { feedForward == .dense || isTransformer ? 0 : experts }

  /// Pools of routed experts: one for all blocks, or one a block. Pool n has the experts from n · `routedExperts`.
  package var poolCount: Int { poolExperts && !isTransformer ? 1 : blockCount }

  /// The pool of experts that a block's router, or a step's, chooses from.
  package func pool(ofBlock block: Int) -> Int { poolCount == 1 ? 0 : block }
  package func pool(ofStep step: Int) -> Int { pool(ofBlock: block(ofStep: step)) }

  /// Whether separate blocks write the memory with the same weights.
  package var sharesMemory: Bool { separateBlocks && poolExperts && !isTransformer }

  /// Routed experts of the whole model.
  package var expertCount: Int { poolCount * routedExperts }

  /// The experts of the model that correspond to a share of each pool's experts: a worker gets a part of every pool, so
  /// that it has work at every step of recurrence.
  package func experts(in share: Range<Int>) -> [Int] {
    (0..<poolCount).flatMap { pool in share.map { pool * routedExperts + $0 } }
  }

  /// Whether the model can be run for another number of steps than it was trained with: all steps have the same
  /// experts, so a step beyond the last has what the last one has.
  package var allowsOtherSteps: Bool { poolCount == 1 && !isTransformer }

  /// Width of the network that every token passes: the shared expert, or the dense one in place of all experts. 0:
  /// none.
  package var denseWidth: Int {
    let shared = sharedExpert ? sharedWidth ?? expertWidth : 0
    return routedExperts == 0 ? activeExperts * expertWidth + shared : shared
  }

  /// Networks that every token passes in turn: one a step where each has its own, one a block otherwise.
  package var denseCount: Int {
    if denseWidth == 0 { return 0 }
    return hasOwnExperts ? steps : blockCount
  }

  /// Whether one shared block has a shared expert of each step's own.
  package var hasOwnExperts: Bool {
    routedExperts > 0 && sharedExpert && sharedEachStep && !separateBlocks && !isTransformer
  }

  /// Bytes of a value of a row on its way to an expert, and of one that comes back.
  package var sentValueBytes: Int { precision == .bf16 ? 2 : 4 }
  package var returnedValueBytes: Int { 4 }

  package var slots: Int { isTransformer ? 0 : memorySlots }
  /// Most kinds of relations of a model or a dataset.
  package static let mostRelationKinds = 1_024
  /// Kinds of relations that the model reads. The baseline has no graph that could have them.
  package var relations: Int { isTransformer ? 0 : relationKinds }
  package var visibleCache: Int { isTransformer || !ordered ? 0 : cache }

  /// Taps before attention and before the experts; inputs without an order have none.
  package var attentionTaps: Int { ordered ? recencyTaps : 1 }
  package var tapsBeforeExperts: Int { ordered ? expertTaps : 1 }
  /// Whether a tap also reads later tokens; only if the model may see them.
  package var tapsLookAhead: Bool { twoSidedTaps && !isCausal }
  /// Rows of a tap's weight (w − 1 a side).
  package func tapRows(_ taps: Int) -> Int { (taps - 1) * (tapsLookAhead ? 2 : 1) }
  package var forgets: Bool { forgetGates && ordered }
  package var scalesScores: Bool { scoreScale == .learned }
  /// Whether H⁰ is normalised.
  package var normalizesEmbedding: Bool { embeddingNorm }

  /// The model as it was first specified, before the later parts (docs/model.md, "first form"). A configuration of that
  /// time names none of them.
  package static let firstForm: ModelConfiguration = {
    var model = ModelConfiguration()
    model.activation = .sparsemax
    model.forgetGates = false
    model.scoreScale = .fixed
    model.expertTaps = 1
    model.twoSidedTaps = false
    model.tapStart = 0.02
    model.embeddingStart = 0.02
    model.gates = .softmax
    model.routerStart = 0.02
    model.sharedExpert = false
    model.sharedEachStep = false
    model.classPool = .memory
    return model
  }()

  /// The same for the dense baseline, which had neither taps nor a norm of its embedding.
  package static let plainTransformer: ModelConfiguration = {
    var model = firstForm
    model.architecture = .transformer
    model.recencyTaps = 1
    model.embeddingNorm = false
    return model
  }()

  /// Whether the class of a sequence is read from the memory, and whether from the tokens.
  package var classReadsMemory: Bool { slots > 0 && classPool != .tokens }
  package var classReadsTokens: Bool { slots == 0 || classPool != .memory }

  /// Rows of `head/weight`; 0 for the language model, which uses the embedding.
  package var headClasses: Int {
    switch head {
    case .lm: 0
    case .tag, .classify: classes
    case .span: 2
    }
  }
}
