// A worker's part of saving a checkpoint: its shard, and from the first worker the file that joins all shards.
//
// `shard-0003-of-0008.h5` holds the tensors that the worker owns, parameters and moments. `model.h5` is the whole model as
// one logical file: an external link for each tensor, so that h5py, h5ls and ress see it by its name. Links and not
// virtual datasets, because those read a missing shard as zeros.

import CKernels
import Configuration
import HDF5
import RunFolder

/// A tensor as a checkpoint names it: `model/embed/weight`, `optimizer/first/embed/weight`, `optimizer/second/…`.
package struct NamedTensor {
  package var name: String
  package var shape: [Int]
  package var values: UnsafePointer<Float>

  package init(name: String, shape: [Int], values: UnsafePointer<Float>) {
    self.name = name
    self.shape = shape
    self.values = values
  }
}

package enum CheckpointError: Error, CustomStringConvertible {
  case hdf5(HDF5Error)
  case folder(FolderError)
  case tensor(path: String, name: String, problem: String)

  package var description: String {
    switch self {
    case .hdf5(let error): "\(error)"
    case .folder(let error): "\(error)"
    case .tensor(let path, let name, let problem): "\(path): \(name) \(problem)"
    }
  }
}

package struct CheckpointWriter {
  private let folder: String
  private let step: Int
  private let shardCount: Int

  /// `folder` is the run's, `checkpoints/RUN`. Each generation writes into a folder of its own, so that a worker thought dead
  /// spoils nothing.
  package init(folder: String, step: Int, generation: UInt32, shardCount: Int) throws(CheckpointError) {
    try self.init(
      aside: CheckpointFolder.unfinished(folder, step: step, generation: generation), step: step, shardCount: shardCount
    )
  }

  /// Writes into the folder `aside`, which is made where it is missing.
  package init(aside: String, step: Int, shardCount: Int) throws(CheckpointError) {
    folder = aside
    self.step = step
    self.shardCount = shardCount
    do throws(FolderError) { try Durable.makeFolder(self.folder) } catch { throw .folder(error) }
  }

  /// `shard-0003-of-0008.h5`
  package static func shardName(_ index: Int, of count: Int) -> String {
    func padded(_ number: Int) -> String {
      let digits = String(number)
      return String(repeating: "0", count: max(0, 4 - digits.count)) + digits
    }
    return "shard-\(padded(index))-of-\(padded(count)).h5"
  }

  /// Writes the tensors of a worker; they are on disk when this returns.
  package func writeShard(_ index: Int, _ tensors: [NamedTensor]) throws(CheckpointError) -> CheckpointManifest.File {
    try write(CheckpointWriter.shardName(index, of: shardCount)) { file throws(HDF5Error) in
      try file.setAttribute("step", step)
      for tensor in tensors {
        let sum = ress_crc32c(0, tensor.values, 4 * tensor.shape.reduce(1, *))
        try file.write(tensor.name, shape: tensor.shape, tensor.values, crc32c: sum)
      }
    }
  }

  /// Writes `model.h5`. `shards` tells for every tensor which shard holds it.
  package func writeModel(_ shards: [(name: String, shard: Int)]) throws(CheckpointError) -> CheckpointManifest.File {
    try write(CheckpointFolder.modelName) { file throws(HDF5Error) in
      try file.setAttribute("step", step)
      for (name, shard) in shards {
        try file.link(name, to: name, in: CheckpointWriter.shardName(shard, of: shardCount))
      }
    }
  }

  private func write(
    _ name: String, _ fill: (HDF5File) throws(HDF5Error) -> Void
  ) throws(CheckpointError) -> CheckpointManifest.File {
    let path = folder + "/" + name
    do throws(HDF5Error) {
      let file = try HDF5File.create(path)
      try fill(file)
      try file.flush()
    } catch {
      throw .hdf5(error)
    }
    do throws(FolderError) {
      try Durable.sync(path)
      let (digest, byteCount) = try SHA256.ofFile(path)
      return CheckpointManifest.File(name: name, byteCount: byteCount, sha256: digest)
    } catch {
      throw .folder(error)
    }
  }
}
