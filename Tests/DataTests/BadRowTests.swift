// Rows that cannot be used: the error has the reason and the column, or the row is counted and left out.

import Foundation
import Testing

import Data

@Suite final class `Bad rows` {
  private let folder = NSTemporaryDirectory() + "ress-rows-" + UUID().uuidString

  init() throws { try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true) }
  deinit { try? FileManager.default.removeItem(atPath: folder) }

  private func fault(_ line: String) -> String { fault(Array(line.utf8)) }

  private func fault(_ line: [UInt8]) -> String {
    switch JSONFault.look(line[...]) {
    case .fault(let fault): "\(fault.column): \(fault.reason)"
    case .cut: "cut"
    case .object(let members): "\(members)"
    }
  }

  @Test(arguments: [
    (#"{"a": NaN}"#, "7: NaN is not a number of JSON"), (#"{"a": -Infinity}"#, "7: -Infinity is not a number of JSON"),
    (#"{"a": "\ud83d"}"#, #"8: \ud83d is half of a surrogate pair, which is not a character"#),
    (#"{"a": "\ud83dx"}"#, #"8: \ud83d is half of a surrogate pair, which is not a character"#),
    (#"{"a": "\udc00"}"#, #"8: \udc00 is half of a surrogate pair, which is not a character"#),
    ("{\"a\": \"x\ty\"}", #"9: a tab inside a string; JSON writes it as \t"#),
    ("{\"ü\": \"x\u{1}y\"}", #"9: a control character (byte 1) inside a string; JSON writes it as \u0001"#),
    (#"{"a": None}"#, "7: 'None' is not a JSON value"), (#"{'a': 1}"#, "2: a name in double quotes is expected here"),
    (#"{"a": 'x'}"#, "7: a string must be in double quotes"),
    (#"{"a": 1,}"#, "9: there is a comma before the object's end"),
    (#"{"a": [1,]}"#, "10: there is a comma before the list's end"),
    (#"{"a" 1}"#, "6: a colon is expected between a name and its value"),
    (#"{"a": 1 "b": 2}"#, "9: a comma or the end of an object is expected here"),
    (#"{"a": 01}"#, "7: a number must not begin with 0"), (#"{"a": 1.}"#, "7: digits must follow a number's point"),
    (#"{"a": "\x"}"#, "8: JSON has no such escape"), (#"{"a": 1} {"b": 2}"#, "10: there is text after the object"),
    (#"[1, 2]"#, "1: a row must be an object, {…}, and this is a list"),
    (#""text""#, "1: a row must be an object, {…}, and this is a string"), (#"{"a": "x"#, "cut"),
    ("{", "2: the line ends inside an object; a row must be on one line"),
  ])
  func `the error of a row has the reason and the column`(line: String, expected: String) {
    #expect(fault(line) == expected)
  }

  @Test func `Latin-1 is recognised by its first byte that is not UTF-8`() {
    let message = fault(Array(#"{"text": "caf"#.utf8) + [0xE9, 0x20] + Array(#"au lait"}"#.utf8))
    #expect(message.hasPrefix("14: byte 0xE9 is not UTF-8") && message.contains("iconv -f LATIN1"))
  }

  @Test func `a valid row has no fault, whatever it contains`() {
    #expect(
      fault(#" {"a": [1, -2.5e+10, true, false, null, {"b": {}}, []], "c": "\u00e9\ud83d\ude00\n\"", "ü🙂": "日本"} "#)
        == "3")
    #expect(fault(#"{}"#) == "0")
    #expect(fault("{\"a\": " + String(repeating: "[", count: 600) + "}").contains("deeper than 512"))
  }

  @Test func `every row that the scanner rejects is also rejected by Foundation's parser`() throws {
    let good = Array(#"{"a": [1, -2.5e+10, true, null, {"b": {}}], "c": "\u00e9\ud83d\ude00\n\"é", "d": 0}"#.utf8)
    var state: UInt64 = 3
    func draw(_ bound: Int) -> Int {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return Int(state >> 33) % bound
    }
    for _ in 0..<20_000 {
      var line = good
      for _ in 0...draw(3) {
        if draw(2) == 0 { line[draw(line.count)] = UInt8(draw(256)) } else { line.remove(at: draw(line.count)) }
      }
      let isObject = (try? JSONSerialization.jsonObject(with: Data(line)) as? [String: Any]) != nil
      // A row that the parser accepts must never be called bad. A row that the parser rejects and the scanner
      // accepts keeps the parser's own message.
      if isObject, case .fault(let fault) = JSONFault.look(line[...]) {
        let lenient = ["something follows", "control character", "a tab"].contains { fault.reason.hasPrefix($0) }
        #expect(lenient, "\(fault) in \(String(decoding: line, as: UTF8.self))")
      }
    }
  }

  private func preparation(_ lines: [String], _ task: TaskKind = .lm) throws -> DatasetPreparation {
    let path = folder + "/rows.jsonl"
    try lines.joined(separator: "\n").write(toFile: path, atomically: true, encoding: .utf8)
    var preparation = DatasetPreparation(sources: [path], output: folder + "/d.h5")
    (preparation.task, preparation.validationFraction) = (task, 0)
    return preparation
  }

  private func complaint(_ preparation: DatasetPreparation) -> String {
    do { _ = try preparation.run() } catch { return "\(error)".replacing(folder + "/", with: "") }
    return "no error"
  }

  @Test func `a bad row ends a preparation with its reason, or is left out and counted`() throws {
    var preparation = try preparation([
      #"{"text": "one"}"#, #"{"text": "two", "score": NaN}"#, #"{"text": 3}"#, #"{"text": null}"#, #"{"text": ""}"#,
      #"{"text": "three"}"#, "text",
    ])
    #expect(
      complaint(preparation)
        == "rows.jsonl:2: not a JSON object on one line: NaN is not a number of JSON (column 26)")
    preparation.options.skipsBadRows = true
    var notes: [String] = []
    let summary = try preparation.run(note: { notes.append($0.replacing(folder + "/", with: "")) })
    #expect(summary.documents == 2 && summary.badRows == 3 && summary.emptyRows == 2)
    #expect(notes.contains("2 of 7 rows have no text (null or empty)"))
    #expect(notes.contains { $0.hasPrefix("3 of 7 rows are bad and were left out; the first: rows.jsonl:2: ") })
  }

  @Test func `no dataset is written where no row is valid, even if bad ones are left out`() throws {
    var preparation = try preparation([#"{"body": "one"}"#, #"{"body": "two"}"#])
    preparation.options.skipsBadRows = true
    #expect(
      complaint(preparation)
        == "none of 2 rows can be read; the first: rows.jsonl:1: no text in field 'text'; it has body: name one with --field"
    )
    #expect(!FileManager.default.fileExists(atPath: folder + "/d.h5"))
  }

  @Test func `bad rows of a task are left out too, and define no class`() throws {
    var preparation = try preparation(
      [
        #"{"words": ["a"], "tags": ["X"]}"#, #"{"words": ["a", ""], "tags": ["Y", "Z"]}"#, "{",
        #"{"words": ["b"], "tags": ["W"]}"#,
      ], .tag)
    #expect(complaint(preparation) == "rows.jsonl:2: a word is empty")
    preparation.options.skipsBadRows = true
    let summary = try preparation.run()
    #expect(summary.trainExamples == 2 && summary.badRows == 2)
    #expect(try Dataset(path: folder + "/d.h5").labels == ["X", "W"])
  }
}
