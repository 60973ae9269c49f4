// What the coordinator finds in a run's folder before the run begins.

import Configuration
import Coordination
import Daemon
import Foundation
import RunFolder
import Testing
import Wire

@Suite final class RunFolderWorkTests {
  private let place = NSTemporaryDirectory() + "ress-preparation-" + UUID().uuidString
  private var folder: String { place + "/run" }
  private let id = RunID(7)

  init() throws { try FileManager.default.createDirectory(atPath: place, withIntermediateDirectories: true) }
  deinit { try? FileManager.default.removeItem(atPath: place) }

  private func submission(_ resume: Submission.Resume) -> Submission {
    var configuration = RunConfiguration()
    configuration.checkpoint.directory = place
    return Submission(configuration: configuration, resume: resume)
  }

  private func prepare(_ resume: Submission.Resume, again: Bool = false) -> Event.Preparation {
    do { return try RunFolderWork.prepare(id, submission(resume), again: again) } catch {
      return .refused(reason: "an error that passes: \(error)")
    }
  }

  private func begins(_ preparation: Event.Preparation, at step: Int) -> Bool {
    if case .ready(let beginning) = preparation { beginning.firstStep == step && beginning.token != nil } else { false }
  }

  private func refusal(_ preparation: Event.Preparation) -> String? {
    if case .refused(let reason) = preparation { reason } else { nil }
  }

  private func commit(_ step: Int, run: RunID, leftOut: Int = 0) throws {
    let manifest = CheckpointManifest(
      run: "run", runIdentifier: run.description, step: step, configuration: submission(.no).configuration, loss: 1,
      files: [], writer: "test", created: "", generation: 1, leftOut: leftOut)
    try FileManager.default.createDirectory(
      atPath: CheckpointFolder.unfinished(folder, step: step, generation: 1), withIntermediateDirectories: true)
    _ = try CheckpointFolder.commit(manifest, folder: folder)
  }

  @Test func `a run that never began cannot be resumed, and one that was prepared begins at its first step`() throws {
    #expect(refusal(prepare(.newest))?.hasPrefix("there is nothing to resume") == true)
    #expect(RunFolderWork.complaint(submission(.newest))?.hasPrefix("there is nothing to resume") == true)
    #expect(!FileManager.default.fileExists(atPath: folder), "a refusal leaves nothing behind")
    #expect(begins(prepare(.no), at: 0))
    #expect(begins(prepare(.no, again: true), at: 0))
    #expect(begins(prepare(.newest), at: 0))
    #expect(begins(prepare(.newest, again: true), at: 0))
  }

  @Test func `a run that continues uses its own checkpoints, and not those of another run of its name`() throws {
    #expect(begins(prepare(.no), at: 0))
    try commit(4, run: id)
    #expect(begins(prepare(.no, again: true), at: 4))
    #expect(refusal(prepare(.no))?.contains("already holds checkpoints (up to step 4)") == true)
    #expect(RunFolderWork.complaint(submission(.no))?.contains("already holds checkpoints") == true)
    try commit(6, run: RunID(8))
    #expect(refusal(prepare(.no, again: true))?.contains("belongs to another run of this name (000000000008)") == true)
    #expect(begins(prepare(.newest), at: 6) && begins(prepare(.newest, again: true), at: 6))
    #expect(RunFolderWork.complaint(submission(.newest)) == nil)
  }

  @Test func `the number of steps in a row that were not applied is read from the checkpoint`() throws {
    try commit(5, run: id, leftOut: 2)
    guard case .ready(let beginning) = prepare(.newest), beginning.firstStep == 5, beginning.leftOut == 2 else {
      Issue.record("\(prepare(.newest))")
      return
    }
    let path = CheckpointFolder.finished(folder, step: 5) + "/manifest.json"
    #expect(try String(contentsOfFile: path, encoding: .utf8).contains("\"leftOut\" : 2"))
  }

  @Test func `each new run writes a token of its own, and a run that continues keeps its token`() throws {
    func token(_ preparation: Event.Preparation) -> String? {
      if case .ready(let beginning) = preparation { beginning.token } else { nil }
    }
    let path = folder + "/folder-token"
    let first = try #require(token(prepare(.no)))
    #expect(try String(contentsOfFile: path, encoding: .utf8) == first)
    #expect(token(prepare(.no, again: true)) == first)
    #expect(token(prepare(.no)) != first)
    try FileManager.default.removeItem(atPath: folder)
    let other = try #require(token(prepare(.no, again: true)))
    #expect(try String(contentsOfFile: path, encoding: .utf8) == other)
  }

  @Test func `a run that begins again has the same weights of another run, and is refused if they are gone`() throws {
    let base = folder + "-base"
    defer { try? FileManager.default.removeItem(atPath: base) }
    func commitBase(_ step: Int) throws {
      let manifest = CheckpointManifest(
        run: "base", runIdentifier: "b", step: step, configuration: RunConfiguration(), loss: nil, files: [],
        writer: "test", created: "")
      try FileManager.default.createDirectory(
        atPath: CheckpointFolder.unfinished(base, step: step, generation: 0), withIntermediateDirectories: true)
      _ = try CheckpointFolder.commit(manifest, folder: base)
    }
    var asked = submission(.no)
    asked.configuration.model.from = base
    func prepare(_ again: Bool, _ from: WeightSource?, _ boundary: Boundary = .none) throws -> Event.Preparation {
      try RunFolderWork.prepare(id, asked, again: again, from: from, boundary)
    }
    #expect(refusal(try prepare(false, nil))?.contains(base) == true, "the source is missing")
    try commitBase(3)
    guard case .ready(let first) = try prepare(false, nil), let from = first.from else {
      Issue.record("it does not begin with the weights")
      return
    }
    #expect(first.checkpoint == nil && first.firstStep == 0)
    #expect(from.path == base + "/step-00000003" && from.run == "base" && from.step == 3)
    #expect(from.sha256 == (try CheckpointFolder.digest(from.path)))
    // A newer checkpoint of the source is not the one that the run began with.
    try commitBase(4)
    guard case .ready(let second) = try prepare(true, from) else {
      Issue.record("it does not begin again")
      return
    }
    #expect(second.from == from)
    try FileManager.default.removeItem(atPath: from.path)
    #expect(refusal(try prepare(true, from))?.contains("begins again at step 0") == true)
    // The run's own checkpoint counts from now on.
    try commit(5, run: id)
    guard case .ready(let third) = try prepare(true, from) else {
      Issue.record("it does not continue")
      return
    }
    #expect(third.firstStep == 5 && third.checkpoint != nil)
  }

  @Test func `a source outside of the coordinator's roots is refused`() throws {
    let base = folder + "-elsewhere"
    try FileManager.default.createDirectory(
      atPath: CheckpointFolder.unfinished(base, step: 3, generation: 0), withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: base) }
    _ = try CheckpointFolder.commit(
      CheckpointManifest(
        run: "base", runIdentifier: "b", step: 3, configuration: RunConfiguration(), loss: nil, files: [],
        writer: "test", created: ""), folder: base)
    var asked = submission(.no)
    asked.configuration.model.from = base
    let root = (folder as NSString).deletingLastPathComponent + "/root"
    try FileManager.default.createDirectory(atPath: root, withIntermediateDirectories: true)
    asked.configuration.checkpoint.directory = root
    let preparation = try RunFolderWork.prepare(id, asked, again: false, Boundary([root]))
    #expect(refusal(preparation)?.contains(base) == true, "\(preparation)")
  }
}
