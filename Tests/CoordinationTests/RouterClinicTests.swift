// The router clinic: what it reports, after how many measurements, and when a complaint is over.

import Coordination
import Testing
import Wire

@Suite struct `Router clinic` {
  private func look(
    _ step: Int, _ loads: [[Int]], active: Int = 1, truncation: [Double] = [], blocks: Int = 1
  ) -> RouterRecord {
    RouterRecord(
      step: step, active: active, loads: loads, entropy: loads.map { _ in 1 },
      bias: Array(repeating: Array(repeating: 0, count: loads.first?.count ?? 0), count: blocks), truncation: truncation
    )
  }

  @Test func `spread is 1 for equal loads, and 0 where every token goes to the same experts`() {
    #expect(look(1, [[5, 5, 5, 5]]).spread == [1])
    #expect(look(1, [[20, 0, 0, 0]]).spread == [0])
    // Two experts a token: the worst there can be is half of the assignments for each of two.
    let worst = look(1, [[10, 10, 0, 0]], active: 2).spread[0]
    #expect(abs(worst) < 1e-12)
    #expect(look(1, [[10, 10]], active: 2).spread.isEmpty, "two of two experts cannot collapse")
    let uneven = look(1, [[8, 4, 2, 2]])
    // e^(−Σ p log p), by hand: p = ½, ¼, ⅛, ⅛ has 1.75 bits.
    #expect(abs(uneven.effectiveExperts[0] - 3.363_585_661) < 1e-6)
  }

  @Test func `a collapse at one step of recurrence is reported once, with the expert, and its end too`() {
    var clinic = RouterClinic()
    var said: [String] = []
    for step in 1...6 { said += clinic.look(look(step, [[5, 5, 5, 5], [19, 1, 0, 0]]), keys: nil) }
    // Experts 2 and 3 have work at the first step of recurrence, so they are not idle.
    #expect(said.count == 1)
    #expect(
      said.first?.hasPrefix(
        "router: step 3: step 2 of recurrence uses 1.2 of 4 experts; expert 0 gets 95 % of the tokens")
        == true, "\(said)")
    for step in 7...9 { said += clinic.look(look(step, [[5, 5, 5, 5], [6, 5, 5, 4]]), keys: nil) }
    #expect(said.count == 2 && said[1] == "router: step 9: the collapse at step 2 of recurrence is over")
  }

  @Test func `a single bad measurement is not a complaint`() {
    var clinic = RouterClinic()
    for step in 1...20 {
      let isBad = !step.isMultiple(of: RouterClinic.looks)
      #expect(clinic.look(look(step, isBad ? [[20, 0, 0, 0]] : [[5, 5, 5, 5]]), keys: nil) == [])
    }
  }

  @Test func `an expert without a token is named, and of separate blocks each block's`() {
    var shared = RouterClinic(), separate = RouterClinic()
    var said: [String] = [], saidOfBlocks: [String] = []
    for step in 1...3 {
      said += shared.look(look(step, [[5, 0, 5, 5], [5, 5, 5, 0]]), keys: nil)
      saidOfBlocks += separate.look(look(step, [[5, 0, 5, 5], [5, 5, 5, 5]], blocks: 2), keys: nil)
    }
    #expect(said == [])
    #expect(saidOfBlocks.count == 1 && saidOfBlocks[0].contains("expert 1 gets no token at all"))
    for step in 4...6 { said += shared.look(look(step, [[5, 0, 5, 5], [5, 0, 5, 5]]), keys: nil) }
    #expect(said.count == 1 && said[0].contains("expert 1 gets no token at all"))
  }

  @Test func `an expert that a step of its pool uses is not idle`() {
    var clinic = RouterClinic()
    var said: [String] = []
    for step in 1...3 {
      var record = look(step, [[5, 0, 5, 5], [5, 5, 5, 0], [5, 5, 5, 0]], blocks: 2)
      record.pools = [0, 1, 1]
      said += clinic.look(record, keys: nil)
    }
    #expect(said.count == 2, "\(said)")
    #expect(said.contains { $0.contains("expert 1 gets no token at all") })
    #expect(said.contains { $0.contains("expert 3 of block 1 gets no token at all") })
    var pooled = RouterClinic()
    for step in 1...3 {
      var record = look(step, [[5, 0, 5, 5], [5, 5, 5, 0]], blocks: 2)
      record.pools = [0, 0]
      #expect(pooled.look(record, keys: nil) == [])
    }
  }

  @Test func `where most queries are cut short the sentence names the step and model_keys`() {
    var clinic = RouterClinic()
    var said: [String] = []
    for step in 1...3 { said += clinic.look(look(step, [], truncation: [0.1, 0.72]), keys: 4) }
    #expect(
      said == [
        "router: step 3: at step 2 of recurrence 72 % of the queries would weigh more than the 4 keys that model.keys allows. "
          + "Raise model.keys"
      ])
    for step in 4...6 { said += clinic.look(look(step, [], truncation: [0.1, 0.3]), keys: 4) }
    #expect(said.last == "router: step 6: the truncation at step 2 of recurrence is over")
    #expect(clinic.sentences(keys: 4) == [])
  }
}
