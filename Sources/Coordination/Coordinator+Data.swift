// Which dataset a run reads. A path says nothing: another file may lie there on one machine, or tomorrow. So the first workers of a run
// say what they found, checkpoints keep it, and from then on a worker that finds something else has no part in the run.

import Configuration
import Wire

extension Coordinator {
  /// What the checkpoint that a run begins from was trained on. Another dataset may be asked for by name; another tokenizer may not,
  /// because the weights of its tokens mean others.
  mutating func expectData(_ index: Int, _ found: DataIdentity?) {
    guard runs[index].record.data == nil, var found else { return }
    if runs[index].record.submission.acceptsOtherData == true { found.dataset = nil }
    runs[index].record.data = found
  }

  /// One worker's word. When all have spoken, those that differ are put aside, or the run ends where all do.
  mutating func workerReads(
    _ id: RunID, _ place: Int, _ data: DataIdentity, _ turn: inout Turn
  ) {
    guard let index = index(of: id), runs[index].record.phase == .loading,
      runs[index].record.roster.indices.contains(place)
    else { return }
    var reads = runs[index].record.generation!.reads ?? [:]
    reads[place] = data
    runs[index].record.generation!.reads = reads
    let roster = runs[index].record.roster
    guard reads.count == roster.count else { return }
    let known = runs[index].record.data ?? DataIdentity(dataset: nil, tokenizer: nil)
    // What the run does not know yet, most of its workers say; of equally many those who come first in the roster.
    let fitting = roster.indices.filter { reads[$0]!.difference(from: known) == nil }
    let most = fitting.max { one, other in
      func votes(_ place: Int) -> Int { fitting.count { reads[$0] == reads[place] } }
      return (votes(one), other) < (votes(other), one)
    }
    let path = runs[index].record.configuration.data.names
    guard let most else {
      let found = reads[0]!
      return end(
        id, .failed,
        "\(path) is \(found.difference(from: known)!) than the run was trained on (\(found.spoken), and not \(known.spoken))"
          + (known.tokenizer == nil || found.tokenizer == known.tokenizer
            ? "; if that is meant: --resume with --other-data" : "; the model's tokens mean other texts"),
        &turn)
    }
    let agreed = known.completed(by: reads[most]!)
    let wrong = roster.indices.filter { reads[$0]!.difference(from: agreed) != nil }
    runs[index].record.data = agreed
    guard !wrong.isEmpty else { return }
    for place in wrong {
      if let member = member(runs[index], place) { members[member.peer]!.aside[id] = turn.now + .seconds(1_000_000_000) }
    }
    let named = wrong.map { place in
      "worker \(roster[place].worker.spoken) finds \(reads[place]!.difference(from: agreed)!) at \(path) "
        + "(\(reads[place]!.spoken))"
    }
    recover(
      id,
      named.joined(separator: ", ")
        + " than the run reads (\(agreed.spoken)), and is put aside until it is started anew",
      &turn)
  }
}
