// Words to commands, and the hints that a slip of the finger gets.

import Shell
import Testing

@Suite struct `The command line` {
  @Test func `options may stand before, between and after the words`() throws {
    for words in [
      ["train", "c.yaml", "--workers", "2", "--json"], ["train", "--workers=2", "c.yaml", "--json"],
      ["train", "--json", "--workers", "2", "c.yaml"], ["train", "--json", "--workers", "2", "--", "c.yaml"],
    ] {
      let options = try train(words)
      #expect(options.configuration == "c.yaml")
      #expect(options.submission.workers == 2)
      #expect(options.json)
      #expect(options.submission.threads == nil)
      #expect(options.submission.resume == nil)
    }
  }

  @Test func `an option that repeats keeps its order, and others may not repeat`() throws {
    #expect(
      try train(["train", "c", "--set", "a.b=1", "--set=c.d=2=3"]).submission.set.map(\.setting)
        == ["a.b=1", "c.d=2=3"])
    #expect(complaint(["train", "c", "--workers", "1", "--workers", "2"]) == "--workers is given twice")
  }

  @Test func `an option of its own replaces the key that --set names`() throws {
    let options = try train(["train", "c", "--workers", "3", "--from", "a", "--profile", "--set", "cluster.workers=2"])
    #expect(
      options.submission.overrides.map(\.setting) == [
        "cluster.workers=2", "cluster.workers=3", "model.from=a", "cluster.profile_steps=20",
      ])
    #expect(options.submission.overrides.map(\.spelling).prefix(2) == ["--set cluster.workers=2", "--workers 3"])
  }

  @Test func `resume may name a checkpoint or none`() throws {
    #expect(try train(["train", "c.yaml", "--resume"]).submission.resume == "")
    #expect(try train(["train", "c.yaml", "--resume", "checkpoints/a"]).submission.resume == "checkpoints/a")
    #expect(try train(["train", "c.yaml", "--resume", "--json"]).submission.resume == "")
    #expect(try train(["train", "--resume=checkpoints/a", "c.yaml"]).submission.resume == "checkpoints/a")
    let early = try train(["train", "--resume", "c.yaml"])
    #expect(early.submission.resume == "")
    #expect(early.configuration == "c.yaml")
  }

  @Test func `two words make a command`() throws {
    guard
      case .dataPrepare(let options) = try run(["data", "prepare", "a", "b", "--out", "d.h5", "--validation", "0.1"])
    else {
      Issue.record("another command")
      return
    }
    #expect(options.sources == ["a", "b"])
    #expect(options.validationShare == 0.1)
  }

  @Test func `an option that is absent has the default that help shows`() throws {
    guard case .generate(let options) = try run(["generate", "c"]) else {
      Issue.record("another command")
      return
    }
    #expect(options.tokens == 400)
    #expect(options.temperature == 0.8)
    #expect(options.seed == 1)
    guard case .submit(let submission) = try run(["submit", "c"]) else {
      Issue.record("another command")
      return
    }
    #expect(submission.place == .coordinator)
    #expect(submission.coordinator == CommandTable.standardAddress)
  }

  @Test func `a sweep with a coordinator is trained by it`() throws {
    let line = ["sweep", "c", "--over", "a.b=1,2"]
    let places: [[String]: SweepOptions.Place] = [
      []: .here, ["--coordinator", "tcp://a:1"]: .coordinator, ["--on", "slurm", "--coordinator", "tcp://a:1"]: .slurm,
    ]
    for (words, place) in places {
      guard case .sweep(let options) = try run(line + words) else {
        Issue.record("another command")
        return
      }
      #expect(options.place == place)
    }
  }

  @Test(arguments: [
    (["tarin"], "unknown command 'tarin'; did you mean 'train'?\nTry 'ress help'."),
    (["banana"], "unknown command 'banana'\nTry 'ress help'."),
    (["--json", "train"], "options come after the command, but '--json' comes first\nTry 'ress help'."),
    (["data"], "'data' needs one of: prepare, show, tokenizer\nTry 'ress data --help'."),
    (["data", "prep"], "unknown command 'data prep'; did you mean 'prepare'?\nTry 'ress data --help'."),
    (["data", "prepar"], "unknown command 'data prepar'; did you mean 'prepare'?\nTry 'ress data --help'."),
    (["train"], "CONFIG is missing: A run's configuration, such as configs/demo.yaml.\nTry 'ress train --help'."),
    (["train", "a", "b"], "'b' is one word too many\nTry 'ress train --help'."),
    (
      ["train", "a", "--wokers", "2"],
      "unknown option '--wokers' of 'train'; did you mean '--workers'?\nTry 'ress train --help'."
    ),
    (["train", "a", "-j"], "unknown option '-j' of 'train'\nTry 'ress train --help'."),
    (
      ["coordinator", "--store", ""],
      "--store needs a value, but it is empty: --store FILE\nTry 'ress coordinator --help'."
    ),
    (
      ["runs", "--coordinator="],
      "--coordinator needs a value, but it is empty: --coordinator ADDRESS\nTry 'ress runs --help'."
    ),
    (["train", "a", "--workers"], "--workers needs a value: --workers N\nTry 'ress train --help'."),
    (["train", "a", "--workers", "--json"], "--workers needs a value: --workers N\nTry 'ress train --help'."),
    (
      ["train", "a", "--workers", "two"],
      "--workers must be a whole number from 1 to 4096, not 'two'\nTry 'ress train --help'."
    ),
    (
      ["train", "a", "--workers", "-1"],
      "--workers must be a whole number from 1 to 4096, not '-1'\nTry 'ress train --help'."
    ),
    (["train", "a", "--json=yes"], "--json takes no value\nTry 'ress train --help'."),
    (["train", "a", "--resume="], "--resume= needs a value after the '='\nTry 'ress train --help'."),
    (
      ["generate", "c", "--top-p", "1.5"],
      "--top-p must be a number from 0 to 1, not '1.5'\nTry 'ress generate --help'."
    ),
    (
      ["generate", "c", "--top-p", "nan"],
      "--top-p must be a number from 0 to 1, not 'nan'\nTry 'ress generate --help'."
    ),
    (
      ["data", "prepare", "a", "--out", "b", "--split-by", "rang"],
      "--split-by must be one of range, documents, not 'rang'; did you mean 'range'?\nTry 'ress data prepare --help'."
    ),
    (["data", "prepare", "a"], "--out D.h5 is missing: The dataset to write.\nTry 'ress data prepare --help'."),
  ])
  func `an error of use names the problem and the page of help`(words: [String], message: String) {
    #expect(throws: UsageError.self) { try ArgumentParser().parse(words) }
    do throws(UsageError) {
      _ = try ArgumentParser().parse(words)
    } catch {
      #expect(error.description == message)
    }
  }

  @Test func `a table in a discussion keeps its lines, in help and in the manual page`() {
    let row = "  multiple_choice   choice (its index), text, and the probabilities of the choices"
    #expect(HelpPage.command(.predict).contains("\n\(row)\n"))
    let page = ManualPage.text([.predict], version: "1")
    #expect(page.contains("\n.nf\n") && page.contains("\n\(row)\n"))
  }

  @Test(arguments: CommandTable.all.map(\.name))
  func `no option is explained with the same sentence twice`(name: String) throws {
    let command = try #require(CommandTable.all.first { $0.name == name })
    for option in command.options {
      #expect(!option.repeats || !option.meaning.lowercased().contains("several times"), "\(option.name)")
    }
  }

  @Test func `a command line without words lists the commands`() {
    #expect(
      complaint([])?.hasPrefix("no command is given; the commands are: train, coordinator, worker, submit,") == true)
  }

  @Test(arguments: [["--version"], ["version"]])
  func `the version can be asked for`(words: [String]) throws {
    guard case .version = try ArgumentParser().parse(words) else {
      Issue.record("not understood as a question for the version")
      return
    }
  }

  private func run(_ words: [String]) throws -> Command {
    guard case .run(let command, _) = try ArgumentParser().parse(words) else {
      throw UsageError("not a command to run")
    }
    return command
  }

  private func train(_ words: [String]) throws -> TrainOptions {
    guard case .train(let options) = try run(words) else { throw UsageError("not a command that trains") }
    return options
  }

  private func complaint(_ words: [String]) -> String? {
    do throws(UsageError) {
      _ = try ArgumentParser().parse(words)
      return nil
    } catch {
      return error.message
    }
  }
}

