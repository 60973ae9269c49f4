// Where a coordinator lets runs read and write: what can be said of a submission at once. Whatever is used is asked again when it is opened,
// here and in workers (`Boundary`). A configuration comes from whoever may submit; its paths are used by workers, with their rights.

import Foundation
import Wire

struct AllowedRoots: Sendable {
  /// Resolved; none allows everything.
  private let roots: [String]

  init(_ roots: [String]) { self.roots = roots.map { Self.resolved($0) } }

  /// What is wrong with a submission's paths; nil where nothing is.
  func complaint(_ submission: Submission) -> String? {
    guard !roots.isEmpty else { return nil }
    let configuration = submission.configuration
    var paths = configuration.data.mixture.map { ("data.mixture", $0.path) }
    if !configuration.data.path.isEmpty { paths.append(("data.path", configuration.data.path)) }
    paths.append(("checkpoint.directory", configuration.checkpoint.directory))
    // The run's own folder may be a symbolic link out of it.
    paths.append(("the run's folder", configuration.checkpoint.directory + "/" + configuration.run))
    if case .checkpoint(let path) = submission.resume { paths.append(("--resume", path)) }
    for (name, path) in paths where !contains(path) {
      return
        "\(name) is \(path), and this coordinator lets runs read and write below \(roots.joined(separator: ", ")) alone"
    }
    return nil
  }

  func contains(_ path: String) -> Bool {
    guard path.hasPrefix("/") else { return false }
    let resolved = Self.resolved(path)
    return roots.contains { $0 == "/" || resolved == $0 || resolved.hasPrefix($0 + "/") }
  }

  /// Without `..`, and with every link that is there followed, also where the path's end is not there yet.
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
