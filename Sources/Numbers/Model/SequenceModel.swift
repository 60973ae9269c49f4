// The model on one sequence: the forward pass over its segments, then the backward pass from the last segment to
// the first, through the memory that links them. `OutputHead` describes the order of calls.
//
// Where activations of all segments do not fit in memory, the forward pass keeps only what crosses the segments'
// borders, and the backward pass computes each segment's forward again. Both ways give the same bits, because they
// do the same operations in the same order.

import Configuration
import Kernels

package final class SequenceModel {
  package let sizes: Sizes
  private let segment: Segment
  private let head: any OutputHead
  private let tables: SequenceTables
  private let exchange: any ExpertExchange
  private let team: Team
  /// One per segment, or a single one that all segments use in turn.
  private let activations: [SegmentActivations]
  /// The memory (M, D) and its gradient.
  private let memory, dmemory: Matrix
  /// (T, D) gradient of H.
  private let dh: Matrix
  /// Gradient of the balance loss with respect to a token's P, (K, E).
  private let balance: Matrix
  private let routing: RoutingSums
  /// Task loss of each segment, to be added in the order of segments.
  private let taskLosses: DoubleBuffer
  private let maximumTokens: Int
  private let arena: Arena

  /// Whether the backward pass computes each segment's forward again.
  package let recomputes: Bool
  /// Bytes of activations, scratch and tables.
  package var byteCount: Int { arena.byteCount + tables.byteCount }

  /// - Parameters:
  ///   - maximumTokens: tokens of the longest sequence.
  ///   - memoryLimit: bytes of activations above which `recompute: auto` recomputes.
  package init(
    _ sizes: Sizes, maximumTokens: Int, recompute: Recompute, memoryLimit: Int, team: Team, exchange: any ExpertExchange
  ) {
    precondition(
      !sizes.model.isTransformer || maximumTokens <= sizes.segment, "the baseline reads a sequence as one segment")
    self.sizes = sizes
    self.exchange = exchange
    self.team = team
    self.maximumTokens = maximumTokens
    let shape = Shape(sizes, maximumTokens: maximumTokens, recompute: recompute, memoryLimit: memoryLimit)
    recomputes = shape.recomputes
    let (arena, parts) = Arena.build { Parts($0, sizes, shape: shape, team: team, maximumTokens: maximumTokens) }
    self.arena = arena
    segment = parts.segment
    head = parts.head
    activations = parts.activations
    memory = parts.memory
    dmemory = parts.dmemory
    dh = parts.dh
    balance = parts.balance
    routing = RoutingSums(sizes)
    taskLosses = DoubleBuffer(shape.segments)
    tables =
      recomputes ? SequenceTables(segmentwise: sizes) : SequenceTables(sizes, wholeSequence: maximumTokens)
  }

  /// The parts of the model that live in the arena.
  private struct Parts {
    let segment: Segment
    let head: any OutputHead
    let activations: [SegmentActivations]
    let memory, dmemory, dh, balance: Matrix

    init(_ arena: Arena, _ sizes: Sizes, shape: Shape, team: Team, maximumTokens: Int) {
      segment = Segment(arena, sizes, team: team)
      head = sizes.outputHead(arena, team, maximumTokens: maximumTokens)
      activations = (0..<(shape.recomputes ? 1 : shape.segments)).map { _ in SegmentActivations(arena, sizes) }
      memory = arena.matrix(sizes.slots, sizes.width)
      dmemory = arena.matrix(sizes.slots, sizes.width)
      dh = arena.matrix(sizes.segment, sizes.width)
      balance = arena.matrix(sizes.steps, sizes.experts)
    }
  }

  /// How sequences up to some length are divided, and whether segments are recomputed.
  package struct Shape: Equatable, Sendable {
    package let segments: Int
    /// Whether the backward computes each segment's forward again.
    package let recomputes: Bool

    fileprivate var withOneSegment: Shape { Shape(segments: 1, recomputes: recomputes) }

    private init(segments: Int, recomputes: Bool) { (self.segments, self.recomputes) = (segments, recomputes) }

    package init(_ sizes: Sizes, maximumTokens: Int, recompute: Recompute, memoryLimit: Int) {
      segments = max(1, (maximumTokens + sizes.segment - 1) / sizes.segment)
      let one = Arena.measure { _ = SegmentActivations($0, sizes) }
      switch recompute {
      case .always: recomputes = segments > 1
      case .never: recomputes = false
      case .auto: recomputes = segments > 1 && Arena.bytes(one, times: segments) > memoryLimit
      }
    }
  }

  /// Bytes that a model of these sizes would take; nothing is allocated.
  /// - Parameter lanes: threads of the team.
  package static func byteCount(_ sizes: Sizes, _ shape: Shape, maximumTokens: Int, lanes: Int) -> Int {
    let team = Team(simulating: lanes)
    // The activations of all segments have the same size, so one is measured; there may be a billion segments.
    let others = shape.recomputes ? 0 : shape.segments - 1
    return Arena.measure { _ = Parts($0, sizes, shape: shape.withOneSegment, team: team, maximumTokens: maximumTokens) }
      + Arena.bytes(others, times: Arena.measure { _ = SegmentActivations($0, sizes) })
      + SequenceTables.byteCount(sizes, rows: shape.recomputes ? sizes.history + sizes.segment : maximumTokens)
  }

  /// Trains on one sequence: adds its gradient to `d`, and its losses and routing to `report`. `targets` are in the
  /// form of the head (docs/model.md); negative ones are ignored.
  package func train(
    _ tokens: TokenInput, targets: UnsafeBufferPointer<Int32>, unit: Int, sequence: Int, weights w: Weights,
    scales: LossScales, bpttSegments: Int?, gradient d: Weights, report: inout SequenceReport
  ) throws {
    precondition(targets.count == sizes.targetRows(tokens.count), "\(targets.count) targets of \(tokens.count) tokens")
    let segments = segmentCount(tokens.count)
    try forward(tokens, unit: unit, sequence: sequence, weights: w, isTraining: true, report: &report) {
      index, span, a in
      head.read(a.last, start: index * sizes.segment, rowCount: span.rows.count, weights: w)
    }
    routing.setBalance(balance, tokens: tokens.count, scale: scales.balance, sizes: sizes)
    report.losses.task += head.sequence(
      memory: memory, targets: targets, tokenCount: tokens.count, weights: w, scale: scales.task, dmemory: dmemory,
      gradient: d)
    for index in (0..<segments).reversed() {
      let span = span(index, of: tokens.count)
      let site = ExpertSite(unit: unit, sequence: sequence, segment: index, recurrence: 0)
      let a = activations[recomputes ? 0 : index]
      let start = index * sizes.segment
      let rest = tokens.from(start)
      // The last segment's activations are still there from the forward pass.
      if recomputes && index != segments - 1 {
        try tables.restore(segment: index, memory: memory)
        segment.begin(memory: memory, weights: w, activations: a)
        try segment.forward(
          rest, site, span: span, tables: tables, memory: memory, weights: w, activations: a, exchange: exchange,
          keep: true)
        segment.end(rowCount: span.rows.count, memory: memory, weights: w, activations: a)
      }
      taskLosses.pointer[index] = team.measure(.head, .backward) {
        head.segment(
          a.last, start: start, rowCount: span.rows.count, targets: targets, weights: w, scale: scales.task, dh: dh,
          gradient: d)
      }
      try segment.backward(
        rest, site, span: span, tables: tables, weights: w, activations: a, exchange: exchange, scales: scales,
        balance: balance, dh: dh, dmemory: dmemory, gradient: d)
      // Truncated back-propagation: at every so many segments, no gradient passes through the memory to the segment
      // before.
      if let bpttSegments, index > 0, index % bpttSegments == 0 { dmemory.clear() }
    }
    // dmemory is now the gradient of the memory before the first segment, which is a parameter.
    if sizes.slots > 0 {
      Vectors.add(dmemory.pointer, to: d.memoryInitial.pointer, count: dmemory.count)
      segment.step.memory.finishBackward(w, d)
    }
    for index in 0..<segments { report.losses.task += taskLosses.pointer[index] }
    report.count(targets)
  }

  /// Adds the losses of a sequence to `report`, without gradients. Its logits, (`Sizes.logitRows`, classes), are
  /// written into `logits` where that is given.
  package func evaluate(
    _ tokens: TokenInput, targets: UnsafeBufferPointer<Int32>, unit: Int, sequence: Int, weights w: Weights,
    logits: Matrix? = nil, report: inout SequenceReport
  ) throws {
    precondition(targets.count == sizes.targetRows(tokens.count), "\(targets.count) targets of \(tokens.count) tokens")
    try forward(tokens, unit: unit, sequence: sequence, weights: w, isTraining: false, report: &report) {
      index, span, a in
      head.read(a.last, start: index * sizes.segment, rowCount: span.rows.count, weights: w)
      if let logits {
        head.writeLogits(a.last, start: index * sizes.segment, rowCount: span.rows.count, weights: w, into: logits)
      }
      taskLosses.pointer[index] = head.segment(
        a.last, start: index * sizes.segment, rowCount: span.rows.count, targets: targets, weights: w, scale: 0, dh: dh,
        gradient: nil)
    }
    report.losses.task += head.sequence(
      memory: memory, targets: targets, tokenCount: tokens.count, weights: w, scale: 0, dmemory: dmemory, gradient: nil)
    if let logits { head.writeLogits(memory: memory, tokenCount: tokens.count, weights: w, into: logits) }
    for index in 0..<segmentCount(tokens.count) { report.losses.task += taskLosses.pointer[index] }
    report.count(targets)
  }

  /// Computes all logits of a sequence, (`Sizes.logitRows`, classes), which training never holds at once.
  package func logits(_ tokens: TokenInput, weights w: Weights, into out: Matrix) throws {
    var report = SequenceReport(sizes)
    try forward(tokens, unit: 0, sequence: 0, weights: w, isTraining: false, report: &report) { index, span, a in
      head.read(a.last, start: index * sizes.segment, rowCount: span.rows.count, weights: w)
      head.writeLogits(a.last, start: index * sizes.segment, rowCount: span.rows.count, weights: w, into: out)
    }
    head.writeLogits(memory: memory, tokenCount: tokens.count, weights: w, into: out)
  }

  /// The token graphs of the last segment of `tokens`, one per step of recurrence; empty for an architecture
  /// without graphs.
  package func graphs(_ tokens: TokenInput, weights w: Weights) throws -> [TokenGraph] {
    var report = SequenceReport(sizes)
    var graphs: [TokenGraph] = []
    try forward(tokens, unit: 0, sequence: 0, weights: w, isTraining: false, report: &report) { index, span, a in
      guard index == segmentCount(tokens.count) - 1 else { return }
      graphs = a.steps.compactMap { $0.graph.map { TokenGraph($0.graph, span, sizes: sizes) } }
    }
    return graphs
  }

  private func segmentCount(_ tokenCount: Int) -> Int { (tokenCount + sizes.segment - 1) / sizes.segment }

  private func span(_ index: Int, of tokenCount: Int) -> Span {
    let first = index * sizes.segment
    return tables.span(segment: index, first: first, rows: min(sizes.segment, tokenCount - first))
  }

  /// The forward pass over all segments. Losses other than the task's are counted here and not when a segment is
  /// computed again, so that they are counted once.
  private func forward(
    _ tokens: TokenInput, unit: Int, sequence: Int, weights w: Weights, isTraining: Bool,
    report: inout SequenceReport, segmentDone: (Int, Span, SegmentActivations) -> Void
  ) throws {
    precondition(
      tokens.count > 0 && tokens.count <= maximumTokens, "\(tokens.count) tokens, room for \(maximumTokens)")
    w.refresh(team)
    routing.begin()
    if sizes.slots > 0 {
      memory.copy(from: w.memoryInitial)
      segment.step.memory.begin(w)
    }
    let segments = segmentCount(tokens.count)
    for index in 0..<segments {
      let span = span(index, of: tokens.count)
      let a = activations[recomputes ? 0 : index]
      let site = ExpertSite(unit: unit, sequence: sequence, segment: index, recurrence: 0)
      if isTraining { try tables.keep(memory: memory, segment: index) }
      segment.begin(memory: memory, weights: w, activations: a)
      try segment.forward(
        tokens.from(index * sizes.segment), site, span: span, tables: tables, memory: memory, weights: w,
        activations: a, exchange: exchange,
        keep: isTraining && (!recomputes || index == segments - 1))
      segment.end(rowCount: span.rows.count, memory: memory, weights: w, activations: a)
      team.measure(.losses) { count(span, a, report: &report) }
      if index < segments - 1 { try tables.advance(segment: index, rows: span.rows.count, keeping: isTraining) }
      segmentDone(index, span, a)
    }
    routing.finish(tokens: tokens.count, sizes, report: &report)
    report.losses.tokens += tokens.count
  }

  /// Adds a segment's share of the losses other than the task's.
  private func count(_ span: Span, _ a: SegmentActivations, report: inout SequenceReport) {
    for t in 0..<sizes.steps {
      if t > 0, case .sparse(let sparse, _) = segment.step.attention, let graph = a.steps[t].graph,
        let previous = a.steps[t - 1].graph
      {
        report.losses.smooth += sparse.smoothness(span, graph, previous: previous)
      }
      if sizes.experts > 0 { routing.add(a.steps[t].experts, step: t, rows: span.rows, report: &report) }
      if case .sparse(_, let attention) = a.steps[t].attention {
        report.routing.truncated[t] += attention.truncatedCount(span, heads: sizes.heads)
      }
    }
  }
}

