// Computes units on all threads of a worker. Each team takes the next unit when it has ended one, so units of different
// length keep all teams busy. Where rows travel, each team has two units under way (`Relay`).
//
// Which team computes which unit depends on chance and does not matter: units write to separate memory, and their
// results are combined in the units' tree.

import Kernels
import Synchronization

/// Where a unit is computed: what a place has is used by one unit at a time.
package struct UnitPlace {
  /// Number of the place in the worker, and of its team.
  package let number: Int
  package let team: Int
}

final class UnitLoop {
  private let division: TeamDivision
  /// By team; empty where a team has one unit under way.
  private let relays: [Relay]
  private let lock = Lock()
  /// The first unit that no team has taken, and the end of the units.
  private let next = Atomic<Int>(0)
  private var end = 0
  private var failure: (any Error)?

  init(_ division: TeamDivision, relays: [Relay]) {
    precondition(relays.isEmpty || relays.count == division.teams.count, "\(relays.count) relays")
    (self.division, self.relays) = (division, relays)
  }

  private var lanes: Int { relays.isEmpty ? 1 : Relay.laneCount }
  var placeCount: Int { division.teams.count * lanes }
  func team(ofPlace place: Int) -> Int { place / lanes }

  /// How a unit ends. After the last units the teams have nothing else to do, so all threads can make their sums.
  func end(_ unit: Int, at place: UnitPlace) -> UnitEnd {
    let teams = division.teams
    return UnitEnd(team: teams[place.team], postpones: teams.count > 1 && unit >= end - teams.count)
  }

  /// Runs `body` while no other team runs such a body, for what all teams write.
  func alone(_ body: () -> Void) { lock.hold(body) }

  /// Calls `body(unit, place)` for each unit, on the threads that lead the teams. Throws the first error; the other
  /// teams then take no further unit.
  func run(_ units: Range<Int>, _ body: (Int, UnitPlace) throws -> Void) throws {
    next.store(units.lowerBound, ordering: .relaxed)
    (end, failure) = (units.upperBound, nil)
    division.run { team in
      do { try lead(team, body) } catch {
        lock.hold { failure = failure ?? error }
        next.store(end, ordering: .relaxed)
      }
    }
    if let failure { throw failure }
  }

  private func lead(_ team: Int, _ body: (Int, UnitPlace) throws -> Void) throws {
    guard !relays.isEmpty else { return try take(UnitPlace(number: team, team: team), body) }
    try relays[team].run { lane in
      try take(UnitPlace(number: team * Relay.laneCount + lane, team: team), body)
    }
  }

  private func take(_ place: UnitPlace, _ body: (Int, UnitPlace) throws -> Void) throws {
    while true {
      let unit = next.wrappingAdd(1, ordering: .relaxed).oldValue
      guard unit < end else { return }
      try body(unit, place)
    }
  }
}
