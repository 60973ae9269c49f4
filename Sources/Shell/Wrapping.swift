// Lines that fit a terminal, which would break words in the middle.

package enum Wrapping {
  /// Breaks lines between words so that each has at most `columns` characters, where no single word is longer: a path stays whole, so that
  /// it can be copied. What a line is continued with is indented as the line is, and two more.
  package static func wrapped(_ text: String, columns: Int) -> String {
    text.split(separator: "\n", omittingEmptySubsequences: false).map { line in
      line.count <= columns ? String(line) : wrapped(line, columns)
    }.joined(separator: "\n")
  }

  private static func wrapped(_ line: Substring, _ columns: Int) -> String {
    let indent = line.prefix { $0 == " " }
    // On a very narrow terminal words need the room more.
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
