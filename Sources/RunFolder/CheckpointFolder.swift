// Which checkpoints a run has, and how one comes to count.
//
// Workers write their files to `step-00001200.tmp/`. When all are on disk the manifest is written there and the folder is
// renamed to `step-00001200`: that rename is the commit. A folder that ends in .tmp never counts and is removed when the
// run starts again. A folder without a readable manifest, or whose files differ from it, is named and passed over.

import Configuration
import Foundation

package enum CheckpointFolder {
  package static let manifestName = "manifest.json"
  package static let modelName = "model.h5"

  /// Where the files of a step are written before it counts.
  package static func unfinished(_ folder: String, step: Int) -> String {
    folder + "/" + CheckpointManifest.folderName(step: step) + ".tmp"
  }

  package static func finished(_ folder: String, step: Int) -> String {
    folder + "/" + CheckpointManifest.folderName(step: step)
  }

  /// Makes the checkpoint count. Every file that the manifest names must be there with its size.
  /// Returns the folder's path.
  package static func commit(_ manifest: CheckpointManifest, folder: String) throws(FolderError) -> String {
    let aside = unfinished(folder, step: manifest.step)
    for file in manifest.files {
      let path = aside + "/" + file.name
      let attributes = try? FileManager.default.attributesOfItem(atPath: path)
      guard let size = attributes?[.size] as? Int else {
        throw .missing(path: path, hint: "a worker said it was saved")
      }
      guard size == file.byteCount else {
        throw .damaged(path: path, problem: "\(size) bytes where the worker wrote \(file.byteCount)")
      }
    }
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    encoder.nonConformingFloatEncodingStrategy = .convertToString(
      positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
    do {
      try Durable.write(Array(encoder.encode(manifest)), to: aside + "/" + manifestName)
    } catch let error as FolderError { throw error } catch {
      throw .system(action: "encode", path: manifestName, reason: "\(error)")
    }
    let path = finished(folder, step: manifest.step)
    try Durable.replaceFolder(path, by: aside)
    return path
  }

  /// Folders of saves that were never committed. Returns their names.
  package static func removeUnfinished(_ folder: String) throws(FolderError) -> [String] {
    let names = entries(folder).filter { $0.hasPrefix("step-") && $0.hasSuffix(".tmp") }
    for name in names { try Durable.removeFolder(folder + "/" + name) }
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
  package static func verify(_ path: String) throws(FolderError) -> CheckpointManifest {
    let manifest = try readManifest(path)
    for file in manifest.files {
      let place = path + "/" + file.name
      guard FileManager.default.fileExists(atPath: place) else {
        throw .damaged(path: path, problem: "\(file.name) is missing")
      }
      let (digest, byteCount) = try SHA256.ofFile(place)
      guard byteCount == file.byteCount else {
        throw .damaged(path: place, problem: "\(byteCount) bytes where the manifest says \(file.byteCount)")
      }
      guard digest == file.sha256 else {
        throw .damaged(path: place, problem: "its SHA-256 is not the one in the manifest")
      }
    }
    return manifest
  }

  /// The manifest alone, unchecked against the files.
  package static func readManifest(_ path: String) throws(FolderError) -> CheckpointManifest {
    guard FileManager.default.fileExists(atPath: path) else {
      throw .missing(path: path, hint: "`ress checkpoint list` shows what there is")
    }
    let place = path + "/" + manifestName
    guard let data = FileManager.default.contents(atPath: place) else {
      throw .damaged(path: path, problem: "it has no readable \(manifestName), so it was never completed")
    }
    struct Format: Decodable { var format: Int }
    let decoder = JSONDecoder()
    decoder.nonConformingFloatDecodingStrategy = .convertFromString(
      positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
    guard let format = try? decoder.decode(Format.self, from: data) else {
      throw .damaged(path: place, problem: "it is not a manifest in JSON")
    }
    guard format.format == 1 else {
      throw .damaged(path: place, problem: "format \(format.format), and this program reads format 1")
    }
    guard let manifest = try? decoder.decode(CheckpointManifest.self, from: data) else {
      throw .damaged(path: place, problem: "fields are missing or of another type")
    }
    // A manifest names files in its own folder; anything else would reach out of it.
    for file in manifest.files where file.name.contains("/") || file.name.hasPrefix(".") || file.name.isEmpty {
      throw .damaged(path: place, problem: "it names a file '\(file.name)'")
    }
    return manifest
  }

  /// The newest checkpoint of a run that verifies, and why newer ones were passed over.
  package static func newestVerified(_ folder: String) -> (
    path: String, manifest: CheckpointManifest, skipped: [String]
  )? {
    var skipped: [String] = []
    for step in steps(folder).reversed() {
      let path = finished(folder, step: step)
      do throws(FolderError) {
        return (path, try verify(path), skipped)
      } catch {
        skipped.append("\(path) is passed over: \(error)")
      }
    }
    return nil
  }

  /// A checkpoint folder from what a user wrote: that folder, or the newest of a run's folder.
  package static func resolve(_ path: String) throws(FolderError) -> (
    path: String, manifest: CheckpointManifest, skipped: [String]
  ) {
    let trimmed = path.count > 1 && path.hasSuffix("/") ? String(path.dropLast()) : path
    if FileManager.default.fileExists(atPath: trimmed + "/" + manifestName) || steps(trimmed).isEmpty {
      return (trimmed, try verify(trimmed), [])
    }
    guard let newest = newestVerified(trimmed) else {
      throw .damaged(path: trimmed, problem: "none of its checkpoints verifies; `ress checkpoint list` says why")
    }
    return newest
  }
}
