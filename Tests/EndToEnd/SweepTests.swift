// `ress compare` and `ress sweep` in real use: runs side by side, every combination of some settings, and a sweep that
// is interrupted.

import Foundation
import TestSupport
import Testing

#if canImport(Glibc)
  import Glibc
#endif

@Suite(.serialized) struct `Comparing and sweeping` {
  private static let over = ["--over", "optimizer.learning_rate=0.003,0.01", "--over", "training.seed=1..2"]
  private static let names = ["0.003", "0.01"].flatMap { rate in
    ["1", "2"].map { "first-learning_rate-\(rate)-seed-\($0)" }
  }

  /// A sweep's curve, by the names of its runs.
  private func curves(_ place: Workplace, _ sweep: String = "first-sweep") -> [[String]] {
    Self.names.map { place.curve("\(sweep)/\($0)") }
  }

  private func rows(_ place: Workplace, _ sweep: String = "first-sweep") throws -> [String] {
    try String(contentsOfFile: "\(place.path)/checkpoints/\(sweep)/results.csv", encoding: .utf8)
      .split(separator: "\r\n").dropFirst().map { String($0) }
  }

  @Test func `runs are compared from their folders and from the coordinator, with the same numbers`() throws {
    let place = try Workplace()
    let address = "ipc://\(place.path)/coordinator"
    let at = ["--coordinator", address]
    let coordinator = try place.start(["coordinator", "--listen", address])
    let worker = try place.start(["worker", "--name", "w1", "--threads", "1"] + at)
    for (name, rate) in [("slow", "0.001"), ("fast", "0.01")] {
      let run = try place.run(
        ["train", "run.yaml", "--set", "run=\(name)", "--set", "optimizer.learning_rate=\(rate)"] + at)
      #expect(run.code == 0, "\(run.errors)")
    }
    let here = try place.run(["compare", "slow", "fast", "--plot", "curves.svg", "--x", "tokens"])
    #expect(
      here.code == 0 && here.output.contains("run   optimizer.learning_rate\nslow  0.001\nfast  0.01\n"),
      "\(here.output)\(here.errors)")
    #expect(here.output.contains("step 20  step 40"), "\(here.output)")
    let picture = try String(contentsOfFile: place.path + "/curves.svg", encoding: .utf8)
    #expect(picture.matches(of: #/<polyline /#).count == 2 && picture.contains(">tokens</text>"))
    // Only the places of the numbers differ.
    func lines(_ words: [String]) throws -> [String] {
      try place.run(words + ["--json"]).output.split(separator: "\n").map {
        String($0).replacing(#/"source": "[^"]*", /#, with: "")
      }
    }
    let local = try lines(["compare", "checkpoints/slow", "checkpoints/fast/metrics.jsonl"])
    #expect(local.count == 2 && local[0].contains(#""run": "slow", "steps": 40, "tokens": 15360, "#), "\(local)")
    #expect(try lines(["compare", "slow", "fast"] + at) == local)
    #expect(try lines(["compare", "checkpoints"]) == local.reversed(), "a folder of runs, by name")
    let unknown = try place.run(["compare", "nobody"] + at)
    #expect(unknown.code == 1 && unknown.errors.contains("no run 'nobody'; "), "\(unknown.errors)")
    for process in [worker, coordinator] {
      process.process.terminate()
      #expect(process.exitCode(within: 20) == 0)
    }
  }

  @Test func `a sweep trains each combination once, and its table is a file`() throws {
    let place = try Workplace()
    let words = ["sweep", "run.yaml", "--threads", "1", "--set", "training.steps=20"] + Self.over
    let dry = try place.run(words + ["--dry-run"])
    #expect(dry.code == 0 && dry.output.hasSuffix("4 runs, in checkpoints/first-sweep\n"), "\(dry.output)\(dry.errors)")
    #expect(!FileManager.default.fileExists(atPath: place.path + "/checkpoints/first-sweep"))

    let done = try place.run(words)
    #expect(done.code == 0, "\(done.output)\(done.errors)")
    #expect(
      done.output.contains("mean validation loss ± standard error") && done.output.contains(" ± 0."), "\(done.output)")
    // A run of a sweep is a run like any other.
    let alone = try place.run(
      [
        "train", "run.yaml", "--threads", "1", "--set", "training.steps=20", "--set", "training.seed=2", "--set",
        "run=alone",
      ])
    #expect(alone.code == 0 && place.curve("alone") == curves(place)[3])
    let table = try rows(place)
    #expect(table.count == 4 && table.allSatisfy { $0.contains(",finished,") }, "\(table)")
    #expect(Set(table.map { String($0.prefix { $0 != "," }) }) == Set(Self.names))

