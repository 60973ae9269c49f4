// The commands in real use: data that are missing, too little or unsuited, and what is prepared from text.

import Foundation
import TestSupport
import Testing

#if canImport(Glibc)
  import Glibc
#endif

extension `Commands` {
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
}
