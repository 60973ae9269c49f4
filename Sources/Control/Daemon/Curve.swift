// A run's curve in a few hundred buckets, however many steps it has: each holds the smallest, the mean and the largest
// value of its steps. When there are too many buckets, pairs of them are merged, and the buckets become twice as wide.
// So a million steps take the memory of a thousand, and a spike of a single step is never lost, as it would be in a
// curve of every n-th step.

import Wire

/// The values of several steps, summarized.
package struct Band: Equatable, Sendable {
  package private(set) var minimum: Double
  package private(set) var maximum: Double
  private var sum: Double
  private var weight: Double

  /// nil if the value is not finite, or has no weight.
  package init?(_ value: Double, weight: Double = 1) {
    guard value.isFinite, weight > 0 else { return nil }
    (minimum, maximum, sum, self.weight) = (value, value, value * weight, weight)
  }

  package var mean: Double { sum / weight }

  package static func + (a: Band, b: Band) -> Band {
    var both = a
    both.minimum = min(a.minimum, b.minimum)
    both.maximum = max(a.maximum, b.maximum)
    both.sum += b.sum
    both.weight += b.weight
    return both
  }

  /// nil if there are no values.
  static func sum(_ bands: some Sequence<Band?>) -> Band? {
    bands.reduce(nil) { sum, band in
      guard let sum, let band else { return sum ?? band }
      return sum + band
    }
  }
}

package struct Curve: Equatable, Sendable {
  package struct Bucket: Equatable, Sendable {
    /// Its steps, from the first to the last.
    package var first: Int
    package var last: Int
    /// Cross-entropy, nats a target.
    package var loss: Band?
    /// Tokens a second; each step is weighted by its duration.
    package var throughput: Band?
    /// Of the gradient's norm, before clipping.
    package var gradientNorm: Band?
    package var learningRate: Band?
    /// Of its steps, all together.
    package var tokens = 0
    /// Steps that were not applied.
    package var skipped = 0
    package var seconds = 0.0
    /// The last event in it.
    package var event: Int

    /// `later` is the bucket right after this one.
    fileprivate mutating func join(_ later: Bucket) {
      last = later.last
      loss = Band.sum([loss, later.loss])
      throughput = Band.sum([throughput, later.throughput])
      gradientNorm = Band.sum([gradientNorm, later.gradientNorm])
      learningRate = Band.sum([learningRate, later.learningRate])
      tokens += later.tokens
      skipped += later.skipped
      seconds += later.seconds
      event = later.event
    }
  }

  package let limit: Int
  /// Number of steps in a bucket: steps 1 … width are in the first one.
  package private(set) var width = 1
  package private(set) var buckets: [Bucket] = []

  package init(limit: Int = 1000) {
    precondition(limit >= 2, "\(limit) buckets")
    self.limit = limit
  }

  /// Steps arrive in order, but some may be missing.
  package mutating func add(_ record: StepRecord, event: Int) {
    put(Bucket(record, event: event))
    while buckets.count > limit { widen() }
  }

  /// The run was rewound to `step`; drops later points. A bucket that contains `step` stays, because it cannot be
  /// split.
  package mutating func cut(after step: Int) { buckets.removeAll { $0.first > step } }

  private func place(_ step: Int) -> Int { (step - 1) / width }

  /// Appends a bucket, or merges it into the last one if both cover the same steps.
  private mutating func put(_ bucket: Bucket) {
    if let last = buckets.last, place(last.first) == place(bucket.first) {
      buckets[buckets.count - 1].join(bucket)
    } else {
      buckets.append(bucket)
    }
  }

  private mutating func widen() {
    width *= 2
    let narrow = buckets
    buckets = []
    for bucket in narrow { put(bucket) }
  }
}

extension Curve.Bucket {
  fileprivate init(_ record: StepRecord, event: Int) {
    self.init(
      // A step that was not applied has no loss: a finite part of it would look like any other step.
      first: record.step, last: record.step, loss: record.isSound ? Band(record.task) : nil,
      throughput: record.tokensPerSecond.flatMap { Band($0, weight: record.seconds) },
      gradientNorm: Band(record.gradientNorm), learningRate: Band(record.learningRate), tokens: record.tokens,
      skipped: record.skipped == nil ? 0 : 1, seconds: record.seconds,
      event: event)
  }
}

extension Curve {
  /// Steps that were not applied.
  package var skipped: Int { buckets.reduce(0) { $0 + $1.skipped } }

  /// The pace over about the last `steps` steps; nil before the first step.
  package func recent(steps: Int) -> (tokensPerSecond: Double?, secondsPerStep: Double)? {
    guard let end = buckets.last?.last else { return nil }
    // At least the last two buckets: one of them may hold a single step.
    let first = min(buckets.lastIndex { $0.first <= end - steps } ?? 0, max(0, buckets.count - 2))
    let chosen = buckets[first...]
    let seconds = chosen.reduce(0) { $0 + $1.seconds }, count = chosen.last!.last - chosen.first!.first + 1
    return seconds > 0 ? (Band.sum(chosen.map(\.throughput))?.mean, seconds / Double(count)) : nil
  }

  /// Mean losses in at most `points` points.
  func sketch(points: Int) -> [Float] {
    let count = min(points, buckets.count)
    return (0..<count).compactMap { point in
      let part = buckets[point * buckets.count / count..<(point + 1) * buckets.count / count]
      return Band.sum(part.map(\.loss)).map { Float($0.mean) }
    }
  }
}
