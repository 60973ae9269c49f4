// Relations between tokens, which the input gives (docs/model.md, "Relations"): which tokens see them, and that nothing
// changes without them. Values and gradients are in GoldenTests and FiniteDifferenceTests.

import Configuration
import Kernels
import Model
import Testing

@Suite struct RelationTests {
  private static func model(_ head: Head, kinds: Int = 2) -> ModelConfiguration {
    var configuration = TinyModel.standard
    configuration.head = head
    configuration.classes = 3
    configuration.relationKinds = kinds
    return configuration
  }

  private func relation(_ token: Int, _ other: Int, _ kind: Int = 0) -> TinyModel.Relation {
    TinyModel.Relation(token: token, other: other, kind: kind)
  }

  /// Losses and every gradient.
  private func values(_ tiny: TinyModel, _ batch: [TinyModel.Example]) throws -> [String: [Real]] {
    let (losses, _) = try tiny.loss(batch, gradient: true)
    var values = ["losses": [Real(losses.total), Real(losses.smooth), Real(losses.balance)]]
    for (name, gradient) in tiny.gradientsByName() { values[name] = gradient }
    return values
  }

  private func batch(_ tiny: TinyModel, kinds: Int = 2) -> [TinyModel.Example] {
    [(20, UInt64(3)), (13, 4)].map { count, seed in
      tiny.example(count, seed: seed).related(TinyModel.relations(tokens: count, kinds: kinds, seed: seed))
    }
  }

  @Test(arguments: [Head.lm, .tag])
  func `without relations in the input, a model that reads them is the one that does not`(
    head: Head
  ) throws {
    let plain = TinyModel(Self.model(head, kinds: 0)), reading = TinyModel(Self.model(head))
    let examples = [plain.example(20, seed: 3), plain.example(13, seed: 4)]
    let before = try values(plain, examples)
    var after = try values(reading, examples)
    #expect(after["relation/bias"]?.allSatisfy { $0 == 0 } == true)
    after["relation/bias"] = nil
    #expect(before == after)
    // A token that is related to none is the same as no relations.
    let empty = try values(reading, examples.map { $0.related([]) })
    #expect(empty.filter { $0.key != "relation/bias" } == before)
    // With relations it is another model, whose biases have gradients.
    let related = try values(reading, batch(reading))
    #expect(related["losses"] != before["losses"])
    #expect(related["relation/bias"]!.allSatisfy { $0 != 0 } && related["relation/bias"]!.count == 6)
  }

  @Test(arguments: [0, 5, 7, 8, 9, 15, 16, 19])
  func `a changed relation of a causal model leaves every earlier logit bit-identical`(changed: Int) throws {
    let tiny = TinyModel(Self.model(.lm)), example = tiny.example(20, seed: 3)
    let relations = TinyModel.relations(tokens: 20, kinds: 2, seed: 5)
    let before = try tiny.logits(example.related(relations))
    // The other kind for every relation of the token and to it; and it is now related to all others.
    var others = Set(
      relations.map { relation in
        relation.token == changed || relation.other == changed
          ? self.relation(relation.token, relation.other, 1 - relation.kind) : relation
      })
    for token in 0..<20 where token != changed {
      others.insert(relation(changed, token, 1))
      others.insert(relation(token, changed, 1))
    }
    let after = try tiny.logits(example.related(others))
    let border = changed * tiny.vocabulary
    #expect(before[..<border] == after[..<border])
    #expect(changed == 0 || before[border...] != after[border...])
  }

  @Test func `a relation has an effect on a token that sees the other one, and none across what it does not see`()
    throws
  {
    // Segments of 8 tokens, a cache of 6: token 10 sees tokens 2 to 15.
    let tiny = TinyModel(Self.model(.tag)), example = tiny.example(20, seed: 3), classes = 3
    let before = try tiny.logits(example)
    func changes(_ other: Int) throws -> [Int] {
      let after = try tiny.logits(example.related([relation(10, other)]))
      return (0..<20).filter { before[$0 * classes..<($0 + 1) * classes] != after[$0 * classes..<($0 + 1) * classes] }
    }
    // Beyond the cache, and in a later segment.
    #expect(try changes(1) == [] && changes(0) == [] && changes(16) == [] && changes(19) == [])
    for other in [2, 7, 8, 15] {
      let changed = try changes(other)
      #expect(changed.contains(10) && changed.allSatisfy { $0 >= 8 }, "token \(other): \(changed)")
    }
  }

  /// The neighbours of a token at each step of recurrence.
  private func neighbours(_ tiny: TinyModel, _ example: TinyModel.Example, of token: Int) throws -> [[Int]] {
    tiny.parameters.changed()
    let graphs = try example.withInput {
      try tiny.model.graphs($0, weights: Weights(tiny.parameters, tiny.configuration))
    }
    return graphs.map { graph in graph.edges[token - graph.tokens.lowerBound].map(\.token) }
  }

