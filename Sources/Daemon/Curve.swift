// A run's curve in a few hundred buckets, however many steps it has: each holds the smallest, the mean and the largest of its
// steps. When there are too many, buckets become twice as wide, and two of them one. So a million steps take the memory of a
// thousand, and a spike of a single step is never lost, which every n-th step would lose.

import Wire

/// Values of several steps as one.
package struct Band: Equatable, Sendable {
  package private(set) var minimum: Double
  package private(set) var maximum: Double
  private var sum: Double
  private var weight: Double

  /// nil where the value is no number, or weighs nothing.
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

  /// nil where there is none.
  static func sum(_ bands: some Sequence<Band?>) -> Band? {
    bands.reduce(nil) { sum, band in
      guard let sum, let band else { return sum ?? band }
      return sum + band
    }
  }
}

package struct Curve: Equatable, Sendable {
  package struct Bucket: Equatable, Sendable {
    /// Steps it holds, from the first to the last.
    package var first: Int
    package var last: Int
    /// Cross-entropy, nats a target.
    package var loss: Band?
    /// Tokens a second; a step counts for as long as it took.
    package var throughput: Band?
    /// Of the gradient's norm, before clipping.
    package var gradientNorm: Band?
    /// Steps that were not applied.
    package var skipped = 0
    package var seconds = 0.0
    /// The last event that went into it.
    package var event: Int

    /// `later` comes right behind.
    fileprivate mutating func join(_ later: Bucket) {
      last = later.last
      loss = Band.sum([loss, later.loss])
      throughput = Band.sum([throughput, later.throughput])
      gradientNorm = Band.sum([gradientNorm, later.gradientNorm])
      skipped += later.skipped
      seconds += later.seconds
      event = later.event
    }
  }

  package let limit: Int
  /// Steps of a bucket: steps 1 … width are in the first place.
  package private(set) var width = 1
  package private(set) var buckets: [Bucket] = []

  package init(limit: Int = 1000) {
    precondition(limit >= 2, "\(limit) buckets")
    self.limit = limit
  }

  /// Steps come in order, not all of them.
  package mutating func add(_ record: StepRecord, event: Int) {
    put(Bucket(record, event: event))
    while buckets.count > limit { widen() }
  }

  /// The run goes on behind `step`: what came after it is another curve's. A bucket across the border stays, as it cannot be parted.
  package mutating func cut(after step: Int) { buckets.removeAll { $0.first > step } }

  private func place(_ step: Int) -> Int { (step - 1) / width }

  /// Behind the others, or into the last of them where both have one place.
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
      gradientNorm: Band(record.gradientNorm), skipped: record.skipped == nil ? 0 : 1, seconds: record.seconds,
      event: event)
  }
}

extension Curve {
  /// Steps that were not applied.
  package var skipped: Int { buckets.reduce(0) { $0 + $1.skipped } }

  /// The pace over about the last `steps` steps; nil before the first.
  package func recent(steps: Int) -> (tokensPerSecond: Double?, secondsPerStep: Double)? {
    guard let end = buckets.last?.last else { return nil }
    // At least the last two buckets: one of them may hold a single step.
    let first = min(buckets.lastIndex { $0.first <= end - steps } ?? 0, max(0, buckets.count - 2))
    let chosen = buckets[first...]
    let seconds = chosen.reduce(0) { $0 + $1.seconds }, count = chosen.last!.last - chosen.first!.first + 1
    return seconds > 0 ? (Band.sum(chosen.map(\.throughput))?.mean, seconds / Double(count)) : nil
  }

  /// Mean losses in at most `points` points.
  package func sketch(points: Int) -> [Float] {
    let count = min(points, buckets.count)
    return (0..<count).compactMap { point in
      let part = buckets[point * buckets.count / count..<(point + 1) * buckets.count / count]
      return Band.sum(part.map(\.loss)).map { Float($0.mean) }
    }
  }
}
