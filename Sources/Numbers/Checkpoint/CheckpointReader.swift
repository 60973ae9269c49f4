// Reads a checkpoint, independently of how many workers wrote it and how many read it. No file is used before all
// files have been checked against the manifest, and every tensor is checked against its own CRC-32C when it is
// read.

import Configuration
import Checksum
import HDF5
import RunFolder

package final class CheckpointReader {
  /// The checkpoint's folder.
  package let path: String
  package let manifest: CheckpointManifest
  /// Newer checkpoints of the run that were skipped because they do not verify, and the reasons.
  package let skipped: [String]
  private let boundary: Boundary
  /// The checkpoint's folder, opened once.
  private let folder: PinnedFolder
  private let model: HDF5File
  /// Shard files that were read recently.
  private var shards: [String: HDF5File] = [:]
  /// Most open shard files. A checkpoint of thousands of workers must not use up the process's descriptors.
  private static let openShards = 16

  /// Opens a checkpoint.
  /// - Parameters:
  ///   - place: a checkpoint's folder, or a run's folder, of which the newest checkpoint that verifies is used.
  ///   - verified: whether the files were verified just before, by the coordinator, so that the workers need not
  ///     read them all again.
  ///   - boundary: where the folder and its files must be, symbolic links followed.
  package init(_ place: String, verified: Bool = false, _ boundary: Boundary = .none) throws(CheckpointError) {
    self.boundary = boundary
    do throws(FolderError) {
      (path, manifest, skipped) =
        verified
        ? (place, try CheckpointFolder.readManifest(place, boundary), [])
        : try CheckpointFolder.resolve(place, boundary)
      folder = try PinnedFolder(path, boundary)
    } catch {
      throw .folder(error)
    }
    do throws(HDF5Error) {
      model = try CheckpointReader.open(CheckpointFolder.modelName, in: folder, boundary)
    } catch {
      throw .hdf5(error)
    }
  }

  private static func open(
    _ name: String, in folder: PinnedFolder, _ boundary: Boundary
  ) throws(HDF5Error) -> HDF5File {
    try HDF5File.open(
      folder.path + "/" + name, isAllowed: boundary.question, spoken: folder.name + "/" + name)
  }

  /// The file that contains a tensor, and the tensor's name in it; nil where `model.h5` has no such tensor.
  /// `model.h5` links to a shard file for each tensor, and only files that the manifest names are opened.
  private func holder(of name: String) throws(HDF5Error) -> (file: HDF5File, name: String)? {
    guard let target = try model.linkTarget(of: name) else { return model.contains(name) ? (model, name) : nil }
    guard manifest.files.contains(where: { $0.name == target.file }) else {
      throw .object(
        path: model.path, name: name, reason: "it links to '\(target.file)', which the manifest does not name")
    }
    if let shard = shards[target.file] { return (shard, target.object) }
    if shards.count >= CheckpointReader.openShards { shards = [:] }
    let shard = try CheckpointReader.open(target.file, in: folder, boundary)
    shards[target.file] = shard
    return (shard, target.object)
  }

  package func contains(_ name: String) -> Bool { (try? holder(of: name)) != nil }

  /// Reads a tensor of exactly this shape into `values`.
  package func read(_ name: String, shape: [Int], into values: UnsafeMutablePointer<Float>) throws(CheckpointError) {
    try check(name, shape: shape)
    do throws(HDF5Error) {
      guard let (file, inner) = try holder(of: name) else { return }
      let count = shape.reduce(1, *)
      try file.read(inner, into: UnsafeMutableBufferPointer(start: values, count: count))
      guard try file.crc32c(of: inner) == crc32c(UnsafeRawBufferPointer(start: values, count: 4 * count)) else {
        throw HDF5Error.object(path: path, name: name, reason: "its numbers are damaged: another CRC-32C was written")
      }
    } catch {
      throw .hdf5(error)
    }
  }

  /// Throws where a tensor is missing or has another shape. Callers must check before they allocate memory for a
  /// tensor, because its size comes from the manifest's configuration; the check ensures that the file really holds
  /// that many numbers.
  package func check(_ name: String, shape: [Int]) throws(CheckpointError) {
    let stored = try self.shape(of: name)
    guard stored == shape else {
      throw .hdf5(.object(path: path, name: name, reason: "its shape is \(stored), and the model's \(shape)"))
    }
  }

  package func shape(of name: String) throws(CheckpointError) -> [Int] {
    var stored: [Int]?
    do throws(HDF5Error) {
      if let (file, inner) = try holder(of: name) { stored = try file.shape(of: inner) }
    } catch {
      throw .hdf5(error)
    }
    guard let stored else { throw .tensor(path: path, name: name, problem: "is not in the checkpoint") }
    return stored
  }
}
