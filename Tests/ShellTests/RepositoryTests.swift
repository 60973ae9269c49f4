// The repository itself: files that refer to each other are there.

import Foundation
import Testing

@Suite struct RepositoryTests {
  private static let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent()

  /// Paths of the repository's files and links, relative to its root; without hidden folders and results.
  private static let paths: [String] = {
    let files = FileManager.default
    var found: [String] = []
    var folders = [""]
    while let folder = folders.popLast() {
      for name in (try? files.contentsOfDirectory(atPath: root.path + "/" + folder)) ?? [] {
        let path = folder.isEmpty ? name : folder + "/" + name
        let type = try? files.attributesOfItem(atPath: root.path + "/" + path)[.type] as? FileAttributeType
        if name.hasPrefix(".") || (folder.isEmpty && ["paper", "dist", "data", "checkpoints"].contains(name)) {
          continue
        }
        if type == .typeDirectory { folders.append(path) } else { found.append(path) }
      }
    }
    return found.sorted()
  }()

  @Test func `every symbolic link leads to a file`() {
    let links = Self.paths.filter {
      (try? FileManager.default.destinationOfSymbolicLink(atPath: Self.root.path + "/" + $0)) != nil
    }
    #expect(!links.isEmpty)
    for link in links { #expect(FileManager.default.fileExists(atPath: Self.root.path + "/" + link), "\(link)") }
  }

  @Test func `every relative link in a document leads to a file`() throws {
    let documents = Self.paths.filter { $0.hasSuffix(".md") }
    #expect(documents.count > 10)
    for document in documents {
      let text = try String(contentsOf: Self.root.appending(path: document), encoding: .utf8)
      let folder = Self.root.appending(path: document).deletingLastPathComponent()
      for match in text.matches(of: /\]\(([^)\s#]+)(#[^)]*)?\)/)
      where match.1.contains(/[.\/]/) && !match.1.contains(":") {
        let target = folder.appending(path: String(match.1)).standardizedFileURL.path
        #expect(FileManager.default.fileExists(atPath: target), "\(document) refers to \(match.1)")
      }
    }
  }
}
