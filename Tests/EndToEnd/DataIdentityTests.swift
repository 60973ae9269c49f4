// Runs, evaluations and imports that meet another dataset or tokenizer than the model's.

import Configuration
import Foundation
import Testing

#if canImport(Glibc)
  import Glibc
#endif

@Suite(.serialized) struct `Another dataset` {
  private func prepare(_ place: Workplace, _ name: String, _ text: String, _ words: [String] = []) throws {
    try text.write(toFile: place.path + "/\(name).txt", atomically: true, encoding: .utf8)
    let prepared = try place.run(["data", "prepare", "\(name).txt", "--out", "\(name).h5", "--force"] + words)
    #expect(prepared.code == 0, "\(prepared.errors)")
  }

  private func replace(_ place: Workplace, with name: String) throws {
    try? FileManager.default.removeItem(atPath: place.path + "/text.h5")
    try FileManager.default.copyItem(atPath: place.path + "/\(name).h5", toPath: place.path + "/text.h5")
  }

  private func train(_ place: Workplace, _ steps: Int, _ words: String...) throws -> Finished {
    try place.run(["train", "run.yaml", "--set", "training.steps=\(steps)"] + words)
  }

  private static let other = String(repeating: "another text of other words entirely ", count: 1200)

  @Test func `a run continues with its checkpoint's dataset, and with another one only on request`()
    throws
  {
    let place = try Workplace()
    try prepare(place, "other", Self.other)
    #expect(try train(place, 10).code == 0)
    let before = try Data(contentsOf: URL(filePath: place.path + "/text.h5"))
    let manifest = try String(contentsOfFile: place.files("first", step: 10) + "/manifest.json", encoding: .utf8)
    #expect(manifest.contains("\"dataset\" : \"sha256:"))
    try replace(place, with: "other")
    let refused = try train(place, 20, "--resume")
    #expect(refused.code == 1 && place.curve("first").count == 11, "\(refused.output)")
    #expect((refused.output + refused.errors).contains("is another dataset than the run was trained on"))
    // The same dataset at the same path, prepared again.
    try before.write(to: URL(filePath: place.path + "/text.h5"))
    #expect(try train(place, 12, "--resume").code == 0)
    try replace(place, with: "other")
    let asked = try train(place, 20, "--resume", "--other-data")
    #expect(asked.code == 0, "\(asked.output)\(asked.errors)")
    // From then on it is the run's dataset.
    #expect(try train(place, 22, "--resume").code == 0)
  }