  @Test func `related tokens are neighbours before all others, as many as there are places`() throws {
    var configuration = Self.model(.tag)
    (configuration.segment, configuration.graphDegree, configuration.window) = (20, 3, 3)
    let tiny = TinyModel(configuration), example = tiny.example(20, seed: 3)
    // The window of token 10 is 9 to 11.
    let two: Set = [relation(10, 0), relation(10, 19, 1), relation(10, 11)]
    for found in try neighbours(tiny, example.related(two), of: 10) {
      #expect(found.count == 6 && Set(found).isSuperset(of: [0, 19, 9, 10, 11]), "\(found)")
    }
    let many = Set([1, 2, 3, 14, 15, 16].map { relation(10, $0) })
    for found in try neighbours(tiny, example.related(many), of: 10) {
      let outside = Set(found).subtracting([9, 10, 11])
      #expect(outside.count == 3 && outside.isSubset(of: [1, 2, 3, 14, 15, 16]), "\(found)")
    }
    // A larger bias decides which of the related tokens have a place.
    for step in 0..<3 { tiny.parameters.dense[tiny.layout.denseEntry("relation/bias")!.offset + 2 * step + 1] = 50 }
    let preferred = many.union([relation(10, 1, 1), relation(10, 14, 1), relation(10, 15, 1)])
    #expect(
      try neighbours(tiny, example.related(preferred), of: 10) == Array(repeating: [1, 9, 10, 11, 14, 15], count: 3))
  }

  @Test(arguments: 1...5)
  func `the tokens of a set and their relations may be in any order`(seed: UInt64) throws {
    var configuration = Self.model(.tag)
    (configuration.ordered, configuration.segment, configuration.graphDegree) = (false, 12, 5)
    let tags = TinyModel(configuration, vocabulary: 23), random = Philox(seed: seed, stream: 41)
    let order = [0..<12, 12..<20].flatMap { part in
      part.map { (key: random.uniform(UInt64($0)), place: $0) }.sorted { $0.key < $1.key }.map(\.place)
    }
    let example = tags.example(20, seed: seed), relations = TinyModel.relations(tokens: 20, kinds: 2, seed: seed)
    var moved = example
    moved.tokens = order.map { example.tokens[$0] }
    var places = Array(repeating: 0, count: 20)
    for (place, token) in order.enumerated() { places[token] = place }
    let before = try tags.logits(example.related(relations))
    let after = try tags.logits(
      moved.related(Set(relations.map { relation(places[$0.token], places[$0.other], $0.kind) })))
    let expected = order.flatMap { before[$0 * 3..<($0 + 1) * 3] }
    let scale = expected.map(abs).max()!
    #expect(zip(after, expected).allSatisfy { abs($0 - $1) < 1e-4 * scale })
    // The relations matter: in their old places they are another input.
    let wrong = try tags.logits(moved.related(relations))
    #expect(zip(wrong, expected).contains { abs($0 - $1) > 1e-3 * scale })
  }

  @Test func `threads and recomputed segments change no bit of a model with relations`() throws {
    var configuration = Self.model(.tag, kinds: 3)
    (configuration.segment, configuration.cache, configuration.graphDegree) = (150, 90, 9)
    var results: [[String: [Real]]] = []
    for (threads, recompute) in [(1, Recompute.never), (2, .never), (3, .always)] {
      let tiny = TinyModel(configuration, maximumTokens: 400, threads: threads, recompute: recompute)
      let examples = [(400, UInt64(3)), (300, 4)].map { count, seed in
        tiny.example(count, seed: seed).related(TinyModel.relations(tokens: count, kinds: 3, seed: seed))
      }
      results.append(try values(tiny, examples))
    }
    #expect(results[0] == results[1])
    #expect(results[0] == results[2])
  }

  @Test func `a table of relations leaves out those of tokens that are cut off`() {
    var table = RelationTable(), whole = RelationTable()
    table.set([0, 2, 0, 0, 3, 1, 2, 0, 0, 3, 0, 1], tokens: 3)
    whole.set([0, 2, 0, 2, 0, 0], tokens: 3)
    #expect(table == whole && table.count == 2)
    var cut = RelationTable()
    cut.set([0, 2, 0, 0, 3, 1, 2, 0, 0, 3, 0, 1], tokens: 4)
    cut.cut(to: 1)
    var first = RelationTable()
    first.set([0, 2, 0, 0, 3, 1], tokens: 4)
    first.cut(to: 1)
    #expect(cut == first && cut.count == 2)
  }
}
