// The threads of a worker, divided among teams that work side by side: each of them on a unit of its own. All of them
// work together again on what lies between the units: sums of gradients, the optimizer, packing.
//
// The teams borrow the threads of the whole, so that a worker has no more threads than it was given. While `run` lasts,
// a thread of the whole serves in one team and always in the same place, so that what a kernel keeps for its thread is
// allocated once.

package final class TeamDivision: @unchecked Sendable {
  /// All threads of the worker.
  package let whole: Team
  /// The teams; a single one is the whole itself.
  package let teams: [Team]
  /// The team of each thread of the whole, and its lane in the team.
  private let seats: [(team: Int, lane: Int)]

  /// Divides the threads as evenly as possible.
  /// - Parameter count: number of teams, at most the threads of the whole.
  package init(_ whole: Team, count: Int) {
    precondition((1...whole.laneCount).contains(count), "\(count) teams of \(whole.laneCount) threads")
    self.whole = whole
    let sizes = TeamDivision.sizes(threads: whole.laneCount, teams: count)
    teams =
      count == 1 ? [whole] : sizes.map { whole.isSimulated ? Team(simulating: $0) : Team(borrowing: $0) }
    seats = sizes.enumerated().flatMap { team, size in (0..<size).map { (team, $0) } }
  }

  /// Records the time of all teams while it is set. It may be changed only while no team works.
  package var profile: Profile? {
    get { whole.profile }
    set {
      whole.profile = newValue
      guard teams.count > 1 else { return }
      for (team, first) in seats.indices.filter({ seats[$0].lane == 0 }).enumerated() {
        teams[team].record(in: newValue, track: team + 1, firstLane: first)
      }
    }
  }

  /// The number of threads of each team.
  package static func sizes(threads: Int, teams: Int) -> [Int] {
    (0..<teams).map { threads * ($0 + 1) / teams - threads * $0 / teams }
  }

  private func simulate(_ body: (_ team: Int) -> Void) {
    whole.log?.stop()
    for (number, team) in teams.enumerated() {
      team.log?.start()
      body(number)
      team.log?.stop()
    }
    whole.log?.start()
  }

  /// Calls `body` once for each team, on a thread that leads the team: it may run regions of the team. Returns when
  /// all calls have returned.
  package func run(_ body: (_ team: Int) -> Void) {
    guard teams.count > 1 else { return body(0) }
    if whole.isSimulated { return simulate(body) }
    for team in teams { team.open() }
    whole.onEachLane { lane in
      let seat = seats[lane]
      if seat.lane > 0 { return teams[seat.team].join(lane: seat.lane) }
      body(seat.team)
      teams[seat.team].close()
    }
  }
}
