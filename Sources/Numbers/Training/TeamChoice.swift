// How the threads of a worker are divided into teams (`cluster.teams`), and with it how many of its units are under way
// at the same time.
//
// Threads that work on different units need not wait for each other, so many small teams are faster than a large one.
// But every team needs activations, and a gradient of everything that the worker holds. `auto` takes the fewest teams
// that come within 2 % of the best expected speed, and of those only as many as half of the worker's memory has room
// for. More teams are not worth computing segments again: whether they are is decided as for a single team.

import Configuration
import Kernels
import Model

package struct TeamChoice: Equatable, Sendable {
  package let teams: Int
  /// Units of a team that are under way at once: two where rows travel and units are left for that.
  package let lanes: Int
  /// How each unit's activations are kept.
  package let shape: SequenceModel.Shape
  /// Bytes that each unit under way needs: activations, rows that experts keep, gradients.
  package let unitBytes: Int

  /// Units under way at once.
  package var places: Int { teams * lanes }

  /// - Parameters:
  ///   - threads, units: of this worker.
  ///   - heldExperts: experts whose weights this worker has.
  ///   - rowsTravel: whether units wait for experts of other workers.
  ///   - memoryLimit: bytes for units under way; above it `recompute: auto` recomputes, and `teams: auto` takes fewer.
  package init(
    _ configuration: RunConfiguration, _ sizes: Sizes, _ layout: ParameterLayout, threads: Int, units: Int,
    heldExperts: Int, rowsTravel: Bool, memoryLimit: Int
  ) {
    func lanes(_ teams: Int) -> Int { rowsTravel && units > teams ? Relay.laneCount : 1 }
    func shape(_ teams: Int) -> SequenceModel.Shape {
      SequenceModel.Shape(
        sizes, maximumTokens: configuration.data.sequenceLength, recompute: configuration.training.recompute,
        memoryLimit: memoryLimit / (teams * lanes(teams)))
    }
    func bytes(_ shape: SequenceModel.Shape, teams: Int) -> Int {
      let largest = TeamDivision.sizes(threads: max(1, threads), teams: teams).max()!
      let activations = SequenceModel.byteCount(
        sizes, shape, maximumTokens: configuration.data.sequenceLength, lanes: largest)
      let gradient = Double(layout.denseCount) + Double(heldExperts) * Double(layout.expertCount)
      let rows = TeamChoice.rowBytes(configuration, sizes, shape)
      return Int(min(Double(activations) + rows + gradient * 4, Double(Arena.most)))
    }
    let most = max(1, min(threads, units))
    var teams = configuration.cluster.teams > 0 ? min(configuration.cluster.teams, most) : 1
    if configuration.cluster.teams == 0 {
      let times = (1...most).map { TeamChoice.relativeTime(sizes, threads: threads, units: units, teams: $0) }
      teams = 1 + times.firstIndex { $0 <= 1.02 * times.min()! }!
      let single = shape(1)
      while teams > 1, Arena.bytes(bytes(single, teams: teams), times: teams * lanes(teams)) > memoryLimit {
        teams -= 1
      }
    }
    self.teams = teams
    self.lanes = lanes(teams)
    let chosen = shape(teams)
    self.shape = chosen
    unitBytes = bytes(chosen, teams: teams)
  }

  /// Bytes that the experts keep of a unit's rows between forward and backward: inputs, and gate and up products.
  package static func rowBytes(_ configuration: RunConfiguration, _ sizes: Sizes, _ shape: SequenceModel.Shape)
    -> Double
  {
    guard sizes.experts > 0 else { return 0 }
    let tokens = shape.recomputes ? sizes.segment : configuration.data.sequenceLength
    return Double(tokens) * Double(sizes.steps * sizes.active) * Double((sizes.width + 2 * sizes.expertWidth) * 4)
      * BufferPool.meanExcess
  }

  /// The share of a unit that one thread computes alone: lists, sums of partial results, starts of regions.
  private static let serialShare = 0.05

  /// The expected time of a step in units of one thread: rounds of units, and how long a unit takes on a team's
  /// threads, which divide the rows of a segment in tiles.
  package static func relativeTime(_ sizes: Sizes, threads: Int, units: Int, teams: Int) -> Double {
    let size = max(1, threads / teams), rounds = (units + teams - 1) / teams
    let rows = RowTiles.mostRows(
      of: sizes.segment, lanes: size, size: RowTiles.size(of: sizes.segment, lanes: size))
    let share = min(1, rows / Double(sizes.segment))
    return Double(rounds) * (serialShare + (1 - serialShare) * (size == 1 ? 1 : share))
  }
}
