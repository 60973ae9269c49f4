// The repository itself: files that refer to each other are there.

import Foundation
import Testing
import Wire

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

  /// The last column of the handbook's tables names the file of each term as `Target/File`.
  @Test func `every file that the handbook names is in its target`() throws {
    let text = try String(contentsOf: Self.root.appending(path: "docs/handbook.md"), encoding: .utf8)
    let rows = text.split(separator: "\n").filter { $0.hasPrefix("| ") && !$0.hasPrefix("| word") }
    #expect(rows.count > 50)
    for row in rows {
      let cells = row.split(separator: "|")
      for name in cells[cells.count - 1].split(separator: ",") {
        let file = "/" + name.trimmingCharacters(in: .whitespaces)
        let parts = file.split(separator: "/")
        #expect(
          Self.paths.contains { $0.contains("/\(parts[0])/") && $0.hasSuffix("/\(parts[parts.count - 1]).swift") },
          "\(file)")
      }
    }
  }

  @Test func `docs/formats.md has the version of the control protocol`() throws {
    let text = try String(contentsOf: Self.root.appending(path: "docs/formats.md"), encoding: .utf8)
    let versions = text.matches(of: /"version": (\d+), "message"/).map { Int($0.1) }
    #expect(versions == [ControlCodec.version, ControlCodec.version])
  }
}
