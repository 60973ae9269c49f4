// Writes a `RunConfiguration` as a file, each key with its meaning. Reading the file gives the same configuration (a
// test checks every field), so `ress config show` is also a way to start a new file.

package enum ConfigurationEncoder {
  /// Comments begin in this column if the value is short enough.
  private static let commentColumn = 32

  package static func yaml(_ configuration: RunConfiguration) -> String {
    var text = ""
    for section in ConfigurationSchema.sections {
      if !section.name.isEmpty {
        text += "\n# \(section.documentation)\n\(section.name):\n"
      }
      for field in section.fields {
        let line = (section.name.isEmpty ? "" : "  ") + "\(field.name): \(field.text(in: configuration))"
        let padding = String(repeating: " ", count: max(2, commentColumn - line.count))
        text += "\(line)\(padding)# \(field.documentation)\n"
      }
    }
    return text
  }

  /// The keys whose values differ, with the values as in a file.
  package static func differences(
    _ a: RunConfiguration, _ b: RunConfiguration
  ) -> [(key: String, a: String, b: String)] {
    ConfigurationSchema.sections.flatMap { section in
      section.fields.compactMap { field in
        let x = field.text(in: a), y = field.text(in: b)
        return x == y ? nil : (section.path(of: field), x, y)
      }
    }
  }
}
