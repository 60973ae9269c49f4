// The completion script and the manual page.

import Foundation
import Shell
import Testing

@Suite struct `Completion and the manual page` {
  /// What bash would offer for the last of the words.
  private func offered(_ words: String...) throws -> [String] {
    let process = Process()
    process.executableURL = URL(filePath: "/bin/bash")
    process.arguments =
      [
        "--norc", "-c",
        Completion.bash(CommandTable.all)
          + "\nCOMP_WORDS=(ress \"$@\"); COMP_CWORD=$#; _ress; echo \"${COMPREPLY[@]}\"", "bash",
      ] + words
    let output = Pipe()
    process.standardOutput = output
    try process.run()
    let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    #expect(process.terminationStatus == 0)
    return text.split(whereSeparator: \.isWhitespace).map { String($0) }
  }

  @Test func `bash completes commands of several words, options and choices`() throws {
    #expect(try offered("chec") == ["checkpoint"])
    #expect(try offered("checkpoint", "ex") == ["export"])
    #expect(try offered("data", "tokenizer", "") == ["train", "show", "encode", "decode"])
    #expect(try offered("train", "--wor") == ["--workers"])
    #expect(try offered("submit", "c.yaml", "--on", "s") == ["slurm"])
    #expect(try offered("keys", "allow", "k", "--role", "") == ["worker", "read", "submit", "admin"])
  }

  @Test func `the manual page has every command and option, and no line that roff would obey by mistake`() {
    let page = ManualPage.text(CommandTable.all, version: "1")
    for command in CommandTable.all {
      #expect(page.contains(".SS ress \(command.name.replacing("-", with: "\\-"))"), "\(command.name)")
      for option in command.options {
        #expect(page.contains(".B \(option.name.replacing("-", with: "\\-"))"), "\(option.name)")
      }
    }
    let macros: Set<String> = [".TH", ".SH", ".SS", ".PP", ".TP", ".B", ".I", ".RS", ".RE", ".nf", ".fi"]
    for line in page.split(separator: "\n") where line.hasPrefix(".") || line.hasPrefix("'") {
      #expect(macros.contains(String(line.prefix { $0 != " " })), "\(line)")
    }
  }
}