/// What sequences contribute to the batch: their losses, and how their tokens were routed.
package struct SequenceReport: Equatable, Sendable {
  package var losses = LossSums()
  package var routing: Routing

  package init(losses: LossSums, routing: Routing) {
    self.losses = losses
    self.routing = routing
  }

  /// Copies the values of another report, without allocating.
  package mutating func copy(_ other: SequenceReport) {
    losses = other.losses
    routing.clear()
    routing.add(other.routing)
  }

  package mutating func clear() {
    losses = LossSums()
    routing.clear()
  }

  package init(_ sizes: Sizes) { routing = Routing(sizes) }

  fileprivate mutating func count(_ targets: UnsafeBufferPointer<Int32>) {
    for target in targets where target >= 0 { losses.targets += 1 }
  }
}

/// The routing of one sequence's tokens, by step.
private final class RoutingSums {
  private let steps, experts: Int
  /// Number of assignments, and the sum of P, (K, E).
  private let counts: UnsafeMutablePointer<Int>
  private let probabilities: DoubleBuffer

  init(_ sizes: Sizes) {
    steps = sizes.steps
    experts = sizes.experts
    counts = .allocate(capacity: max(1, steps * experts))
    probabilities = DoubleBuffer(steps * experts)
  }

  deinit { counts.deallocate() }

