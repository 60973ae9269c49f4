// The commands in real use, beyond a plain run: ending and continuing a run, JSON output, a coordinator's runs.
// DataCommandTests.swift and ModelCommandTests.swift are of the same suite, because its tests must not run at the same
// time.

import Foundation
import TestSupport
import Testing

#if canImport(Glibc)
  import Glibc
#endif

@Suite(.serialized) struct `Commands` {
  /// More steps than any test waits for.
  private static let endless = ["--set", "training.steps=1000000", "--set", "checkpoint.every=0"]

  @Test(arguments: [SIGINT, SIGTERM, SIGHUP])
  func `a signal saves and ends a run, no worker is left, and no step is lost on resume`(signal: Int32) throws {
    // 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP.
    let code = 128 + signal
    let place = try Workplace()
    let words = ["train", "run.yaml", "--workers", "2", "--json", "--set", "optimizer.schedule=constant"]
    let run = try place.start(words + Self.endless)
    #expect(waitUntil(60) { place.curve("first").count > 3 })
    let workers = run.family.dropFirst()
    #expect(workers.count == 2)
    kill(run.process.processIdentifier, signal)
    #expect(run.exitCode(within: 60) == code, "\(run.output.suffix(2000))")
    #expect(run.output.contains("\"state\": \"paused\", \"reason\": \"paused on request\""))
    #expect(waitUntil(10) { workers.allSatisfy { !$0.exists } })
    let done = place.steps("first")
    let more = ["--resume", "--set", "training.steps=\(done + 2)", "--set", "checkpoint.every=0"]
    let resumed = try place.run(words + more)
    #expect(resumed.code == 0 && resumed.output.contains("\"first_step\": \(done),"), "\(resumed.output)")
  }

  @Test func `a second signal immediately ends a run that cannot save`() throws {
    let place = try Workplace()
    let run = try place.start(
      ["train", "run.yaml", "--workers", "2", "--set", "cluster.patience_seconds=600"] + Self.endless)
    #expect(waitUntil(60) { place.curve("first").count > 3 })
    let workers = Array(run.family.dropFirst())
    // A stopped worker keeps the other from completing its step.
    workers[0].send(SIGSTOP)
    kill(run.process.processIdentifier, SIGTERM)
    #expect(waitUntil(30) { run.output.contains("a second signal ends it at once") }, "\(run.output)")
    kill(run.process.processIdentifier, SIGTERM)
    #expect(run.exitCode(within: 30) == 143)
    workers[0].send(SIGCONT)
    #expect(waitUntil(30) { workers.allSatisfy { !$0.exists } })
  }

  @Test func `a closed output pipe does not end the training, and nohup protects a run from its terminal`()
    throws
  {
    let place = try Workplace()
    let shell = ["sh", "-c", #""$0" "$@" | head -n 1"#]
    let head = try place.start(["train", "run.yaml"], launcher: shell)
    #expect(head.exitCode(within: 60) == 0, "\(head.output)")
    #expect(head.output.split(separator: "\n").count == 1, "\(head.output)")
    #expect(place.steps("first") == 40)

    let run = try place.start(
      ["train", "run.yaml", "--set", "run=second", "--set", "training.steps=300"],
      launcher: ["sh", "-c", #"trap "" HUP; exec "$0" "$@""#])
    #expect(waitUntil(60) { place.curve("second").count > 3 })
    kill(run.process.processIdentifier, SIGHUP)
    #expect(run.exitCode(within: 60) == 0, "\(run.output.suffix(2000))")
  }

  @Test func `a model that does not fit is refused with the numbers that ress plan shows`() throws {
    let place = try Workplace()
    let huge = ["--set", "model.width=32768", "--set", "model.experts=512", "--set", "model.expert_width=32768"]
    let refused = try place.run(["train", "run.yaml"] + huge)
    #expect(refused.code == 1, "\(refused.output)")
    #expect(
      refused.errors.contains("the run does not fit: a worker needs ") && refused.errors.contains("are available"),
      "\(refused.errors)")
    // A worker elsewhere reports it for its own machine.
    let address = "ipc://\(place.path)/coordinator"
    let at = ["--coordinator", address]
    let coordinator = try place.start(["coordinator", "--listen", address])
    let worker = try place.start(["worker", "--name", "w1", "--threads", "1"] + at)
    let followed = try place.run(["train", "run.yaml"] + huge + at)
    #expect(
      followed.code == 1 && followed.output.contains("failed: worker w1 (")
        && followed.output.contains("the run does not fit: a worker needs "), "\(followed.output)\(followed.errors)")
    for process in [worker, coordinator] {
      process.process.terminate()
      #expect(process.exitCode(within: 20) == 0)
    }
  }

  @Test func `a submission key that was used names its run, whatever the new name is`() throws {
    let place = try Workplace()
    let address = "ipc://\(place.path)/coordinator"
    let coordinator = try place.start(["coordinator", "--listen", address])
    let submit = ["submit", "run.yaml", "--key", "K", "--coordinator", address]
    let first = try place.run(submit)
    #expect(first.code == 0)
    #expect(try place.run(submit).output == first.output)
    let other = try place.run(submit + ["--set", "run=second"])
    #expect(
      other.code == 1 && other.output.isEmpty && other.errors.contains("belongs to the submission of run first ("),
      "\(other.output)\(other.errors)")
    coordinator.process.terminate()
    #expect(coordinator.exitCode(within: 20) == 0)
  }

