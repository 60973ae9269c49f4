// cluster/ssh/train.sh with hosts that are all this machine: a program that replaces ssh starts everything here.
// Nothing leaves the loopback interface.

import Foundation
import Testing

#if canImport(Glibc)
  import Glibc
#endif

@Suite(.serialized) final class SSHTests {
  private let place: Workplace
  private let script = URL(filePath: #filePath).deletingLastPathComponent()
    .appending(path: "../../cluster/ssh/train.sh").standardized.path

  init() throws {
    place = try Workplace()
    try """
    #!/bin/bash
    while [ "${1#-}" != "$1" ]; do if [ "$1" = -o ]; then shift; fi; shift; done
    shift
    exec bash -c "$*"
    """.write(toFile: place.path + "/ssh", atomically: true, encoding: .utf8)
    chmod(place.path + "/ssh", 0o755)
    try "here    # one worker\nthere 1\n".write(toFile: place.path + "/hosts", atomically: true, encoding: .utf8)
  }

  private func start(_ words: [String], network: String = "127.0.0.0/8") throws -> Running {
    try place.start(
      ["run.yaml", "--threads", "1"] + words,
      environment: ["SSH": place.path + "/ssh", "RESS_NETWORK": network],
      launcher: ["sh", "-c", "RESS=\"$0\" exec bash '\(script)' hosts \"$@\""])
  }

  @Test func `two hosts train one curve over the chosen network`() throws {
    #expect(try place.run(["train", "run.yaml", "--set", "run=alone"]).code == 0)
    let run = try start([])
    #expect(run.exitCode(within: 120) == 0, "\(run.output)")
    #expect(run.output.contains("a coordinator at tcp://127.0.0.1:") && run.output.contains("and 2 workers"))
    #expect(!place.curve("alone").isEmpty && place.curve("first") == place.curve("alone"))
    let other = try start([], network: "203.0.113.0/24")
    #expect(other.exitCode(within: 30) == 1 && other.output.contains("has no address in RESS_NETWORK=203.0.113.0/24"))
    let odd = try start([], network: "203.0.113.0")
    #expect(odd.exitCode(within: 30) == 1 && odd.output.contains("is not a network such as"))
  }

  @Test func `a signal saves the run and ends all processes that were started`() throws {
    let run = try start(["--set", "training.steps=1000000", "--set", "checkpoint.every=0"])
    #expect(waitUntil(90) { place.curve("first").count > 5 }, "\(run.output)")
    let family = run.family
    kill(run.process.processIdentifier, SIGTERM)
    #expect(run.exitCode(within: 60) == 143, "\(run.output)")
    #expect(run.output.contains("is paused after step"), "\(run.output)")
    #expect(waitUntil(30) { family.dropFirst().allSatisfy { !$0.exists } })
    let saved = try FileManager.default.contentsOfDirectory(atPath: place.path + "/checkpoints/first")
    #expect(saved.contains { $0.hasPrefix("step-") && !$0.hasSuffix(".tmp") }, "\(saved)")
  }
}
