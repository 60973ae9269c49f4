// Two threads that compute in turn.

import Kernels
import Testing

@Suite struct RelayTests {
  private struct Broken: Error, Equatable { var lane: Int }

  @Test func `lanes run in turn from pass to pass, and the rest of a lane runs when the other has ended`() throws {
    let relay = Relay(Team(laneCount: 1))
    // Not protected: that only one thread runs at a time is what is tested.
    nonisolated(unsafe) var story: [String] = []
    try relay.run { lane in
      for part in 0..<(lane == 0 ? 2 : 4) {
        #expect(relay.lane == lane)
        story.append("\(lane)\(part)")
        try relay.pass()
      }
    }
    #expect(story == ["00", "10", "01", "11", "12", "13"])
    #expect(relay.lane == 0 && !relay.hasOther)
    try relay.pass()
  }

  @Test func `a lane that never waits leaves nothing undone`() throws {
    let relay = Relay(Team(laneCount: 1))
    for _ in 0..<200 {
      nonisolated(unsafe) var left = 0..<5
      nonisolated(unsafe) var done: [Int] = []
      try relay.run { _ in while !left.isEmpty { done.append(left.removeFirst()) } }
      #expect(done == [0, 1, 2, 3, 4])
    }
  }

  @Test(arguments: [0, 1]) func `an error of one lane ends both and is thrown`(lane: Int) {
    let relay = Relay(Team(laneCount: 1))
    nonisolated(unsafe) var rounds = 0
    #expect(throws: Broken(lane: lane)) {
      try relay.run { own in
        while true {
          if own == lane, rounds >= 10 { throw Broken(lane: own) }
          rounds += 1
          try relay.pass()
        }
      }
    }
    #expect(rounds >= 10 && rounds <= 12)
    #expect(throws: Never.self) { try relay.run { _ in try relay.pass() } }
  }

  @Test func `both lanes use the kernel threads, and a profile has whole spans of each`() throws {
    let team = Team(laneCount: 2)
    let profile = Profile(laneCount: 2)
    let relay = Relay(team)
    nonisolated(unsafe) var sums = [Int](repeating: 0, count: 64)
    team.profile = profile
    try team.measure(.step) {
      try relay.run { lane in
        for part in 0..<8 {
          try team.measure(lane == 0 ? .attention : .experts) {
            team.run(4) { task, _ in sums[(lane * 8 + part) * 4 + task] += 1 }
            try relay.pass()
          }
        }
      }
    }
    team.profile = nil
    #expect(sums.allSatisfy { $0 == 1 })
    let spans = profile.spans.filter { $0.lane == 0 }
    #expect(spans.allSatisfy { $0.begin <= $0.end })
    // Each span of a part is divided at its pass, where the other lane had not ended.
    for part in [ProfilePart.attention, .experts] { #expect((8...16).contains(spans.count { $0.part == part })) }
    let times = profile.selfTimes().reduce(0) { $0 + $1.nanoseconds }
    let whole = spans.map(\.end).max()! - spans.map(\.begin).min()!
    #expect(times <= whole, "no time is counted twice")
  }
}
