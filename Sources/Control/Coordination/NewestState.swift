// Which state of a run is whole in the memory of the workers that are left. Each worker alone holds a shard; at steps of
// `mirror_every` it is copied into a peer. A state counts when some worker holds each of its shards.

import Wire

enum NewestState {
  /// A whole state: the shards of `generation` at `step`, and the worker that holds each.
  struct Whole: Equatable {
    var generation: Generation
    var step: Int
    var holders: [WorkerID]
  }

  private struct Key: Hashable {
    var generation: UInt32
    var step: Int
  }

  /// The newest whole state among `held`, and who holds each shard; a shard's own worker comes before its mirror.
  /// - Parameter generations: the rosters of the run's generations.
  static func find(_ held: [(holder: WorkerID, shard: HeldShard)], generations: [Generation]) -> Whole? {
    let groups = Dictionary(grouping: held) { Key(generation: $0.shard.generation, step: $0.shard.step) }
    // The newest step; of equal steps, which are equal states, that of the newest generation.
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
