import Checkpoint
import RunFolder
extension CheckpointWriter {
  init(folder: String, step: Int, generation: UInt32, shardCount: Int) throws(CheckpointError) {
    try self.init(folder: folder, step: step, shardCount: shardCount)
  }
}
extension CheckpointFolder {
  static func unfinished(_ folder: String, step: Int, generation: UInt32) -> String { unfinished(folder, step: step) }
  static func replace(file: String, in path: String, by fresh: String) throws(FolderError) {}
}
