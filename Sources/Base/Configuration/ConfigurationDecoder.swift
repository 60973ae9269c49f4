// Decodes a configuration file and the `--set` options into a consistent `RunConfiguration`. It is strict: an unknown
// key that was ignored would be a typing error that trains the wrong run for a night.

/// A key that is set on the command line.
package struct ConfigurationOverride: Sendable {
  /// `model.width=64`
  package var setting: String
  /// The words that the user typed, for errors: `--set model.width=64`, `--workers 2`.
  package var spelling: String

  package init(set setting: String) {
    self.setting = setting
    spelling = "--set \(setting)"
  }

  /// An option with its own name, for the key at `path`.
  package init(option: String, path: String, value: String) {
    setting = "\(path)=\(value)"
    spelling = "\(option) \(value)"
  }
}

package enum ConfigurationDecoder {
  /// Reads and checks a file. Overrides are applied after it, in order; the last one of a key counts.
  package static func decode(
    file path: String, overrides: [ConfigurationOverride] = []
  ) throws(ConfigurationError) -> RunConfiguration {
    try decode(bytes: try ConfigurationFile.read(path), name: path, overrides: overrides)
  }

  /// The same for a text; errors call it `name`.
  package static func decode(
    text: String, name: String, overrides: [ConfigurationOverride] = []
  ) throws(ConfigurationError) -> RunConfiguration {
    try decode(bytes: Array(text.utf8), name: name, overrides: overrides)
  }

  private static func decode(
    bytes: [UInt8], name: String, overrides: [ConfigurationOverride]
  ) throws(ConfigurationError) -> RunConfiguration {
    let root = try YAMLDocument.parse(bytes, name: name)
    var decoding = Decoding(name: name)
    if let root { decoding.read(root) }
    decoding.problems.sort { $0.source.isBefore($1.source) }
    for override in overrides { decoding.apply(override) }
    decoding.checkRelations()
    guard decoding.problems.isEmpty else { throw ConfigurationError(decoding.problems) }
    return decoding.configuration
  }
}

/// A configuration that is being decoded: values, their sources, and the problems so far.
struct Decoding {
  let name: String
  var configuration = RunConfiguration()
  /// By dotted path; a field with its default value has no entry.
  var sources: [String: ConfigurationSource] = [:]
  var problems: [ConfigurationProblem] = []
  /// Fields whose value was refused: a rule about them would be checked with the default instead of the intended value.
  var refused: Set<String> = []

  init(name: String) { self.name = name }

  // MARK: The file

  mutating func read(_ root: YAMLNode) {
    guard let entries = entries(of: root, meaning: "a configuration, such as 'model:'") else {
      refused.formUnion(ConfigurationSchema.paths)
      return
    }
    for (key, value) in unique(entries, in: "the file") {
      if let section = ConfigurationSchema.sections.first(where: { $0.name == key.name && !$0.name.isEmpty }) {
        read(section, from: value)
      } else if let field = ConfigurationSchema.top.fields.first(where: { $0.name == key.name }) {
        read(field, of: ConfigurationSchema.top, from: value)
      } else {
        problems.append(ConfigurationProblem(place(key.mark), Self.unknown(key.name, in: ConfigurationSchema.top)))
      }
    }
  }

  private mutating func read(_ section: ConfigurationSection, from node: YAMLNode) {
    // In YAML, a section whose lines are all commented out is an empty scalar.
    if case .scalar(let text, true) = node.value, ConfigurationField.isNull(text) { return }
    guard let entries = entries(of: node, meaning: "keys and values below '\(section.name)'") else {
      refused.formUnion(section.fields.map(section.path(of:)))
      return
    }
    for (key, value) in unique(entries, in: "'\(section.name)'") {
      if let field = section.fields.first(where: { $0.name == key.name }) {
        read(field, of: section, from: value)
      } else {
        problems.append(ConfigurationProblem(place(key.mark), Self.unknown(key.name, in: section)))
      }
    }
  }

  private mutating func read(_ field: ConfigurationField, of section: ConfigurationSection, from node: YAMLNode) {
    switch node.value {
    case .scalar(let text, let isPlain):
      set(field, of: section, to: text, isPlain: isPlain, from: place(node.mark))
    case .sequence, .mapping:
      do throws(FieldComplaint) {
        try field.set(node, in: &configuration)
        sources[section.path(of: field)] = place(node.mark)
      } catch {
        refuse(section.path(of: field), place(node.mark), error.message)
      }
    }
  }