@Suite struct `Help` {
  @Test(arguments: CommandTable.all.map(\.name))
  func `every command has a page with usage, options, defaults and two examples`(name: String) throws {
    let page = try help(name.split(separator: " ").map(String.init) + ["--help"])
    let command = try #require(CommandTable.all.first { $0.name == name })
    #expect(page.hasPrefix("Usage: ress \(name)"))
    for option in command.options {
      #expect(page.contains("\n  \(option.name)"))
      if let text = option.defaultText { #expect(joined(page).contains("Default: \(text).")) }
    }
    #expect(command.examples.count >= 2)
    #expect(
      page.split(separator: "\n").allSatisfy { $0.count <= 96 || $0.contains("ress \(name) ") }, "a line is too long")
    #expect(try help(["help"] + name.split(separator: " ").map(String.init)) == page)
  }

  @Test func `examples of help parse as the commands that they show`() throws {
    for command in CommandTable.all {
      for example in command.examples {
        // Up to a pipe or a redirection, and quotes as a shell takes them.
        let line = String(example.command.prefix { !"|<>".contains($0) })
        let words = line.replacing(/'[^']*'/, with: "quoted").split(separator: " ").map(String.init)
        #expect(words.first == "ress")
        guard case .run(_, let description) = try ArgumentParser().parse(Array(words.dropFirst())) else {
          Issue.record("\(example.command) runs nothing")
          continue
        }
        #expect(description.name == command.name)
      }
    }
  }

  @Test func `the overview names every command and the exit codes`() throws {
    let page = try help(["help"])
    for command in CommandTable.all { #expect(page.contains("\n  \(command.name) ")) }
    #expect(page.contains("0 done, 1 failed, 2 wrong use, 3 the run cannot be placed"))
    #expect(try help(["--help"]) == page)
  }

  @Test func `a group's help lists its commands`() throws {
    let page = try help(["data", "--help"])
    #expect(page.contains("data prepare"))
    #expect(page.contains("data show"))
    #expect(try help(["help", "data"]) == page)
  }

  private func help(_ words: [String]) throws -> String {
    guard case .help(let page) = try ArgumentParser().parse(words) else { throw UsageError("no help") }
    return page
  }

  private func joined(_ page: String) -> String { page.split(whereSeparator: \.isWhitespace).joined(separator: " ") }
}
