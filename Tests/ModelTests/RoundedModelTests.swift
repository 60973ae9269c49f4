// The model with bf16 factors: which products read rounded factors, and that nothing else about it is special.

import Configuration
import Kernels
import Model
import Testing

@Suite(.enabled(if: RoundedProducts.areSupported)) struct RoundedModelTests {
  private static func rounded(_ change: (inout ModelConfiguration) -> Void = { _ in }) -> ModelConfiguration {
    var model = TinyModel.standard
    model.precision = .bf16
    change(&model)
    return model
  }

  @Test func `the large maps read rounded factors, and those whose results choose read them as they are`() {
    let tiny = TinyModel(Self.rounded())
    for w in [
      Weights(tiny.parameters, tiny.configuration),
      Weights(tiny.layout, dense: tiny.gradients.dense, model: tiny.configuration),
    ] {
      let block = w.block(0)
      for map in [block.query, block.key, block.value, block.output, w.embed] { #expect(map.factors == .bf16) }
      for map in [w.network(0)!.gateUp, w.network(0)!.down] { #expect(map.factors == .bf16) }
      for map in [block.structureQuery, block.structureKey] { #expect(map.factors == .full) }
    }
    for (head, factors) in [(Head.tag, Factors.bf16), (.classify, .full), (.span, .full)] {
      let tiny = TinyModel(Self.rounded { $0.head = head })
      #expect(Weights(tiny.parameters, tiny.configuration).head.factors == factors, "\(head)")
    }
    let single = TinyModel()
    #expect(Weights(single.parameters, single.configuration).block(0).query.factors == .full)
  }

  /// Losses and every gradient.
  private func result(_ tiny: TinyModel) throws -> [[Real]] {
    let (losses, loads) = try tiny.loss([TinyModel.tokens(21), TinyModel.tokens(18, seed: 5)], gradient: true)
    return [[Real(losses.total)], loads.map { Real($0) }] + tiny.gradientsByName().map(\.values)
  }

  @Test(arguments: [Architecture.ressformer, .transformer])
  func `a gradient with rounded factors is near that of single precision, and not the same`(architecture: Architecture)
    throws
  {
    func form(_ precision: Precision) -> ModelConfiguration {
      // Every key is kept and every expert is active, so that no choice depends on the rounding.
      Self.rounded {
        ($0.precision, $0.architecture, $0.keys, $0.graphDegree) = (precision, architecture, nil, nil)
        ($0.activeExperts, $0.segment) = ($0.experts, 20)
      }
    }
    let (single, rounded) = (try result(TinyModel(form(.fp32))), try result(TinyModel(form(.bf16))))
    func norm(_ x: [Real]) -> Double { x.reduce(0) { $0 + Double($1) * Double($1) }.squareRoot() }
    #expect(abs(Double(rounded[0][0] / single[0][0]) - 1) < 0.01)
    for (one, other) in zip(single.dropFirst(2), rounded.dropFirst(2)) where norm(one) > 1e-3 {
      let distance = norm(zip(one, other).map { $0 - $1 }) / norm(one)
      #expect(distance > 0 && distance < 0.05)
    }
  }

  @Test(arguments: [Head.lm, .tag, .classify, .span])
  func `threads, recomputed segments and evaluation give the bits of one thread that keeps its segments`(head: Head)
    throws
  {
    let model = Self.rounded { $0.head = head }
    let tiny = TinyModel(model, recompute: .never)
    let batch = [tiny.example(11, seed: 3), tiny.example(13, seed: 4)]
    func result(_ tiny: TinyModel) throws -> [[Real]] {
      let (losses, _) = try tiny.loss(batch, gradient: true)
      return [[Real(losses.total)]] + tiny.gradientsByName().map(\.values)
    }
    let alone = try result(tiny)
    #expect(try result(TinyModel(model, recompute: .always)) == alone)
    for threads in 2...3 { #expect(try result(TinyModel(model, threads: threads)) == alone, "\(threads) threads") }
    #expect(try Real(TinyModel(model).loss(batch).losses.total) == alone[0][0])
  }
}
