// Reads a checkpoint, independently of how many workers wrote it and how many read it. No file is used before all
// files have been checked against the manifest, and every tensor is checked against its own CRC-32C when it is
// read.
//
// A large tensor may have had several owners. Each of them has written its rows as a dataset of its own, named after
// the first of these rows (`TensorRows.stored`). To readers it is one tensor, and checkpoints of older programs, in
// which every tensor is one dataset, are read by the same functions.

import Configuration
import Checksum
import HDF5
import Model
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

  // MARK: tensors

  /// A dataset that holds rows of a tensor, or all of them.
  private struct Part {
    var name: String
    var rows: Range<Int>
  }

  /// The datasets of a tensor in the order of their rows, and the tensor's shape.
  private func parts(of name: String) throws(CheckpointError) -> (parts: [Part], shape: [Int]) {
    do throws(HDF5Error) {
      if let divided = try dividedParts(of: name) { return divided }
      if let (file, inner) = try holder(of: name) {
        let shape = try file.shape(of: inner)
        return ([Part(name: name, rows: 0..<(shape.first ?? 1))], shape)
      }
    } catch {
      throw .hdf5(error)
    }
    throw .tensor(path: path, name: name, problem: "is not in the checkpoint")
  }

  /// The same for a tensor that had several owners; nil where it is not divided.
  private func dividedParts(of name: String) throws(HDF5Error) -> (parts: [Part], shape: [Int])? {
    var parts: [Part] = [], shape: [Int] = [], rowCount = 0
    var next = TensorRows.stored(name, from: 0)
    while let (file, inner) = try holder(of: next) {
      let own = try file.shape(of: inner)
      guard let rows = own.first, rows > 0, rowCount + rows <= CheckpointReader.mostRows,
        parts.isEmpty || own.dropFirst() == shape.dropFirst()
      else { throw .object(path: path, name: next, reason: "its shape \(own) does not continue the tensor") }
      shape = own
      parts.append(Part(name: next, rows: rowCount..<rowCount + rows))
      rowCount += rows
      next = TensorRows.stored(name, from: rowCount)
    }
    return parts.isEmpty ? nil : (parts, [rowCount] + shape.dropFirst())
  }

  /// More than any tensor has, so that sizes which a forged file claims cannot overflow.
  private static let mostRows = 1 << 47

  package func shape(of name: String) throws(CheckpointError) -> [Int] { try parts(of: name).shape }

  /// Throws where a tensor is missing or has another shape. Callers must check before they allocate memory for a
  /// tensor, because its size comes from the manifest's configuration; the check ensures that the file really holds
  /// that many numbers.
  package func check(_ name: String, shape: [Int]) throws(CheckpointError) { _ = try checkedParts(name, shape) }

  private func checkedParts(_ name: String, _ shape: [Int]) throws(CheckpointError) -> [Part] {
    let (parts, stored) = try parts(of: name)
    guard stored == shape else {
      throw .hdf5(.object(path: path, name: name, reason: "its shape is \(stored), and the model's \(shape)"))
    }
    return parts
  }

  /// Reads a tensor of exactly this shape, or some rows of it, into `values`.
  package func read(
    _ name: String, shape: [Int], rows: Range<Int>? = nil, into values: UnsafeMutablePointer<Float>
  ) throws(CheckpointError) {
    let parts = try checkedParts(name, shape), size = shape.dropFirst().reduce(1, *)
    let wanted = rows ?? 0..<(shape.first ?? 1)
    do throws(HDF5Error) {
      for part in parts {
        let common = part.rows.clamped(to: wanted)
        guard !common.isEmpty || part.rows.isEmpty, let (file, inner) = try holder(of: part.name) else { continue }
        let target = values + (common.lowerBound - wanted.lowerBound) * size
        let own = common.lowerBound - part.rows.lowerBound..<common.upperBound - part.rows.lowerBound
        let sum =
          common == part.rows
          ? try CheckpointReader.readAll(inner, of: file, count: common.count * size, into: target)
          : try CheckpointReader.read(own, of: part.rows.count, inner, of: file, valuesARow: size, into: target)
        guard try file.crc32c(of: inner) == sum else {
          throw .object(path: path, name: part.name, reason: "its numbers are damaged: another CRC-32C was written")
        }
      }
    } catch {
      throw .hdf5(error)
    }
  }

  /// Reads a dataset. Returns the CRC-32C of its values.
  private static func readAll(
    _ name: String, of file: HDF5File, count: Int, into values: UnsafeMutablePointer<Float>
  ) throws(HDF5Error) -> UInt32 {
    try file.read(name, into: UnsafeMutableBufferPointer(start: values, count: count))
    return crc32c(UnsafeRawBufferPointer(start: values, count: 4 * count))
  }

  /// Values that are read in one call where only some rows of a dataset are kept.
  private static let readTogether = 1 << 20

  /// Reads all rows of a dataset, for its checksum, and keeps those in `wanted`. Returns the CRC-32C of all values.
  private static func read(
    _ wanted: Range<Int>, of rowCount: Int, _ name: String, of file: HDF5File, valuesARow size: Int,
    into values: UnsafeMutablePointer<Float>
  ) throws(HDF5Error) -> UInt32 {
    let together = max(1, readTogether / max(1, size))
    let block = UnsafeMutableBufferPointer<Float>.allocate(capacity: min(together, rowCount) * size)
    defer { block.deallocate() }
    var sum: UInt32 = 0
    for start in stride(from: 0, to: rowCount, by: together) {
      let rows = start..<min(rowCount, start + together)
      let read = UnsafeMutableBufferPointer(rebasing: block[..<(rows.count * size)])
      try file.read(name, rows: rows, into: read)
      sum = crc32c(UnsafeRawBufferPointer(read), continuing: sum)
      let kept = rows.clamped(to: wanted)
      guard !kept.isEmpty, let base = read.baseAddress else { continue }
      (values + (kept.lowerBound - wanted.lowerBound) * size).update(
        from: base + (kept.lowerBound - start) * size, count: kept.count * size)
    }
    return sum
  }
}
