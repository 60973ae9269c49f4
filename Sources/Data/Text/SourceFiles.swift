// The files that a user's words mean: files, and folders whose files are taken in the order of their names.

import Foundation

package struct SourceFile: Equatable, Sendable {
  package var path: String
  /// On disk, packed or not.
  package var size: Int

  /// Hidden files are left out, and empty ones.
  package static func expand(_ sources: [String]) throws(DataError) -> [SourceFile] {
    var files: [SourceFile] = []
    let manager = FileManager.default
    for source in sources {
      var isFolder: ObjCBool = false
      guard manager.fileExists(atPath: source, isDirectory: &isFolder) else {
        throw .file(action: "read", path: source, reason: "no such file or folder")
      }
      let names: [String]
      if isFolder.boolValue {
        let inside = (manager.enumerator(atPath: source)?.allObjects as? [String]) ?? []
        names = inside.filter { !$0.split(separator: "/").contains { $0.hasPrefix(".") } }.sorted().map {
          source + "/" + $0
        }
      } else {
        names = [source]
      }
      for name in names {
        guard let attributes = try? manager.attributesOfItem(atPath: (name as NSString).resolvingSymlinksInPath),
          attributes[.type] as? FileAttributeType == .typeRegular
        else { continue }
        files.append(SourceFile(path: name, size: attributes[.size] as? Int ?? 0))
      }
    }
    files.removeAll { $0.size == 0 }
    guard !files.isEmpty else { throw .noText(sources: sources) }
    return files
  }
}
