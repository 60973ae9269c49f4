// Where a step's time goes: spans of one thread, by part of the model, and what the lanes of its team did meanwhile. Without a
// profile, `Team.measure` costs one comparison.

#if canImport(Glibc)
  import Glibc
#endif

/// A part of the training step, in the order in which data flows.
package enum ProfilePart: String, CaseIterable, Sendable {
  case step
  case read = "read data"
  case embedding, input = "step input", graph, attention
  case denseAttention = "dense attention"
  case feedForward = "router, dense network"
  case experts, memory, head, losses, tree
  case waiting = "waiting for peers"
  case optimizer
}

package enum ProfileDirection: String, CaseIterable, Sendable { case forward, backward, neither }

package final class Profile: @unchecked Sendable {
  package struct Span: Sendable {
    package var part: ProfilePart
    package var direction: ProfileDirection
    /// 0 is the training thread; a lane's spans are the regions it worked in.
    package var lane: Int
    /// Nanoseconds since the profile began.
    package var begin: Int64
    package var end: Int64
    /// Spans around it on its lane.
    package var depth: Int
  }

  /// Spans of each lane, in the order in which they ended. A lane writes its own.
  private var lanes: [Lane]
  private let origin: Int64
  private var depth = 0
  /// What the training thread is in: the name of the lanes' spans.
  private var current: (part: ProfilePart, direction: ProfileDirection) = (.step, .neither)

  private final class Lane: @unchecked Sendable {
    var spans: [Span] = []
    init() { spans.reserveCapacity(Profile.capacity) }
  }

  /// Spans a lane keeps; what comes later is not kept, and `isComplete` says so.
  private static let capacity = 1 << 19
  package private(set) var isComplete = true

  package init(laneCount: Int) {
    lanes = (0..<laneCount).map { _ in Lane() }
    origin = Profile.now()
  }

  static func now() -> Int64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
  }

  func measure<Result, Failure: Error>(
    _ part: ProfilePart, _ direction: ProfileDirection, _ body: () throws(Failure) -> Result
  ) throws(Failure) -> Result {
    let outer = current
    current = (part, direction)
    depth += 1
    let begin = Profile.now()
    defer {
      depth -= 1
      current = outer
      add(Span(part: part, direction: direction, lane: 0, begin: begin, end: Profile.now(), depth: depth))
    }
    return try body()
  }

  /// A region that a lane other than the training thread's worked in.
  func note(lane: Int, begin: Int64) {
    add(
      Span(part: current.part, direction: current.direction, lane: lane, begin: begin, end: Profile.now(), depth: 0))
  }

  private func add(_ span: Span) {
    guard lanes[span.lane].spans.count < Profile.capacity else { return isComplete = false }
    var span = span
    span.begin -= origin
    span.end -= origin
    lanes[span.lane].spans.append(span)
  }

  package var spans: [Span] { lanes.flatMap(\.spans) }

  /// Nanoseconds of the training thread in each part, without the parts inside it.
  package func selfTimes() -> [(part: ProfilePart, direction: ProfileDirection, nanoseconds: Int64)] {
    var totals: [String: Int64] = [:]
    // Spans come in the order of their ends, so a span's children stand before it.
    var inside: [Int64] = Array(repeating: 0, count: 64)
    for span in lanes[0].spans {
      let whole = span.end - span.begin
      totals[span.part.rawValue + span.direction.rawValue, default: 0] += whole - inside[span.depth + 1]
      inside[span.depth + 1] = 0
      inside[span.depth] += whole
    }
    return ProfilePart.allCases.flatMap { part in
      ProfileDirection.allCases.compactMap { direction in
        totals[part.rawValue + direction.rawValue].map { (part, direction, $0) }
      }
    }
  }
}
