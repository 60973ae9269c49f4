// The only file that sees libyaml. It owns the parser's handle and hands out one event at a time as Swift values,
// with the place of each; `YAMLDocument` makes a tree of them.

import CYAML

/// A place in a YAML text, counted from 1.
struct YAMLMark: Equatable, Sendable {
  var line: Int
  var column: Int

  init(line: Int, column: Int) {
    self.line = line
    self.column = column
  }

  fileprivate init(_ mark: yaml_mark_t) { self.init(line: mark.line + 1, column: mark.column + 1) }
}

struct YAMLEvent {
  enum Kind {
    case streamStart, streamEnd, documentStart, documentEnd
    /// `isPlain` is false for quoted and block scalars, which are always text.
    case scalar(text: String, isPlain: Bool, anchor: String?, tag: String?)
    case sequenceStart(anchor: String?, tag: String?), sequenceEnd
    case mappingStart(anchor: String?, tag: String?), mappingEnd
    case alias(String)
  }

  var kind: Kind
  var mark: YAMLMark
}

/// A libyaml parser over a copy of the text, which libyaml reads in place.
struct YAMLParser: ~Copyable {
  private let handle: UnsafeMutablePointer<yaml_parser_t>
  private let text: UnsafeMutableBufferPointer<UInt8>
  private let name: String

  /// `name` is what errors call the text: a file's path.
  init(_ bytes: [UInt8], name: String) {
    self.name = name
    text = .allocate(capacity: bytes.count)
    _ = text.initialize(from: bytes)
    handle = .allocate(capacity: 1)
    guard yaml_parser_initialize(handle) == 1 else { fatalError("libyaml: out of memory") }
    yaml_parser_set_input_string(handle, text.baseAddress, bytes.count)
  }

  deinit {
    yaml_parser_delete(handle)
    handle.deallocate()
    text.deallocate()
  }

  /// The next event. Must not be called after `streamEnd`.
  mutating func next() throws(ConfigurationError) -> YAMLEvent {
    var event = yaml_event_t()
    guard yaml_parser_parse(handle, &event) == 1 else { throw failure() }
    defer { yaml_event_delete(&event) }
    return YAMLEvent(kind: Self.kind(of: event), mark: YAMLMark(event.start_mark))
  }

  private static func kind(of event: yaml_event_t) -> YAMLEvent.Kind {
    let data = event.data
    switch event.type {
    case YAML_STREAM_START_EVENT: return .streamStart
    case YAML_STREAM_END_EVENT: return .streamEnd
    case YAML_DOCUMENT_START_EVENT: return .documentStart
    case YAML_DOCUMENT_END_EVENT: return .documentEnd
    case YAML_SCALAR_EVENT:
      let bytes = UnsafeBufferPointer(start: data.scalar.value, count: data.scalar.length)
      return .scalar(
        text: String(decoding: bytes, as: UTF8.self), isPlain: data.scalar.style == YAML_PLAIN_SCALAR_STYLE,
        anchor: string(data.scalar.anchor), tag: string(data.scalar.tag))
    case YAML_SEQUENCE_START_EVENT:
      return .sequenceStart(anchor: string(data.sequence_start.anchor), tag: string(data.sequence_start.tag))
    case YAML_SEQUENCE_END_EVENT: return .sequenceEnd
    case YAML_MAPPING_START_EVENT:
      return .mappingStart(anchor: string(data.mapping_start.anchor), tag: string(data.mapping_start.tag))
    case YAML_MAPPING_END_EVENT: return .mappingEnd
    case YAML_ALIAS_EVENT: return .alias(string(data.alias.anchor) ?? "")
    default: fatalError("libyaml: event \(event.type.rawValue) is none of those in yaml.h")
    }
  }

  private static func string(_ pointer: UnsafeMutablePointer<yaml_char_t>?) -> String? {
    pointer.map { String(cString: $0) }
  }

  /// libyaml's own words, at the place it names.
  private func failure() -> ConfigurationError {
    let parser = handle.pointee
    let problem = parser.problem.map { String(cString: $0) } ?? "cannot be parsed"
    var message = "not valid YAML: \(problem)"
    if let context = parser.context { message += " \(String(cString: context))" }
    // The reader fails before any mark is set, and reports an offset in bytes instead.
    let mark = parser.error == YAML_READER_ERROR ? place(ofByte: parser.problem_offset) : YAMLMark(parser.problem_mark)
    return ConfigurationError(.place(file: name, line: mark.line, column: mark.column), message)
  }

  private func place(ofByte offset: Int) -> YAMLMark { YAMLMark(ofByte: offset, in: text) }
}

extension YAMLMark {
  /// The place of a byte: lines end with a line feed, columns count the bytes that begin a character.
  init(ofByte offset: Int, in text: some Collection<UInt8>) {
    self.init(line: 1, column: 1)
    for byte in text.prefix(offset) {
      if byte == UInt8(ascii: "\n") {
        line += 1
        column = 1
      } else if byte & 0xC0 != 0x80 {
        column += 1
      }
    }
  }
}

/// libyaml's version, for `ress doctor`.
package enum YAMLLibrary {
  package static var version: String { String(cString: yaml_get_version_string()) }
}
