// Formats counts, and lists of whole numbers and of names, for messages, logs and views.

package enum SpokenNumbers {
  /// `1 worker`, `3 workers`, `2 copies`: a count with its noun.
  /// - Parameter many: the plural where it is not `one` with an s.
  package static func count(_ count: Int, _ one: String, _ many: String? = nil) -> String {
    "\(count) \(noun(count, one, many))"
  }

  /// The noun alone, for a count that is written in another form, such as `12,345`.
  package static func noun(_ count: Int, _ one: String, _ many: String? = nil) -> String {
    count == 1 ? one : many ?? one + "s"
  }

  /// `00042`: with zeros before it, for names that are sorted as text.
  package static func padded(_ number: Int, to width: Int) -> String {
    let digits = String(number)
    return String(repeating: "0", count: max(0, width - digits.count)) + digits
  }

  /// `0–3, 6`: sorted, with consecutive numbers joined; `none` for an empty list.
  package static func ranges(_ numbers: some Sequence<Int>) -> String {
    var ranges: [ClosedRange<Int>] = []
    for number in numbers.sorted() {
      if let last = ranges.last, number <= last.upperBound + 1 {
        ranges[ranges.count - 1] = last.lowerBound...max(number, last.upperBound)
      } else {
        ranges.append(number...number)
      }
    }
    if ranges.isEmpty { return "none" }
    return ranges.map { $0.count == 1 ? "\($0.lowerBound)" : "\($0.lowerBound)–\($0.upperBound)" }.joined(
      separator: ", ")
  }

  /// `a`, `a and b`, `a, b and c`, `a, b, c and 2 others`; empty for an empty list.
  /// - Parameter count: the number of names, of which `first` has the first ones.
  package static func names(_ first: [String], of count: Int) -> String {
    let left = count - first.count
    let parts = left > 0 ? first + [self.count(left, "other")] : first
    guard parts.count > 1 else { return parts.first ?? "" }
    return parts.dropLast().joined(separator: ", ") + " and " + parts.last!
  }
}
