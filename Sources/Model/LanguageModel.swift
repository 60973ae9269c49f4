// The causal language model on one sequence: forward over its segments, then backward from the last to the first, through
// the memory that links them.
//
// Where memory is short the forward keeps only the memory at each segment's start and computes a segment again in the
// backward. Both ways give the same bits: they run the same products in the same order.

import CKernels
import Configuration
import Kernels

package final class LanguageModel {
  package let sizes: Sizes
  private let segment: Segment
  private let head: LanguageModelHead
  private let tables: SequenceTables
  private let exchange: any ExpertExchange
  /// One a segment, or a single one that every segment uses in turn.
  private let activations: [SegmentActivations]
  /// The memory: current (M, D), its gradient (M, D), and as it stood at each segment's start.
  private let memory, dmemory: Matrix
  private let memoryAtStart: [Matrix]
  /// (T, D) gradient of H.
  private let dh: Matrix
  /// Gradient of the balance loss with respect to a token's P, (K, E).
  private let balance: Matrix
  private let maximumTokens: Int
  private let arena: Arena

  /// Whether the backward computes each segment's forward again.
  package let recomputes: Bool
  package var byteCount: Int { activationByteCount + tables.byteCount }
  /// Bytes of activations and scratch, without the tables of keys and values, which are a file when segments are
  /// computed again.
  package var activationByteCount: Int { arena.byteCount }

  /// - Parameters:
  ///   - maximumTokens: longest sequence, in inputs.
  ///   - memoryLimit: bytes that activations may take before `recompute: auto` gives them up.
  package init(
    _ sizes: Sizes, maximumTokens: Int, recompute: Recompute, memoryLimit: Int, team: Team, exchange: any ExpertExchange
  ) {
    self.sizes = sizes
    self.exchange = exchange
    self.maximumTokens = maximumTokens
    let segments = max(1, (maximumTokens + sizes.segment - 1) / sizes.segment)
    let one = Arena.measure { _ = SegmentActivations($0, sizes) }
    switch recompute {
    case .always: recomputes = segments > 1
    case .never: recomputes = false
    case .auto: recomputes = segments > 1 && one * segments > memoryLimit
    }
    let slots = recomputes ? 1 : segments
    let (arena, parts) = Arena.build { arena in
      (
        segment: Segment(arena, sizes, team), head: LanguageModelHead(arena, sizes, team),
        activations: (0..<slots).map { _ in SegmentActivations(arena, sizes) },
        memory: arena.matrix(sizes.slots, sizes.width), dmemory: arena.matrix(sizes.slots, sizes.width),
        starts: (0..<segments).map { _ in arena.matrix(sizes.slots, sizes.width) },
        dh: arena.matrix(sizes.segment, sizes.width), balance: arena.matrix(sizes.steps, sizes.experts)
      )
    }
    self.arena = arena
    segment = parts.segment
    head = parts.head
    activations = parts.activations
    memory = parts.memory
    dmemory = parts.dmemory
    memoryAtStart = parts.starts
    dh = parts.dh
    balance = parts.balance
    tables = SequenceTables(sizes, wholeSequence: maximumTokens, backing: recomputes ? .file : .memory)
  }

  /// What a sequence adds to the batch: its losses, and the tokens each expert got over all steps.
  package struct Report: Equatable, Sendable {
    package var losses = LossSums()
    package var loads: [Int]
  }

  /// Adds the sequence's gradient to `d`. tokens: inputs and one more; targets[i] is the token after input i, or
  /// negative where nothing is asked.
  package func train(
    tokens: UnsafeBufferPointer<Int32>, targets: UnsafeBufferPointer<Int32>, unit: Int, sequence: Int, _ w: Weights,
    scales: LossScales, bpttSegments: Int?, gradient d: Weights
  ) throws -> Report {
    let spans = spans(of: tokens.count)
    let lastIndex = spans.count - 1
    var forward = try forward(tokens, spans, unit: unit, sequence: sequence, w) { $0 == lastIndex || !recomputes }
    setBalance(forward.counts, tokens: tokens.count, scales)

    dmemory.clear()
    var taskLosses = [Double](repeating: 0, count: spans.count)
    for (index, span) in spans.enumerated().reversed() {
      let site = ExpertSite(unit: unit, sequence: sequence, segment: index, recurrence: 0)
      let a = activations[recomputes ? 0 : index]
      let first = tokens.baseAddress! + index * sizes.segment
      if recomputes && index != lastIndex {
        memory.copy(from: memoryAtStart[index])
        segment.begin(memory: memory, w, a)
        try segment.forward(first, site, span, tables, w, a, exchange: exchange, keep: true)
        segment.end(rowCount: span.rows.count, memory: memory, w, a)
      }
      taskLosses[index] = head.loss(
        a.last, rowCount: span.rows.count, targets: targets.baseAddress! + index * sizes.segment, w, scale: scales.task,
        dh: dh, gradient: d)
      try segment.backward(
        first, site, span, tables, w, a, exchange: exchange, scales: scales, balance: balance, dh: dh, dmemory: dmemory,
        d)
      if let bpttSegments, index > 0, index % bpttSegments == 0 { dmemory.clear() }
    }
    if sizes.slots > 0 {
      ress_add(Int64(dmemory.count), dmemory.pointer, d.memoryInitial.pointer)
      segment.step.memory.finishBackward(w, d)
    }
    forward.report.losses.task = taskLosses.reduce(0, +)
    forward.report.losses.targets = targets.reduce(0) { $0 + ($1 >= 0 ? 1 : 0) }
    return forward.report
  }

  /// Losses of a sequence, without gradients.
  package func evaluate(
    tokens: UnsafeBufferPointer<Int32>, targets: UnsafeBufferPointer<Int32>, unit: Int, sequence: Int, _ w: Weights
  ) throws -> Report {
    let spans = spans(of: tokens.count)
    var task = 0.0
    var result = try forward(tokens, spans, unit: unit, sequence: sequence, w) { _ in
      false
    } segmentDone: { index, a in
      task += head.loss(
        a.last, rowCount: spans[index].rows.count, targets: targets.baseAddress! + index * sizes.segment, w)
    }
    result.report.losses.task = task
    result.report.losses.targets = targets.reduce(0) { $0 + ($1 >= 0 ? 1 : 0) }
    return result.report
  }

  /// Every logit of a sequence, (tokens, V); for tests and export checks, since training never holds them all.
  package func logits(tokens: UnsafeBufferPointer<Int32>, _ w: Weights, into out: Matrix) throws {
    let spans = spans(of: tokens.count)
    _ = try forward(tokens, spans, unit: 0, sequence: 0, w) { _ in
      false
    } segmentDone: { index, a in
      for row in spans[index].rows {
        let place = index * sizes.segment + row
        head.logits(a.last, row: row, w, into: out[rows: place..<place + 1])
      }
    }
  }

  /// The memory as the last sequence left it, (M, D).
  package var finalMemory: Matrix { memory }

  private func spans(of tokenCount: Int) -> [Span] {
    precondition(tokenCount > 0 && tokenCount <= maximumTokens, "\(tokenCount) tokens, room for \(maximumTokens)")
    return stride(from: 0, to: tokenCount, by: sizes.segment).enumerated().map { index, start in
      tables.span(segment: index, start: start, rows: min(sizes.segment, tokenCount - start))
    }
  }

  /// The forward over all segments. The losses other than the task's are counted here, once, so that a segment
  /// computed again counts nothing.
  private func forward(
    _ tokens: UnsafeBufferPointer<Int32>, _ spans: [Span], unit: Int, sequence: Int, _ w: Weights,
    keep: (Int) -> Bool, segmentDone: (Int, SegmentActivations) -> Void = { _, _ in }
  ) throws -> (report: Report, counts: [[Int]]) {
    var report = Report(loads: Array(repeating: 0, count: sizes.experts))
    var counts = Array(repeating: Array(repeating: 0, count: sizes.experts), count: sizes.steps)
    var probabilities = Array(repeating: Array(repeating: 0.0, count: sizes.experts), count: sizes.steps)
    if sizes.slots > 0 {
      memory.copy(from: w.memoryInitial)
      segment.step.memory.begin(w)
    }
    for (index, span) in spans.enumerated() {
      let a = activations[recomputes ? 0 : index]
      let site = ExpertSite(unit: unit, sequence: sequence, segment: index, recurrence: 0)
      if sizes.slots > 0 { memoryAtStart[index].copy(from: memory) }
      segment.begin(memory: memory, w, a)
      try segment.forward(
        tokens.baseAddress! + index * sizes.segment, site, span, tables, w, a, exchange: exchange, keep: keep(index))
      segment.end(rowCount: span.rows.count, memory: memory, w, a)
      for t in 0..<sizes.steps {
        if t > 0 {
          report.losses.smooth += segment.step.graph.smoothness(span, a.steps[t].graph, previous: a.steps[t - 1].graph)
        }
        let experts = a.steps[t].experts
        for row in span.rows {
          let logsum = Double(experts.logsums[row])
          report.losses.routerZ += logsum * logsum
          let probabilities_E = experts.probabilities.row(row)
          for expert in 0..<sizes.experts { probabilities[t][expert] += Double(probabilities_E[expert]) }
        }
        for expert in 0..<sizes.experts { counts[t][expert] += Int(experts.counts[expert]) }
      }
      segmentDone(index, a)
    }
    for t in 0..<sizes.steps {
      for expert in 0..<sizes.experts {
        report.loads[expert] += counts[t][expert]
        // tokens · E · f · P with f = count / (A · tokens) and P = Σ probabilities / tokens.
        report.losses.balance +=
          Double(sizes.experts) * Double(counts[t][expert]) * probabilities[t][expert]
          / Double(sizes.active * tokens.count)
      }
    }
    report.losses.tokens = tokens.count
    return (report, counts)
  }

  private func setBalance(_ counts: [[Int]], tokens: Int, _ scales: LossScales) {
    for t in 0..<sizes.steps {
      for expert in 0..<sizes.experts {
        let share = Real(Double(counts[t][expert]) / Double(sizes.active * tokens))
        balance.row(t)[expert] = scales.balance * share
      }
    }
  }
}