  @Test func `a TMPDIR that is too long for sockets or not writable is not used, and log lines have times`() throws {
    let place = try Workplace()
    let long = place.path + "/" + String(repeating: "t", count: 120)
    try FileManager.default.createDirectory(atPath: long, withIntermediateDirectories: true)
    for (run, folder) in [("long", long), ("none", place.path + "/nowhere")] {
      let begun = Date().timeIntervalSince1970
      let training = try place.start(
        ["train", "run.yaml", "--set", "run=\(run)", "--set", "training.steps=3"],
        environment: ["TMPDIR": folder, "XDG_RUNTIME_DIR": ""])
      #expect(training.exitCode(within: 60) == 0, "\(training.output)")
      let metrics = try String(contentsOfFile: "\(place.path)/checkpoints/\(run)/metrics.jsonl", encoding: .utf8)
      let times = metrics.matches(of: /"time":([0-9.]+)/).compactMap { Double($0.1) }
      #expect(times.count == 4 && times == times.sorted() && times[0] > begun - 2, "\(metrics)")
      #expect(times[3] < Date().timeIntervalSince1970 + 2)
    }
    // A worker's log is meant for people.
    let log = try String(contentsOfFile: place.path + "/checkpoints/long/worker-1.log", encoding: .utf8)
    #expect(log.contains("generation 1: units 0–5, experts 0–3, "), "\(log)")
  }

  @Test func `ress status shows the plan beside the measured values`() throws {
    let place = try Workplace()
    let address = "ipc://\(place.path)/coordinator"
    let at = ["--coordinator", address], environment = ["XDG_CACHE_HOME": place.path + "/cache"]
    let settings = ["--workers", "2", "--set", "cluster.threads=1"]
    let planned = try place.start(["plan", "run.yaml", "--json"] + settings, environment: environment)
    #expect(planned.exitCode(within: 60) == 0)
    #expect(planned.output.contains("\"step_seconds\": 0."), "\(planned.output)")
    let coordinator = try place.start(["coordinator", "--listen", address])
    let workers = try (1...2).map { try place.start(["worker", "--name", "w\($0)", "--threads", "1"] + at) }
    let submitted = try place.start(["submit", "run.yaml"] + settings + at, environment: environment)
    #expect(submitted.exitCode(within: 20) == 0, "\(submitted.output) \(coordinator.output)")
    #expect(try place.run(["logs", "first", "-f"] + at).code == 0, "\(workers[0].output)")
    struct Cost: Decodable {
      var step_seconds: Double?
      var memory_bytes, sent_bytes, checkpoint_bytes: Double?
    }
    struct Run: Decodable { var expected, actual: Cost }
    let status = try place.run(["status", "first", "--json"] + at).output
    let run = try JSONDecoder().decode(Run.self, from: Data(status.utf8))
    #expect(run.expected.step_seconds ?? 0 > 0 && run.actual.step_seconds ?? 0 > 0, "\(status)")
    for (name, expected, actual) in [
      ("memory", run.expected.memory_bytes, run.actual.memory_bytes),
      ("sent", run.expected.sent_bytes, run.actual.sent_bytes),
      ("checkpoint", run.expected.checkpoint_bytes, run.actual.checkpoint_bytes),
    ] {
      let ratio = try #require(actual) / (try #require(expected))
      #expect(abs(ratio - 1) < 0.2, "\(name): \(ratio)")
    }
    let shown = try place.run(["status", "first"] + at).output
    #expect(shown.contains("expected") && shown.contains("memory a worker"), "\(shown)")
  }

