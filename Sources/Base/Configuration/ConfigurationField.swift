// One key of a configuration: its name, its meaning, its possible values, and its field in `RunConfiguration`. Decoder,
// encoder, hints and docs/configuration.md all use it, so a key is declared once (`ConfigurationSchema`).

package struct ConfigurationField: Sendable {
  typealias Path<Value> = any WritableKeyPath<RunConfiguration, Value> & Sendable

  /// The possible values and the property of `RunConfiguration`.
  enum Kind: Sendable {
    case whole(Path<Int>, ClosedRange<Int>)
    /// A whole number or `null`.
    case wholeOrNull(Path<Int?>, ClosedRange<Int>)
    /// A whole number or `auto`, which is 0.
    case wholeOrAuto(Path<Int>, ClosedRange<Int>)
    case seed(Path<UInt64>)
    case real(Path<Double>, RealRange)
    case flag(Path<Bool>)
    case text(Path<String>)
    /// Text or `null`, which is the empty text.
    case textOrNull(Path<String>)
    /// Paths with weights: keys and values, also in one line.
    case weights(Path<[WeightedPath]>)
    /// A list of names, also in one line.
    case names(Path<[String]>)
    /// A text that is also a folder's name.
    case name(Path<String>)
    case choice(
      [String], get: @Sendable (RunConfiguration) -> String, set: @Sendable (inout RunConfiguration, String) -> Void)
  }

  package let name: String
  package let documentation: String
  let kind: Kind

  init(_ name: String, _ kind: Kind, _ documentation: String) {
    self.name = name
    self.kind = kind
    self.documentation = documentation
  }

  /// A field for an enumeration, which lists its own values.
  static func choice<Choice: RawRepresentable<String> & CaseIterable & Sendable>(
    _ name: String, _ path: Path<Choice>, _ documentation: String
  ) -> Self {
    Self(
      name,
      .choice(
        Choice.allCases.map(\.rawValue), get: { $0[keyPath: path].rawValue },
        set: { configuration, text in
          guard let value = Choice(rawValue: text) else { preconditionFailure("'\(text)' is no \(Choice.self)") }
          configuration[keyPath: path] = value
        }), documentation)
  }

  /// The expected value, for a message after "expected": `a whole number from 1 to 65536`.
  package var expectation: String {
    switch kind {
    case .whole(_, let range): "a whole number" + Self.describe(range)
    case .wholeOrNull(_, let range): "a whole number" + Self.describe(range) + ", or null"
    case .wholeOrAuto(_, let range): "auto, or a whole number" + Self.describe(range)
    case .seed: "a whole number from 0 to \(UInt64.max)"
    case .real(_, let range): "a number \(range)"
    case .flag: "true or false"
    case .text: "text"
    case .textOrNull: "text, or null"
    case .weights: "datasets with weights, such as {a.h5: 3, b.h5: 1}"
    case .names: "a list of names, such as [embed, experts]"
    case .name: "a name of letters, digits, '.', '_' and '-'"
    case .choice(let names, _, _): "one of " + names.joined(separator: ", ")
    }
  }

  private static func describe(_ range: ClosedRange<Int>) -> String {
    range.upperBound == .max ? ", at least \(range.lowerBound)" : " from \(range.lowerBound) to \(range.upperBound)"
  }
}

/// The range of a real field.
struct RealRange: Sendable, CustomStringConvertible {
  enum Bound: Sendable { case including(Double), excluding(Double) }

  var lower: Bound
  var upper: Bound?

  static let positive = RealRange(lower: .excluding(0))
  static let notNegative = RealRange(lower: .including(0))
  static let share = RealRange(lower: .including(0), upper: .including(1))
  static let belowOne = RealRange(lower: .including(0), upper: .excluding(1))

  static func between(_ lower: Double, _ upper: Double) -> RealRange {
    RealRange(lower: .including(lower), upper: .including(upper))
  }

  /// Always false for a value that is not finite.
  func contains(_ value: Double) -> Bool {
    guard value.isFinite else { return false }
    switch lower {
    case .including(let bound): if value < bound { return false }
    case .excluding(let bound): if value <= bound { return false }
    }
    switch upper {
    case .including(let bound): return value <= bound
    case .excluding(let bound): return value < bound
    case nil: return true
    }
  }

  var description: String {
    switch (lower, upper) {
    case (.including(let low), nil): "of at least \(Self.short(low))"
    case (.excluding(let low), nil): "above \(Self.short(low))"
    case (.including(let low), .including(let high)): "from \(Self.short(low)) to \(Self.short(high))"
    case (.including(let low), .excluding(let high)): "of at least \(Self.short(low)) and below \(Self.short(high))"
    case (.excluding(let low), .including(let high)): "above \(Self.short(low)) and at most \(Self.short(high))"
    case (.excluding(let low), .excluding(let high)): "between \(Self.short(low)) and \(Self.short(high))"
    }
  }

  private static func short(_ bound: Double) -> String {
    bound == bound.rounded() && abs(bound) < 1e15 ? String(Int(bound)) : String(bound)
  }
}
