// A YAML text as a tree in which every node has its line and column. Only the part of YAML that configurations need:
// one document, no tags, keys that are plain words. Limits bound the cost of a hostile or mistaken file.

struct YAMLNode: Sendable {
  indirect enum Value: Sendable {
    case scalar(text: String, isPlain: Bool)
    case sequence([YAMLNode])
    /// In the order of the file. A key that is given twice is kept twice, so that the decoder can report both lines.
    case mapping([(key: Key, value: YAMLNode)])
  }

  struct Key: Sendable {
    var name: String
    var mark: YAMLMark
  }

  var value: Value
  var mark: YAMLMark
}

enum YAMLDocument {
  /// A configuration has about 50 lines; a file of this size is not one.
  static let maximumByteCount = 1 << 20
  /// Configurations nest two deep.
  static let maximumDepth = 16
  /// Number of nodes after aliases are expanded, against "billion laughs" attacks.
  static let maximumNodeCount = 10_000

  /// The root of the text's only document; nil if the text contains only comments. Errors call the text `name`.
  static func parse(_ bytes: [UInt8], name: String) throws(ConfigurationError) -> YAMLNode? {
    guard bytes.count <= maximumByteCount else {
      throw ConfigurationError(
        .file(name),
        "\(bytes.count) bytes, but a configuration has at most \(maximumByteCount); is this the right file?")
    }
    if let offset = invalidOffset(bytes) {
      let mark = YAMLMark(ofByte: offset, in: bytes)
      throw ConfigurationError(
        .place(file: name, line: mark.line, column: mark.column),
        "not UTF-8 (byte \(offset) is 0x\(String(bytes[offset], radix: 16, uppercase: true))); save the file as UTF-8")
    }
    var composer = YAMLComposer(parser: YAMLParser(bytes, name: name), name: name)
    return try composer.document()
  }

  private static func invalidOffset(_ bytes: [UInt8]) -> Int? {
    do throws(UTF8.ValidationError) {
      _ = try UTF8Span(validating: bytes.span)
      return nil
    } catch {
      return error.byteOffsets.lowerBound
    }
  }
}

/// Events in, tree out.
private struct YAMLComposer: ~Copyable {
  var parser: YAMLParser
  let name: String
  /// The node of each anchor, and its number of nodes.
  var anchors: [String: (node: YAMLNode, count: Int)] = [:]
  var nodeCount = 0

  init(parser: consuming YAMLParser, name: String) {
    self.parser = parser
    self.name = name
  }

  mutating func document() throws(ConfigurationError) -> YAMLNode? {
    _ = try parser.next()  // the stream's start
    guard case .documentStart = try parser.next().kind else { return nil }
    let root = try node(parser.next(), depth: 1)
    _ = try parser.next()  // the document's end
    let after = try parser.next()
    guard case .streamEnd = after.kind else {
      throw failure(after.mark, "a second document begins here; a configuration is one document")
    }
    return root
  }

  private mutating func node(_ event: YAMLEvent, depth: Int) throws(ConfigurationError) -> YAMLNode {
    guard depth <= YAMLDocument.maximumDepth else {
      throw failure(event.mark, "nested more than \(YAMLDocument.maximumDepth) deep")
    }
    try count(1, at: event.mark)
    let countBefore = nodeCount - 1
    let node: YAMLNode
    let anchor: String?
    switch event.kind {
    case .scalar(let text, let isPlain, let scalarAnchor, let tag):
      try refuse(tag: tag, at: event.mark)
      anchor = scalarAnchor
      node = YAMLNode(value: .scalar(text: text, isPlain: isPlain), mark: event.mark)
    case .sequenceStart(let sequenceAnchor, let tag):
      try refuse(tag: tag, at: event.mark)
      anchor = sequenceAnchor
      node = YAMLNode(value: .sequence(try items(depth: depth)), mark: event.mark)
    case .mappingStart(let mappingAnchor, let tag):
      try refuse(tag: tag, at: event.mark)
      anchor = mappingAnchor
      node = YAMLNode(value: .mapping(try entries(depth: depth)), mark: event.mark)
    case .alias(let aliased):
      guard let target = anchors[aliased] else {
        throw failure(event.mark, "no anchor '&\(aliased)' before this alias")
      }
      try count(target.count - 1, at: event.mark)
      // Errors in an alias point to the line where the value is written.
      return target.node
    case .streamStart, .streamEnd, .documentStart, .documentEnd, .sequenceEnd, .mappingEnd:
      preconditionFailure("libyaml: a node begins with \(event.kind)")
    }
    if let anchor { anchors[anchor] = (node, nodeCount - countBefore) }
    return node
  }

  private mutating func items(depth: Int) throws(ConfigurationError) -> [YAMLNode] {
    var items: [YAMLNode] = []
    while true {
      let event = try parser.next()
      if case .sequenceEnd = event.kind { return items }
      items.append(try node(event, depth: depth + 1))
    }
  }

  private mutating func entries(depth: Int) throws(ConfigurationError) -> [(key: YAMLNode.Key, value: YAMLNode)] {
    var entries: [(key: YAMLNode.Key, value: YAMLNode)] = []
    while true {
      let event = try parser.next()
      if case .mappingEnd = event.kind { return entries }
      guard case .scalar(let text, _, nil, nil) = event.kind else {
        throw failure(event.mark, "a key must be a plain word")
      }
      if text == "<<" {
        throw failure(
          event.mark,
          "merge keys ('<<') are not supported; write the keys out here, or give a whole section an anchor ('model: &small') and use it "
            + "as the value ('model: *small')")
      }
      entries.append(
        (YAMLNode.Key(name: text, mark: event.mark), try node(parser.next(), depth: depth + 1)))
    }
  }

  private mutating func count(_ nodes: Int, at mark: YAMLMark) throws(ConfigurationError) {
    nodeCount += nodes
    guard nodeCount <= YAMLDocument.maximumNodeCount else {
      throw failure(mark, "more than \(YAMLDocument.maximumNodeCount) values after aliases are expanded")
    }
  }

  private func refuse(tag: String?, at mark: YAMLMark) throws(ConfigurationError) {
    if let tag { throw failure(mark, "the tag '\(tag)' has no meaning here; remove it") }
  }

  private func failure(_ mark: YAMLMark, _ message: String) -> ConfigurationError {
    ConfigurationError(.place(file: name, line: mark.line, column: mark.column), message)
  }
}
