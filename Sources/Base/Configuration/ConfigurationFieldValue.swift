// Converts between a field's text and its value, in both directions. `set(_:in:)` reads what `text(in:)` prints.

/// The reason why a text is not a value of its field; in messages it follows the location.
struct FieldComplaint: Error, Equatable {
  var message: String
}

extension ConfigurationField {
  /// Sets a scalar in the configuration. A quoted value is text (`isPlain` is false), so `width: "64"` is refused.
  func set(_ text: String, isPlain: Bool, in configuration: inout RunConfiguration) throws(FieldComplaint) {
    switch kind {
    case .whole(let path, let range):
      configuration[keyPath: path] = try whole(text, isPlain, range)
    case .wholeOrNull(let path, let range):
      configuration[keyPath: path] = isPlain && Self.isNull(text) ? nil : try whole(text, isPlain, range)
    case .wholeOrAuto(let path, let range):
      if isPlain, text == Self.auto {
        configuration[keyPath: path] = 0
      } else if isPlain, !Self.isWhole(text) {
        let hint = NearestName.hint(for: text, among: [Self.auto])
        throw FieldComplaint(message: "expected \(expectation), found \(Self.found(text, isPlain))\(hint)")
      } else {
        configuration[keyPath: path] = try whole(text, isPlain, range)
      }
    case .seed(let path):
      guard isPlain, Self.isWhole(text) else { throw wrongType("a whole number", text, isPlain) }
      guard let value = UInt64(text) else { throw outOfRange(text) }
      configuration[keyPath: path] = value
    case .real(let path, let range):
      guard isPlain, let value = Self.real(text) else { throw wrongType("a number", text, isPlain) }
      guard range.contains(value) else { throw outOfRange(text) }
      configuration[keyPath: path] = value
    case .flag(let path):
      guard isPlain, let value = Bool(text) else { throw wrongType(expectation, text, isPlain) }
      configuration[keyPath: path] = value
    case .text(let path):
      guard !(isPlain && Self.isNull(text)) else { throw wrongType(expectation, text, isPlain) }
      guard !text.utf8.contains(0) else { throw FieldComplaint(message: "'\(name)' contains a NUL character") }
      configuration[keyPath: path] = text
    case .textOrNull(let path):
      guard !text.utf8.contains(0) else { throw FieldComplaint(message: "'\(name)' contains a NUL character") }
      configuration[keyPath: path] = isPlain && Self.isNull(text) ? "" : text
    case .weights(let path):
      // The text of an option is YAML on one line.
      let node: YAMLNode?
      do throws(ConfigurationError) { node = try YAMLDocument.parse(Array(text.utf8), name: name) } catch {
        throw wrongType(expectation, text, isPlain)
      }
      configuration[keyPath: path] = try weights(node)
    case .names(let path):
      let node: YAMLNode?
      do throws(ConfigurationError) { node = try YAMLDocument.parse(Array(text.utf8), name: name) } catch {
        throw wrongType(expectation, text, isPlain)
      }
      guard isPlain, case .sequence(let entries) = node?.value else { throw wrongType(expectation, text, isPlain) }
      configuration[keyPath: path] = try names(entries)
    case .name(let path):
      guard !(isPlain && Self.isNull(text)) else { throw wrongType(expectation, text, isPlain) }
      if let flaw = Self.flaw(ofName: text) {
        throw FieldComplaint(message: "'\(Self.shortened(text))' cannot name a folder: \(flaw)")
      }
      configuration[keyPath: path] = text
    case .choice(let names, _, let set):
      guard names.contains(text) else {
        let hint = NearestName.hint(for: text, among: names)
        throw FieldComplaint(message: "expected \(expectation), found \(Self.found(text, isPlain))\(hint)")
      }
      set(&configuration, text)
    }
  }

  /// The value as written in a configuration file.
  package func text(in configuration: RunConfiguration) -> String {
    switch kind {
    case .whole(let path, _): String(configuration[keyPath: path])
    case .wholeOrNull(let path, _): configuration[keyPath: path].map { String($0) } ?? "null"
    case .wholeOrAuto(let path, _): configuration[keyPath: path] == 0 ? Self.auto : String(configuration[keyPath: path])
    case .seed(let path): String(configuration[keyPath: path])
    case .real(let path, _): String(configuration[keyPath: path])
    case .flag(let path): String(configuration[keyPath: path])
    case .text(let path), .name(let path): Self.quotedWhereNeeded(configuration[keyPath: path])
    case .textOrNull(let path):
      configuration[keyPath: path].isEmpty ? "null" : Self.quotedWhereNeeded(configuration[keyPath: path])
    case .weights(let path):
      "{"
        + configuration[keyPath: path].map { Self.quotedWhereNeeded($0.path) + ": \($0.weight)" }.joined(
          separator: ", ")
        + "}"
    case .names(let path): "[" + configuration[keyPath: path].joined(separator: ", ") + "]"
    case .choice(_, let get, _): get(configuration)
    }
  }

  /// Sets keys and values, or a list, in the configuration, if the field accepts them.
  func set(_ node: YAMLNode, in configuration: inout RunConfiguration) throws(FieldComplaint) {
    switch (kind, node.value) {
    case (.weights(let path), .mapping): configuration[keyPath: path] = try weights(node)
    case (.names(let path), .sequence(let entries)): configuration[keyPath: path] = try names(entries)
    case (_, .sequence): throw FieldComplaint(message: "expected \(expectation), found a list")
    case (_, .mapping), (_, .scalar):
      throw FieldComplaint(message: "expected \(expectation), found keys and values")
    }
  }

