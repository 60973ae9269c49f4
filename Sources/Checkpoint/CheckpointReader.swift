// Reading a checkpoint, whatever number of workers wrote it and reads it. Nothing is used before every file has been
// checked against the manifest, and every tensor is checked again as it is read.

import Configuration
import CKernels
import HDF5
import RunFolder

package final class CheckpointReader {
  /// The checkpoint's folder.
  package let path: String
  package let manifest: CheckpointManifest
  /// Newer checkpoints that were passed over, and why.
  package let skipped: [String]
  private let model: HDF5File

  /// A checkpoint's folder, or a run's, whose newest checkpoint that verifies is taken. With `verified` somebody has just hashed
  /// the files of the very folder at `place`, so that workers need not all do it again.
  package init(_ place: String, verified: Bool = false) throws(CheckpointError) {
    do throws(FolderError) {
      (path, manifest, skipped) =
        verified ? (place, try CheckpointFolder.readManifest(place), []) : try CheckpointFolder.resolve(place)
    } catch {
      throw .folder(error)
    }
    do throws(HDF5Error) { model = try HDF5File.open(path + "/" + CheckpointFolder.modelName) } catch {
      throw .hdf5(error)
    }
  }

  package func contains(_ name: String) -> Bool { model.contains(name) }

  /// Fills `values` with a tensor of exactly this shape.
  package func read(_ name: String, shape: [Int], into values: UnsafeMutablePointer<Float>) throws(CheckpointError) {
    guard model.contains(name) else { throw .tensor(path: path, name: name, problem: "is not in the checkpoint") }
    do throws(HDF5Error) {
      let stored = try model.shape(of: name)
      guard stored == shape else {
        throw HDF5Error.object(path: path, name: name, reason: "its shape is \(stored), and the model's \(shape)")
      }
      let count = shape.reduce(1, *)
      try model.read(name, into: UnsafeMutableBufferPointer(start: values, count: count))
      guard try model.crc32c(of: name) == ress_crc32c(0, values, 4 * count) else {
        throw HDF5Error.object(path: path, name: name, reason: "its numbers are damaged: another CRC-32C was written")
      }
    } catch {
      throw .hdf5(error)
    }
  }

  package func shape(of name: String) throws(CheckpointError) -> [Int] {
    do throws(HDF5Error) { return try model.shape(of: name) } catch { throw .hdf5(error) }
  }
}
