// Plays Tests/Scenarios/*.txt. With RESS_REWRITE=1 the expected lines are written anew instead of compared; read the
// difference before you commit it.

import Foundation
import Testing

@Suite struct ScenarioTests {
  private static let folder = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../Scenarios")

  static let names: [String] = {
    let files = (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
    return files.filter { $0.hasSuffix(".txt") }.sorted()
  }()

  @Test func `the scenarios are found`() { #expect(Self.names.count >= 12, "\(Self.names)") }

  @Test(arguments: names) func `a scenario has the events that its file lists`(name: String) throws {
    let file = Self.folder.appending(path: name)
    let told = try String(contentsOf: file, encoding: .utf8)
    let played = try Scenario.play(told)
    if ProcessInfo.processInfo.environment["RESS_REWRITE"] == "1" {
      try played.write(to: file, atomically: true, encoding: .utf8)
    }
    let expected = told.split(separator: "\n", omittingEmptySubsequences: false)
    let actual = played.split(separator: "\n", omittingEmptySubsequences: false)
    let first = zip(expected, actual).enumerated().first { $0.element.0 != $0.element.1 }
    let difference = first.map { "line \($0.offset + 1): expected '\($0.element.0)', got '\($0.element.1)'" }
    #expect(
      told == played || ProcessInfo.processInfo.environment["RESS_REWRITE"] == "1",
      "\(name): \(difference ?? "one is longer than the other"); RESS_REWRITE=1 writes the file anew")
  }
}
