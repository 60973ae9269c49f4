// A sweep: one configuration, trained with every combination of some values of its keys. `--over` gives a key and its
// values; each combination is a run, with a name made from its values. Runs that differ only in training.seed are the
// repetitions of one arm, so every arm has the same seeds.

package struct Sweep: Equatable, Sendable {
  /// A key and the values that it is to have, as they were typed.
  package struct Axis: Equatable, Sendable {
    package var key: String
    package var values: [String]
  }

  package struct Setting: Equatable, Sendable {
    package var key: String
    package var value: String
  }

  package struct Run: Equatable, Sendable {
    package var name: String
    /// One for each axis, in the order of the axes.
    package var settings: [Setting]
    /// The settings without the seed, as a text: runs of one arm have the same.
    package var arm: String {
      settings.filter { $0.key != Sweep.seed }.map { "\($0.key)=\($0.value)" }.joined(separator: " ")
    }
  }

  package static let seed = "training.seed"

  package let axes: [Axis]
  /// With all arms of the first seed first, so that a sweep that is interrupted has a whole comparison early.
  package let runs: [Run]

  /// - Parameters:
  ///   - run: the name of the configuration's run, with which all names begin.
  ///   - over: texts of the form KEY=VALUE,VALUE or KEY=FIRST..LAST.
  ///   - limit: the largest number of runs that is accepted.
  package init(run: String, over: [String], limit: Int) throws(UsageError) {
    var axes: [Axis] = []
    for text in over {
      let axis = try Self.axis(text, limit)
      guard !axes.contains(where: { $0.key == axis.key }) else {
        throw Self.refusal("--over \(axis.key) is given twice; one --over takes all values of a key")
      }
      axes.append(axis)
    }
    var count = 1
    for axis in axes {
      let (product, isTooLarge) = count.multipliedReportingOverflow(by: axis.values.count)
      count = isTooLarge ? .max : product
    }
    guard count <= limit else {
      let factors = axes.map { "\($0.values.count) of \($0.key)" }.joined(separator: " × ")
      throw Self.refusal("\(factors) make \(count) runs, more than --limit \(limit) allows")
    }
    self.axes = axes
    let seeds = axes.filter { $0.key == Self.seed }, others = axes.filter { $0.key != Self.seed }
    var combinations: [[Setting]] = [[]]
    for axis in seeds + others {
      combinations = combinations.flatMap { before in
        axis.values.map { before + [Setting(key: axis.key, value: $0)] }
      }
    }
    let order = axes.map(\.key)
    runs = combinations.map { settings in
      let sorted = settings.sorted { order.firstIndex(of: $0.key)! < order.firstIndex(of: $1.key)! }
      return Run(name: Self.name(run, sorted), settings: sorted)
    }
  }

  /// The keys that a sweep sets itself.
  private static let own = [
    "run": "the names of the runs are made from the values", "checkpoint.directory": "a sweep has a folder of its own",
  ]

  private static func axis(_ text: String, _ limit: Int) throws(UsageError) -> Axis {
    let parts = text.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
    guard parts.count == 2, !parts[0].isEmpty, !parts[1].isEmpty else {
      throw refusal("--over \(text): expected KEY=VALUE,VALUE or KEY=FIRST..LAST, such as training.seed=1..3")
    }
    if let reason = own[parts[0]] { throw refusal("--over \(parts[0]) is not possible: \(reason)") }
    var values: [String] = []
    for part in split(parts[1]) {
      guard !part.isEmpty else { throw refusal("--over \(text): a value between two commas is empty") }
      let more = try range(part, of: text, limit) ?? [part]
      for value in more {
        guard !values.contains(value) else { throw refusal("--over \(text): the value \(value) is given twice") }
        values.append(value)
      }
    }
    return Axis(key: parts[0], values: values)
  }

  /// At commas that are not within braces or brackets: `{a.h5: 1, b.h5: 2}` is one value.
  private static func split(_ text: String) -> [String] {
    var parts = [""], depth = 0
    for character in text {
      switch character {
      case "{", "[": depth += 1
      case "}", "]": depth -= 1
      case "," where depth <= 0:
        parts.append("")
        continue
      default: break
      }
      parts[parts.count - 1].append(character)
    }
    return parts.map { part in
      var part = part[...]
      while part.first == " " { part.removeFirst() }
      while part.last == " " { part.removeLast() }
      return String(part)
    }
  }

  /// `1..3` as 1, 2, 3; nil if the text is not a range.
  private static func range(_ text: String, of option: String, _ limit: Int) throws(UsageError) -> [String]? {
    let ends = text.split(separator: "..", maxSplits: 1, omittingEmptySubsequences: false)
    guard ends.count == 2 else { return nil }
    guard let first = Int(ends[0]), let last = Int(ends[1]) else {
      // A path may contain two dots.
      if text.contains("/") { return nil }
      throw refusal("--over \(option): a range has whole numbers at both ends, such as 1..3")
    }
    guard first <= last else { throw refusal("--over \(option): the range \(text) is empty") }
    let (width, isTooLarge) = last.subtractingReportingOverflow(first)
    guard !isTooLarge, width < limit else {
      throw refusal("--over \(option): the range \(text) has more values than --limit \(limit) allows runs")
    }
    return (first...last).map { String($0) }
  }

  // MARK: Names

  /// `demo-learning_rate-0.003-seed-1`, or with a hash instead of the values where that would be too long for a folder,
  /// or not distinct.
  private static func name(_ run: String, _ settings: [Setting]) -> String {
    let last = settings.map { String($0.key.split(separator: ".").last ?? "") }
    let parts = settings.enumerated().map { index, setting in
      let isAmbiguous = last.count { $0 == last[index] } > 1
      return "-" + (isAmbiguous ? setting.key : last[index]) + "-" + setting.value
    }
    let text = run + parts.joined()
    let isPlain = text.utf8.allSatisfy { byte in
      switch byte {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
        UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "-"):
        true
      default: false
      }
    }
    if isPlain, text.utf8.count <= nameLimit { return text }
    let hash = settings.reduce(0xcbf2_9ce4_8422_2325 as UInt64) { hash, setting in
      "\(setting.key)=\(setting.value)\n".utf8.reduce(hash) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
    }
    return String(run.prefix(nameLimit - 17)) + "-" + String(hash, radix: 16)
  }

  /// Of a run's name (`ConfigurationField.flaw`).
  private static let nameLimit = 100

  private static func refusal(_ message: String) -> UsageError { UsageError(message, command: "sweep") }
}