  @Test(arguments: [
    (1, "travel", "memory"), (2, "travel", "memory"), (2, "travel", "disk"), (2, "copy", "memory"),
  ])
  func `the most memory that a worker had is what was planned, within 15 percent`(
    workers: Int, experts: String, copies: String
  ) throws {
    let place = try Workplace()
    let cluster = try TestCluster(place, patience: 60)
    let settings = [
      "--workers", "\(workers)", "--set", "cluster.threads=1", "--set", "cluster.experts=\(experts)",
      "--set", "cluster.state_copies=\(copies)", "--set", "cluster.mirror_every=1", "--set", "model.width=256",
      "--set", "model.heads=4", "--set", "model.expert_width=512", "--set", "model.experts=16",
      "--set", "model.shared_expert=false", "--set", "training.steps=4", "--set", "training.batch_sequences=4",
      "--set", "training.evaluate_sequences=0", "--set", "training.evaluate_every=0",
    ]
    struct Plan: Decodable {
      var memory_bytes, copy_bytes, copy_disk_bytes: Int
      var memory_parts: [String: Int]
    }
    let printed = try place.run(["plan", "run.yaml", "--json", "--count-only", "--hosts", "1"] + settings)
    let plan = try JSONDecoder().decode(Plan.self, from: Data(printed.output.utf8))
    #expect(plan.memory_parts.values.reduce(0, +) == plan.memory_bytes)
    #expect((plan.copy_bytes > 0, plan.copy_disk_bytes > 0) == (workers > 1 && copies == "memory", copies == "disk"))
    for name in ["a", "b"].prefix(workers) { try cluster.start(name) }
    let at = ["--coordinator", cluster.address]
    #expect(try place.run(["submit", "run.yaml"] + settings + at).code == 0, "\(cluster.logs)")
    #expect(try place.run(["logs", "first", "-f"] + at).code == 0, "\(cluster.logs)")
    let peaks = try cluster.workers.values.map { worker in
      let path = "/proc/\(worker.process.processIdentifier)/status"
      let line = try String(contentsOfFile: path, encoding: .utf8).split(separator: "\n").first {
        $0.hasPrefix("VmHWM:")
      }
      return try #require(line.flatMap { Int($0.filter(\.isNumber)) }) << 10
    }
    let ratio = Double(peaks.max()!) / Double(plan.memory_bytes)
    #expect(abs(ratio - 1) < 0.15, "\(peaks) of \(plan.memory_bytes): \(plan.memory_parts)")
  }

