// The steady clock, and the limit of log lines.

import Testing
import Wire

@Suite struct `Steady clocks` {
  private func at(_ milliseconds: Int64) -> Instant { Instant(nanoseconds: milliseconds * 1_000_000) }

  @Test func `time passes with turns, but not in a gap of more than a second`() {
    var clock = SteadyClock()
    #expect(clock.now(at: at(5000)) == at(5000), "nobody stood still before the first turn")
    #expect(clock.now(at: at(6000)) == at(6000))
    #expect(clock.turn(at: at(18_500)) == .milliseconds(12_500))
    #expect(clock.time(at: at(18_500)) == at(6000))
    #expect(clock.now(at: at(18_750)) == at(6250) && clock.instant(of: at(6250)) == at(18_750))
    #expect(clock.turn(at: at(20_000)) == .milliseconds(1250) && clock.time(at: at(20_100)) == at(6350))
  }

  @Test func `a flood of lines is reduced to a burst and then one per interval, with the number left out`() {
    var limit = LineLimit(most: 3, every: .seconds(5))
    var written: [(time: Int, leftOut: Int)] = []
    for turn in 0..<1000 {
      if let leftOut = limit.admit(at: at(Int64(turn) * 20)) { written.append((turn * 20, leftOut)) }
    }
    #expect(written.map(\.time) == [0, 20, 40, 5000, 10_000, 15_000])
    #expect(written.map(\.leftOut) == [0, 0, 0, 247, 249, 249])
    // After a quiet period the full burst is available again.
    #expect((0..<4).map { limit.admit(at: at(900_000 + Int64($0))) != nil } == [true, true, true, false])
  }
}
