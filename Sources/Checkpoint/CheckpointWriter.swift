// A worker's part of saving a checkpoint: its shard, and from the first worker the file that joins all shards.
//
// `shard-0003-of-0008.h5` holds the tensors that the worker owns, parameters and moments. `model.h5` is the whole model as
// one logical file: an external link for each tensor, so that h5py, h5ls and ress see it by its name. Links and not
// virtual datasets, because those read a missing shard as zeros.

import CKernels
import Configuration
import HDF5
import RunFolder

#if canImport(Glibc)
  import Glibc
#endif

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
  /// Where its files go, opened once.
  private let folder: PinnedFolder
  private let step: Int
  private let shardCount: Int

  /// `folder` is the run's, `checkpoints/RUN`. Each generation writes into a folder of its own, so that a worker thought dead
  /// spoils nothing.
  /// - Parameter boundary: where the folder must lie, links followed.
  package init(
    folder: String, step: Int, generation: UInt32, shardCount: Int, _ boundary: Boundary = .none
  ) throws(CheckpointError) {
    try self.init(
      aside: CheckpointFolder.unfinished(folder, step: step, generation: generation), step: step,
      shardCount: shardCount, boundary)
  }

  /// Writes into the folder `aside`, which is made where it is missing.
  package init(aside: String, step: Int, shardCount: Int, _ boundary: Boundary = .none) throws(CheckpointError) {
    self.step = step
    self.shardCount = shardCount
    do throws(FolderError) { folder = try PinnedFolder(aside, boundary, makes: true) } catch { throw .folder(error) }
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
      var blocks: [FilledFile.Block] = []
      for tensor in tensors {
        let bytes = UnsafeRawBufferPointer(start: tensor.values, count: 4 * tensor.shape.reduce(1, *))
        let sum = ress_crc32c(0, tensor.values, bytes.count)
        let place = try file.reserve(tensor.name, shape: tensor.shape, crc32c: sum)
        blocks.append(FilledFile.Block(place: place, bytes: bytes))
      }
      return blocks
    }
  }

  /// Writes `model.h5`. `shards` tells for every tensor which shard holds it.
  package func writeModel(_ shards: [(name: String, shard: Int)]) throws(CheckpointError) -> CheckpointManifest.File {
    try write(CheckpointFolder.modelName) { file throws(HDF5Error) in
      for (name, shard) in shards {
        try file.link(name, to: name, in: CheckpointWriter.shardName(shard, of: shardCount))
      }
      return []
    }
  }

  /// Lays a file out, then fills in its numbers.
  private func write(
    _ name: String, _ layOut: (HDF5File) throws(HDF5Error) -> [FilledFile.Block]
  ) throws(CheckpointError) -> CheckpointManifest.File {
    let path = folder.path + "/" + name
    let blocks = try closed(path, spoken: folder.name + "/" + name, layOut)
    do throws(FolderError) {
      let (digest, byteCount) = try FilledFile.fill(path, blocks)
      return CheckpointManifest.File(name: name, byteCount: byteCount, sha256: digest)
    } catch {
      throw .folder(folder.spoken(error))
    }
  }

  /// The file is closed when this returns.
  private func closed(
    _ path: String, spoken: String, _ layOut: (HDF5File) throws(HDF5Error) -> [FilledFile.Block]
  ) throws(CheckpointError) -> [FilledFile.Block] {
    // What an earlier try left there goes; a symbolic link goes too, and is not written through.
    unlink(path)
    do throws(HDF5Error) {
      let file = try HDF5File.create(path, isNew: true, spoken: spoken)
      try file.setAttribute("step", step)
      let blocks = try layOut(file)
      try file.flush()
      return blocks
    } catch {
      throw .hdf5(error)
    }
  }
}
