// CSV and TSV files: what a row is, and where an error is.

import Data
import Foundation
import TestSupport
import Testing

@Suite final class `Tables with a header` {
  private let folder = NSTemporaryDirectory() + "ress-table-" + UUID().uuidString

  init() throws { try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true) }
  deinit { try? FileManager.default.removeItem(atPath: folder) }

  private func write(_ name: String, _ text: String) throws { try write(name, Array(text.utf8)) }
  private func write(_ name: String, _ bytes: [UInt8]) throws {
    try Data(bytes).write(to: URL(filePath: folder + "/" + name))
  }

  /// The documents of a file.
  private func read(_ name: String, _ change: (inout SourceOptions) -> Void = { _ in }) throws -> [String] {
    try readDocuments(folder + "/" + name, change)
  }

  private func complaint(_ name: String, _ change: (inout SourceOptions) -> Void = { _ in }) -> String {
    do { _ = try read(name, change) } catch { return "\(error)".replacing(folder + "/", with: "") }
    return "no error"
  }

  @Test func `quoted fields contain commas, quotes and line ends`() throws {
    try write(
      "a.csv", "id,text,more\n1,plain,x\n2,\"a, \"\"b\"\"\nc\",y\r\n3,\"\",z\n\n4,b \"c\" d,\"\"\"\"\"\"\n5,last,é")
    #expect(try read("a.csv") == ["plain", "a, \"b\"\nc", "b \"c\" d", "last"])
    #expect(try read("a.csv") { $0.field = "more" } == ["x", "y", "z", "\"\"", "é"])
    #expect(try read("a.csv") { $0.format = .text }.count == 1)
  }

  @Test(arguments: ["\n", "\r\n", "\r"]) func `any line end ends a row`(end: String) throws {
    try write("a.tsv", ["text\tlabel", "a,b\t1", "\"c\td\"\t2", "e\t3"].joined(separator: end) + end)
    #expect(try read("a.tsv") == ["a,b", "c\td", "e"])
    try write("mark.csv", [0xEF, 0xBB, 0xBF] + Array("text\(end)a\(end)".utf8))
    #expect(try read("mark.csv") == ["a"])
  }

  @Test func `a table is recognised by its name, compressed or not, and by --format`() throws {
    try write("a.txt", "text,b\n1,2\n")
    #expect(try read("a.txt") == ["text,b\n1,2\n"])
    #expect(try read("a.txt") { $0.format = .csv } == ["1"])
    try write("B.CSV", "text\nx\n")
    #expect(try read("B.CSV") == ["x"])
  }

  @Test(arguments: [
    ("text,b\na,1\nb\n", "t.csv:3: it has 1 field, and the header has 2"),
    ("text,b\na,1\n\"x\ny\",2,3\n", "t.csv:3: it has 3 fields, and the header has 2 (its last line is 4)"),
    (
      "text,b\n\"é\"x,1\n",
      "t.csv:2: text follows the closing quote (line 2, column 4); a quote in a field is written twice"
    ),
    ("text,b\na,\"1\n2\n", "t.csv:2: the quote that opens in line 2, column 3 is not closed"),
    (
      "a,b\n1,2\n",
      "t.csv: no column 'text'; it has a, b: name one with --field, or read the file as plain text with --format text"
    ),
    ("text,text\n1,2\n", "t.csv:1: two columns are named 'text'; the first row must be the header"),
  ])
  func `an error has the line, the column and the reason`(table: String, expected: String) throws {
    try write("t.csv", table)
    #expect(complaint("t.csv") == expected)
  }

  @Test func `bad rows are left out and counted on request, and reading continues in the next line`() throws {
    try write("t.csv", "text,b\na,1\nb\n\"c\"x,\"\nd,2\n\"e\n")
    #expect(try read("t.csv") { $0.skipsBadRows = true } == ["a", "d"])
    try write("latin.csv", Array("text\ncaf".utf8) + [0xE9] + Array("\nb\n".utf8))
    #expect(complaint("latin.csv") == "latin.csv:2: field 'text' is not UTF-8")
    #expect(try read("latin.csv") { $0.skipsBadRows = true } == ["b"])
  }

  @Test func `a quote that is not closed does not take the rest of a large file into memory`() throws {
    let text = "text,b\nx,\"\n" + String(repeating: "y,z\n", count: (65 << 20) / 4)
    try write("t.csv", text)
    #expect(
      complaint("t.csv")
        == "t.csv:2: a row of more than 64 MiB; the quote that opens in line 2, column 3 may not be closed")
  }

  @Test func `whatever is written to a table is read from it`() throws {
    var chance = Chance("tables")
    let parts = ["a", "é", ",", "\t", "\"", "\n", "\r\n", " ", "日本", "\"\"", "x,y", "{\"a\": 1}"]
    for round in 0..<200 {
      let delimiter = round % 2 == 0 ? "," : "\t"
      let rows = (0..<Int.random(in: 1...8, using: &chance)).map { _ in
        (0..<3).map { _ in
          (0..<Int.random(in: 0...4, using: &chance)).map { _ in parts.randomElement(using: &chance)! }.joined()
        }
      }
      func quoted(_ field: String) -> String {
        let needs = field.unicodeScalars.contains { "\"\r\n,\t".unicodeScalars.contains($0) }
        return needs || Bool.random(using: &chance) ? "\"" + field.replacing("\"", with: "\"\"") + "\"" : field
      }
      let end = ["\n", "\r\n"].randomElement(using: &chance)!
      let lines = [["a", "text", "c"]] + rows
      let table =
        lines.map { $0.map(quoted).joined(separator: delimiter) }.joined(separator: end)
        + (Bool.random(using: &chance) ? end : "")
      try write("t.txt", table)
      let found = try read("t.txt") { $0.format = delimiter == "," ? .csv : .tsv }
      #expect(found == rows.map { $0[1] }.filter { !$0.isEmpty }, "\(table.debugDescription)")
    }
  }

  @Test func `a task is prepared from a table, with whole numbers or names as labels`() throws {
    try write("t.csv", "text,label\ngood,1\n\"bad, very\",0\n" + String(repeating: "fine,1\n", count: 20))
    for field in [nil, "text"] {
      var preparation = DatasetPreparation(sources: [folder + "/t.csv"], output: folder + "/\(field ?? "d").h5")
      preparation.task = .classify
      preparation.options.field = field
      let summary = try preparation.run()
      #expect(summary.trainExamples + summary.validationExamples == 22)
      #expect(try Dataset(path: preparation.output).labels == ["0", "1"])
    }
    try write("c.csv", "question,choices,answer\nwhich?,\"[\"\"a\"\", \"\"b\"\"]\",b\n")
    var preparation = DatasetPreparation(sources: [folder + "/c.csv"], output: folder + "/c.h5")
    preparation.task = .multipleChoice
    preparation.validationFraction = 0
    #expect(try preparation.run().trainExamples == 2)
  }
}
