// The newest state of a run that is complete in the memory of the remaining workers.
//
// Each worker alone updates its shard. After every `mirror_every` steps it copies the shard and sends the copy to a
// peer on another host, so each shard of such a step exists twice. After a loss the remaining workers report the shards
// that they hold, of whichever steps: their live shard, copies of their own, and copies of a peer's. A state is
// complete if every shard of one step of one generation is held by some remaining worker. The run continues from the
// newest complete state, and loses no step if no two neighbours died at once. The alternative, to stop at every copy
// until all mirrors confirm it, would make each step as slow as the slowest connection.

import Wire

enum NewestState {
  /// A complete state: the shards of `generation` at `step`, and the worker that holds each of them.
  struct Whole: Equatable {
    var generation: Generation
    var step: Int
    var holders: [WorkerID]
  }

  private struct Key: Hashable {
    var generation: UInt32
    var step: Int
  }

  /// The newest complete state among `held`. Of two holders of a shard, its own worker is preferred to its mirror.
  /// - Parameter generations: the rosters of the run's generations.
  static func find(_ held: [(holder: WorkerID, shard: HeldShard)], generations: [Generation]) -> Whole? {
    let groups = Dictionary(grouping: held) { Key(generation: $0.shard.generation, step: $0.shard.step) }
    // The newest step; of equal steps, which are equal states, the one of the newest generation.
    let newestFirst = groups.sorted { ($0.key.step, $0.key.generation) > ($1.key.step, $1.key.generation) }
    for (key, shards) in newestFirst {
      guard let generation = generations.first(where: { $0.number == key.generation }) else { continue }
      var holders: [WorkerID] = []
      for index in generation.roster.indices {
        guard let holder = shards.filter({ $0.shard.index == index }).map(\.holder).min() else { break }
        holders.append(holder)
      }
      if holders.count == generation.roster.count {
        return Whole(generation: generation, step: key.step, holders: holders)
      }
    }
    return nil
  }
}
