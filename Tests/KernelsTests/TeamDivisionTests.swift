// The threads of a worker, divided among teams that work side by side.

import Kernels
import Synchronization
import Testing

#if canImport(Glibc)
  import Glibc
#endif

@Suite struct TeamDivisionTests {
  @Test func `threads are divided as evenly as possible, and none is left out`() {
    #expect(TeamDivision.sizes(threads: 5, teams: 2).sorted() == [2, 3])
    #expect(TeamDivision.sizes(threads: 16, teams: 16) == Array(repeating: 1, count: 16))
    for threads in 1...20 {
      for teams in 1...threads {
        let sizes = TeamDivision.sizes(threads: threads, teams: teams)
        #expect(sizes.reduce(0, +) == threads && sizes.max()! - sizes.min()! <= 1 && sizes.min()! > 0)
      }
    }
  }

  @Test(arguments: [(1, 1), (2, 1), (2, 2), (5, 2), (5, 3), (7, 7), (64, 5)])
  func `each team runs every task of its regions once, and the whole works again when the teams have ended`(
    threads: Int, teams: Int
  ) {
    let division = TeamDivision(Team(laneCount: threads), count: teams)
    #expect(division.teams.map(\.laneCount).reduce(0, +) == threads)
    for round in 0..<10 {
      let counts = UnsafeMutablePointer<Int>.allocate(capacity: teams * 8 + 8)
      counts.initialize(repeating: 0, count: teams * 8 + 8)
      defer { counts.deallocate() }
      division.run { team in
        // Teams end at different times, and one of them runs no region at all.
        for _ in 0..<(team + round) % 3 { division.teams[team].run(8) { task, _ in counts[team * 8 + task] += 1 } }
      }
      division.whole.run(8) { task, _ in counts[teams * 8 + task] += 1 }
      for team in 0..<teams {
        for task in 0..<8 { #expect(counts[team * 8 + task] == (team + round) % 3) }
      }
      for task in 0..<8 { #expect(counts[teams * 8 + task] == 1) }
    }
  }

  @Test func `a team always has the same threads`() {
    let division = TeamDivision(Team(laneCount: 4), count: 2)
    let seen = Mutex<[Set<UInt>]>([[], []])
    for _ in 0..<20 {
      division.run { team in
        division.teams[team].onEachLane { _ in
          let own = UInt(pthread_self())
          seen.withLock { _ = $0[team].insert(own) }
        }
      }
    }
    let threads = seen.withLock { $0 }
    #expect(threads[0].count == 2 && threads[1].count == 2 && threads[0].isDisjoint(with: threads[1]))
  }

  @Test func `a profile has the spans of the threads that lead teams, and no time twice`() {
    let division = TeamDivision(Team(laneCount: 4), count: 2)
    let profile = Profile(laneCount: 4, teamCount: 2)
    division.profile = profile
    division.whole.measure(.step) {
      division.run { team in
        let own = division.teams[team]
        own.measure(.attention) {
          own.run(4) { _, _ in }
          own.measure(.experts) { own.run(4) { _, _ in } }
        }
      }
      division.whole.measure(.optimizer) {}
    }
    division.profile = nil
    for lane in [0, 2] {
      let parts = profile.spans.filter { $0.lane == lane && $0.part != .optimizer }.map(\.part)
      #expect(Set(parts) == (lane == 0 ? [.step, .attention, .experts] : [.attention, .experts]))
    }
    let spans = profile.spans.filter { $0.lane == 0 }
    let whole = spans.map(\.end).max()! - spans.map(\.begin).min()!
    #expect(profile.selfTimes().reduce(0) { $0 + $1.nanoseconds } == whole)
    #expect(profile.busy(lane: 0) == whole)
  }
}
