// `--set`, read by the same decoder as the file.

import Configuration
import Testing

@Suite struct `Options over a file` {
  @Test func `an option replaces a key, and the last of a key wins`() throws {
    let configuration = try decode(
      minimal + "model: {width: 64}\n",
      ["model.width=128", "model.width=256", "run=b", "model.vocabulary=null", "data.path=a=b.h5"])
    #expect(configuration.model.width == 256)
    #expect(configuration.run == "b")
    #expect(configuration.model.vocabulary == nil)
    #expect(configuration.data.path == "a=b.h5")
  }

  @Test func `an option can give what the file lacks`() throws {
    #expect(try decode("", ["data.path=x"]).data.path == "x")
  }

  @Test(arguments: [
    ("model.widht=64", "unknown key 'widht' in 'model'; did you mean 'width'?"),
    ("width=64", "unknown key 'width'; did you mean 'model.width'?"),
    ("steps=64", "unknown key 'steps'; did you mean 'model.steps' or 'training.steps'?"),
    ("modl.width=64", "unknown key 'modl.width'; did you mean 'model.width'?"),
    ("model.width=abc", "expected a whole number, found 'abc'"),
    ("model.width=", "expected a whole number, found nothing"),
    ("model.width=0", "'width' is 0, but must be a whole number from 1 to 65536"),
    (
      "cluster.teams=aut", "expected auto, or a whole number from 1 to 4096, found 'aut'; did you mean 'auto'?"
    ),
    ("cluster.teams=0", "'teams' is 0, but must be auto, or a whole number from 1 to 4096"),
    ("cluster.team=2", "unknown key 'team' in 'cluster'; did you mean 'teams'?"),
    ("model.width", "expected KEY=VALUE, such as model.width=64"),
    ("model={}", "unknown key 'model'"),
  ])
  func `a mistake in an option names the option`(option: String, message: String) {
    let reported = problems(minimal, [option])
    #expect(reported.count == 1)
    #expect(reported.first?.hasPrefix("--set \(option): \(message)") == true, "\(reported)")
  }

  @Test func `a number that the program may choose is written as auto`() throws {
    #expect(try decode(minimal, ["cluster.teams=3", "cluster.teams=auto"]).cluster.teams == 0)
    let fixed = try decode(minimal, ["cluster.teams=3"])
    #expect(fixed.cluster.teams == 3)
    for configuration in [fixed, try decode(minimal)] {
      let text = ConfigurationEncoder.yaml(configuration)
      #expect(text.contains(configuration.cluster.teams == 0 ? "teams: auto" : "teams: 3"))
      #expect(try decode(text) == configuration)
    }
  }

  @Test func `an option with a name of its own is called by it`() {
    let workers = ConfigurationOverride(option: "--workers", path: "cluster.workers", value: "9")
    #expect(throws: ConfigurationError.self) {
      try ConfigurationDecoder.decode(text: minimal, name: "c.yaml", overrides: [workers])
    }
    do throws(ConfigurationError) {
      _ = try ConfigurationDecoder.decode(text: minimal, name: "c.yaml", overrides: [workers])
    } catch {
      #expect(error.description.hasPrefix("--workers 9: 9 workers have only 8 units"))
    }
  }
}
