// Which checkpoints a run has, and how one comes to count.
//
// Workers of generation 7 write their files to `step-00001200.g7.tmp/`. When all are on disk the manifest and `SHA256SUMS` are
// written there and the folder is renamed to `step-00001200`: that rename is the commit. A folder that ends in .tmp never counts
// and is removed when the run starts again. A folder without a readable manifest, or whose files differ from it, is named and
// passed over. `sha256sum -c SHA256SUMS` says the same as `ress checkpoint verify`.

import Configuration
import Foundation

#if canImport(Glibc)
  import Glibc
#endif

package enum CheckpointFolder {
  package static let manifestName = "manifest.json"
  package static let modelName = "model.h5"

  package static let sumsName = "SHA256SUMS"

  /// Where a generation's files of a step are written before it counts.
  package static func unfinished(_ folder: String, step: Int, generation: UInt32) -> String {
    folder + "/" + CheckpointManifest.folderName(step: step) + ".g\(generation).tmp"
  }

  package static func finished(_ folder: String, step: Int) -> String {
    folder + "/" + CheckpointManifest.folderName(step: step)
  }

  /// Makes the checkpoint count. Every file that the manifest names must be there with its size.
  /// Returns the folder's path.
  /// - Parameter boundary: where its files may lie; the run's folder was opened within it by the caller.
  package static func commit(
    _ manifest: CheckpointManifest, folder: String, _ boundary: Boundary = .none
  ) throws(FolderError) -> String {
    let aside = unfinished(folder, step: manifest.step, generation: manifest.generation)
    try boundary.within(aside) { (pinned) throws(FolderError) in try complete(manifest, pinned.path) }
    let path = finished(folder, step: manifest.step)
    try Durable.replaceFolder(path, by: aside)
    return path
  }

  /// Looks at a save's files and writes its manifest and sums.
  private static func complete(_ manifest: CheckpointManifest, _ aside: String) throws(FolderError) {
    for file in manifest.files {
      let path = aside + "/" + file.name
      var status = stat()
      guard stat(path, &status) == 0 else {
        let error = Durable.fail("read", path)
        if case .system(_, _, _, ENOENT) = error { throw .missing(path: path, hint: "a worker said it was saved") }
        throw error
      }
      guard Int(status.st_size) == file.byteCount else {
        throw .damaged(path: path, problem: "\(status.st_size) bytes where the worker wrote \(file.byteCount)")
      }
    }
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    encoder.nonConformingFloatEncodingStrategy = .convertToString(
      positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
    do {
      let bytes = Array(try encoder.encode(manifest))
      try Durable.write(bytes, to: aside + "/" + manifestName)
      try Durable.write(Array(sums(manifest, SHA256.of(bytes)).utf8), to: aside + "/" + sumsName)
    } catch let error as FolderError { throw error } catch {
      throw .system(action: "encode", path: manifestName, reason: "\(error)")
    }
  }

  /// The text of `SHA256SUMS`: every file, and the manifest itself.
  private static func sums(_ manifest: CheckpointManifest, _ ownDigest: String) -> String {
    (manifest.files.map { "\($0.sha256)  \($0.name)\n" } + ["\(ownDigest)  \(manifestName)\n"]).joined()
  }

  /// Folders of saves that were never committed. Returns their names.
  package static func removeUnfinished(_ folder: String) throws(FolderError) -> [String] {
    let names = entries(folder).filter { $0.hasPrefix("step-") && $0.hasSuffix(".tmp") }
    for name in names { try Durable.removeFolder(folder + "/" + name) }
    return names
  }

  /// Saves that generations before `generation` began and nobody will complete.
  package static func removeUnfinished(_ folder: String, before generation: UInt32) throws(FolderError) {
    for name in entries(folder) where name.hasPrefix("step-") && name.hasSuffix(".tmp") {
      let parts = name.split(separator: ".")
      guard parts.count == 3, parts[1].hasPrefix("g"), let number = UInt32(parts[1].dropFirst()), number < generation
      else { continue }
      try Durable.removeFolder(folder + "/" + name)
    }
  }

  /// Renames checkpoints of steps behind `step` so that they count no more, and are still there. Returns their new names.
  package static func setAside(_ folder: String, after step: Int) throws(FolderError) -> [String] {
    var names: [String] = []
    for later in steps(folder) where later > step {
      let name = CheckpointManifest.folderName(step: later)
      var number = 1
      var aside = name + ".aside"
      while FileManager.default.fileExists(atPath: folder + "/" + aside) {
        number += 1
        aside = "\(name).aside-\(number)"
      }
      guard rename(folder + "/" + name, folder + "/" + aside) == 0 else {
        throw .system(
          action: "rename \(name) to", path: folder + "/" + aside, reason: String(cString: strerror(errno)))
      }
      names.append(aside)
    }
    if !names.isEmpty { try Durable.sync(folder) }
    return names
  }

  /// Steps that have a folder, ascending. Whether they verify is another question.
  package static func steps(_ folder: String) -> [Int] {
    entries(folder).compactMap { name in
      guard name.hasPrefix("step-"), let step = Int(name.dropFirst(5)),
        CheckpointManifest.folderName(step: step) == name
      else { return nil }
      return step
    }.sorted()
  }

  private static func entries(_ folder: String) -> [String] {
    ((try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []).sorted()
  }

  /// The manifest of a checkpoint folder, with every file checked against it.
  /// - Parameter boundary: where the folder and its files must lie, links followed.
  package static func verify(_ path: String, _ boundary: Boundary = .none) throws(FolderError) -> CheckpointManifest {
    let manifest = try readManifest(path, boundary)
    for file in manifest.files { try verify(file, in: path, boundary) }
    return manifest
  }

  /// One file of a checkpoint against what the manifest says of it.
  package static func verify(
    _ file: CheckpointManifest.File, in path: String, _ boundary: Boundary = .none
  ) throws(FolderError) {
    let place = path + "/" + file.name
    guard FileManager.default.fileExists(atPath: place) else {
      throw .damaged(path: path, problem: "\(file.name) is missing")
    }
    let (digest, byteCount) = try SHA256.ofFile(place, boundary)
    guard byteCount == file.byteCount else {
      throw .damaged(path: place, problem: "\(byteCount) bytes where the manifest says \(file.byteCount)")
    }
    guard digest == file.sha256 else {
      throw .damaged(path: place, problem: "its SHA-256 is not the one in the manifest")
    }
  }

  /// Puts a file that was written again in the place of a damaged one, if it is the file that the manifest names.
  package static func replace(
    file name: String, in path: String, by fresh: String, _ boundary: Boundary = .none
  ) throws(FolderError) {
    guard let file = try readManifest(path, boundary).files.first(where: { $0.name == name }) else {
      throw .missing(path: path + "/" + name, hint: "the manifest names no such file")
    }
    let (digest, byteCount) = try SHA256.ofFile(fresh)
    guard digest == file.sha256, byteCount == file.byteCount else {
      throw .damaged(path: fresh, problem: "it did not come out as the manifest says, so nothing was replaced")
    }
    try Durable.replaceFile(path + "/" + name, by: fresh)
  }

  /// The manifest alone, checked against its own sum and not against the files.
  package static func readManifest(
    _ path: String, _ boundary: Boundary = .none
  ) throws(FolderError) -> CheckpointManifest {
    guard FileManager.default.fileExists(atPath: path) else {
      throw .missing(path: path, hint: "`ress checkpoint list` shows what there is")
    }
    let place = path + "/" + manifestName
    guard let data = try contents(place, boundary) else {
      throw .damaged(path: path, problem: "it has no readable \(manifestName), so it was never completed")
    }
    struct Format: Decodable { var format: Int }
    let decoder = JSONDecoder()
    decoder.nonConformingFloatDecodingStrategy = .convertFromString(
      positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
    guard let format = try? decoder.decode(Format.self, from: data) else {
      throw .damaged(path: place, problem: "it is not a manifest in JSON")
    }
    guard format.format == CheckpointManifest.currentFormat else {
      throw .damaged(
        path: place,
        problem: "format \(format.format), and this program reads format \(CheckpointManifest.currentFormat)")
    }
    guard let manifest = try? decoder.decode(CheckpointManifest.self, from: data) else {
      throw .damaged(path: place, problem: "fields are missing or of another type")
    }
    // A manifest names files in its own folder; anything else would reach out of it.
    for file in manifest.files where file.name.contains("/") || file.name.hasPrefix(".") || file.name.isEmpty {
      throw .damaged(path: place, problem: "it names a file '\(file.name)'")
    }
    do throws(ConfigurationError) { try manifest.configuration.checkOfModel() } catch {
      throw .damaged(
        path: place, problem: "its configuration cannot be: \(error.problems.first.map { "\($0)" } ?? "\(error)")")
    }
    guard (0...1 << 50).contains(manifest.step) else {
      throw .damaged(path: place, problem: "its step is \(manifest.step)")
    }
    // A flipped bit in a loss or a learning rate is still a manifest, but not the one that was written.
    let expected = sums(manifest, SHA256.of(Array(data)))
    guard try contents(path + "/" + sumsName, boundary) == Data(expected.utf8) else {
      throw .damaged(path: path, problem: "\(sumsName) is missing or does not fit \(manifestName)")
    }
    return manifest
  }

  /// Nil where there is no such file, or none that can be read; throws where it lies outside of the boundary, and where it cannot be read
  /// for a reason that passes.
  private static func contents(_ path: String, _ boundary: Boundary) throws(FolderError) -> Data? {
    do throws(FolderError) { return try boundary.contents(of: path) } catch {
      guard error.isPassing || !boundary.roots.isEmpty else { return nil }
      throw error
    }
  }

  /// The newest checkpoint of a run that verifies, and why newer ones were passed over. Throws where the folder cannot be looked at at
  /// all, or a checkpoint cannot be read for a reason that passes: to take an older one instead would compute what is there already.
  /// - Parameters:
  ///   - files: whether files are read, or their manifests alone.
  ///   - boundary: where checkpoints and their files must lie, links followed; others are passed over.
  package static func newest(
    _ folder: String, files: Bool = true, _ boundary: Boundary = .none
  ) throws(FolderError) -> (
    path: String, manifest: CheckpointManifest, skipped: [String]
  )? {
    guard let handle = opendir(folder) else {
      let error = Durable.fail("look into", folder)
      if case .system(_, _, _, ENOENT) = error { return nil }
      throw error
    }
    closedir(handle)
    var skipped: [String] = []
    for step in steps(folder).reversed() {
      let path = finished(folder, step: step)
      do throws(FolderError) {
        return (path, files ? try verify(path, boundary) : try readManifest(path, boundary), skipped)
      } catch {
        if error.isPassing { throw error }
        skipped.append("\(path) is passed over: \(error)")
      }
    }
    return nil
  }

  /// A checkpoint folder from what a user wrote: that folder, or the newest of a run's folder.
  /// - Parameter files: whether files are read, or their manifests alone.
  package static func resolve(
    _ path: String, files: Bool = true, _ boundary: Boundary = .none
  ) throws(FolderError) -> (
    path: String, manifest: CheckpointManifest, skipped: [String]
  ) {
    let trimmed = path.count > 1 && path.hasSuffix("/") ? String(path.dropLast()) : path
    if FileManager.default.fileExists(atPath: trimmed + "/" + manifestName) || steps(trimmed).isEmpty {
      return (trimmed, files ? try verify(trimmed, boundary) : try readManifest(trimmed, boundary), [])
    }
    guard let newest = try newest(trimmed, files: files, boundary) else {
      throw .damaged(path: trimmed, problem: "none of its checkpoints verifies; `ress checkpoint list` says why")
    }
    return newest
  }
}
