// The commands in real use, beyond a plain run: ending and continuing a run, JSON output, preparing data.

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
    #expect(waitUntil(10) { workers.allSatisfy { kill($0, 0) != 0 } })
    let done = place.curve("first").count { !$0.contains("validation") }
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
    kill(workers[0], SIGSTOP)
    kill(run.process.processIdentifier, SIGTERM)
    #expect(waitUntil(30) { run.output.contains("a second signal ends it at once") }, "\(run.output)")
    kill(run.process.processIdentifier, SIGTERM)
    #expect(run.exitCode(within: 30) == 143)
    kill(workers[0], SIGCONT)
    #expect(waitUntil(30) { workers.allSatisfy { kill($0, 0) != 0 } })
  }

  @Test func `a closed output pipe does not end the training, and nohup protects a run from its terminal`()
    throws
  {
    let place = try Workplace()
    let shell = ["sh", "-c", #""$0" "$@" | head -n 1"#]
    let head = try place.start(["train", "run.yaml"], launcher: shell)
    #expect(head.exitCode(within: 60) == 0, "\(head.output)")
    #expect(head.output.split(separator: "\n").count == 1, "\(head.output)")
    #expect(place.curve("first").count { !$0.contains("validation") } == 40)

    let run = try place.start(
      ["train", "run.yaml", "--set", "run=second", "--set", "training.steps=300"],
      launcher: ["sh", "-c", #"trap "" HUP; exec "$0" "$@""#])
    #expect(waitUntil(60) { place.curve("second").count > 3 })
    kill(run.process.processIdentifier, SIGHUP)
    #expect(run.exitCode(within: 60) == 0, "\(run.output.suffix(2000))")
  }

  @Test func `problems with the data are reported when a run is submitted, before it is queued`() throws {
    let place = try Workplace()
    let address = "ipc://\(place.path)/coordinator"
    let at = ["--coordinator", address]
    let coordinator = try place.start(["coordinator", "--listen", address])
    for words in [["submit", "run.yaml"] + at, ["train", "run.yaml"] + at, ["submit", "run.yaml", "--on", "slurm"]] {
      let missing = try place.run(words + ["--set", "data.path=none.h5"])
      #expect(missing.code == 1 && missing.errors.contains("none.h5 does not exist"), "\(missing.errors)")
      let other = try place.run(words + ["--set", "model.head=tag"])
      #expect(other.code == 1 && other.errors.contains("holds task 'lm'"), "\(other.errors)")
    }
    #expect(try place.run(["runs"] + at).output == "no run was submitted to this coordinator\n")
    // A worker's machine may have data that this one does not have.
    let elsewhere = try place.run(
      ["submit", "run.yaml", "--set", "data.path=none.h5", "--coordinator", "tcp://127.0.0.1:1"])
    #expect(elsewhere.errors.contains("none.h5 is not on this machine"), "\(elsewhere.errors)")
    coordinator.process.terminate()
    #expect(coordinator.exitCode(within: 20) == 0)
  }

  @Test func `missing or insufficient validation text is reported as a run begins`() throws {
    let place = try Workplace()
    let few = try place.run(
      ["train", "run.yaml", "--set", "training.steps=2", "--set", "training.evaluate_sequences=1000"])
    #expect(few.code == 0 && few.output.contains("and not training.evaluate_sequences (1000)"), "\(few.output)")
    #expect(
      try place.run(["data", "prepare", "text.txt", "--out", "all.h5", "--validation", "0"]).code == 0)
    let none = try place.run(
      ["train", "run.yaml", "--set", "run=none", "--set", "training.steps=2", "--set", "data.path=all.h5"])
    #expect(
      none.code == 0 && none.output.contains("nothing is evaluated: ") && none.output.contains("all.h5"),
      "\(none.output)\(none.errors)")
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

  @Test func `a profile shows each part's time, and trace viewers can read its trace`() throws {
    let place = try Workplace()
    let run = try place.run(["train", "run.yaml", "--workers", "2", "--profile", "--set", "training.steps=30"])
    #expect(run.code == 0, "\(run.output)\(run.errors)")
    for part in ["experts", "graph", "attention", "memory", "optimizer", "worker-2: steps 6–25"] {
      #expect(run.output.contains(part), "\(part)")
    }
    // The shares of a worker add up to the whole.
    let table = try String(contentsOfFile: place.path + "/checkpoints/first/profile/worker-1.txt", encoding: .utf8)
    let shares = table.split(separator: "\n").dropFirst(2).compactMap { line -> Double? in
      let words = line.split(separator: " ")
      return words.last == "%" ? Double(words[words.count - 2]) : nil
    }
    #expect(shares.count > 8 && abs(shares.reduce(0, +) - 100) < 1)
    let data = try Data(contentsOf: URL(filePath: place.path + "/checkpoints/first/profile/worker-1.json"))
    let trace = try #require(try JSONSerialization.jsonObject(with: data) as? [String: Any])
    let events = try #require(trace["traceEvents"] as? [[String: Any]])
    #expect(events.count { $0["name"] as? String == "step" && $0["ph"] as? String == "X" } == 20)
    #expect(events.allSatisfy { ($0["dur"] as? Double ?? 0) >= 0 })
  }

  @Test func `a model with a shared block is evaluated with another number of recurrence steps`() throws {
    let place = try Workplace()
    let short = ["--set", "training.steps=3", "--set", "checkpoint.every=0"]
    #expect(try place.run(["train", "run.yaml"] + short).code == 0)
    let losses = try ["1", "2", "5"].map { steps in
      let measured = try place.run(["evaluate", "checkpoints/first", "--recurrence", steps, "--json"])
      #expect(measured.code == 0, "\(measured.errors)")
      return measured.output
    }
    #expect(Set(losses).count == 3)
    #expect(try place.run(["evaluate", "checkpoints/first", "--json"]).output == losses[1])
    let text = try place.run(["generate", "checkpoints/first", "--tokens", "5", "--recurrence", "3"])
    #expect(text.code == 0, "\(text.errors)")

    let blocks = ["--set", "model.separate_blocks=true", "--set", "run=blocks"]
    #expect(try place.run(["train", "run.yaml"] + short + blocks).code == 0)
    let refused = try place.run(["evaluate", "checkpoints/blocks", "--recurrence", "5"])
    #expect(refused.code == 1 && refused.errors.contains("2 separate blocks"), "\(refused.errors)")
  }

  @Test func `the dense baseline is trained, evaluated and sampled like any model, up to its context`() throws {
    let place = try Workplace()
    let baseline = [
      "--set", "model.architecture=transformer", "--set", "model.segment=64", "--set", "training.steps=5",
      "--set", "checkpoint.every=0", "--workers", "2",
    ]
    #expect(try place.run(["train", "run.yaml"] + baseline).code == 0)
    #expect(try place.run(["evaluate", "checkpoints/first"]).code == 0)
    #expect(try place.run(["generate", "checkpoints/first", "--tokens", "40"]).code == 0)
    let long = try place.run(["generate", "checkpoints/first", "--tokens", "400"])
    #expect(long.code == 1 && long.errors.contains("reads 64 tokens at most"), "\(long.errors)")
  }

  @Test
  func
    `an evaluation reports each question, and losses by position, also beyond the training length`()
    throws
  {
    let place = try Workplace()
    let short = ["--set", "training.steps=3", "--set", "checkpoint.every=0"]
    #expect(try place.run(["train", "run.yaml"] + short).code == 0)
    let options = ["--length", "128", "--parts", "4", "--answers", "answers.jsonl", "--json"]
    let measured = try place.run(["evaluate", "checkpoints/first"] + options)
    #expect(measured.code == 0, "\(measured.errors)")
    struct Whole: Decodable {
      var validation_loss: Double
      var sequences, tokens: Int
      var parts: [Double]
    }
    struct Line: Decodable {
      var question, targets: Int
      var loss: Double
      var parts: [Double]
    }
    let whole = try JSONDecoder().decode(Whole.self, from: Data(measured.output.utf8))
    let text = try String(contentsOfFile: place.path + "/answers.jsonl", encoding: .utf8)
    let lines = try text.split(separator: "\n").map { try JSONDecoder().decode(Line.self, from: Data($0.utf8)) }
    func mean(_ values: [Double]) -> Double { values.reduce(0, +) / Double(values.count) }
    #expect(lines.count == whole.sequences && lines.map(\.question) == Array(0..<whole.sequences))
    #expect(whole.tokens == 128 * whole.sequences && lines.allSatisfy { $0.targets == 128 && $0.parts.count == 4 })
    #expect(abs(mean(lines.map(\.loss)) - whole.validation_loss) < 1e-6)
    // Parts have equal lengths, and their losses are computed from logits, independently of the total.
    #expect(abs(mean(whole.parts) - whole.validation_loss) < 1e-4)
    #expect(zip(lines, lines).allSatisfy { abs(mean($0.parts) - $1.loss) < 1e-4 })

    let dense = ["--set", "model.architecture=transformer", "--set", "model.segment=64", "--set", "run=dense"]
    #expect(try place.run(["train", "run.yaml"] + short + dense).code == 0)
    let longer = try place.run(["evaluate", "checkpoints/dense", "--length", "128"])
    #expect(longer.code == 0, "\(longer.errors)")
    let learned = ["--set", "model.positions=learned", "--set", "run=learned"]
    #expect(try place.run(["train", "run.yaml"] + short + dense.dropLast(2) + learned).code == 0)
    let refused = try place.run(["evaluate", "checkpoints/learned", "--length", "128"])
    #expect(refused.code == 1 && refused.errors.contains("learned positions for 64 tokens"), "\(refused.errors)")
    let unwritten = try place.run(["evaluate", "checkpoints/first", "--answers", "nowhere/answers.jsonl"])
    #expect(unwritten.code != 0 && unwritten.errors.contains("nowhere/answers.jsonl"), "\(unwritten.errors)")
  }

  @Test func `a head that needs labels refuses text without labels, with the reason`() throws {
    let place = try Workplace()
    let run = try place.run(["train", "run.yaml", "--set", "model.head=tag"])
    #expect(
      run.code == 1
        && run.errors.contains(
          "holds task 'lm', which trains model.head: lm, not tag; labelled rows make the other tasks"),
      "\(run.output)")
  }

  @Test func `a task is prepared, learned equally by one and two workers, and evaluated as in training`() throws {
    let place = try Workplace()
    let rows = (0..<400).map { row in
      let words = (0..<6).map { ["red", "green", "blue"][(row * 7 + $0 * $0 + row / 3) % 3] }
      return #"{"text": "\#(words.joined(separator: " "))", "label": "\#(words[0])"}"#
    }
    try rows.joined(separator: "\n").write(toFile: place.path + "/rows.jsonl", atomically: true, encoding: .utf8)
    let prepared = try place.run([
      "data", "prepare", "rows.jsonl", "--task", "classify", "--validation", "0.2", "--out", "rows.h5",
    ])
    #expect(prepared.code == 0 && prepared.output.contains("a model of this dataset needs head: classify, classes: 3"))
    let shown = try place.run(["data", "show", "rows.h5"])
    #expect(
      shown.code == 0 && shown.output.contains("classes: ") && shown.output.contains("targets: "), "\(shown.output)")
    let small = try place.run(["train", "run.yaml", "--set", "data.path=rows.h5", "--set", "model.head=classify"])
    #expect(
      small.code == 1 && small.errors.contains("rows.h5 has 3 classes, and model.classes is 2"), "\(small.errors)")

    let task = [
      "--set", "data.path=rows.h5", "--set", "model.head=classify", "--set", "model.classes=3",
      "--set", "training.steps=60", "--set", "training.evaluate_sequences=30", "--set", "checkpoint.every=0",
    ]
    #expect(try place.run(["train", "run.yaml", "--workers", "2"] + task).code == 0)
    #expect(try place.run(["train", "run.yaml", "--set", "run=alone"] + task).code == 0)
    let curve = place.curve("first")
    #expect(curve.count == 63 && curve == place.curve("alone"))
    let logged = try #require(curve.last?.firstMatch(of: /"accuracy":([0-9.]+)/)).1
    #expect(Double(logged)! > 0.6, "\(curve.last!)")
    let measured = try place.run(["evaluate", "checkpoints/first", "--sequences", "30", "--json"])
    #expect(measured.code == 0 && measured.output.contains("\"accuracy\": \(logged)}"), "\(measured.output) \(logged)")
  }

  @Test func `byte pairs are learned, sharded, mixed, trained on equally by one and two workers, and generated`()
    throws
  {
    let place = try Workplace()
    let text = (0..<3000).map { "the \(["cat", "dog", "bird"][$0 % 3]) sat by the window" }.joined(separator: ". ")
    try text.write(toFile: place.path + "/a.txt", atomically: true, encoding: .utf8)
    #expect(try place.run(["data", "tokenizer", "train", "a.txt", "--out", "t.json", "--vocabulary", "300"]).code == 0)
    let prepare = ["data", "prepare", "a.txt", "--tokenizer", "t.json", "--out"]
    #expect(try place.run(prepare + ["pairs", "--shards", "3"]).code == 0)
    #expect(try place.run(prepare + ["whole.h5"]).code == 0)
    let shown = try place.run(["data", "show", "pairs"])
    #expect(shown.code == 0 && shown.output.contains("pairs: 3 shards, complete; "), "\(shown.output)")

    let data = [
      "--set", "data.mixture={pairs: 1, whole.h5: 2}", "--set", "training.steps=40",
      "--set", "checkpoint.every=0",
    ]
    let trained = try place.run(["train", "run.yaml", "--workers", "2"] + data)
    #expect(trained.code == 0, "\(trained.output) \(trained.errors)")
    #expect(try place.run(["train", "run.yaml", "--set", "run=alone"] + data).code == 0)
    #expect(place.curve("first").count >= 40 && place.curve("first") == place.curve("alone"))

    let written = try place.run(["generate", "checkpoints/first", "--prompt", "the cat", "--tokens", "20"])
    #expect(written.code == 0 && written.output.count > 20, "\(written.output) \(written.errors)")
    try FileManager.default.removeItem(atPath: place.path + "/pairs/shard-00001-of-00003.h5")
    let missing = try place.run(["evaluate", "checkpoints/first"])
    #expect(missing.code == 1 && missing.errors.contains("shard-00001-of-00003.h5 missing"), "\(missing.errors)")
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
    #expect(waitUntil(5) { workers.allSatisfy { kill($0, 0) != 0 } })
  }

  @Test func `a worker of the command that dies is reported at once, restarted, and rejoins the run`() throws {
    let place = try Workplace()
    let run = try place.start(["train", "run.yaml", "--workers", "2"] + Self.endless)
    #expect(waitUntil(30) { run.output.contains("running: ") })
    let victim = try #require(run.family.last)
    kill(victim, SIGKILL)
    #expect(waitUntil(2) { run.output.contains("(pid \(victim)) was ended by signal 9") })
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
    #expect(again.code == 1 && again.output.contains("go on with --resume"))
    let resumed = try place.run(["train", "run.yaml", "--resume", "--json", "--set", "training.steps=6"])
    #expect(resumed.code == 0, "\(resumed.output)\(resumed.errors)")
    let lines = try resumed.output.split(separator: "\n").map {
      try #require(try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any])
    }
    #expect(lines.filter { $0["event"] as? String == "step" }.compactMap { $0["step"] as? Int } == [5, 6])
    #expect(lines.last?["state"] as? String == "finished")
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
    #expect(on.code == 0 && on.output.contains("going on after step 15"), "\(on.output)\(on.errors)")
    let evaluation = #""validation_loss""#
    #expect(place.curve("first").filter { !$0.contains(evaluation) } == curve.filter { !$0.contains(evaluation) })
  }

  @Test func `evaluating the sequences of training gives the loss that training logged`() throws {
    let place = try Workplace()
    #expect(try place.run(["train", "run.yaml", "--workers", "2", "--set", "training.steps=4"]).code == 0)
    let logged = try #require(place.curve("first").last?.firstMatch(of: /"validation_loss":([0-9.]+)/)).1
    let measured = try place.run(["evaluate", "checkpoints/first", "--sequences", "4", "--threads", "2", "--json"])
    #expect(measured.code == 0 && measured.output.contains("\"validation_loss\": \(logged),"), "\(measured.output)")
  }

  @Test func `a model is exported and imported unchanged, passes its proof, and continues training`() throws {
    let place = try Workplace()
    #expect(try place.run(["train", "run.yaml", "--set", "training.steps=4"]).code == 0)
    #expect(try place.run(["checkpoint", "export", "checkpoints/first", "--out", "m.safetensors"]).code == 0)
    let imported = try place.run(["checkpoint", "import", "m.safetensors", "--run", "second"])
    #expect(
      imported.code == 0 && imported.output.contains("largest difference 0.0 of the largest"), "\(imported.output)")
    func measured(_ run: String) throws -> Substring {
      let output = try place.run(["evaluate", "checkpoints/" + run, "--json"]).output
      return try #require(output.firstMatch(of: /"validation_loss".*/)).0
    }
    #expect(try measured("first") == measured("second"))
    let on = try place.run(["train", "run.yaml", "--resume", "--set", "run=second", "--set", "training.steps=4"])
    #expect(on.code == 0 && place.curve("second").count == 5, "\(on.output)")
    let again = try place.run(["checkpoint", "import", "m.safetensors", "--run", "second"])
    #expect(again.code == 1 && again.errors.contains("import under another name with --run"), "\(again.errors)")

    // A value of the model that was changed on the way is detected by the proof.
    let path = place.path + "/m.safetensors"
    var bytes = [UInt8](try Data(contentsOf: URL(filePath: path)))
    let first = 8 + (0..<8).reduce(0) { $0 | Int(bytes[$1]) << (8 * $1) }
    for place in first..<first + 400 { bytes[place] = place % 4 == 3 ? 0x40 : 0 }
    try Data(bytes).write(to: URL(filePath: path))
    let wrong = try place.run(["checkpoint", "import", "m.safetensors", "--run", "third"])
    #expect(wrong.code == 1 && wrong.errors.contains("logits differ from those of the file's proof"), "\(wrong.errors)")
  }

  @Test func `a seed always generates the same text, and another seed another`() throws {
    let place = try Workplace()
    #expect(try place.run(["train", "run.yaml", "--set", "training.steps=4"]).code == 0)
    func write(_ words: String...) throws -> String {
      let written = try place.run(["generate", "checkpoints/first", "--prompt", "sea", "--tokens", "60"] + words)
      #expect(written.code == 0 && written.output.hasPrefix("sea"))
      return written.output
    }
    #expect(try write() == write("--seed", "1", "--threads", "2"))
    #expect(try write() != write("--seed", "2"))
  }

  @Test func `a dataset is shown as it was prepared, and not replaced without --force`() throws {
    let place = try Workplace()
    let shown = try place.run(["data", "show", "text.h5"])
    #expect(shown.code == 0 && shown.output.contains("tokenizer byte, vocabulary 257"))
    let before = try Data(contentsOf: URL(filePath: place.path + "/text.h5"))
    let again = try place.run(["data", "prepare", "text.txt", "--out", "text.h5"])
    #expect(again.code == 2 && again.errors.contains("--force"))
    #expect(try Data(contentsOf: URL(filePath: place.path + "/text.h5")) == before)
    #expect(try place.run(["data", "prepare", "text.txt", "--out", "text.h5", "--force"]).code == 0)
  }

  @Test func `missing or empty text is an error that leaves no files`() throws {
    let place = try Workplace()
    let missing = try place.run(["data", "prepare", "none.txt", "--out", "new.h5"])
    #expect(missing.code == 1 && missing.errors.contains("none.txt: no such file or folder"))
    try Data().write(to: URL(filePath: place.path + "/empty.txt"))
    let empty = try place.run(["data", "prepare", "empty.txt", "--out", "new.h5"])
    #expect(empty.code == 1 && empty.errors.contains("no text in empty.txt"))
    let names = try FileManager.default.contentsOfDirectory(atPath: place.path)
    #expect(!names.contains { $0.hasPrefix("new.h5") })
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
}
