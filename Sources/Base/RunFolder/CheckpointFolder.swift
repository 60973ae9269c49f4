// The checkpoints of a run's folder: which exist, how one is committed, and how one is verified.
//
// The commit protocol. The workers of generation 7 write their files to `step-00001200.g7.tmp/`. When the
// coordinator has the reports of all workers, it compares the files' sizes with the reports, writes the manifest
// and `SHA256SUMS` into that folder, and flushes them to disk. Then it renames the folder to `step-00001200`. The
// rename is the commit: it is atomic, so a reader sees either no checkpoint or a complete one, whatever crashes.
//
// A folder whose name ends in .tmp is never read and is removed when the run starts again. A folder without a
// readable manifest, or whose files differ from its manifest, is reported and skipped. `sha256sum -c SHA256SUMS`
// checks the same as `ress checkpoint verify`.

import Configuration
import Foundation

#if canImport(Glibc)
  import Glibc
#endif

package enum CheckpointFolder {
  static let manifestName = "manifest.json"
  package static let modelName = "model.h5"

  static let sumsName = "SHA256SUMS"

  /// The folder to which the workers of a generation write the files of a step before the commit.
  package static func unfinished(_ folder: String, step: Int, generation: UInt32) -> String {
    folder + "/" + CheckpointManifest.folderName(step: step) + ".g\(generation).tmp"
  }

  /// The folder of a committed checkpoint.
  package static func finished(_ folder: String, step: Int) -> String {
    folder + "/" + CheckpointManifest.folderName(step: step)
  }

  /// Commits a checkpoint. Every file in the manifest must exist with its size. Returns the folder's path.
  /// - Parameter boundary: where the files may be; the caller has opened the run's folder within it.
  package static func commit(
    _ manifest: CheckpointManifest, folder: String, _ boundary: Boundary = .none
  ) throws(FolderError) -> String {
    let aside = unfinished(folder, step: manifest.step, generation: manifest.generation)
    try boundary.within(aside) { (pinned) throws(FolderError) in try complete(manifest, pinned.path) }
    let path = finished(folder, step: manifest.step)
    try Durable.replaceFolder(path, by: aside)
    return path
  }

  /// Checks the sizes of the files, and writes the manifest and the sums.
  private static func complete(_ manifest: CheckpointManifest, _ aside: String) throws(FolderError) {
    for file in manifest.files {
      let path = aside + "/" + file.name
      var status = stat()
      guard stat(path, &status) == 0 else {
        let error = Durable.fail("read", path)
        if case .system(_, _, _, ENOENT) = error { throw .missing(path: path, hint: "a worker reported it saved") }
        throw error
      }
      guard Int(status.st_size) == file.byteCount else {
        throw .damaged(path: path, problem: "\(status.st_size) bytes where the worker wrote \(file.byteCount)")
      }
    }
    do {
      let bytes = try JSON.encode(manifest, pretty: true)
      try Durable.write(bytes, to: aside + "/" + manifestName)
      try Durable.write(Array(sums(manifest, SHA256.of(bytes)).utf8), to: aside + "/" + sumsName)
    } catch let error as FolderError { throw error } catch {
      throw .system(action: "encode", path: manifestName, reason: "\(error)")
    }
  }

  /// The text of `SHA256SUMS`: a line for every file and for the manifest.
  private static func sums(_ manifest: CheckpointManifest, _ ownDigest: String) -> String {
    (manifest.files.map { "\($0.sha256)  \($0.name)\n" } + ["\(ownDigest)  \(manifestName)\n"]).joined()
  }

  /// Removes the folders of checkpoints that were never committed. Returns their names.
  package static func removeUnfinished(_ folder: String) throws(FolderError) -> [String] {
    let names = entries(folder).filter { $0.hasPrefix("step-") && $0.hasSuffix(".tmp") }
    for name in names { try Durable.removeFolder(folder + "/" + name) }
    return names
  }

  /// Removes the uncommitted checkpoints of generations before `generation`, which no worker will complete.
  package static func removeUnfinished(_ folder: String, before generation: UInt32) throws(FolderError) {
    for name in entries(folder) where name.hasPrefix("step-") && name.hasSuffix(".tmp") {
      let parts = name.split(separator: ".")
      guard parts.count == 3, parts[1].hasPrefix("g"), let number = UInt32(parts[1].dropFirst()), number < generation
      else { continue }
      try Durable.removeFolder(folder + "/" + name)
    }
  }

  /// Renames the checkpoints of steps after `step`, so that they are no longer read but not lost either. Returns
  /// their new names.
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

  /// The steps that have a folder, ascending. Whether they verify is not checked.
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

  /// Reads the manifest of a checkpoint and checks every file against it.
  /// - Parameter boundary: where the folder and its files must be, symbolic links followed.
  package static func verify(_ path: String, _ boundary: Boundary = .none) throws(FolderError) -> CheckpointManifest {
    let manifest = try readManifest(path, boundary)
    for file in manifest.files { try verify(file, in: path, boundary) }
    return manifest
  }

  /// Checks one file of a checkpoint against the manifest's entry.
  package static func verify(
    _ file: CheckpointManifest.File, in path: String, _ boundary: Boundary = .none
  ) throws(FolderError) {
    let place = path + "/" + file.name
    guard FileManager.default.fileExists(atPath: place) else {
      throw .damaged(path: path, problem: "\(file.name) is missing")
    }
    let (digest, byteCount) = try SHA256.ofFile(place, boundary)
    guard byteCount == file.byteCount else {
      throw .damaged(path: place, problem: "\(byteCount) bytes where the manifest has \(file.byteCount)")
    }
    guard digest == file.sha256 else {
      throw .damaged(path: place, problem: "its SHA-256 is not the one in the manifest")
    }
  }

  /// Replaces a damaged file by a rewritten one, if that is the file which the manifest describes.
  package static func replace(
    file name: String, in path: String, by fresh: String, _ boundary: Boundary = .none
  ) throws(FolderError) {
    guard let file = try readManifest(path, boundary).files.first(where: { $0.name == name }) else {
      throw .missing(path: path + "/" + name, hint: "the manifest names no such file")
    }
    let (digest, byteCount) = try SHA256.ofFile(fresh)
    guard digest == file.sha256, byteCount == file.byteCount else {
      throw .damaged(path: fresh, problem: "it differs from the manifest, so nothing was replaced")
    }
    try Durable.replaceFile(path + "/" + name, by: fresh)
  }

  /// Reads the manifest and checks it against its own sum, without reading the other files.
  package static func readManifest(
    _ path: String, _ boundary: Boundary = .none
  ) throws(FolderError) -> CheckpointManifest {
    guard FileManager.default.fileExists(atPath: path) else {
      throw .missing(path: path, hint: hint(forMissing: path) ?? "`ress checkpoint list` lists the checkpoints")
    }
    let place = path + "/" + manifestName
    guard let data = try contents(place, boundary) else {
      throw .damaged(path: path, problem: "it has no readable \(manifestName), so it was never completed")
    }
    struct Format: Decodable { var format: Int }
    guard let format = try? JSON.decode(Format.self, from: data) else {
      throw .damaged(path: place, problem: "it is not a manifest in JSON")
    }
    guard format.format == CheckpointManifest.currentFormat else {
      throw .damaged(
        path: place,
        problem: "format \(format.format), and this program reads format \(CheckpointManifest.currentFormat)")
    }
    guard let manifest = try? JSON.decode(CheckpointManifest.self, from: data) else {
      throw .damaged(path: place, problem: "fields are missing or of another type")
    }
    // A file's name must not lead out of the checkpoint's folder.
    for file in manifest.files where file.name.contains("/") || file.name.hasPrefix(".") || file.name.isEmpty {
      throw .damaged(path: place, problem: "it names a file '\(file.name)'")
    }
    do throws(ConfigurationError) { try manifest.configuration.checkOfModel() } catch {
      throw .damaged(
        path: place, problem: "its configuration is not valid: \(error.problems.first.map { "\($0)" } ?? "\(error)")")
    }
    guard (0...1 << 50).contains(manifest.step) else {
      throw .damaged(path: place, problem: "its step is \(manifest.step)")
    }
    // A flipped bit in a loss or learning rate still gives a valid manifest, but not the one that was written.
    let expected = sums(manifest, SHA256.of(Array(data)))
    guard try contents(path + "/" + sumsName, boundary) == Data(expected.utf8) else {
      throw .damaged(path: path, problem: "\(sumsName) is missing or does not fit \(manifestName)")
    }
    return manifest
  }

  /// The SHA-256 of a checkpoint's manifest, in hexadecimal. It identifies the checkpoint, because the manifest has
  /// the digests of all other files.
  package static func digest(_ path: String, _ boundary: Boundary = .none) throws(FolderError) -> String {
    guard let manifest = try contents(path + "/" + manifestName, boundary) else {
      throw .missing(path: path + "/" + manifestName, hint: "`ress checkpoint list` lists the checkpoints")
    }
    return SHA256.of(Array(manifest))
  }

  /// The contents of a file; nil where it does not exist or cannot be read. Throws where it is outside of the
  /// boundary, or where it cannot be read for a temporary reason (`isPassing`).
  private static func contents(_ path: String, _ boundary: Boundary) throws(FolderError) -> Data? {
    do throws(FolderError) { return try boundary.contents(of: path) } catch {
      guard error.isPassing || !boundary.roots.isEmpty else { return nil }
      throw error
    }
  }

  /// The newest checkpoint of a run that verifies, and the reasons why newer ones were skipped.
  ///
  /// Throws where the folder cannot be listed or a checkpoint cannot be read for a temporary reason. Using an older
  /// checkpoint in that case would compute again what exists already.
  /// - Parameters:
  ///   - files: whether to read all files, or only their manifests.
  ///   - boundary: where checkpoints and their files must be, symbolic links followed; others are skipped.
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

  /// The advice for a path where nothing is and that is the name of a run: its folder in the default directory. Nil
  /// where there is no such folder.
  package static func hint(forMissing path: String) -> String? {
    let folder = CheckpointConfiguration().directory + "/" + path
    return FileManager.default.fileExists(atPath: folder) ? "did you mean \(folder)?" : nil
  }

  /// The checkpoint that a user's path means: the folder of a checkpoint, or the newest one in a run's folder.
  /// - Parameter files: whether to read all files, or only their manifests.
  package static func resolve(
    _ path: String, files: Bool = true, _ boundary: Boundary = .none
  ) throws(FolderError) -> (
    path: String, manifest: CheckpointManifest, skipped: [String]
  ) {
    var trimmed = path.count > 1 && path.hasSuffix("/") ? String(path.dropLast()) : path
    // The link to the best checkpoint is followed here, because it may lead elsewhere a moment later.
    if (trimmed as NSString).lastPathComponent == bestName,
      let target = try? FileManager.default.destinationOfSymbolicLink(atPath: trimmed), !target.contains("/")
    {
      trimmed = (trimmed as NSString).deletingLastPathComponent + "/" + target
    }
    if FileManager.default.fileExists(atPath: trimmed + "/" + manifestName) || steps(trimmed).isEmpty {
      return (trimmed, files ? try verify(trimmed, boundary) : try readManifest(trimmed, boundary), [])
    }
    guard let newest = try newest(trimmed, files: files, boundary) else {
      throw .damaged(path: trimmed, problem: "none of its checkpoints verifies; `ress checkpoint list` shows why")
    }
    return newest
  }
}
