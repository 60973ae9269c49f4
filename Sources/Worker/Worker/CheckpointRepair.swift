// Rewrites a damaged shard file of a checkpoint from the memory of a worker that still holds the shard. The
// coordinator orders it. The new file must have the SHA-256 that the manifest records; it does, because writing
// equal tensors produces equal files.

import Checkpoint
import Configuration
import Data
import Foundation
import Model
import RunFolder
import Training
import Wire

enum CheckpointRepair {
  /// Writes the shard's files beside the checkpoint and moves each over the damaged one.
  static func rewrite(_ order: RewriteOrder, from store: ShardStore) throws {
    let key = order.shard
    let path = CheckpointFolder.finished(order.folder, step: key.step)
    let boundary = Boundary(order.roots ?? [])
    let configuration = try CheckpointFolder.readManifest(path, boundary).configuration
    let vocabulary = try Corpus.vocabulary(of: configuration, isAllowed: boundary.question)
    let layout = ParameterLayout(configuration, vocabulary: vocabulary)
    let plan = WorkPlan(
      index: key.index, units: order.units,
      expertOwners: WorkPlan.owners(of: order.experts, experts: layout.experts.count), layout: layout)
    guard let shard = store.shard(key, ShardLayout(layout, plan)) else {
      throw JobError.shardGone(step: key.step, index: key.index)
    }
    // The folder's name contains the shard's index, because other shards of the checkpoint may be rewritten at the
    // same time.
    let aside = path + ".shard-\(key.index).tmp"
    let writer = try CheckpointWriter(aside: aside, step: key.step, shardCount: key.count, boundary)
    let files = try CheckpointSaver.write(
      LateCopy(shard), writer, key.index, key.index == 0 ? RunJob.links(plan, layout) : nil)
    for file in files {
      try boundary.within(path) { (checkpoint) throws(FolderError) in
        try boundary.within(aside) { (fresh) throws(FolderError) in
          try CheckpointFolder.replace(
            file: file.name, in: checkpoint.path, by: fresh.path + "/" + file.name, boundary)
        }
      }
    }
    try boundary.within((aside as NSString).deletingLastPathComponent) { (folder) throws(FolderError) in
      try Durable.removeFolder(folder.path + "/" + (aside as NSString).lastPathComponent)
    }
  }
}
