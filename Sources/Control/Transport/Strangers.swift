// Limits connections that have not sent a message yet. Each takes one of the process's file descriptors, even
// before it is authenticated, so that a client without a key could use up all of them; then no file could be opened
// and no checkpoint committed. When few descriptors are left, the oldest of these connections are closed first.
// Workers and commands send a message as soon as they are connected, so they are among them only briefly.

import CLinux

struct Strangers {
  /// Silent connections, with the order in which they were opened.
  private var open: [Int32: Int] = [:]
  private var beginnings = 0
  private let limit: Int

  /// An eighth of the process's descriptors, and at least 64, are reserved for files.
  static func connectionLimit(descriptors: Int) -> Int { max(16, descriptors - max(64, descriptors / 8)) }

  /// - Parameter limit: most open connections, silent ones and others together.
  init(limit: Int = Strangers.connectionLimit(descriptors: Int(ress_descriptor_limit()))) { self.limit = limit }

  mutating func began(_ connection: Int32) {
    beginnings += 1
    open[connection] = beginnings
  }

  mutating func closed(_ connection: Int32) { open[connection] = nil }

  /// The connection has delivered a valid packet.
  mutating func spoke(_ connection: Int32) { open[connection] = nil }

  /// The silent connections to close now, oldest first, where `known` other connections are open. It returns more
  /// than necessary, so that connections are not closed one at a time.
  mutating func surplus(known: Int) -> [Int32] {
    let count = open.count + known
    guard count > limit else { return [] }
    let leaving = open.sorted { $0.value < $1.value }.prefix(count - limit + limit / 4).map(\.key)
    for connection in leaving { open[connection] = nil }
    return leaving
  }
}
