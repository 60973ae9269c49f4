// How much of a step would be serial or waiting on machines with more cores than this one: a bound, counted from the
// tasks of a step that one thread runs.
//
// Every task is timed, and so is the time between regions. Given these, a team of n threads that take tasks in order
// needs a certain time at best, and as many rounds as units over teams. Not counted is what n cores do to each other:
// shared caches and memory bandwidth, and the start of regions.

import Configuration
import Foundation
import Kernels
import Model
import Training

enum BoundBench {
  /// Prints, for each number of threads, the share of their time in which threads wait: with one team and the tiles of a
  /// single thread, with one team and tiles for its threads, and with as many teams as `cluster.teams: auto` chooses.
  static func run(_ arguments: BenchArguments) throws {
    var shape = try Shape(
      arguments.text("--shape", "bench-small"), file: arguments.text("--shapes", Shape.standardFile))
    let units = max(1, Int(arguments.number("--units", 8)))
    shape.configuration.training.batchSequences = units
    for threads in arguments.text("--threads", "8,16,64").split(separator: ",").compactMap({ Int($0) }) {
      let layout = ParameterLayout(shape.configuration.model, vocabulary: shape.vocabulary)
      let auto = TeamChoice(
        shape.configuration, Sizes(shape.configuration.model, vocabulary: shape.vocabulary), layout, threads: threads,
        units: units, heldExperts: shape.configuration.model.expertCount, rowsTravel: false, memoryLimit: .max
      ).teams
      for (teams, tiled) in [(1, 1), (1, threads)] + (auto == 1 ? [] : [(auto, threads)]) {
        let step = try simulate(shape, layout, units: units, threads: threads, teams: teams, tiledFor: tiled)
        print(
          JSONLine([
            ("shape", "\"\(shape.name)\""), ("units", "\(units)"), ("threads", "\(threads)"), ("teams", "\(teams)"),
            ("tiles", tiled == 1 ? "\"of one thread\"" : "\"of the team\""),
            ("work_seconds", JSONLine.number(step.work)), ("step_seconds", JSONLine.number(step.seconds)),
            ("speedup", JSONLine.number(step.work / step.seconds)),
            ("waiting", JSONLine.number(1 - step.work / step.seconds / Double(threads))),
          ]).text)
      }
    }
  }

  private static func simulate(
    _ shape: Shape, _ layout: ParameterLayout, units: Int, threads: Int, teams: Int, tiledFor lanes: Int
  ) throws -> (work: Double, seconds: Double) {
    let configuration = shape.configuration
    let held = HeldModel(
      configuration, vocabulary: shape.vocabulary, plan: .alone(configuration, layout: layout),
      Team(simulating: lanes), teams: teams)
    let trainer = try Trainer(
      configuration, held, Exchanges(alone: held),
      source: RandomTokens(length: configuration.data.sequenceLength, vocabulary: shape.vocabulary), memoryLimit: .max)
    _ = try trainer.step(0)
    let whole = TaskLog(), first = TaskLog()
    held.team.log = whole
    // One thread runs all units, and the first team takes them all.
    if teams > 1 { held.division.teams[0].log = first }
    whole.start()
    _ = try trainer.step(1)
    whole.stop()
    let smallest = TeamDivision.sizes(threads: threads, teams: teams).min()!
    let rounds = Double((units + teams - 1) / teams)
    let unitSeconds = first.seconds(lanes: smallest) / Double(units)
    return (whole.work + first.work, whole.seconds(lanes: threads) + (teams > 1 ? rounds * unitSeconds : 0))
  }
}
