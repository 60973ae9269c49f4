// The coordinator and its workers as they are in production, over links that lose, double, delay and reorder, with
// processes that crash, hang and come back, a coordinator that is killed between its store and its answers, a disk that
// is slow and sometimes full, clocks that stand still because a process or the whole machine was stopped, and users who
// pause, resume and scale. One seed is one story; `Simulation` plays it.
//
// A failing seed is played again with all its events: RESS_SEED=4711 scripts/test.sh --filter SimulationTests More
// seeds than in every test run: RESS_SEEDS=100000 scripts/test.sh --filter SimulationTests

import Dispatch
import Foundation
import Synchronization
import Testing

@Suite struct SimulationTests {
  @Test func `whatever dies, no step is lost, doubled or undone, and every run ends, on hundreds of seeds`() {
    let environment = ProcessInfo.processInfo.environment
    if let seed = environment["RESS_SEED"].flatMap({ UInt64($0) }) {
      var simulation = Simulation(seed: seed, isTold: true)
      let problem = simulation.play()
      print(simulation.log.joined(separator: "\n"))
      #expect(problem == nil, "seed \(seed)")
      return
    }
    let count = environment["RESS_SEEDS"].flatMap { Int($0) } ?? 500
    let found = Mutex<(problems: [String], reached: Set<String>)>(([], []))
    DispatchQueue.concurrentPerform(iterations: count) { index in
      var simulation = Simulation(seed: UInt64(index) + 1)
      let problem = simulation.play()
      let reached = simulation.reached
      found.withLock {
        if let problem { $0.problems.append("seed \(index + 1): \(problem)") }
        $0.reached.formUnion(reached)
      }
    }
    let (problems, reached) = found.withLock { $0 }
    #expect(problems.count == 0, "\(problems.sorted().prefix(5).joined(separator: "\n"))")
    // The schedules must reach every kind of event, or they prove little.
    let kinds: Set<String> = [
      "worker crash", "worker hang", "coordinator crash", "crash between store and answer", "from memory",
      "from checkpoint", "again from the seed", "halt", "pause", "resume", "scale", "disk full", "finished", "replay",
      "missing record", "left out",
      "missing record", "coordinator stopped", "machine stopped", "worker cannot write",
    ]
    #expect(kinds.subtracting(reached) == [], "not reached: \(kinds.subtracting(reached))")
  }

  @Test func `a coordinator that is only stopped, and a machine that is paused, cost no worker and no step`() {
    let environment = ProcessInfo.processInfo.environment
    if let seed = environment["RESS_CALM_SEED"].flatMap({ UInt64($0) }) {
      var simulation = Simulation(seed: seed, isTold: true, isCalm: true)
      let problem = simulation.play() ?? simulation.calmProblem
      print(simulation.log.joined(separator: "\n"))
      #expect(problem == nil, "seed \(seed)")
      return
    }
    let found = Mutex<(problems: [String], reached: Set<String>)>(([], []))
    let count = environment["RESS_SEEDS"].flatMap { Int($0) } ?? 60
    DispatchQueue.concurrentPerform(iterations: count) { index in
      var simulation = Simulation(seed: UInt64(index) + 1, isCalm: true)
      let problem = simulation.play() ?? simulation.calmProblem
      let reached = simulation.reached
      found.withLock {
        if let problem { $0.problems.append("seed \(index + 1): \(problem)") }
        $0.reached.formUnion(reached)
      }
    }
    let (problems, reached) = found.withLock { $0 }
    #expect(problems.isEmpty, "\(problems.sorted().prefix(5).joined(separator: "\n"))")
    #expect(Set(["coordinator stopped", "machine stopped"]).subtracting(reached).isEmpty)
  }
}