  @Test func `runs are submitted to a coordinator, listed, followed and cancelled`() throws {
    let place = try Workplace()
    let address = "ipc://\(place.path)/coordinator"
    let at = ["--coordinator", address]
    let coordinator = try place.start(["coordinator", "--listen", address])
    let worker = try place.start(["worker", "--name", "w1", "--listen", "ipc://\(place.path)/w1"] + at)
    #expect(waitUntil(10) { ((try? place.run(["status"] + at))?.output ?? "").contains("w1") })
    #expect(try place.run(["runs"] + at).output == "no run was submitted to this coordinator\n")

    let short = try place.run(["submit", "run.yaml", "--set", "training.steps=3", "--set", "checkpoint.every=0"] + at)
    #expect(short.code == 0 && short.output.hasPrefix("run first ("), "\(short.output)\(short.errors)")
    let followed = try place.run(["logs", "first", "-f"] + at)
    #expect(followed.code == 0 && followed.output.contains("step 3/3"), "\(followed.output)\(followed.errors)")
    // The events remain available after the end, from the first one.
    let story = try place.run(["logs", "first", "--json"] + at)
    #expect(story.code == 0 && story.output.contains("\"state\": \"queued\"") && story.output.contains("\"step\": 3,"))

    let endless = ["submit", "run.yaml", "--set", "run=second"] + Self.endless + at
    #expect(try place.run(endless).code == 0)
    let again = try place.run(endless)
    #expect(again.code == 1 && again.errors.contains("follow or cancel it"), "\(again.errors)")
    #expect(waitUntil(20) { ((try? place.run(["runs"] + at))?.output ?? "").contains("running") })
    #expect(try place.run(["status"] + at).output.contains("second"))
    #expect(try place.run(["cancel", "second"] + at).output.hasPrefix("run second is cancelled"))
    let ended = try place.run(["logs", "second", "--follow"] + at)
    #expect(ended.code == 1 && ended.output.contains("cancelled on request"), "\(ended.output)")
    let listed = try place.run(["runs", "--json"] + at).output.split(separator: "\n")
    #expect(listed.count == 2 && listed[0].contains("finished") && listed[1].contains("cancelled"))
    let unknown = try place.run(["cancel", "third"] + at)
    #expect(unknown.code == 1 && unknown.errors.contains("it knows first, second"), "\(unknown.errors)")
    for process in [worker, coordinator] {
      process.process.terminate()
      #expect(process.exitCode(within: 10) == 0)
    }
  }

  @Test func `no worker survives when its command is killed`() throws {
    let place = try Workplace()
    let run = try place.start(["train", "run.yaml", "--workers", "2"] + Self.endless)
    #expect(waitUntil(30) { run.output.contains("running: ") })
    let workers = run.family.dropFirst()
    #expect(workers.count == 2)
    kill(run.process.processIdentifier, SIGKILL)
    #expect(waitUntil(5) { workers.allSatisfy { !$0.exists } })
  }