  /// Names of tensors, so that a list of them reads back as it was written.
  private func names(_ nodes: [YAMLNode]) throws(FieldComplaint) -> [String] {
    var names: [String] = []
    for node in nodes {
      guard case .scalar(let text, true) = node.value, !text.isEmpty,
        text.utf8.allSatisfy({ "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_/".utf8.contains($0) })
      else { throw FieldComplaint(message: "expected \(expectation)") }
      guard !names.contains(text) else { throw FieldComplaint(message: "'\(Self.shortened(text))' is named twice") }
      names.append(text)
    }
    return names
  }

  private func weights(_ node: YAMLNode?) throws(FieldComplaint) -> [WeightedPath] {
    guard case .mapping(let entries) = node?.value else {
      throw FieldComplaint(message: "expected \(expectation)")
    }
    var parts: [WeightedPath] = []
    for (key, value) in entries {
      guard case .scalar(let text, true) = value.value, let weight = Self.real(text), weight > 0, weight.isFinite else {
        throw FieldComplaint(message: "the weight of '\(Self.shortened(key.name))' must be a number above 0")
      }
      guard !parts.contains(where: { $0.path == key.name }) else {
        throw FieldComplaint(message: "'\(Self.shortened(key.name))' is named twice")
      }
      parts.append(WeightedPath(path: key.name, weight: weight))
    }
    return parts
  }

  private func whole(_ text: String, _ isPlain: Bool, _ range: ClosedRange<Int>) throws(FieldComplaint) -> Int {
    guard isPlain, Self.isWhole(text) else { throw wrongType("a whole number", text, isPlain) }
    guard let value = Int(text), range.contains(value) else { throw outOfRange(text) }
    return value
  }

  private func wrongType(_ type: String, _ text: String, _ isPlain: Bool) -> FieldComplaint {
    FieldComplaint(message: "expected \(type), found \(Self.found(text, isPlain))")
  }

  private func outOfRange(_ text: String) -> FieldComplaint {
    FieldComplaint(message: "'\(name)' is \(Self.shortened(text)), but must be \(expectation)")
  }

  /// How an error shows a scalar.
  static func found(_ text: String, _ isPlain: Bool) -> String {
    if isPlain { return text.isEmpty ? "nothing" : "'\(shortened(text))'" }
    return "the quoted text '\(shortened(text))'"
  }

  /// At most 60 characters, so that a pasted paragraph does not hide the message.
  static func shortened(_ text: String) -> String { text.count <= 60 ? text : text.prefix(60) + "…" }

  /// How a file writes that the program chooses the number.
  private static let auto = "auto"

  static func isNull(_ text: String) -> Bool { text == "null" || text == "~" || text.isEmpty }

  /// A sign and digits: no `1e3`, no `0x10`, no `1_000`.
  private static func isWhole(_ text: String) -> Bool {
    let digits = text.hasPrefix("-") || text.hasPrefix("+") ? text.dropFirst() : text[...]
    return !digits.isEmpty && digits.utf8.allSatisfy { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
  }

  /// Only decimal notation: Swift would also accept `nan`, `inf` and hexadecimal. A number beyond Double's range
  /// becomes infinite, which no range contains.
  private static func real(_ text: String) -> Double? {
    guard text.utf8.allSatisfy({ "0123456789+-.eE".utf8.contains($0) }) else { return nil }
    return Double(text)
  }

  /// Why a text cannot be the name of a run's folder; nil if it can.
  private static func flaw(ofName text: String) -> String? {
    if text.isEmpty { return "it is empty" }
    if text.utf8.count > 100 { return "it is longer than 100 characters" }
    if text.hasPrefix(".") || text.hasPrefix("-") { return "it begins with '\(text.prefix(1))'" }
    let allowed = text.utf8.allSatisfy { byte in
      switch byte {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
        UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "-"):
        true
      default: false
      }
    }
    return allowed ? nil : "use only letters, digits, '.', '_' and '-'"
  }

  /// Plain if YAML would read the same text back, otherwise in double quotes.
  private static func quotedWhereNeeded(_ text: String) -> String {
    let first = text.utf8.first.map { (UInt8(ascii: "A")...UInt8(ascii: "z")).contains($0) || $0 == UInt8(ascii: "/") }
    let plain = text.utf8.allSatisfy { byte in
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._/-+".utf8.contains(byte)
    }
    if first == true, plain, !["null", "true", "false"].contains(text) { return text }
    var quoted = "\""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"": quoted += "\\\""
      case "\\": quoted += "\\\\"
      case "\n": quoted += "\\n"
      case "\t": quoted += "\\t"
      // Control characters, and those that are line ends or a byte order mark in YAML.
      case _
      where scalar.value < 0x20 || (0x7F...0xA0).contains(scalar.value)
        || [0x2028, 0x2029, 0xFEFF].contains(scalar.value):
        let digits = String(scalar.value, radix: 16, uppercase: true)
        quoted += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
      default: quoted.unicodeScalars.append(scalar)
      }
    }
    return quoted + "\""
  }
}