  private mutating func entries(of node: YAMLNode, meaning: String) -> [(key: YAMLNode.Key, value: YAMLNode)]? {
    switch node.value {
    case .mapping(let entries): return entries
    case .sequence: problems.append(ConfigurationProblem(place(node.mark), "expected \(meaning), found a list"))
    case .scalar(let text, let isPlain):
      let found = ConfigurationField.found(text, isPlain)
      problems.append(ConfigurationProblem(place(node.mark), "expected \(meaning), found \(found)"))
    }
    return nil
  }

  /// The first entry of each key; a later one is a problem that names both lines.
  private mutating func unique(
    _ entries: [(key: YAMLNode.Key, value: YAMLNode)], in owner: String
  ) -> [(key: YAMLNode.Key, value: YAMLNode)] {
    var lines: [String: Int] = [:]
    var kept: [(key: YAMLNode.Key, value: YAMLNode)] = []
    for entry in entries {
      if let line = lines[entry.key.name] {
        problems.append(
          ConfigurationProblem(
            place(entry.key.mark),
            "duplicate key '\(ConfigurationField.shortened(entry.key.name))' in \(owner); it is already on line \(line)"
          ))
      } else {
        lines[entry.key.name] = entry.key.mark.line
        kept.append(entry)
      }
    }
    return kept
  }

  // MARK: Options

  mutating func apply(_ override: ConfigurationOverride) {
    let source = ConfigurationSource.option(override.spelling)
    let parts = override.setting.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
    guard parts.count == 2 else {
      problems.append(ConfigurationProblem(source, "expected KEY=VALUE, such as model.width=64"))
      return
    }
    let path = parts[0], text = parts[1]
    if let (section, field) = ConfigurationSchema.find(path) {
      // An option also replaces an invalid value in the file, and its data replace the file's data.
      set(field, of: section, to: text, isPlain: true, from: source)
      if path == "data.mixture", !configuration.data.mixture.isEmpty { configuration.data.path = "" }
      if path == "data.path" { configuration.data.mixture = [] }
      return
    }
    problems.append(ConfigurationProblem(source, Self.unknownPath(path)))
  }

  // MARK: Values and problems

  private mutating func set(
    _ field: ConfigurationField, of section: ConfigurationSection, to text: String, isPlain: Bool,
    from source: ConfigurationSource
  ) {
    let path = section.path(of: field)
    do throws(FieldComplaint) {
      try field.set(text, isPlain: isPlain, in: &configuration)
      sources[path] = source
    } catch {
      refuse(path, source, error.message)
    }
  }

  private mutating func refuse(_ path: String, _ source: ConfigurationSource, _ message: String) {
    refused.insert(path)
    problems.append(ConfigurationProblem(source, message))
  }

  private func place(_ mark: YAMLMark) -> ConfigurationSource {
    .place(file: name, line: mark.line, column: mark.column)
  }

  // MARK: Hints

  /// The nearest key of the section; else the section that has this key; else all keys of the section.
  private static func unknown(_ key: String, in section: ConfigurationSection) -> String {
    let isTop = section.name.isEmpty
    var message = "unknown key '\(ConfigurationField.shortened(key))'" + (isTop ? "" : " in '\(section.name)'")
    let known =
      section.fields.map(\.name) + (isTop ? ConfigurationSchema.sections.map(\.name).filter { !$0.isEmpty } : [])
    let owners = ConfigurationSchema.sections.filter { owner in owner.fields.contains { $0.name == key } }
    if !owners.isEmpty {
      message +=
        "; it belongs "
        + owners.map { $0.name.isEmpty ? "at the top of the file" : "under '\($0.name)'" }
        .joined(separator: " or ")
    } else if let near = NearestName.find(key, among: known) {
      message += "; did you mean '\(near)'?"
    } else {
      message += "; known keys: " + known.joined(separator: ", ")
    }
    return message
  }

  private static func unknownPath(_ path: String) -> String {
    let parts = path.split(separator: ".", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
    if parts.count == 2, let section = ConfigurationSchema.sections.first(where: { $0.name == parts[0] }) {
      return unknown(parts[1], in: section)
    }
    let sameName = ConfigurationSchema.paths.filter { $0.hasSuffix(".\(path)") }
    let hint =
      sameName.isEmpty
      ? NearestName.hint(for: path, among: ConfigurationSchema.paths)
      : "; did you mean " + sameName.map { "'\($0)'" }.joined(separator: " or ") + "?"
    return "unknown key '\(ConfigurationField.shortened(path))'\(hint)"
  }
}
