// Runs over encrypted connections, in real processes.

import Foundation
import TestSupport
import Testing

#if canImport(Glibc)
  import Glibc
#endif

@Suite(.serialized) final class `Encrypted connections` {
  @Test func `two workers with keys give the curve of one without, and a run continues without a revoked worker`()
    throws
  {
    let place = try Workplace()
    #expect(try place.run(["train", "run.yaml", "--set", "run=alone"]).code == 0)
    func keys(_ name: String) -> [String: String] { ["RESS_KEYS": "\(place.path)/keys-\(name)"] }
    func ress(_ name: String, _ words: [String]) throws -> String {
      let running = try place.start(words, environment: keys(name))
      #expect(running.exitCode(within: 60) == 0, "\(words): \(running.output)")
      return running.output
    }
    for name in ["c", "w1", "w2", "user"] { _ = try ress(name, ["keys", "new"]) }
    for (name, role) in [("w1", "worker"), ("w2", "worker"), ("user", "submit")] {
      _ = try ress("c", ["keys", "allow", "keys-\(name)/key.pub", "--name", name, "--role", role])
      _ = try ress(name, ["keys", "trust", "keys-c/key.pub"])
    }
    let coordinator = try place.start(
      ["coordinator", "--listen", "tcp://127.0.0.1:*", "--address-file", "address", "--store", ":memory:"],
      environment: keys("c"))
    let file = place.path + "/address"
    #expect(waitUntil(30) { access(file, F_OK) == 0 }, "\(coordinator.output)")
    let address = try String(contentsOfFile: file, encoding: .utf8).trimmingCharacters(in: .newlines)
    let workers = try ["w1", "w2"].map {
      try place.start(["worker", "--coordinator", address, "--name", $0, "--threads", "1"], environment: keys($0))
    }
    defer { for process in workers + [coordinator] { process.killAll() } }
    let slow = ["--coordinator", address, "--workers", "2", "--set", "cluster.minimum_workers=1"]
    let story = try ress("user", ["train", "run.yaml"] + slow)
    #expect(story.contains("40"))
    #expect(place.curve("first") == place.curve("alone"))

    // A key that is not in the list is refused. A worker whose key is revoked counts as lost.
    let stranger = try place.start(["runs", "--coordinator", address], environment: ["RESS_KEYS": "none"])
    #expect(stranger.exitCode(within: 60) == 1)
    _ = try ress("user", ["submit", "run.yaml", "--set", "run=longer", "--set", "training.steps=400"] + slow)
    #expect(waitUntil(30) { place.curve("longer").count > 10 })
    _ = try ress("c", ["keys", "revoke", "w2"])
    let end = try place.start(["logs", "longer", "-f", "--coordinator", address], environment: keys("user"))
    #expect(end.exitCode(within: 60) == 0)
    #expect(end.output.contains("w2") && end.output.contains("is lost"), "\(end.output)")
    #expect(
      try place.run(["train", "run.yaml", "--set", "run=reference", "--set", "training.steps=400"]).code == 0)
    #expect(place.curve("longer") == place.curve("reference"))
  }
}
