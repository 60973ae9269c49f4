// The identity of the dataset that a run reads. A path does not identify it, because another machine may have another
// file there, and the file may be replaced later. The first workers of a run therefore report the digests of their
// data, checkpoints store them, and a worker that finds other data is excluded from the run.

import Configuration
import Wire

extension Run {
  /// The data that the run's checkpoint was trained on. A user may ask for another dataset, but not for another
  /// tokenizer, because its tokens would have the weights of other text.
  mutating func expectData(_ found: DataIdentity?) {
    guard data == nil, var found else { return }
    if submission.acceptsOtherData == true { found.dataset = nil }
    data = found
  }

  /// A worker has reported its data. After the last report, workers with other data are put aside; if all of them have
  /// other data, the run ends.
  mutating func workerReads(_ index: Int, _ found: DataIdentity, _ members: inout Members, _ turn: inout Turn) {
    guard phase.isLoading, var generation = phase.generation, generation.roster.indices.contains(index) else { return }
    var reads = generation.reads ?? [:]
    reads[index] = found
    generation.reads = reads
    phase.generation = generation
    let roster = generation.roster
    guard reads.count == roster.count else { return }
    let known = data ?? DataIdentity(dataset: nil, tokenizer: nil)
    // A digest that the run does not know yet is taken from the majority of its workers; of equal numbers, from those
    // that come first in the roster.
    let fitting = roster.indices.filter { reads[$0]!.difference(from: known) == nil }
    let most = fitting.max { one, other in
      func votes(_ index: Int) -> Int { fitting.count { reads[$0] == reads[index] } }
      return (votes(one), other) < (votes(other), one)
    }
    let path = configuration.data.names
    guard let most else {
      let found = reads[0]!
      return end(
        .failed,
        "\(path) is \(found.difference(from: known)!) than the run was trained on (\(found.spoken), and not \(known.spoken))"
          + (known.tokenizer == nil || found.tokenizer == known.tokenizer
            ? "; to accept that, use --resume with --other-data" : "; the model's tokens mean other texts"),
        &members, &turn)
    }
    let agreed = known.completed(by: reads[most]!)
    data = agreed
    let wrong = roster.indices.filter { reads[$0]!.difference(from: agreed) != nil }
    guard !wrong.isEmpty else { return }
    for index in wrong {
      if let member = worker(index, in: members) { putAsideForGood(member, &members, turn) }
    }
    let named = wrong.map { index in
      "worker \(roster[index].worker.spoken) finds \(reads[index]!.difference(from: agreed)!) at \(path) "
        + "(\(reads[index]!.spoken))"
    }
    recover(
      named.joined(separator: ", ")
        + " than the run reads (\(agreed.spoken)), and is put aside until it is restarted", &members, &turn)
  }
}
