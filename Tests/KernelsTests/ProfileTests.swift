// Profiles. Only sums and nesting are compared, never durations.

import Kernels
import Testing

@Suite struct ProfileTests {
  private func spin(_ count: Int) -> Int { (0..<count).reduce(0) { $0 ^ $1 &* 31 } }

  @Test func `time is counted once, in the innermost part, and adds up to the total`() throws {
    let team = Team(laneCount: 2)
    let profile = Profile(laneCount: 2)
    team.profile = profile
    var sum = 0
    for _ in 0..<3 {
      team.measure(.step) {
        team.measure(.graph, .forward) { sum ^= spin(2_000) }
        team.measure(.feedForward, .forward) {
          sum ^= spin(500)
          team.measure(.experts, .forward) {
            team.run(8) { task, _ in _ = spin(3_000 + task) }
          }
        }
      }
    }
    team.profile = nil
    team.measure(.optimizer) { sum ^= spin(10) }
    let spans = profile.spans
    #expect(spans.filter { $0.lane == 0 }.count == 12)
    let whole = spans.filter { $0.lane == 0 && $0.part == .step }.reduce(0) { $0 + $1.end - $1.begin }
    let times = profile.selfTimes()
    #expect(times.reduce(0) { $0 + $1.nanoseconds } == whole)
    #expect(times.map(\.part) == [.step, .graph, .feedForward, .experts])
    let outer = spans.filter { $0.lane == 0 && $0.part == .feedForward }.reduce(0) { $0 + $1.end - $1.begin }
    let inner = times.filter { $0.part == .experts || $0.part == .feedForward }.reduce(0) { $0 + $1.nanoseconds }
    #expect(inner == outer)
    // Spans of other threads have the name of the region that they worked in.
    #expect(spans.filter { $0.lane == 1 }.allSatisfy { $0.part == .experts && $0.begin <= $0.end })
  }

  @Test func `a part that throws is closed as well`() {
    struct Broken: Error {}
    let team = Team(laneCount: 1)
    team.profile = Profile(laneCount: 1)
    #expect(throws: Broken.self) { try team.measure(.step) { () throws(Broken) -> Void in throw Broken() } }
    #expect(team.profile!.spans.count == 1 && team.profile!.spans[0].depth == 0)
  }
}
