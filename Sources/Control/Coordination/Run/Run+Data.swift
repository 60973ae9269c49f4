// Which dataset a run reads. A path does not identify it: another file may lie there on one machine, or tomorrow. So the first workers of a
// run report what they found, checkpoints keep it, and from then on a worker that finds something else is left out of the run.

import Configuration
import Wire

extension Run {
  /// What the checkpoint that the run begins from was trained on. A user may ask for another dataset; another tokenizer is not possible,
  /// because the weights of its tokens mean other text.
  mutating func expectData(_ found: DataIdentity?) {
    guard data == nil, var found else { return }
    if submission.acceptsOtherData == true { found.dataset = nil }
    data = found
  }

  /// One worker has reported what it finds. When all have, those that differ are put aside, or the run ends where all do.
  mutating func workerReads(_ place: Int, _ found: DataIdentity, _ members: inout Members, _ turn: inout Turn) {
    guard phase.isLoading, var generation = phase.generation, generation.roster.indices.contains(place) else { return }
    var reads = generation.reads ?? [:]
    reads[place] = found
    generation.reads = reads
    phase.generation = generation
    let roster = generation.roster
    guard reads.count == roster.count else { return }
    let known = data ?? DataIdentity(dataset: nil, tokenizer: nil)
    // What the run does not know yet is what most of its workers report; of equally many, those that come first in the roster.
    let fitting = roster.indices.filter { reads[$0]!.difference(from: known) == nil }
    let most = fitting.max { one, other in
      func votes(_ place: Int) -> Int { fitting.count { reads[$0] == reads[place] } }
      return (votes(one), other) < (votes(other), one)
    }
    let path = configuration.data.names
    guard let most else {
      let found = reads[0]!
      return end(
        .failed,
        "\(path) is \(found.difference(from: known)!) than the run was trained on (\(found.spoken), and not \(known.spoken))"
          + (known.tokenizer == nil || found.tokenizer == known.tokenizer
            ? "; if that is meant: --resume with --other-data" : "; the model's tokens mean other texts"),
        &members, &turn)
    }
    let agreed = known.completed(by: reads[most]!)
    data = agreed
    let wrong = roster.indices.filter { reads[$0]!.difference(from: agreed) != nil }
    guard !wrong.isEmpty else { return }
    for place in wrong {
      if let member = worker(place, in: members) { putAsideForGood(member, &members, turn) }
    }
    let named = wrong.map { place in
      "worker \(roster[place].worker.spoken) finds \(reads[place]!.difference(from: agreed)!) at \(path) "
        + "(\(reads[place]!.spoken))"
    }
    recover(
      named.joined(separator: ", ")
        + " than the run reads (\(agreed.spoken)), and is put aside until it is started anew", &members, &turn)
  }
}
