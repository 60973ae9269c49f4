// Checks a configuration that was not read from a file, such as one that a command sent: the rules are those for a
// file.

extension RunConfiguration {
  /// Throws every rule of the schema, and between fields, that this configuration breaks. Problems name the key.
  package func check() throws(ConfigurationError) {
    // There is one set of rules: write the values as a file, and decode it.
    let text = ConfigurationEncoder.yaml(self)
    do throws(ConfigurationError) {
      _ = try ConfigurationDecoder.decode(text: text, name: "this configuration")
    } catch {
      let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
      throw ConfigurationError(
        error.problems.map { problem in
          guard case .place(_, let line, _) = problem.source, lines.indices.contains(line - 1) else { return problem }
          return ConfigurationProblem(.file(Self.path(of: line - 1, in: lines)), problem.message)
        })
    }
  }

  /// The same for a configuration that was stored with a model, in a checkpoint's manifest or a safetensors file: every
  /// number must be valid in a file, so that sizes computed from them cannot overflow. A model needs no dataset.
  package func checkOfModel() throws(ConfigurationError) {
    var whole = self
    if data.path.isEmpty && data.mixture.isEmpty { whole.data.path = "none" }
    if checkpoint.directory.isEmpty { whole.checkpoint.directory = "none" }
    try whole.check()
  }

  /// `model.width`, for the line of that key in the encoder's output.
  private static func path(of line: Int, in lines: [Substring]) -> String {
    func key(_ line: Substring) -> Substring { line.drop { $0 == " " }.prefix { $0 != ":" } }
    guard lines[line].hasPrefix(" ") else { return String(key(lines[line])) }
    let section = lines[..<line].last { $0.first.map { $0 != " " && $0 != "#" } ?? false }
    return section.map { "\(key($0)).\(key(lines[line]))" } ?? String(key(lines[line]))
  }
}