  @Test func `a worker of the command that dies is reported at once, restarted, and rejoins the run`() throws {
    let place = try Workplace()
    let run = try place.start(["train", "run.yaml", "--workers", "2"] + Self.endless)
    #expect(waitUntil(30) { run.output.contains("running: ") })
    let victim = try #require(run.family.last)
    victim.send(SIGKILL)
    #expect(waitUntil(2) { run.output.contains("(pid \(victim.identifier)) was ended by signal 9") })
    #expect(
      waitUntil(20) { run.output.contains("worker-") && run.output.components(separatedBy: "with 2 workers").count > 2 }
    )
    run.process.interrupt()
    #expect(run.exitCode(within: 60) == 130, "\(run.output.suffix(2000))")
  }

  @Test func `a run that cannot get its workers ends with code 3`() throws {
    let place = try Workplace()
    let address = "ipc://\(place.path)/coordinator"
    let coordinator = try place.start(["coordinator", "--listen", address])
    let run = try place.start(["train", "run.yaml", "--coordinator", address])
    #expect(waitUntil(10) { run.output.contains("waits for 1 worker; none is free") })
    #expect(try place.run(["cancel", "first", "--coordinator", address]).code == 0)
    #expect(run.exitCode(within: 20) == 3)
    coordinator.process.terminate()
    #expect(coordinator.exitCode(within: 10) == 0)
  }

  @Test func `a resumed run as JSON has its own steps and its end`() throws {
    let place = try Workplace()
    let short = ["--set", "training.steps=4"]
    #expect(try place.run(["train", "run.yaml"] + short).code == 0)
    let again = try place.run(["train", "run.yaml"] + short)
    #expect(again.code == 1 && again.output.contains("continue with --resume"))
    let resumed = try place.run(["train", "run.yaml", "--resume", "--json", "--set", "training.steps=6"])
    #expect(resumed.code == 0, "\(resumed.output)\(resumed.errors)")
    let lines = try resumed.output.split(separator: "\n").map {
      try #require(try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any])
    }
    #expect(lines.filter { $0["event"] as? String == "step" }.compactMap { $0["step"] as? Int } == [5, 6])
    #expect(lines.last?["state"] as? String == "finished")
  }

  @Test func `a run's name where its folder is needed has the folder as a hint`() throws {
    let place = try Workplace()
    #expect(try place.run(["train", "run.yaml", "--set", "training.steps=2"]).code == 0)
    for words in [["metrics"], ["clinic"], ["evaluate"], ["checkpoint", "show"]] {
      let run = try place.run(words + ["first"])
      #expect(run.code == 1 && run.errors.contains("; did you mean checkpoints/first?"), "\(run.errors)")
    }
    #expect(try place.run(["metrics", "other"]).errors.contains("a run writes it into its folder, checkpoints/RUN"))
  }

  @Test func `a run resumes from an older checkpoint, and later checkpoints are set aside`() throws {
    let place = try Workplace()
    let constant = ["--set", "optimizer.schedule=constant"]
    #expect(try place.run(["train", "run.yaml"] + constant).code == 0)
    let curve = place.curve("first")
    let back = try place.run(
      ["train", "run.yaml", "--resume", "checkpoints/first/step-00000010", "--set", "training.steps=15"] + constant)
    #expect(
      back.code == 0 && back.output.contains("was set aside: step-00000040.aside"), "\(back.output)\(back.errors)")
    // The newest checkpoint is that of step 15 now, not one of the abandoned curve.
    let on = try place.run(["train", "run.yaml", "--resume", "--workers", "2"] + constant)
    #expect(on.code == 0 && on.output.contains("continuing after step 15"), "\(on.output)\(on.errors)")
    let evaluation = #""validation_loss""#
    #expect(place.curve("first").filter { !$0.contains(evaluation) } == curve.filter { !$0.contains(evaluation) })
  }

  @Test func `a worker without a coordinator gives up after its time limit`() throws {
    let place = try Workplace()
    let finished = try place.run(["worker", "--coordinator", "ipc://\(place.path)/none", "--join-within", "0.5"])
    #expect(finished.code == 1 && finished.errors.contains("no coordinator answered at ipc://"), "\(finished.errors)")
  }

  @Test func `an address that other machines can reach needs the user's consent`() throws {
    let place = try Workplace()
    let refused = try place.run(["coordinator", "--listen", "tcp://0.0.0.0:0"])
    #expect(refused.code == 1 && refused.errors.contains("--insecure"))
    let odd = try place.run(["coordinator", "--listen", "somewhere"])
    #expect(odd.code == 1 && odd.errors.contains("tcp://HOST:PORT or ipc://PATH"))
  }

  @Test func `a coordinator at a free port writes its address to a file, which is removed when it ends`() throws {
    let place = try Workplace()
    let file = place.path + "/address"
    let coordinators = try ["first.db", "second.db"].map {
      try place.start([
        "coordinator", "--listen", "tcp://127.0.0.1:*", "--address-file", "\(file)-\($0)", "--store", $0,
      ])
    }
    var addresses: [String] = []
    for (name, coordinator) in zip(["first.db", "second.db"], coordinators) {
      #expect(waitUntil(30) { access("\(file)-\(name)", F_OK) == 0 }, "\(coordinator.output)")
      let address = try String(contentsOfFile: "\(file)-\(name)", encoding: .utf8)
      #expect(address.wholeMatch(of: /tcp:\/\/127\.0\.0\.1:[1-9]\d*\n/) != nil, "\(address)")
      addresses.append(address.trimmingCharacters(in: .newlines))
    }
    #expect(addresses[0] != addresses[1])
    for address in addresses { #expect(try place.run(["runs", "--coordinator", address]).code == 0) }
    // An address that is taken is refused, and no file is written.
    let late = try place.run([
      "coordinator", "--listen", addresses[0], "--address-file", file, "--store", ":memory:",
    ])
    #expect(late.code == 1 && late.errors.contains("cannot listen at \(addresses[0]): "), "\(late.errors)")
    let nowhere = try place.run([
      "coordinator", "--listen", "tcp://127.0.0.1:*", "--address-file", "\(place.path)/none/address", "--store",
      ":memory:",
    ])
    #expect(nowhere.code == 1 && nowhere.errors.contains("--address-file: cannot write"), "\(nowhere.errors)")
    for coordinator in coordinators {
      coordinator.process.terminate()
      #expect(coordinator.exitCode(within: 20) == 0)
    }
    #expect(try FileManager.default.contentsOfDirectory(atPath: place.path).allSatisfy { !$0.hasPrefix("address") })
  }
}
