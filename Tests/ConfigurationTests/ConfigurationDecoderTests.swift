// A file in, a run or a list of mistakes out.

import Configuration
import Foundation
import Glibc
import Testing

@Suite struct `Decoding a configuration` {
  @Test func `every kind of value lands in its field`() throws {
    let configuration = try decode(
      """
      # A comment
      run: demo-2
      model: {width: 64, heads: 8, shared_expert: true, vocabulary: 300, smooth_weight: 1e-3}
      data:
        path: "data/my file.h5"   # another
      training:
        seed: 18446744073709551615
        bptt_segments: 2
        recompute: never
      optimizer:
        learning_rate: 0.5
        schedule: wsd
      """)
    #expect(configuration.run == "demo-2")
    #expect(configuration.model.width == 64)
    #expect(configuration.model.heads == 8)
    #expect(configuration.model.sharedExpert)
    #expect(configuration.model.vocabulary == 300)
    #expect(configuration.model.smoothWeight == 0.001)
    #expect(configuration.data.path == "data/my file.h5")
    #expect(configuration.training.seed == UInt64.max)
    #expect(configuration.training.bpttSegments == 2)
    #expect(configuration.training.recompute == .never)
    #expect(configuration.optimizer.learningRate == 0.5)
    #expect(configuration.optimizer.schedule == .wsd)
    #expect(configuration.model.steps == ModelConfiguration().steps)
  }

  @Test func `a section whose every line is commented out keeps its defaults`() throws {
    let configuration = try decode(minimal + "model:\n  # width: 64\noptimizer: {}\n")
    #expect(configuration.model == ModelConfiguration())
  }

  @Test(arguments: ["null", "~", ""])
  func `null gives an optional field its default meaning`(spelling: String) throws {
    let configuration = try decode(minimal + "model:\n  vocabulary: \(spelling)\n")
    #expect(configuration.model.vocabulary == nil)
  }

