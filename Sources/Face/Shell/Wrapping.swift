// Wraps lines between words. A terminal would break them within words.

package enum Wrapping {
  /// Breaks lines between words so that each has at most `columns` characters, unless a single word is longer: a path
  /// stays in one piece, so that it can be copied. Continuation lines are indented by two more spaces than the line
  /// itself.
  package static func wrapped(_ text: String, columns: Int) -> String {
    text.split(separator: "\n", omittingEmptySubsequences: false).map { line in
      line.count <= columns ? String(line) : wrapped(line, columns)
    }.joined(separator: "\n")
  }

  private static func wrapped(_ line: Substring, _ columns: Int) -> String {
    let indent = line.prefix { $0 == " " }
    // A very narrow terminal has no room for indentation.
    let next = String(indent) + (columns >= 40 ? "  " : "")
    var lines: [String] = [], current = String(indent), isEmpty = true
    for word in line.dropFirst(indent.count).split(separator: " ", omittingEmptySubsequences: false) {
      if !isEmpty, current.count + 1 + word.count > columns {
        lines.append(current)
        (current, isEmpty) = (next, true)
      }
      current += (isEmpty ? "" : " ") + word
      isEmpty = false
    }
    return (lines + [current]).joined(separator: "\n")
  }
}
