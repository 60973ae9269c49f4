// `--root`: files are checked when they are opened, and an opened folder cannot be replaced by another.

import Configuration
import Foundation
import RunFolder
import Testing

#if canImport(Glibc)
  import Glibc
#endif

@Suite final class `Folders that runs may use` {
  private let scratch = NSTemporaryDirectory() + "ress-boundary-" + UUID().uuidString
  private var root: String { scratch + "/root" }
  private var outside: String { scratch + "/outside" }
  private var boundary: Boundary { Boundary([root]) }

  init() throws {
    for folder in [root + "/run", outside] {
      try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    }
    try "precious".write(toFile: outside + "/metrics.jsonl", atomically: true, encoding: .utf8)
  }
  deinit { try? FileManager.default.removeItem(atPath: scratch) }

  private func link(_ path: String, to target: String) throws {
    try FileManager.default.createSymbolicLink(atPath: path, withDestinationPath: target)
  }

  private func complaint(_ body: () throws -> Void) -> String {
    do { try body() } catch { return "\(error)" }
    return "no error"
  }

  private var isUntouched: Bool {
    (try? String(contentsOfFile: outside + "/metrics.jsonl", encoding: .utf8)) == "precious"
  }

  @Test func `a folder or file outside of the roots is refused by name, and a link back inside is not`() throws {
    try link(root + "/out", to: outside)
    try link(root + "/back", to: root + "/run")
    for path in [outside, root + "/out", root + "/../outside", root + "/run/../../outside"] {
      let said = complaint { try boundary.within(path) { _ in } }
      #expect(said.contains("cannot use \(path): it lies outside of the folders"), "\(said)")
    }
    try boundary.within(root + "/back") { (pinned) throws(FolderError) in
      try Durable.write([1], to: pinned.path + "/x")
    }
    #expect(FileManager.default.contents(atPath: root + "/run/x") == Data([1]))
    #expect(complaint { _ = try boundary.contents(of: root + "/out/metrics.jsonl") }.contains("it lies outside"))
    #expect(try boundary.contents(of: root + "/run/x") == Data([1]))
    #expect(try boundary.contents(of: root + "/run/none") == nil)
    #expect(mkfifo(root + "/run/pipe", 0o600) == 0)
    #expect(complaint { _ = try boundary.contents(of: root + "/run/pipe") }.contains("not a regular file"))
    // A folder is not created below a link that leads outside.
    #expect(complaint { try boundary.within(root + "/out/new", makes: true) { _ in } }.contains("it lies outside"))
    #expect(!FileManager.default.fileExists(atPath: outside + "/new"))
    try boundary.within(root + "/a/b/c", makes: true) { _ in }
    #expect(FileManager.default.fileExists(atPath: root + "/a/b/c"))
  }

  @Test func `a folder that is replaced by a link after the check is still the checked folder`() throws {
    let run = root + "/run"
    try boundary.within(run) { (pinned) throws(FolderError) in
      #expect(rename(run, root + "/moved") == 0 && symlink(outside, run) == 0)
      try MetricsFile(folder: pinned.path).append("{\"step\": 1}")
      try MetricsFile(folder: pinned.path).cut(after: 0)
      #expect(mkdir(outside + "/step-00000001.g1.tmp", 0o755) == 0)
      #expect(try CheckpointFolder.removeUnfinished(pinned.path) == [])
    }
    #expect(FileManager.default.fileExists(atPath: root + "/moved/metrics.jsonl"))
    #expect(isUntouched && FileManager.default.fileExists(atPath: outside + "/step-00000001.g1.tmp"))
    #expect(complaint { try boundary.within(run) { _ in } }.contains("cannot use \(run)"))
  }

  @Test func `nothing is written or removed through a link inside a run's folder`() throws {
    let run = root + "/run"
    try link(run + "/metrics.jsonl", to: outside + "/metrics.jsonl")
    #expect(complaint { try MetricsFile(folder: run).append("x") }.contains("cannot append to"))
    // Nor is the link's target copied into the run's folder, where the user who submitted the run could read it.
    #expect(complaint { _ = try MetricsFile(folder: run).complete(["{\"step\":1}"]) }.contains("cannot read"))
    #expect(complaint { try MetricsFile(folder: run).cut(after: 1) }.contains("cannot read"))
    try link(run + "/proof.json.aside", to: outside + "/metrics.jsonl")
    try Durable.write([1], to: run + "/proof.json")
    #expect(isUntouched && FileManager.default.contents(atPath: run + "/proof.json") == Data([1]))
    // The link is removed and its target stays; a real folder is removed with its contents.
    try link(run + "/step-00000002.g1.tmp", to: outside)
    try FileManager.default.createDirectory(
      atPath: run + "/step-00000003.g1.tmp/a/b", withIntermediateDirectories: true)
    try link(run + "/step-00000003.g1.tmp/a/out", to: outside)
    #expect(try CheckpointFolder.removeUnfinished(run).count == 2)
    #expect(isUntouched && CheckpointFolder.steps(run) == [])
    #expect(try FileManager.default.contentsOfDirectory(atPath: run).allSatisfy { !$0.hasSuffix(".tmp") })
  }

  @Test func `errors keep errno, and another attempt is made only where it can help`() throws {
    let missing = root + "/none", error = FolderError.system(action: "read", path: "x", reason: "r", code: EMFILE)
    #expect(throws: FolderError.missing(path: missing, hint: "")) { try boundary.within(missing) { _ in } }
    #expect(throws: error) { try boundary.within(root + "/run") { _ throws(FolderError) in throw error } }
    #expect(throws: FolderError.inUse(path: root + "/run/x", holder: "h")) {
      try boundary.within(root + "/run") { (pinned) throws(FolderError) in
        throw FolderError.inUse(path: pinned.path + "/x", holder: "h")
      }
    }
  }

  @Test func `a save whose folder or file is outside of the roots does not become a checkpoint`() throws {
    let manifest = CheckpointManifest(
      run: "r", runIdentifier: "1", step: 4, configuration: RunConfiguration(), loss: 2, files: [], writer: "test",
      created: "", generation: 1)
    try link(root + "/run/step-00000004.g1.tmp", to: outside)
    #expect(
      complaint {
        try boundary.within(root + "/run") { (pinned) throws(FolderError) in
          _ = try CheckpointFolder.commit(manifest, folder: pinned.path, boundary)
        }
      }
        == "cannot use \(root)/run/step-00000004.g1.tmp: it lies outside of the folders that this coordinator lets runs use (\(root))"
    )
    #expect(!FileManager.default.fileExists(atPath: outside + "/manifest.json"))
  }
}