  @Test func `an unknown key names its place and the nearest known key`() {
    #expect(
      problems(minimal + "model:\n  width: 64\n  structre_rank: 3\n") == [
        "c.yaml:5:3: unknown key 'structre_rank' in 'model'; did you mean 'structure_rank'?"
      ])
  }

  @Test func `an unknown section names the nearest one`() {
    #expect(
      problems(minimal + "optimiser:\n  clip: 1\n") == [
        "c.yaml:3:1: unknown key 'optimiser'; did you mean 'optimizer'?"
      ])
  }

  @Test func `a key in the wrong section names the right one`() {
    #expect(
      problems(minimal + "width: 64\ncheckpoint:\n  run: x\n  steps: 3\n") == [
        "c.yaml:3:1: unknown key 'width'; it belongs under 'model'",
        "c.yaml:5:3: unknown key 'run' in 'checkpoint'; it belongs at the top of the file",
        "c.yaml:6:3: unknown key 'steps' in 'checkpoint'; it belongs under 'model' or under 'training'",
      ])
  }

  @Test func `a key like no other lists the known ones`() {
    #expect(
      problems(minimal + "  bananas: 3\n") == [
        "c.yaml:3:3: unknown key 'bananas' in 'data'; known keys: path, mixture, sequence_length, documents"
      ])
  }

  @Test(arguments: [
    ("width: abc", "expected a whole number, found 'abc'"),
    ("width: 6.5", "expected a whole number, found '6.5'"),
    ("width: 1e3", "expected a whole number, found '1e3'"),
    ("width: 0x40", "expected a whole number, found '0x40'"),
    ("width: 1_000", "expected a whole number, found '1_000'"),
    ("width:", "expected a whole number, found nothing"),
    ("width: \"64\"", "expected a whole number, found the quoted text '64'"),
    ("width: [64]", "expected a whole number from 1 to 65536, found a list"),
    ("width: {a: 1}", "expected a whole number from 1 to 65536, found keys and values"),
    ("width: 0", "'width' is 0, but must be a whole number from 1 to 65536"),
    ("width: -4", "'width' is -4, but must be a whole number from 1 to 65536"),
    ("width: 99999999999999999999", "'width' is 99999999999999999999, but must be a whole number from 1 to 65536"),
    ("shared_expert: yes", "expected true or false, found 'yes'"),
    ("smooth_weight: small", "expected a number, found 'small'"),
    ("smooth_weight: nan", "expected a number, found 'nan'"),
    ("smooth_weight: .inf", "expected a number, found '.inf'"),
    ("smooth_weight: 1e999", "'smooth_weight' is 1e999, but must be a number of at least 0"),
    ("smooth_weight: -1", "'smooth_weight' is -1, but must be a number of at least 0"),
    ("keys: 0", "'keys' is 0, but must be a whole number from 1 to 1048576, or null"),
    ("window: 0", "'window' is 0, but must be a whole number from 1 to 1048576"),
    ("segment: 0", "'segment' is 0, but must be a whole number from 1 to 1048576"),
    ("steps: 0", "'steps' is 0, but must be a whole number from 1 to 256"),
  ])
  func `the error for a wrong value names what was expected and what was found`(line: String, message: String) {
    let reported = problems(minimal + "model:\n  \(line)\n")
    #expect(reported.count == 1)
    #expect(reported.first?.hasPrefix("c.yaml:4:") == true)
    #expect(reported.first?.hasSuffix(": " + message) == true, "\(reported)")
  }

  @Test func `bounds that are not part of a range are refused, and those that are taken`() throws {
    #expect(
      problems(minimal + "optimizer: {beta1: 1}") == [
        "c.yaml:3:20: 'beta1' is 1, but must be a number of at least 0 and below 1"
      ])
    #expect(
      problems(minimal + "optimizer: {epsilon: 0}") == ["c.yaml:3:22: 'epsilon' is 0, but must be a number above 0"])
    #expect(try decode(minimal + "optimizer: {beta1: 0, final_fraction: 1}").optimizer.finalFraction == 1)
  }

  @Test func `a choice that does not exist lists those that do`() {
    #expect(
      problems(minimal + "optimizer:\n  schedule: cosin\n") == [
        "c.yaml:4:13: expected one of cosine, wsd, constant, found 'cosin'; did you mean 'cosine'?"
      ])
  }

  @Test func `a key given twice names both lines`() {
    #expect(
      problems(minimal + "model:\n  width: 64\n  heads: 4\n  width: 32\n") == [
        "c.yaml:6:3: duplicate key 'width' in 'model'; it is already on line 4"
      ])
    #expect(
      problems(minimal + "data:\n  path: b\n") == [
        "c.yaml:3:1: duplicate key 'data' in the file; it is already on line 1"
      ])
  }

  @Test func `several mistakes are reported at once, in the order of the file`() {
    let reported = problems("data:\n  path: x\n  pth: y\nmodel:\n  width: abc\n  heads: 0\n  width: 3\noptimzer: 3\n")
    #expect(reported.map { $0.prefix(10) } == ["c.yaml:3:3", "c.yaml:5:1", "c.yaml:6:1", "c.yaml:7:3", "c.yaml:8:1"])
  }

  @Test(arguments: [
    ("a/b", "use only letters, digits"), ("../x", "begins with '.'"), (".hidden", "begins with '.'"),
    ("-x", "begins with '-'"),
    ("\"\"", "is empty"), ("my run", "use only letters, digits"), ("naïve", "use only letters, digits"),
    (String(repeating: "a", count: 101), "longer than 100"),
  ])
  func `a run's name must be safe as a folder`(name: String, reason: String) {
    let reported = problems("run: \(name)\n" + minimal)
    #expect(reported.count == 1)
    #expect(reported.first?.contains("cannot name a folder") == true)
    #expect(reported.first?.contains(reason) == true, "\(reported)")
  }

  @Test func `a file that is a list or a word is not a configuration`() {
    #expect(problems("- a\n") == ["c.yaml:1:1: expected a configuration, such as 'model:', found a list"])
    #expect(problems(minimal + "model: big\n") == ["c.yaml:3:8: expected keys and values below 'model', found 'big'"])
  }

  @Test func `an empty file lacks its dataset`() {
    #expect(
      problems("# nothing\n") == [
        "c.yaml: no dataset is given; set 'path' under 'data' to a file that `ress data prepare` wrote"
      ])
  }

  @Test func `a file that does not exist, a folder and a file without permission are different errors`() throws {
    func message(_ path: String) -> String {
      do {
        return "\(try ConfigurationDecoder.decode(file: path))"
      } catch {
        return error.description
      }
    }
    #expect(message("/nowhere/x.yaml") == "/nowhere/x.yaml: no such file; configs/ in the repository has examples")
    #expect(message("/tmp") == "/tmp: a folder, and a configuration is a file")

    let path = "/tmp/ress-configuration-\(getpid()).yaml"
    let file = try #require(fopen(path, "w"))
    defer { unlink(path) }
    fputs(minimal + "model:\n  widht: 3\n", file)
    fclose(file)
    #expect(message(path) == "\(path):4:3: unknown key 'widht' in 'model'; did you mean 'width'?")
  }

  @Test func `a mixture is keys with weights, in lines or in one`() throws {
    let parts = [WeightedPath(path: "a.h5", weight: 3), WeightedPath(path: "my b.h5", weight: 0.5)]
    #expect(try decode("data:\n  mixture:\n    a.h5: 3\n    my b.h5: 0.5\n").data.mixture == parts)
    #expect(try decode("", ["data.mixture={a.h5: 3, \"my b.h5\": 0.5}"]).data.mixture == parts)
    var configuration = RunConfiguration()
    configuration.data.mixture = parts
    #expect(try decode(ConfigurationEncoder.yaml(configuration)).data == configuration.data)
    // Options name other data instead of the file's.
    #expect(try decode(minimal, ["data.mixture={a.h5: 3, my b.h5: 0.5}"]).data.mixture == parts)
    #expect(try decode("data:\n  mixture: {a.h5: 1}\n", ["data.path=b.h5"]).data.mixture == [])
  }

  @Test func `invalid weights are refused with their location`() {
    #expect(
      problems("data:\n  mixture: {a.h5: -1}\n")[0]
        == "c.yaml:2:12: the weight of 'a.h5' must be a number above 0")
    #expect(
      problems("data:\n  mixture: [a.h5]\n")[0]
        == "c.yaml:2:12: expected datasets with weights, such as {a.h5: 3, b.h5: 1}, found a list")
    #expect(problems("data:\n  mixture: {a.h5: 1, a.h5: 2}\n")[0] == "c.yaml:2:12: 'a.h5' is named twice")
    #expect(problems("data:\n  mixture: a.h5\n")[0].hasPrefix("c.yaml:2:12: expected datasets with weights"))
    #expect(
      problems("data:\n  path: x\n  mixture: {a.h5: 1}\n") == [
        "c.yaml:3:12: 'path' and 'mixture' are both given; leave one of them out"
      ])
  }

  @Test func `every configuration in the repository is valid`() throws {
    let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent().appending(path: "configs")
    let files = try #require(FileManager.default.enumerator(atPath: root.path())).compactMap { $0 as? String }
      .filter { $0.hasSuffix(".yaml") }
    #expect(files.count >= 14)
    for file in files { _ = try ConfigurationDecoder.decode(file: root.appending(path: file).path()) }
  }
}
