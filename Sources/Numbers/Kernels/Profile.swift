// A profile of training steps: how long the training thread spent in each part of the model, and in which parallel
// regions the other threads worked. Without a profile, `Team.measure` costs one comparison.

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

/// The pass that a part of the model belongs to; `neither` for parts outside of the model.
package enum ProfileDirection: String, CaseIterable, Sendable { case forward, backward, neither }

package final class Profile: @unchecked Sendable {
  package struct Span: Sendable {
    package var part: ProfilePart
    package var direction: ProfileDirection
    /// Thread number. 0 is the training thread, and the threads that lead the other teams have spans like it; the spans
    /// of all other threads are the parallel regions in which they worked.
    package var lane: Int
    /// Nanoseconds since the profile began.
    package var begin: Int64
    package var end: Int64
    /// Number of spans around it on its thread.
    package var depth: Int
  }

  /// Spans of each thread, in the order in which they ended. Each thread writes only its own.
  private var lanes: [Lane]
  private let origin: Int64
  /// The spans under way of each team that measures: the whole, then the teams of its division.
  private let tracks: [Track]

  private final class Track: @unchecked Sendable {
    /// The spans of the leading thread that have not ended, the innermost last.
    var open: [Span] = []
    /// The innermost span of the leading thread; spans of the team's other threads get its name.
    var current: (part: ProfilePart, direction: ProfileDirection) = (.step, .neither)
  }

  private final class Lane: @unchecked Sendable {
    var spans: [Span] = []
    init() { spans.reserveCapacity(Profile.capacity) }
  }

  /// Most spans of a thread. Later ones are dropped, and `isComplete` becomes false.
  private static let capacity = 1 << 19
  package private(set) var isComplete = true

  /// - Parameter teamCount: teams of the division whose threads are recorded.
  package init(laneCount: Int, teamCount: Int = 1) {
    tracks = (0...teamCount).map { _ in Track() }
    lanes = (0..<laneCount).map { _ in Lane() }
    origin = Profile.now()
  }

  static func now() -> Int64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
  }

  /// - Parameters:
  ///   - track: the team that measures: 0 is the whole.
  ///   - lane: the thread that leads it.
  func measure<Result, Failure: Error>(
    _ part: ProfilePart, _ direction: ProfileDirection, track: Int, lane: Int, _ body: () throws(Failure) -> Result
  ) throws(Failure) -> Result {
    let own = tracks[track]
    let outer = own.current
    own.current = (part, direction)
    // The thread that leads the whole also leads the first team, inside the spans of the whole.
    let outside = track > 0 && lane == 0 ? tracks[0].open.count : 0
    own.open.append(
      Span(
        part: part, direction: direction, lane: lane, begin: Profile.now(), end: 0, depth: outside + own.open.count))
    defer {
      own.current = outer
      end(own.open.removeLast())
    }
    return try body()
  }

  private func end(_ span: Span) {
    var span = span
    span.end = Profile.now()
    add(span)
  }

  /// Spans that were interrupted, because another thread computes for a while.
  struct Paused {
    fileprivate var track: Int
    fileprivate var open: [Span]
    fileprivate var current: (part: ProfilePart, direction: ProfileDirection)
  }

  /// Ends the open spans of a team for now.
  func pause(track: Int) -> Paused {
    let own = tracks[track]
    let paused = Paused(track: track, open: own.open, current: own.current)
    while let span = own.open.popLast() { end(span) }
    return paused
  }

  /// Continues the spans that `pause` ended; nothing is recorded for the time between.
  func resume(_ paused: Paused) {
    let own = tracks[paused.track]
    own.open = paused.open
    own.current = paused.current
    let now = Profile.now()
    for place in own.open.indices { own.open[place].begin = now }
  }

  /// Adds a parallel region of a team in which a thread other than its leading thread worked.
  func note(track: Int, lane: Int, begin: Int64) {
    let current = tracks[track].current
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

  /// Nanoseconds that a thread worked.
  package func busy(lane: Int) -> Int64 {
    lanes[lane].spans.reduce(0) { $1.depth == 0 ? $0 + $1.end - $1.begin : $0 }
  }

  /// Nanoseconds that the training thread, which leads the first team, spent in each part, without the parts nested in
  /// it.
  package func selfTimes() -> [(part: ProfilePart, direction: ProfileDirection, nanoseconds: Int64)] {
    var totals: [String: Int64] = [:]
    // Spans are in the order of their ends, so a span's children precede it.
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
