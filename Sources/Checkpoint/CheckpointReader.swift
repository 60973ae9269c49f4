// Reading a checkpoint, whatever number of workers wrote it and reads it. Nothing is used before every file has been
// checked against the manifest.

import Configuration
import HDF5
import RunFolder

package final class CheckpointReader {
  /// The checkpoint's folder.
  package let path: String
  package let manifest: CheckpointManifest
  /// Newer checkpoints that were passed over, and why.
  package let skipped: [String]
  private let model: HDF5File

  /// A checkpoint's folder, or a run's, whose newest checkpoint that verifies is taken.
  package init(_ place: String) throws(CheckpointError) {
    do throws(FolderError) { (path, manifest, skipped) = try CheckpointFolder.resolve(place) } catch {
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
      try model.read(name, into: UnsafeMutableBufferPointer(start: values, count: shape.reduce(1, *)))
    } catch {
      throw .hdf5(error)
    }
  }

  package func shape(of name: String) throws(CheckpointError) -> [Int] {
    do throws(HDF5Error) { return try model.shape(of: name) } catch { throw .hdf5(error) }
  }
}
