// The command of `cluster.on_end`: what it is given, its limit, and who may have one run.

import Configuration
import Coordination
import Daemon
import Foundation
import RunFolder
import Synchronization
import TestSupport
import Testing
import Wire

@Suite(.serialized) final class EndCommandTests {
  private let folder = NSTemporaryDirectory() + "ress-on-end-" + UUID().uuidString.prefix(8)

  init() throws { try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true) }
  deinit { try? FileManager.default.removeItem(atPath: folder) }

  private func ending(_ command: String, reason: String = "all is done", folder: String? = nil) -> Ending {
    Ending(command: command, name: "night", state: .finished, reason: reason, folder: folder ?? self.folder)
  }

  /// Runs the command and returns the sentences about it.
  private func run(_ ending: Ending, limitSeconds: Int = 60, _ boundary: Boundary = .none) -> [String] {
    let sentences = Mutex<[String]>([])
    let commands = EndCommands(limitSeconds: limitSeconds, boundary) { _, sentence in
      sentences.withLock { $0.append(sentence) }
    }
    commands.start(RunID(1), ending)
    commands.wait()
    return sentences.withLock { $0 }
  }

  private var output: String { (try? String(contentsOfFile: folder + "/on-end.log", encoding: .utf8)) ?? "" }

  @Test func `the command has the run, its state and the reason in its environment, whatever these contain`() {
    let reason = "worker said '$(touch \(folder)/oops)'; \"quoted\"\nand\u{0} more"
    #expect(run(ending("printf '%s|%s|%s|%s' \"$RUN\" \"$STATE\" \"$REASON\" \"$FOLDER\"", reason: reason)) == [])
    #expect(output == "night|finished|worker said '$(touch \(folder)/oops)'; \"quoted\"\nand more|\(folder)")
    #expect(!FileManager.default.fileExists(atPath: folder + "/oops"))
  }

  @Test func `a command that fails is reported with its code and output, and a run without a folder runs none`() {
    #expect(
      run(ending("echo why; exit 3")) == ["cluster.on_end ended with code 3; its output is in \(folder)/on-end.log"])
    #expect(output == "why\n")
    #expect(run(ending("exit 4", folder: "")) == ["cluster.on_end ended with code 4"])
  }

  @Test func `a command and its children are ended after the limit, also when they ignore the first signal`() throws {
    let marker = folder + "/child"
    let sentences = run(
      ending("sh -c 'echo $$ > \(marker); exec sleep 10000' & trap '' TERM; wait; sleep 10000"), limitSeconds: 1)
    #expect(sentences.count == 1 && sentences[0].hasPrefix("cluster.on_end was ended after 1 s"), "\(sentences)")
    let child = try #require(Int32(try String(contentsOfFile: marker, encoding: .utf8).filter(\.isNumber)))
    let observed = ObservedProcess(child)
    #expect(waitUntil { observed?.exists != true })
  }

  @Test func `the output is not written through a link, nor outside of the roots`() throws {
    let outside = folder + "/outside.txt"
    try "untouched".write(toFile: outside, atomically: false, encoding: .utf8)
    try FileManager.default.createSymbolicLink(atPath: folder + "/on-end.log", withDestinationPath: outside)
    #expect(run(ending("echo hello")) == [])
    #expect(try String(contentsOfFile: outside, encoding: .utf8) == "untouched")
    try FileManager.default.removeItem(atPath: folder + "/on-end.log")
    try FileManager.default.createDirectory(atPath: folder + "/root", withIntermediateDirectories: true)
    #expect(run(ending("echo hello"), Boundary([folder + "/root"])) == [])
    #expect(output == "")
  }

  @Test func `many commands wait for each other, and all of them are run`() throws {
    let commands = EndCommands(.none) { _, sentence in Issue.record("\(sentence)") }
    for number in 0..<12 { commands.start(RunID(1), ending("echo \(number)")) }
    commands.wait()
    #expect(Set(output.split(separator: "\n").compactMap { Int($0) }) == Set(0..<12))
  }

  @Test func `a coordinator refuses a run with a command, unless its administrator allows commands`() throws {
    for isAllowed in [false, true] {
      var options = CoordinatorDaemon.Options(listen: "ipc://\(folder)/c-\(isAllowed)", program: "ress test")
      options.allowsCommands = isAllowed
      let daemon = try CoordinatorDaemon(options)
      daemon.start()
      defer { daemon.stop() }
      var configuration = RunConfiguration()
      configuration.data.path = "none.h5"
      configuration.checkpoint.directory = folder
      configuration.cluster.onEnd = "echo $RUN $STATE > \(folder)/told"
      let client = try CoordinatorClient(daemon.endpoint)
      let submission = Submission(configuration: configuration, resume: .no)
      guard isAllowed else {
        let error = try #require(throws: ClientError.self) { _ = try client.submit(submission) }
        #expect("\(error)".contains("--allow-commands"))
        continue
      }
      let run = try client.submit(submission).run
      _ = try client.change(run.description, .cancel)
      #expect(waitUntil { (try? String(contentsOfFile: self.folder + "/told", encoding: .utf8)) == "run cancelled\n" })
    }
  }
}
