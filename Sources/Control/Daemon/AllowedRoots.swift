// The folders in which a coordinator lets runs read and write: the check of a submission. Files are checked again when
// they are opened, here and in workers (`Boundary`). A configuration may come from any user who can submit, but its
// paths are used by workers, with their rights.

import Foundation
import Wire

struct AllowedRoots: Sendable {
  /// Resolved paths; an empty list allows all.
  private let roots: [String]

  init(_ roots: [String]) { self.roots = roots.map { Self.resolved($0) } }

  /// The error in a submission's paths, or nil.
  func complaint(_ submission: Submission) -> String? {
    guard !roots.isEmpty else { return nil }
    let configuration = submission.configuration
    var paths = configuration.data.mixture.map { ("data.mixture", $0.path) }
    if !configuration.data.path.isEmpty { paths.append(("data.path", configuration.data.path)) }
    paths.append(("checkpoint.directory", configuration.checkpoint.directory))
    // The run's own folder may be a symbolic link out of it.
    paths.append(("the run's folder", configuration.checkpoint.directory + "/" + configuration.run))
    if !configuration.model.from.isEmpty { paths.append(("model.from", configuration.model.from)) }
    if case .checkpoint(let path) = submission.resume { paths.append(("--resume", path)) }
    for (name, path) in paths where !contains(path) {
      return
        "\(name) is \(path), but runs of this coordinator may read and write only below \(roots.joined(separator: ", "))"
    }
    return nil
  }

  func contains(_ path: String) -> Bool {
    guard path.hasPrefix("/") else { return false }
    let resolved = Self.resolved(path)
    return roots.contains { $0 == "/" || resolved == $0 || resolved.hasPrefix($0 + "/") }
  }

  /// The path without `..`, with every existing link followed; the end of the path need not exist.
  private static func resolved(_ path: String) -> String {
    var resolved = "/"
    let whole = path.hasPrefix("/") ? path : FileManager.default.currentDirectoryPath + "/" + path
    var waiting = whole.split(separator: "/").map { String($0) }[...]
    var links = 0
    while let part = waiting.popFirst() {
      if part == "." { continue }
      if part == ".." {
        resolved = (resolved as NSString).deletingLastPathComponent
        continue
      }
      let next = (resolved == "/" ? "" : resolved) + "/" + part
      guard links < 40, let target = try? FileManager.default.destinationOfSymbolicLink(atPath: next) else {
        resolved = next
        continue
      }
      links += 1
      if target.hasPrefix("/") { resolved = "/" }
      waiting = (target.split(separator: "/").map { String($0) } + Array(waiting))[...]
    }
    return resolved
  }
}
