// Numbers formatted for people, without Foundation.

import Configuration

package enum Format {
  /// `2.2250`: `digits` after the point.
  package static func fixed(_ value: Double, _ digits: Int) -> String {
    guard value.isFinite else { return value.isNaN ? "nan" : value < 0 ? "-inf" : "inf" }
    var scale = 1.0
    for _ in 0..<digits { scale *= 10 }
    let scaled = (abs(value) * scale).rounded()
    // An Int cannot hold larger values, and their digits after the point do not matter.
    guard scaled < 9e18 else { return String(value) }
    let sign = value < 0 && scaled > 0 ? "-" : ""
    let (whole, rest) = Int(scaled).quotientAndRemainder(dividingBy: Int(scale))
    guard digits > 0 else { return sign + String(whole) }
    let tail = String(rest)
    return "\(sign)\(whole)." + String(repeating: "0", count: digits - tail.count) + tail
  }

  /// A number without a needless `.0`: `1`, `0.5`.
  package static func short(_ value: Double) -> String {
    value == value.rounded() && abs(value) < 1e15 ? String(Int(value)) : String(value)
  }

  /// `12,345,678`
  package static func grouped(_ value: Int) -> String {
    var digits = String(value.magnitude), groups: [String] = []
    while digits.count > 3 {
      groups.insert(String(digits.suffix(3)), at: 0)
      digits.removeLast(3)
    }
    return (value < 0 ? "-" : "") + ([digits] + groups).joined(separator: ",")
  }

  /// `1 document`, `12,345 documents`: a count with its noun.
  /// - Parameter many: the plural where it is not `one` with an s.
  package static func count(_ count: Int, _ one: String, _ many: String? = nil) -> String {
    "\(grouped(count)) \(SpokenNumbers.noun(count, one, many))"
  }

  /// `950`, `12.3k`, `4.56M`: three significant digits.
  package static func compact(_ value: Double) -> String {
    for (limit, suffix) in [(1e9, "G"), (1e6, "M"), (1e3, "k")] where abs(value) >= limit {
      let scaled = value / limit
      return fixed(scaled, abs(scaled) >= 100 ? 0 : abs(scaled) >= 10 ? 1 : 2) + suffix
    }
    return fixed(value, 0)
  }

  /// `512 B`, `3.2 MiB`
  package static func bytes(_ count: Int) -> String {
    var value = Double(count)
    for unit in ["B", "KiB", "MiB", "GiB"] {
      if abs(value) < 1024 { return (unit == "B" ? String(count) : fixed(value, value < 10 ? 1 : 0)) + " " + unit }
      value /= 1024
    }
    return fixed(value, 1) + " TiB"
  }

  /// `0.62 ms`, `71 ms`, `1.24 s`: a short duration.
  package static func seconds(_ seconds: Double) -> String {
    if seconds >= 1 { return fixed(seconds, seconds < 10 ? 2 : 1) + " s" }
    let milliseconds = 1000 * seconds
    return fixed(milliseconds, milliseconds < 10 ? 2 : milliseconds < 100 ? 1 : 0) + " ms"
  }

  /// `42 s`, `3:05`, `2:14:09`
  package static func duration(seconds: Double) -> String {
    guard seconds.isFinite, seconds < 1e9 else { return "?" }
    let total = Int(max(0, seconds).rounded())
    if total < 60 { return "\(total) s" }
    func two(_ value: Int) -> String { value < 10 ? "0\(value)" : String(value) }
    let (hours, minutes) = (total / 3600, total / 60 % 60)
    return hours > 0 ? "\(hours):\(two(minutes)):\(two(total % 60))" : "\(minutes):\(two(total % 60))"
  }

  /// `0–3, 6`: ascending whole numbers, with consecutive ones as ranges.
  package static func ranges(_ numbers: some Sequence<Int>) -> String { SpokenNumbers.ranges(numbers) }
}
