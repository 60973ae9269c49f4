// Writes a worker's files of a checkpoint: its shard, and on the first worker also the file that joins all shards.
//
// `shard-0003-of-0008.h5` holds the tensors that the worker owns, parameters and moments. `model.h5` presents the
// whole model as one logical file: it has an external link for each tensor, so that h5py, h5ls and ress find it by
// its name. Links are used and not virtual datasets, because HDF5 reads a virtual dataset whose shard is missing as
// zeros. Where several workers own rows of a large tensor, each of their shards has a dataset of these rows, and the
// tensor's name is that of a group of links (`TensorRows.stored`).
//
// A file is written in two steps. HDF5 lays it out, with reserved space for each tensor and its CRC-32C as an
// attribute; then `FilledFile` writes the numbers and computes the SHA-256 for the manifest.

import Checksum
import Configuration
import HDF5
import RunFolder

#if canImport(Glibc)
  import Glibc
#endif

/// A tensor, or rows of one, under its name in a checkpoint: `model/embed/weight`, `optimizer/first/embed/weight`,
/// `optimizer/second/…/rows-from-0004096`.
package struct NamedTensor {
  /// Calls its argument with the values, which stay where they are until that returns.
  package typealias Reader = ((UnsafePointer<Float>) -> Void) -> Void

  package var name: String
  package var shape: [Int]
  package var read: Reader
  package var count: Int { shape.reduce(1, *) }

  package init(name: String, shape: [Int], values: UnsafePointer<Float>) {
    self.init(name: name, shape: shape) { $0(values) }
  }

  /// A tensor that may be elsewhere at each call of `read`.
  package init(name: String, shape: [Int], read: @escaping Reader) {
    self.name = name
    self.shape = shape
    self.read = read
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
  /// The folder that files are written to, opened once.
  private let folder: PinnedFolder
  private let step: Int
  private let shardCount: Int

  /// `folder` is the run's folder, `checkpoints/RUN`. Each generation writes into a folder of its own, so that a
  /// worker which was declared lost but still writes cannot damage a newer checkpoint.
  /// - Parameter boundary: where the folder must be, symbolic links followed.
  package init(
    folder: String, step: Int, generation: UInt32, shardCount: Int, _ boundary: Boundary = .none
  ) throws(CheckpointError) {
    try self.init(
      aside: CheckpointFolder.unfinished(folder, step: step, generation: generation), step: step,
      shardCount: shardCount, boundary)
  }

  /// Writes into the folder `aside`, which is created where it is missing.
  package init(aside: String, step: Int, shardCount: Int, _ boundary: Boundary = .none) throws(CheckpointError) {
    self.step = step
    self.shardCount = shardCount
    do throws(FolderError) { folder = try PinnedFolder(aside, boundary, makes: true) } catch { throw .folder(error) }
  }

  /// `shard-0003-of-0008.h5`
  package static func shardName(_ index: Int, of count: Int) -> String {
    "shard-\(SpokenNumbers.padded(index, to: 4))-of-\(SpokenNumbers.padded(count, to: 4)).h5"
  }

  /// Writes a worker's tensors. They are on disk when this returns.
  package func writeShard(_ index: Int, _ tensors: [NamedTensor]) throws(CheckpointError) -> CheckpointManifest.File {
    try write(CheckpointWriter.shardName(index, of: shardCount)) { file throws(HDF5Error) in
      var blocks: [FilledFile.Block] = []
      for tensor in tensors {
        let sum = CheckpointWriter.sum(of: tensor)
        let place = try file.reserve(tensor.name, shape: tensor.shape, crc32c: sum)
        blocks.append(
          FilledFile.Block(place: place, byteCount: 4 * tensor.count) { range, target in
            tensor.read { target.copyMemory(from: UnsafeRawPointer($0) + range.lowerBound, byteCount: range.count) }
          })
      }
      return blocks
    }
  }

  /// Values that are read in one call, so that other users of the tensor do not wait long.
  private static let readTogether = 1 << 20

  private static func sum(of tensor: NamedTensor) -> UInt32 {
    var sum: UInt32 = 0
    for start in stride(from: 0, to: tensor.count, by: readTogether) {
      let count = min(readTogether, tensor.count - start)
      tensor.read { sum = crc32c(UnsafeRawBufferPointer(start: $0 + start, count: 4 * count), continuing: sum) }
    }
    return sum
  }

  /// Writes `model.h5`. `shards` lists the shard that contains each tensor, or each range of rows of a divided one.
  package func writeModel(_ shards: [(name: String, shard: Int)]) throws(CheckpointError) -> CheckpointManifest.File {
    try write(CheckpointFolder.modelName) { file throws(HDF5Error) in
      for (name, shard) in shards {
        try file.link(name, to: name, in: CheckpointWriter.shardName(shard, of: shardCount))
      }
      return []
    }
  }

  /// Lays a file out and then writes its numbers.
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

  /// Creates and lays out the HDF5 file, which is closed when this returns.
  private func closed(
    _ path: String, spoken: String, _ layOut: (HDF5File) throws(HDF5Error) -> [FilledFile.Block]
  ) throws(CheckpointError) -> [FilledFile.Block] {
    // A file that an earlier attempt left is removed. So is a symbolic link, through which nothing must be written.
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
