// A `RunConfiguration` back to the file that a person would write, each key with what it means. Reading it gives
// the same configuration (a test checks every field), so `ress config show` is also a way to begin a new file.

package enum ConfigurationEncoder {
  /// Comments begin in this column where the value leaves room.
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
}
