// The commands in real use: models of other kinds and tasks, and what is done with a trained model.

import Foundation
import TestSupport
import Testing

#if canImport(Glibc)
  import Glibc
#endif

extension `Commands` {
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

  @Test func `a model whose steps share the block or the experts is evaluated with another number of steps`() throws {
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
    #expect(refused.code == 1 && refused.errors.contains("2 blocks with experts of their own"), "\(refused.errors)")
    let pool = ["--set", "model.separate_blocks=true", "--set", "model.pool_experts=true", "--set", "run=pool"]
    #expect(try place.run(["train", "run.yaml"] + short + pool).code == 0)
    let pooled = try place.run(["evaluate", "checkpoints/pool", "--recurrence", "5"])
    #expect(pooled.code == 0, "\(pooled.errors)")
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
}
