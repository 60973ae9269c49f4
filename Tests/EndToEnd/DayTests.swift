// A day's work with the program: a run, another one that begins with its best weights, and questions to the model.

import Foundation
import TestSupport
import Testing

@Suite(.serialized) struct DayTests {
  private func lines(_ text: String) throws -> [[String: Any]] {
    try text.split(separator: "\n").map {
      try #require(try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any])
    }
  }

  @Test
  func
    `a run is fine-tuned from another's best checkpoint, with frozen parts and a command at its end, and its model answers questions`()
    throws
  {
    let place = try Workplace()
    let short = ["--set", "training.steps=6", "--set", "training.evaluate_every=2", "--set", "checkpoint.every=0"]
    let base = try place.run(
      ["train", "run.yaml", "--set", "checkpoint.keep_best=1", "--set", "checkpoint.keep=1"] + short)
    #expect(base.code == 0, "\(base.output)\(base.errors)")
    let best = try FileManager.default.destinationOfSymbolicLink(atPath: place.path + "/checkpoints/first/best")

    let tune =
      ["train", "run.yaml", "--from", "checkpoints/first/best", "--set", "run=tuned", "--workers", "2"] + short + [
        "--set", "training.freeze=[embed, experts]", "--set",
        "cluster.on_end=printf '%s %s: %s' \"$RUN\" \"$STATE\" \"$REASON\" > told.txt",
      ]
    let tuned = try place.run(tune)
    #expect(tuned.code == 0, "\(tuned.output)\(tuned.errors)")
    #expect(
      tuned.output.contains("it begins with the weights of ")
        && tuned.output.contains("/checkpoints/first/\(best) (run first"))
    // Two processes of one command end in order: the command's child was waited for.
    #expect(
      try String(contentsOfFile: place.path + "/told.txt", encoding: .utf8) == "tuned finished: all 6 steps are done")
    let manifest = try lines(try place.run(["checkpoint", "show", "checkpoints/tuned", "--json"]).output)[0]
    let from = try #require(manifest["from"] as? [String: Any])
    #expect(from["run"] as? String == "first" && (from["sha256"] as? String)?.count == 64)
    #expect(manifest["validation_loss"] is Double)

    // The same mistake of size and the same unknown part are found before anything starts.
    let wide = try place.run(tune + ["--set", "run=wide", "--set", "model.expert_width=40"])
    #expect(wide.code == 1 && wide.errors.contains("model.expert_width is "), "\(wide.errors)")
    let unknown = try place.run(tune + ["--set", "run=wide", "--set", "training.freeze=[embedding]"])
    #expect(unknown.code == 1 && unknown.errors.contains("names 'embedding'"), "\(unknown.errors)")
    #expect(!FileManager.default.fileExists(atPath: place.path + "/checkpoints/wide"))

    try #"{"prompt": "the sea", "id": "a"}\#n{"prompt": "", "tokens": 3, "seed": 7}\#n"#.write(
      toFile: place.path + "/prompts.jsonl", atomically: true, encoding: .utf8)
    let written = try place.run(
      ["generate", "checkpoints/tuned", "--prompts", "prompts.jsonl", "--tokens", "9", "--out", "texts.jsonl"])
    #expect(written.code == 0 && written.output.isEmpty, "\(written.errors)")
    let texts = try lines(try String(contentsOfFile: place.path + "/texts.jsonl", encoding: .utf8))
    #expect(texts.map { $0["tokens"] as? Int } == [9, 3] && texts.map { $0["seed"] as? Int } == [1, 7])
    #expect(texts[0]["id"] as? String == "a" && texts[0]["stop"] is NSNull)
    let alone = try place.run(["generate", "checkpoints/tuned", "--prompt", "the sea", "--tokens", "9"])
    #expect(alone.output == "the sea" + (texts[0]["text"] as! String) + "\n")

    try #"{"text": "the sea and the shore", "id": 5}\#n"#.write(
      toFile: place.path + "/rows.jsonl", atomically: true, encoding: .utf8)
    let answers = try lines(try place.run(["predict", "checkpoints/tuned", "rows.jsonl"]).output)
    #expect(answers.count == 1 && answers[0]["id"] as? Int == 5 && answers[0]["tokens"] as? Int == 21)
    let twice = try place.run(["evaluate", "checkpoints/tuned", "--json", "--data", "text.h5", "--data", "text.h5"])
    let losses = try lines(twice.output).map { $0["validation_loss"] as? Double }
    #expect(losses.count == 2 && losses[0] == losses[1] && losses[0] != nil, "\(twice.errors)")
  }
}
