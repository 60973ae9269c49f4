// Ends a generated text before the first of some strings. A stop string may be spread over several tokens, so bytes
// that may be the beginning of one are held back until the next bytes decide.

package struct StopStrings: Sendable {
  private let stops: [[UInt8]]
  private var waiting: [UInt8] = []

  package init(_ stops: [String]) { self.stops = stops.map { Array($0.utf8) }.filter { !$0.isEmpty } }

  /// Takes the next bytes of the text.
  ///
  /// - Returns: bytes that belong to the text in any case, and the stop string that ends it; the string itself and
  ///   what follows it are not part of the text.
  package mutating func take(_ bytes: some Sequence<UInt8>) -> (text: [UInt8], stop: String?) {
    waiting += bytes
    // The string that is complete first ends the text; of those that end together the longest.
    for end in 0...waiting.count {
      let found = stops.filter { waiting[..<end].suffix($0.count).elementsEqual($0) }.max { $0.count < $1.count }
      guard let found else { continue }
      defer { waiting = [] }
      return (Array(waiting[..<(end - found.count)]), String(decoding: found, as: UTF8.self))
    }
    let held = (0...waiting.count).first { start in stops.contains { $0.starts(with: waiting[start...]) } }
    let count = held ?? waiting.count
    defer { waiting.removeFirst(count) }
    return (Array(waiting[..<count]), nil)
  }

  /// The bytes that were held back, at the end of the text.
  package mutating func rest() -> [UInt8] {
    defer { waiting = [] }
    return waiting
  }
}
