// Connections that have not spoken yet. Each takes one of the process's descriptors, whoever it is, so that a stranger without a key
// could take all of them: then no file could be opened, and no checkpoint counted. When few are left the oldest strangers go first.
// A worker or a command speaks as soon as it is connected, so it is never among them for long.

import CLinux

struct Strangers {
  /// By connection, the number of its beginning.
  private var open: [Int32: Int] = [:]
  private var beginnings = 0
  private let limit: Int

  /// An eighth of the process's descriptors, and not fewer than 64, stay for its files.
  static func connectionLimit(descriptors: Int) -> Int { max(16, descriptors - max(64, descriptors / 8)) }

  /// - Parameter limit: connections that may be open at once, of strangers and others.
  init(limit: Int = Strangers.connectionLimit(descriptors: Int(ress_descriptor_limit()))) { self.limit = limit }

  mutating func began(_ connection: Int32) {
    beginnings += 1
    open[connection] = beginnings
  }

  mutating func closed(_ connection: Int32) { open[connection] = nil }

  /// It has said something that counts.
  mutating func spoke(_ connection: Int32) { open[connection] = nil }

  /// The strangers that must go now, the oldest first, where `known` others are connected: more than would be needed, so that this is
  /// seldom asked.
  mutating func surplus(known: Int) -> [Int32] {
    let count = open.count + known
    guard count > limit else { return [] }
    let leaving = open.sorted { $0.value < $1.value }.prefix(count - limit + limit / 4).map(\.key)
    for connection in leaving { open[connection] = nil }
    return leaving
  }
}
