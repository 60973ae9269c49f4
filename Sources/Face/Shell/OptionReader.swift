// The arguments and options of a command, declared and read in one place.
//
//   package struct ScaleOptions: CommandOptions {
//     package let run: String
//     package let workers: Int
//
//     package init(_ line: inout OptionReader) {
//       run = line.argument("RUN", "A run's name or identifier.")
//       workers = line.required("--workers", "N", 1...4_096, "Number of workers.")
//     }
//   }
//
// The initializer runs once without a command line, to learn what the command takes: its name, the kind of its value,
// the default and the line of help. It runs again for each command line, to fetch the values, which the parser has
// checked by then. So an option cannot be read without a description, a description cannot lack a value, and a
// command's function gets values with types. In the first run a value that must be given is a placeholder: an
// initializer only stores values, it does not use them.

import Configuration

package protocol CommandOptions: Sendable {
  init(_ line: inout OptionReader)
}

package struct OptionReader {
  private(set) var arguments: [ArgumentDescription] = []
  private(set) var options: [OptionDescription] = []
  private var words: ArraySlice<String>
  private let values: [String: [String]]

  /// - Parameters:
  ///   - words: the words of a command line that are not options, in order.
  ///   - values: the values of each option, in order; a flag has an empty text.
  init(words: [String] = [], values: [String: [String]] = [:]) {
    self.words = words[...]
    self.values = values
  }

  private mutating func declare(_ option: OptionDescription) -> [String] {
    precondition(!options.contains { $0.name == option.name }, "\(option.name) is declared twice")
    options.append(option)
    return values[option.name] ?? []
  }

  // MARK: Arguments

  package mutating func argument(_ name: String, _ meaning: String) -> String {
    arguments.append(ArgumentDescription(name, .one, meaning))
    return words.popFirst() ?? ""
  }

  package mutating func optionalArgument(_ name: String, _ meaning: String) -> String? {
    arguments.append(ArgumentDescription(name, .optional, meaning))
    return words.popFirst()
  }

  /// One word or more.
  package mutating func argumentList(_ name: String, _ meaning: String) -> [String] {
    arguments.append(ArgumentDescription(name, .oneOrMore, meaning))
    defer { words = [] }
    return Array(words)
  }

  // MARK: Options without a value, and options that repeat

  package mutating func flag(_ name: String, _ meaning: String) -> Bool {
    !declare(OptionDescription(name, .none, meaning)).isEmpty
  }

  /// An option that may be given several times.
  package mutating func list(
    _ name: String, _ placeholder: String, isRequired: Bool = false, defaultText: String? = nil, _ meaning: String
  ) -> [String] {
    declare(
      OptionDescription(
        name, .text(placeholder), defaultText: defaultText, isRequired: isRequired, repeats: true, meaning))
  }

  // MARK: Options that must be given

  package mutating func required(_ name: String, _ placeholder: String, _ meaning: String) -> String {
    declare(OptionDescription(name, .text(placeholder), isRequired: true, meaning)).last ?? ""
  }

  package mutating func required(
    _ name: String, _ placeholder: String, _ range: ClosedRange<Int>, _ meaning: String
  ) -> Int {
    let given = declare(OptionDescription(name, .whole(placeholder, range), isRequired: true, meaning))
    return given.last.flatMap { Int($0) } ?? range.lowerBound
  }

  // MARK: Options that may be absent. `defaultText` is what help shows as the default, where that depends on something
  // else.

  package mutating func text(
    _ name: String, _ placeholder: String, defaultText: String? = nil, _ meaning: String
  ) -> String? {
    declare(OptionDescription(name, .text(placeholder), defaultText: defaultText, meaning)).last
  }

  /// `--resume` or `--resume=CHECKPOINT`; without a value an empty text.
  package mutating func optionalText(_ name: String, _ placeholder: String, _ meaning: String) -> String? {
    declare(OptionDescription(name, .optionalText(placeholder), meaning)).last
  }

  package mutating func whole(
    _ name: String, _ placeholder: String, _ range: ClosedRange<Int>, defaultText: String? = nil, _ meaning: String
  ) -> Int? {
    declare(OptionDescription(name, .whole(placeholder, range), defaultText: defaultText, meaning)).last
      .flatMap { Int($0) }
  }

  package mutating func real(
    _ name: String, _ placeholder: String, _ range: ClosedRange<Double>, defaultText: String? = nil, _ meaning: String
  ) -> Double? {
    declare(OptionDescription(name, .real(placeholder, range), defaultText: defaultText, meaning)).last
      .flatMap { Double($0) }
  }

  /// - Parameter choices: the names of an enumeration that `Shell` does not know.
  package mutating func choice(
    _ name: String, _ choices: [String], defaultText: String? = nil, _ meaning: String
  ) -> String? {
    declare(OptionDescription(name, .choice(choices), defaultText: defaultText, meaning)).last
  }

  package mutating func choice<Choice: CaseIterable & RawRepresentable<String>>(
    _ name: String, of type: Choice.Type, defaultText: String, _ meaning: String
  ) -> Choice? {
    choice(name, type.allCases.map(\.rawValue), defaultText: defaultText, meaning).flatMap { Choice(rawValue: $0) }
  }

  // MARK: Options with a default, which help shows

  package mutating func text(_ name: String, _ placeholder: String, default standard: String, _ meaning: String)
    -> String
  {
    text(name, placeholder, defaultText: standard, meaning) ?? standard
  }

  package mutating func whole(
    _ name: String, _ placeholder: String, _ range: ClosedRange<Int>, default standard: Int, _ meaning: String
  ) -> Int {
    whole(name, placeholder, range, defaultText: String(standard), meaning) ?? standard
  }

  package mutating func real(
    _ name: String, _ placeholder: String, _ range: ClosedRange<Double>, default standard: Double, _ meaning: String
  ) -> Double {
    real(name, placeholder, range, defaultText: Format.short(standard), meaning) ?? standard
  }

  package mutating func choice(
    _ name: String, _ choices: [String], default standard: String, _ meaning: String
  ) -> String {
    choice(name, choices, defaultText: standard, meaning) ?? standard
  }

  package mutating func choice<Choice: CaseIterable & RawRepresentable<String>>(
    _ name: String, default standard: Choice, _ meaning: String
  ) -> Choice {
    choice(name, of: Choice.self, defaultText: standard.rawValue, meaning) ?? standard
  }
}
