// Checks of complete checkpoints, for `ress checkpoint verify` and `diff`: what is damaged, by file and by tensor,
// and how two checkpoints differ.

import Configuration
import Foundation
import Model
import RunFolder

package enum CheckpointCheck {
  /// Sentences about what is wrong with a checkpoint; none where it is undamaged. Every file is hashed. In a
  /// damaged file, every tensor is read, to tell those that are still good from those that are not.
  package static func problems(_ path: String) -> [String] {
    let manifest: CheckpointManifest
    do throws(FolderError) { manifest = try CheckpointFolder.readManifest(path) } catch { return ["\(error)"] }
    var problems: [String] = []
    for file in manifest.files {
      do throws(FolderError) { try CheckpointFolder.verify(file, in: path) } catch { problems.append("\(error)") }
    }
    if let reader = try? CheckpointReader(path, verified: true), let names = try? reader.tensors() {
      for (name, shape) in names {
        do throws(CheckpointError) { try reader.check(name, shape: shape) } catch {
          problems.append("\(error)")
          continue
        }
        var values = [Float](repeating: 0, count: shape.reduce(1, *))
        do throws(CheckpointError) { try reader.read(name, shape: shape, into: &values) } catch {
          problems.append("\(error)")
        }
      }
    }
    return problems
  }

  /// The manifest, and the names of the files that differ from it.
  package static func damagedFiles(_ path: String) throws(FolderError) -> (CheckpointManifest, [String]) {
    let manifest = try CheckpointFolder.readManifest(path)
    var damaged: [String] = []
    for file in manifest.files {
      do throws(FolderError) { try CheckpointFolder.verify(file, in: path) } catch { damaged.append(file.name) }
    }
    return (manifest, damaged)
  }

  package struct Difference: Equatable, Sendable {
    package var tensor: String
    /// Number of values that differ in any bit; nil where only one checkpoint has the tensor, or both have it in
    /// different shapes.
    package var differing: Int?
    package var count: Int
    /// The largest absolute difference, and the index of its value.
    package var largest = 0.0
    package var place = 0
    package var problem: String?
  }

  /// The tensors that differ, in the order of the first checkpoint, and the number of tensors that were compared.
  package static func differences(
    _ a: CheckpointReader, _ b: CheckpointReader
  ) throws(CheckpointError) -> (differences: [Difference], tensors: Int) {
    let mine = try a.tensors()
    let theirs = try b.tensors()
    let shapes = Dictionary(uniqueKeysWithValues: theirs.map { ($0.name, $0.shape) })
    var differences: [Difference] = []
    for (name, shape) in mine {
      let count = shape.reduce(1, *)
      guard let other = shapes[name] else {
        differences.append(Difference(tensor: name, count: count, problem: "only in \(a.path)"))
        continue
      }
      guard other == shape else {
        differences.append(Difference(tensor: name, count: count, problem: "has shapes \(shape) and \(other)"))
        continue
      }
      try a.check(name, shape: shape)
      try b.check(name, shape: shape)
      var x = [Float](repeating: 0, count: count), y = x
      try a.read(name, shape: shape, into: &x)
      try b.read(name, shape: shape, into: &y)
      let difference = compare(name, x, y)
      if difference.differing != 0 { differences.append(difference) }
    }
    let names = Set(mine.map(\.name))
    for (name, shape) in theirs where !names.contains(name) {
      differences.append(Difference(tensor: name, count: shape.reduce(1, *), problem: "only in \(b.path)"))
    }
    return (differences, names.union(theirs.map(\.name)).count)
  }

  private static func compare(_ name: String, _ x: [Float], _ y: [Float]) -> Difference {
    var difference = Difference(tensor: name, differing: 0, count: x.count)
    for place in x.indices where x[place].bitPattern != y[place].bitPattern {
      difference.differing! += 1
      let distance = abs(Double(x[place]) - Double(y[place]))
      if !(distance <= difference.largest) { (difference.largest, difference.place) = (distance, place) }
    }
    return difference
  }
}

extension CheckpointReader {
  /// Names and shapes of all tensors that a checkpoint of this configuration contains.
  package func tensors() throws(CheckpointError) -> [(name: String, shape: [Int])] {
    let vocabulary = try shape(of: "model/embed/weight").first ?? 0
    let layout = ParameterLayout(manifest.configuration, vocabulary: vocabulary)
    return (layout.dense + layout.experts.flatMap { $0 }).filter { $0.count > 0 }.flatMap { entry in
      entry.storedKinds.map { ($0.name(of: entry), entry.shape) }
    }
  }
}