  @Test func `a model is neither evaluated nor trained with tokens of another tokenizer`() throws {
    let place = try Workplace()
    // A tokenizer with as many tokens as bytes have, but other ones.
    let learned = try place.run(["data", "tokenizer", "train", "text.txt", "--out", "t.json", "--vocabulary", "257"])
    #expect(learned.code == 0, "\(learned.errors)")
    try prepare(place, "other", Self.other, ["--tokenizer", "t.json"])
    #expect(try train(place, 10).code == 0)
    let measured = try place.run(["evaluate", "checkpoints/first", "--data", "other.h5"])
    #expect(measured.code == 1 && measured.output.isEmpty)
    #expect(
      measured.errors.contains("have different tokenizers (byte; byte pairs (0 merges, pattern of gpt2))"),
      "\(measured.errors)")
    try replace(place, with: "other")
    for words in [[], ["--other-data"]] {
      let refused = try place.run(["train", "run.yaml", "--set", "training.steps=20", "--resume"] + words)
      #expect(
        refused.code == 1
          && (refused.output + refused.errors).contains("is another tokenizer than the run was trained on"))
    }
    // A checkpoint of a program that stored no digest: the run's own tokenizer decides.
    #expect(try train(place, 10, "--set", "run=pairs").code == 0)
    let path = place.path + "/checkpoints/pairs/tokenizer.json"
    let text = try String(contentsOfFile: path, encoding: .utf8)
    let manifest = place.files("pairs", step: 10) + "/manifest.json"
    var fields = try #require(
      JSONSerialization.jsonObject(with: Data(contentsOf: URL(filePath: manifest))) as? [String: Any])
    #expect(fields.removeValue(forKey: "data") != nil)
    try JSONSerialization.data(withJSONObject: fields).write(to: URL(filePath: manifest))
    // SHA256SUMS agrees with the changed files.
    let sums = Process()
    sums.executableURL = URL(filePath: "/bin/sh")
    sums.arguments = [
      "-c", "grep -v manifest.json SHA256SUMS >sums; sha256sum manifest.json >>sums; mv sums SHA256SUMS",
    ]
    sums.currentDirectoryURL = URL(filePath: place.files("pairs", step: 10))
    try sums.run()
    sums.waitUntilExit()
    #expect(sums.terminationStatus == 0)
    try text.replacing("<|endoftext|>", with: "<|endofother|>").write(toFile: path, atomically: true, encoding: .utf8)
    let old = try place.run(["train", "run.yaml", "--set", "training.steps=12", "--resume", "--set", "run=pairs"])
    #expect(
      old.code == 1 && (old.output + old.errors).contains("have different tokenizers"), "\(old.output)\(old.errors)")
  }

  @Test func `a worker with another dataset at the run's path is excluded by name, and the others continue`() throws {
    let place = try Workplace()
    try prepare(place, "other", Self.other)
    let elsewhere = place.path + "/elsewhere"
    try FileManager.default.createDirectory(atPath: elsewhere, withIntermediateDirectories: true)
    try FileManager.default.copyItem(atPath: place.path + "/other.h5", toPath: elsewhere + "/text.h5")
    let address = "ipc://\(place.path)/c"
    let coordinator = try place.start(["coordinator", "--listen", address])
    let first = try place.start(["worker", "--coordinator", address, "--name", "w1", "--threads", "1"])
    #expect(waitUntil(60) { coordinator.output.contains("worker w1 ") })
    let second = try Running(["worker", "--coordinator", address, "--name", "w2", "--threads", "1"], folder: elsewhere)
    #expect(waitUntil(60) { coordinator.output.contains("worker w2 ") })
    // Each process has a folder of its own.
    let finished = try place.run([
      "train", "run.yaml", "--coordinator", address, "--set", "data.path=/proc/self/cwd/text.h5", "--set",
      "training.steps=10",
      "--set", "cluster.workers=2", "--set", "cluster.minimum_workers=1",
    ])
    #expect(finished.code == 0, "\(finished.output)\(finished.errors)\(first.output)")
    #expect(
      (finished.output + coordinator.output).contains("finds another dataset at /proc/self/cwd/text.h5"),
      "\(finished.output)")
    #expect(second.output.contains("is another dataset than the run reads") || second.output.contains("stopped"))
    #expect(place.curve("first").count == 11)
  }

  // MARK: Import

  /// The header of a safetensors file, and its values as little-endian F32.
  private func parts(_ path: String) throws -> (header: [String: Any], numbers: [UInt8]) {
    let bytes = [UInt8](try Data(contentsOf: URL(filePath: path)))
    let length = (0..<8).reduce(0) { $0 | Int(bytes[$1]) << (8 * $1) }
    let header = try #require(JSONSerialization.jsonObject(with: Data(bytes[8..<8 + length])) as? [String: Any])
    return (header, Array(bytes[(8 + length)...]))
  }

  private func write(_ header: [String: Any], _ numbers: [UInt8], to path: String) throws {
    let text = try JSONSerialization.data(withJSONObject: header)
    let length = withUnsafeBytes(of: UInt64(text.count).littleEndian) { Array($0) }
    try (Data(length) + text + Data(numbers)).write(to: URL(filePath: path))
  }

  @Test
  func `a refused import leaves no files, a rounded copy needs consent, and a file chooses no folder`()
    throws
  {
    let place = try Workplace()
    #expect(try train(place, 4, "--set", "checkpoint.directory=\(place.path)/elsewhere").code == 0)
    #expect(try place.run(["checkpoint", "export", "elsewhere/first", "--out", "m.safetensors"]).code == 0)
    let (header, numbers) = try parts(place.path + "/m.safetensors")
    // A model with other values.
    var damaged = numbers
    for place in 0..<400 { damaged[place] = place % 4 == 3 ? 0x40 : 0 }
    try write(header, damaged, to: place.path + "/bad.safetensors")
    let bad = try place.run(["checkpoint", "import", "bad.safetensors", "--run", "second"])
    #expect(bad.code == 1 && bad.errors.contains("logits differ from those of the file's proof"), "\(bad.errors)")
    #expect(
      bad.errors.contains("nothing was written")
        && !FileManager.default.fileExists(atPath: place.path + "/checkpoints/second"))

    // A copy in BF16: the upper half of each value.
    var rounded = header
    for (name, value) in header where name != "__metadata__" {
      var tensor = try #require(value as? [String: Any])
      let offsets = try #require(tensor["data_offsets"] as? [Int])
      (tensor["dtype"], tensor["data_offsets"]) = ("BF16", offsets.map { $0 / 2 })
      rounded[name] = tensor
    }
    let halves = stride(from: 0, to: numbers.count, by: 4).flatMap { numbers[$0 + 2..<$0 + 4] }
    try write(rounded, halves, to: place.path + "/half.safetensors")
    let half = try place.run(["checkpoint", "import", "half.safetensors", "--run", "second"])
    #expect(half.code == 1, "\(half.output)")
    let tolerance = try #require(
      half.errors.firstMatch(of: /if that is intended, use --tolerance ([0-9.e-]+)/), "\(half.errors)"
    ).1
    let meant = try place.run([
      "checkpoint", "import", "half.safetensors", "--run", "half", "--tolerance", String(tolerance),
    ])
    #expect(meant.code == 0, "\(meant.errors)")

    // The correct import, in this machine's folder and not in the one that the file names.
    let right = try place.run(["checkpoint", "import", "m.safetensors", "--run", "second"])
    #expect(
      right.code == 0 && right.output.hasPrefix("checkpoints/second/step-00000000: "), "\(right.output)\(right.errors)")
    #expect(try FileManager.default.contentsOfDirectory(atPath: place.path + "/elsewhere") == ["first"])
    #expect(
      try FileManager.default.contentsOfDirectory(atPath: place.path + "/checkpoints/second") == ["step-00000000"])
    for run in ["../evil", "/evil", "a/b"] {
      let evil = try place.run(["checkpoint", "import", "m.safetensors", "--run", run])
      #expect(evil.code != 0 && evil.output.isEmpty)
    }
    let named = try place.run(["checkpoint", "import", "m.safetensors", "--run", "third", "--directory", "mine"])
    #expect(named.code == 0 && FileManager.default.fileExists(atPath: place.path + "/mine/third/step-00000000"))
  }
}
