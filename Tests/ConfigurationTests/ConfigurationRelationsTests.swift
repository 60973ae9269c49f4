// Rules that name two fields.

import Configuration
import Testing

@Suite struct `Rules between fields` {
  @Test func `the width is a multiple of the heads, and a hint names the next one`() {
    #expect(
      problems(minimal + "model:\n  width: 65\n  heads: 4\n") == [
        "c.yaml:5:10: the width must be a multiple of the heads, but 65 is not one of 4; use a width of 68"
      ])
  }

  @Test func `a token cannot reach more experts than there are`() {
    #expect(
      problems(minimal + "model:\n  experts: 2\n  active_experts: 3\n") == [
        "c.yaml:5:19: a token cannot reach 3 experts of 2; lower active_experts or raise experts"
      ])
  }

  @Test func `blocks with experts of their own have at most 9999 together, blocks of one pool have one number`() throws
  {
    let blocks = minimal + "model: {steps: 4, experts: 2500, separate_blocks: true"
    #expect(
      problems(blocks + "}\n") == [
        "c.yaml:3:28: 4 separate blocks of 2500 experts make 10000 experts, but 9999 is the maximum; "
          + "lower experts, or set pool_experts: true"
      ])
    let pooled = try decode(blocks + ", pool_experts: true}\n").model
    #expect(pooled.expertCount == 2500 && pooled.experts(in: 3..<5) == [3, 4])
    var separate = pooled
    (separate.poolExperts, separate.experts) = (false, 10)
    #expect(separate.expertCount == 40 && separate.experts(in: 3..<5) == [3, 4, 13, 14, 23, 24, 33, 34])
  }

  @Test func `steps use fewer blocks in turn, or share those between the first and the last one`() throws {
    func order(_ steps: Int, _ blocks: Int?, _ order: BlockOrder = .cycle) -> [Int] {
      var model = ModelConfiguration()
      (model.separateBlocks, model.steps, model.blocks, model.blockOrder) = (true, steps, blocks, order)
      // Two more than were trained use the block of the last step.
      return (0..<steps + 2).map { model.block(ofStep: $0) }
    }
    #expect(order(3, nil) == [0, 1, 2, 2, 2] && order(3, nil, .middle) == order(3, nil))
    #expect(order(5, 2) == [0, 1, 0, 1, 0, 0, 0])
    #expect(order(4, 3, .middle) == [0, 1, 1, 2, 2, 2])
    #expect(order(7, 4, .middle) == [0, 1, 1, 1, 2, 2, 3, 3, 3])
    let shared = ModelConfiguration()
    #expect((0..<5).map { shared.block(ofStep: $0) } == [0, 0, 0, 0, 0])
  }

  @Test func `blocks are separate, no more than the steps, and the middle has one of its own`() {
    let blocks = minimal + "model: {steps: 4, "
    #expect(
      problems(blocks + "blocks: 2}\n") == [
        "c.yaml:3:27: one block is applied K times where blocks are not separate; set separate_blocks: true, or leave out blocks"
      ])
    #expect(
      problems(blocks + "separate_blocks: true, blocks: 5}\n") == [
        "c.yaml:3:50: 4 steps cannot use 5 blocks; lower blocks or raise steps"
      ])
    #expect(
      problems(blocks + "separate_blocks: true, blocks: 2, block_order: middle}\n") == [
        "c.yaml:3:66: the first and the last block are not shared, so the steps between them need a third one; "
          + "raise blocks to 3, or set block_order: cycle"
      ])
  }

  @Test func `a batch is whole units`() {
    #expect(
      problems(minimal + "training: {batch_sequences: 7, unit_sequences: 2}\n") == [
        "c.yaml:3:48: batch_sequences must be a multiple of unit_sequences, but 7 is not one of 2; use a batch of 8"
      ])
  }

  @Test func `every worker has a unit`() throws {
    #expect(
      problems(minimal + "training: {batch_sequences: 4, unit_sequences: 2}\ncluster: {workers: 3}\n") == [
        "c.yaml:4:20: 3 workers have only 2 units a step to share (batch_sequences / unit_sequences); "
          + "raise batch_sequences or lower workers"
      ])
    #expect(
      try decode(minimal + "training: {batch_sequences: 4, unit_sequences: 2}\ncluster: {workers: 2}\n").cluster.workers
        == 2)
  }

  @Test func `a rule broken against a default points to the field that was given`() {
    #expect(problems(minimal + "model: {heads: 5}\n").first?.hasPrefix("c.yaml:3:16: the width must be") == true)
  }

  @Test func `a rule broken by an option names the option`() {
    let reported = problems(minimal + "model: {heads: 4}\n", ["model.width=30"])
    #expect(reported.first?.hasPrefix("--set model.width=30: the width must be a multiple of the heads") == true)
  }

  @Test func `no rule is checked for a value that was refused`() {
    #expect(
      problems(minimal + "model: {width: abc, heads: 5}\n") == ["c.yaml:3:16: expected a whole number, found 'abc'"])
  }

  @Test func `checkpoints need a folder`() {
    #expect(problems(minimal + "checkpoint: {directory: \"\"}\n").first?.contains("checkpoints need a folder") == true)
  }

  @Test func `a mixture of more datasets than a round has places is refused`() {
    let parts = (0..<1025).map { "p\($0).h5: 1" }.joined(separator: ", ")
    let found = problems("data: {mixture: {\(parts)}}\n")
    #expect(found.contains { $0.contains("a mixture of 1025 datasets, but 1024 is the maximum") }, "\(found)")
  }
}