  func begin() {
    counts.update(repeating: 0, count: steps * experts)
    probabilities.pointer.update(repeating: 0, count: steps * experts)
  }

  func add(_ a: ExpertLayer.Activations, step: Int, rows: Range<Int>, report: inout SequenceReport) {
    let counts_E = counts + step * experts
    let probabilities_E = probabilities.pointer + step * experts
    for row in rows {
      let logsum = Double(a.choices.logsums[row])
      report.losses.routerZ += logsum * logsum
      let row_E = a.choices.probabilities.row(row), logits_E = a.logits.row(row)
      // −Σ P log P = logsumexp − Σ P l, because log P = l − logsumexp; so no logarithm is needed.
      var expected = 0.0
      for expert in 0..<experts {
        let share = Double(row_E[expert])
        probabilities_E[expert] += share
        expected += share * Double(logits_E[expert])
      }
      report.routing.entropy[step] += logsum - expected
    }
    for expert in 0..<experts { counts_E[expert] += Int(a.counts[expert]) }
  }

  func finish(tokens: Int, _ sizes: Sizes, report: inout SequenceReport) {
    for t in 0..<steps {
      for expert in 0..<experts {
        let count = counts[t * experts + expert]
        report.routing.counts[t * experts + expert] += count
        // tokens · E · f · P, where f = count / (A · tokens) and P = Σ probabilities / tokens.
        report.losses.balance +=
          Double(experts) * Double(count) * probabilities.pointer[t * experts + expert] / Double(sizes.active * tokens)
      }
    }
  }

  /// balance (K, E) = scale · f, where f is an expert's share of the assignments.
  func setBalance(_ balance: Matrix, tokens: Int, scale: Real, sizes: Sizes) {
    for t in 0..<steps {
      for expert in 0..<experts {
        balance.row(t)[expert] = scale * Real(Double(counts[t * experts + expert]) / Double(sizes.active * tokens))
      }
    }
  }
}