    // Again: nothing is trained, and the table is the same.
    let before = place.contents("checkpoints/first-sweep").filter { !$0.key.hasSuffix(".lock") }
    let again = try place.run(words + ["--json"])
    #expect(again.code == 0, "\(again.errors)")
    #expect(place.contents("checkpoints/first-sweep").filter { !$0.key.hasSuffix(".lock") } == before)
    let lines = again.output.split(separator: "\n")
    #expect(
      lines.count == 6 && lines[4].contains(#""event": "arm""#) && lines[4].contains(#""runs": 2"#), "\(again.output)")
    // More seeds are more runs.
    let more = try place.run([
      "sweep", "run.yaml", "--threads", "1", "--set", "training.steps=20", "--over", "optimizer.learning_rate=0.01",
      "--over", "training.seed=1..3",
    ])
    #expect(
      more.code == 0 && more.output.contains("sweep of 3 runs in checkpoints/first-sweep, of which 2 are finished"),
      "\(more.output)")
    // Another configuration is another sweep.
    let other = try place.run(words + ["--set", "model.keys=4"])
    #expect(
      other.code == 1 && other.errors.contains("model.keys was 6 and is now 4; choose another name with --name"),
      "\(other.errors)")
  }

  @Test func `wrong keys and values are refused before anything is trained, each of them once`() throws {
    let place = try Workplace()
    func refusal(_ over: String..., more: [String] = []) throws -> String {
      let result = try place.run(["sweep", "run.yaml"] + over.flatMap { ["--over", $0] } + more)
      #expect(result.code == 2 && result.output.isEmpty, "\(result.output)\(result.errors)")
      return result.errors
    }
    let key = try refusal("optimizer.learning_rte=0.1,0.2", "training.seed=1..2")
    #expect(
      key.contains(
        "--over optimizer.learning_rte=0.1: unknown key 'learning_rte' in 'optimizer'; did you mean 'learning_rate'?"),
      "\(key)")
    #expect(key.split(separator: "\n").count == 1, "\(key)")
    let value = try refusal("model.width=32,wide")
    #expect(value == "--over model.width=wide: expected a whole number, found 'wide'\n", "\(value)")
    // Values that are right alone and do not fit together.
    #expect(try refusal("model.heads=2,3").contains("model.heads=3"))
    #expect(try refusal("training.seed=1..100").contains("--limit 64"))
    #expect(try refusal("training.seed=1..3", more: ["--limit", "2"]).contains("--limit 2 allows"))
    #expect(!FileManager.default.fileExists(atPath: place.path + "/checkpoints"))
    let data = try place.run(["sweep", "run.yaml", "--over", "data.path=text.h5,none.h5"])
    #expect(data.code == 1 && data.errors.contains("none.h5 does not exist"), "\(data.errors)")
  }

  @Test(arguments: [SIGINT, SIGKILL])
  func `an interrupted sweep continues where it was, with the curves of one that was not`(signal: Int32) throws {
    let place = try Workplace()
    let words = ["sweep", "run.yaml", "--threads", "1"] + Self.over
    let whole = try place.run(words + ["--name", "whole"])
    #expect(whole.code == 0, "\(whole.errors)")
    let sweep = try place.start(words)
    // In the middle of the third run.
    let third = "first-sweep/first-learning_rate-0.003-seed-2"
    #expect(waitUntil(120) { place.curve(third).count > 12 })
    if signal == SIGKILL { sweep.killAll() } else { kill(sweep.process.processIdentifier, signal) }
    let code = sweep.exitCode(within: 60)
    // More runs may finish before the signal arrives, and a killed sweep may not have listed the last one.
    let finished = try rows(place).filter { $0.contains(",finished,") }.count
    #expect(finished >= 2)
    #expect(
      signal == SIGKILL || finished == 4
        || code == 130 && sweep.output.contains("the same command continues the sweep"), "\(sweep.output)")
    let next = try place.run(words)
    #expect(
      next.code == 0 && (finished...4).contains { next.output.contains("of which \($0) are finished") },
      "\(finished) finished: \(next.output)\(next.errors)")
    #expect(curves(place) == curves(place, "whole"))
    #expect(try rows(place).allSatisfy { $0.contains(",finished,") })
  }

  @Test func `a sweep in a coordinator's queue does not need its command`() throws {
    let place = try Workplace()
    let address = "ipc://\(place.path)/coordinator"
    let coordinator = try place.start(["coordinator", "--listen", address])
    let words = ["sweep", "run.yaml", "--coordinator", address, "--workers", "1", "--threads", "1"] + Self.over
    // Without a worker all runs wait.
    let first = try place.start(words)
    #expect(
      waitUntil(60) {
        (try? place.run(["runs", "--coordinator", address, "--json"]).output.split(separator: "\n").count) == 4
      }, "\(first.output)")
    kill(first.process.processIdentifier, SIGINT)
    #expect(first.exitCode(within: 20) == 130 && first.output.contains("the runs stay in the queue"), "\(first.output)")
    let worker = try place.start(["worker", "--name", "w1", "--threads", "1", "--coordinator", address])
    let second = try place.run(words)
    #expect(second.code == 0, "\(second.output)\(second.errors)")
    let runs = try place.run(["runs", "--coordinator", address, "--json"]).output.split(separator: "\n")
    #expect(runs.count == 4 && runs.allSatisfy { $0.contains(#""state": "finished""#) }, "\(runs)")
    #expect(try rows(place).allSatisfy { $0.contains(",finished,") })
    // On this machine nothing is left to do.
    #expect(try place.run(["sweep", "run.yaml"] + Self.over).output.contains("of which 4 are finished"))
    for process in [worker, coordinator] {
      process.process.terminate()
      #expect(process.exitCode(within: 20) == 0)
    }
  }
}
