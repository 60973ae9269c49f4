// Which experts are copied: by their rows, the connections and the memory.

import Configuration
import Testing

@Suite struct ExpertCopiesTests {
  /// Eight experts of 64 × 128, 8 units of 512 tokens, 2 of 8 experts a token.
  private static func configuration(_ choice: ExpertChoice = .auto) -> RunConfiguration {
    var c = RunConfiguration()
    (c.model.width, c.model.heads, c.model.steps, c.model.segment) = (64, 2, 2, 128)
    (c.model.experts, c.model.activeExperts, c.model.expertWidth) = (8, 2, 128)
    (c.data.sequenceLength, c.training.batchSequences) = (512, 8)
    c.cluster.experts = choice
    return c
  }
  private static let fast = ExpertCopies.Line(latencySeconds: 0, bytesPerSecond: 1e9)

  @Test func `travel copies no expert, copy all of them, and a single worker needs no copy`() {
    #expect(ExpertCopies(Self.configuration(.travel), workers: 2).choose() == [])
    #expect(ExpertCopies(Self.configuration(.copy), workers: 2).choose(memoryBytes: 0) == Array(0..<8))
    for choice in ExpertChoice.allCases { #expect(ExpertCopies(Self.configuration(choice), workers: 1).choose() == []) }
  }

  @Test func `without latency an expert is copied exactly where its rows take more bytes than its weights`() {
    // Rows of one expert cost 16·d·R bytes over both workers for half of its rows, with bf16 12·d·R; a copy 24·d·f over
    // both.
    for (precision, even) in [(Precision.fp32, 1.5 * 128 * 2), (.bf16, 2.0 * 128 * 2)] {
      for (load, isCopied) in [(even * 0.9, false), (even * 1.1, true)] {
        var loads = Array(repeating: 1.0, count: 8)
        loads[5] = load
        var c = Self.configuration()
        c.model.precision = precision
        let copies = ExpertCopies(c, workers: 2, loads: loads, line: Self.fast)
        #expect(copies.choose() == (isCopied ? [5] : []))
        #expect((copies.bytes([5]) < copies.bytes([])) == isCopied)
      }
    }
  }

  @Test func `with few rows for each expert, waits decide: a slow answer makes all of them copies`() {
    let loads = Array(repeating: 100.0, count: 8)
    func choice(_ latency: Double) -> [Int] {
      let line = ExpertCopies.Line(latencySeconds: latency, bytesPerSecond: 1e9)
      return ExpertCopies(Self.configuration(), workers: 2, loads: loads, line: line).choose()
    }
    #expect(choice(1e-7) == [] && choice(1e-3) == Array(0..<8))
  }

  @Test func `each further worker costs messages in every call, so that more workers make copies of all pay`() {
    // Each worker has one unit, whatever their number, so that a worker's rows and waits do not change.
    func choice(workers: Int) -> [Int] {
      var c = Self.configuration()
      (c.model.experts, c.training.batchSequences) = (16, workers)
      let line = ExpertCopies.Line(latencySeconds: 20e-6, bytesPerSecond: 1e9)
      let loads = Array(repeating: Double(workers) * 30, count: 16)
      return ExpertCopies(c, workers: workers, loads: loads, line: line).choose()
    }
    #expect(choice(workers: 2) == [])
    #expect(choice(workers: 16) == Array(0..<16))
  }

  @Test func `where workers share memory, copies of all experts cost no messages`() {
    var c = Self.configuration()
    c.model.expertWidth = 512
    let line = ExpertCopies.Line(latencySeconds: 1e-6, bytesPerSecond: 0.4e9)
    let loads = Array(repeating: 800.0, count: 8)
    let messages = ExpertCopies(c, workers: 2, loads: loads, line: line)
    let memory = ExpertCopies(c, workers: 2, loads: loads, line: line, canShareMemory: true)
    #expect(messages.choose() == [] && memory.choose() == Array(0..<8))
    #expect(
      memory.forecast(memory.choose(), isMeasured: false).contains("are expected in shared memory; travelling rows: "))
    // As soon as one expert's rows travel, everything is exchanged in messages.
    #expect(memory.seconds([0, 1]) == messages.seconds([0, 1]))
  }

  @Test func `memory limits the copies, and the experts with most rows come first`() {
    let loads = [5_000.0, 1_000, 9_000, 2_000, 8_000, 4_000, 3_000, 7_000]
    let copies = ExpertCopies(Self.configuration(), workers: 2, loads: loads, line: Self.fast)
    #expect(copies.choose() == Array(0..<8))
    #expect(copies.choose(memoryBytes: copies.bytesOfACopy * 3.5) == [2, 4, 7])
    #expect(copies.choose(memoryBytes: 0) == [])
  }

  @Test func `the forecast names the choice, the alternatives and the connection`() {
    let copies = ExpertCopies(Self.configuration(), workers: 2, line: Self.fast)
    let text = copies.forecast([1, 2], isMeasured: true)
    #expect(text.hasPrefix("2 of 8 experts are copied to every worker: "))
    #expect(text.contains("travelling rows: ") && text.contains("copies of all: "))
    #expect(text.hasSuffix("(measured connection: 0.0 ms, 1000 MB/s)"))
    #expect(copies.forecast([], isMeasured: false).hasPrefix("rows travel to the owners of all experts: "))
    #expect(!copies.forecast([], isMeasured: false).contains("travelling rows"))
  }
}
