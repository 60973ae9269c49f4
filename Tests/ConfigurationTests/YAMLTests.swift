// What the YAML beneath a configuration may not be, and the place that its errors name.

import Configuration
import Glibc
import Testing

@Suite struct `The YAML of a configuration` {
  @Test func `a syntax error has libyaml's words and its place`() {
    #expect(
      problems("model:\n  width: [1, 2\ndata:\n") == [
        "c.yaml:3:5: not valid YAML: did not find expected ',' or ']' while parsing a flow sequence"
      ])
    #expect(
      problems("model:\n\twidth: 3\n") == [
        "c.yaml:2:1: not valid YAML: found character that cannot start any token while scanning for the next token"
      ])
  }

  @Test func `bytes that are not UTF-8 are named with their place`() {
    let text: [UInt8] = Array("run: é\nmodel:\n  né".utf8) + [0xFF, 0x0A]
    let path = temporaryFile(text)
    defer { remove(path) }
    #expect(
      throws: ConfigurationError(
        .place(file: path, line: 3, column: 5), "not UTF-8 (byte 20 is 0xFF); save the file as UTF-8")
    ) {
      try ConfigurationDecoder.decode(file: path)
    }
  }

  @Test func `a control character is refused where it stands`() {
    #expect(problems("run: a\n  \u{1}b: 3\n") == ["c.yaml:2:3: not valid YAML: control characters are not allowed"])
  }

  @Test func `a byte order mark and Windows line ends are taken`() throws {
    #expect(try decode("\u{FEFF}run: a\r\ndata:\r\n  path: x\r\n").data.path == "x")
  }

  @Test func `columns count characters, not bytes`() {
    #expect(problems(minimal + "checkpoint: {directory: éé, evry: 3}").first?.hasPrefix("c.yaml:3:29: ") == true)
  }

  @Test func `anchors and aliases work, and errors point to where the value is written`() throws {
    #expect(try decode("data:\n  path: &p x\ncheckpoint:\n  directory: *p\n").checkpoint.directory == "x")
    #expect(
      problems("data: {path: &p x}\nmodel: {width: *p}\n") == ["c.yaml:1:14: expected a whole number, found 'x'"])
    #expect(
      problems("data: {path: *q}\n") == ["c.yaml:1:14: no anchor '&q' before this alias"])
  }

  @Test func `merge keys are refused in words that say what to write instead`() {
    let said = problems("run: a\nmodel: &m {width: 32}\ndata:\n  <<: *m\n")
    #expect(
      said.count == 1 && said[0].hasPrefix("c.yaml:4:3: merge keys ('<<') are not supported; write the keys out here"))
  }

  @Test func `aliases that multiply beyond the limit are refused`() {
    var text = "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
    for (name, previous) in zip("bcdefg", "abcdef") {
      text += "\(name): &\(name) [" + Array(repeating: "*\(previous)", count: 10).joined(separator: ", ") + "]\n"
    }
    #expect(problems(text).first?.hasSuffix("more than 10000 values after aliases are expanded") == true)
  }

  @Test func `a node that refers to itself is refused`() {
    #expect(problems("a: &a [*a]\n") == ["c.yaml:1:8: no anchor '&a' before this alias"])
  }

  @Test func `deep nesting is stopped`() {
    let text = "a: " + String(repeating: "[", count: 5000) + String(repeating: "]", count: 5000)
    #expect(problems(text).first?.hasSuffix("nested more than 16 deep") == true)
  }

  @Test func `a file of a megabyte and more is refused`() {
    let text = String(repeating: "# padding\n", count: 110_000)
    #expect(
      problems(text) == ["c.yaml: 1100000 bytes, but a configuration has at most 1048576; is this the right file?"])
  }

  @Test func `tags, second documents and keys that are not words are refused`() {
    #expect(
      problems("run: !!int 3\n") == ["c.yaml:1:6: the tag 'tag:yaml.org,2002:int' has no meaning here; remove it"])
    #expect(
      problems(minimal + "---\nrun: b\n") == [
        "c.yaml:3:1: a second document begins here; a configuration is one document"
      ])
    #expect(problems("[a, b]: 3\n") == ["c.yaml:1:1: a key must be a plain word"])
  }
}
