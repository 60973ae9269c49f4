// A run's curves for TensorBoard: an event file of TFRecords, each with an Event in the wire format of protocol buffers.
// https://github.com/tensorflow/tensorboard, proto/event.proto and summary.proto; TFRecord: tensorflow/core/lib/io/record_writer.h.

import Wire

package enum TensorBoard {
  /// The start of a file. Steps from `step` on in earlier files of the folder no longer count.
  package static func beginning(step: Int, at seconds: Double) -> [UInt8] {
    var version = Message()
    version.double(1, seconds)
    version.text(3, "brain.Event:2")
    var session = Message()
    session.whole(1, 1)  // SessionLog.START
    var start = Message()
    start.double(1, seconds)
    start.whole(2, step)
    start.message(7, session)
    return record(version.bytes) + record(start.bytes)
  }

  /// The event's numbers; empty for events without numbers.
  package static func records(of event: RunEvent, at seconds: Double) -> [UInt8] {
    switch event {
    case .stepped(let step):
      var values = [
        ("loss/total", step.loss), ("loss/task", step.task), ("loss/smooth", step.smooth),
        ("loss/balance", step.balance),
        ("loss/router_z", step.routerZ), ("training/gradient_norm", step.gradientNorm),
        ("training/learning_rate", step.learningRate),
      ]
      if let speed = step.tokensPerSecond { values.append(("training/tokens_per_second", speed)) }
      if let load = step.largestLoad { values.append(("experts/largest_load", load)) }
      return summary(values, step: step.step, at: seconds)
    case .evaluated(let record):
      return summary(
        [("validation/loss", record.loss)] + record.metrics.map { ("validation/" + $0.name, $0.value) },
        step: record.step, at: seconds)
    case .examined(let record):
      return summary(
        record.entropy.enumerated().map { ("router/entropy_\($0 + 1)", $1) }
          + record.effectiveExperts.enumerated().map { ("router/effective_experts_\($0 + 1)", $1) }
          + record.truncation.enumerated().map { ("attention/truncation_\($0 + 1)", $1) },
        step: record.step, at: seconds)
    case .began, .state, .placed, .saved, .said: return []
    }
  }

  private static func summary(_ values: [(tag: String, value: Double)], step: Int, at seconds: Double) -> [UInt8] {
    var summary = Message()
    for (tag, number) in values {
      var value = Message()
      value.text(1, tag)
      value.float(2, Float(number))
      summary.message(1, value)
    }
    var event = Message()
    event.double(1, seconds)
    event.whole(2, step)
    event.message(5, summary)
    return record(event.bytes)
  }

  /// Length, its checksum, the data and their checksum; little-endian.
  private static func record(_ data: [UInt8]) -> [UInt8] {
    let length = withUnsafeBytes(of: UInt64(data.count).littleEndian) { Array($0) }
    return length + masked(length) + data + masked(data)
  }

  /// CRC-32C, rotated and offset, because data that contain their own CRC would otherwise be protected badly.
  private static func masked(_ bytes: [UInt8]) -> [UInt8] {
    let sum = bytes.withUnsafeBytes { crc32c($0) }
    let mask = (sum >> 15 | sum << 17) &+ 0xA282_EAD8
    return withUnsafeBytes(of: mask.littleEndian) { Array($0) }
  }

  /// The part of protocol buffers' wire format that events need.
  private struct Message {
    var bytes: [UInt8] = []

    private mutating func varint(_ number: UInt64) {
      var rest = number
      while rest > 127 {
        bytes.append(UInt8(rest & 127) | 128)
        rest >>= 7
      }
      bytes.append(UInt8(rest))
    }

    mutating func whole(_ field: UInt64, _ number: Int) {
      varint(field << 3)
      varint(UInt64(bitPattern: Int64(number)))
    }

    mutating func double(_ field: UInt64, _ number: Double) {
      varint(field << 3 | 1)
      bytes += withUnsafeBytes(of: number.bitPattern.littleEndian) { Array($0) }
    }

    mutating func float(_ field: UInt64, _ number: Float) {
      varint(field << 3 | 5)
      bytes += withUnsafeBytes(of: number.bitPattern.littleEndian) { Array($0) }
    }

    mutating func data(_ field: UInt64, _ data: [UInt8]) {
      varint(field << 3 | 2)
      varint(UInt64(data.count))
      bytes += data
    }

    mutating func text(_ field: UInt64, _ text: String) { data(field, Array(text.utf8)) }
    mutating func message(_ field: UInt64, _ message: Message) { data(field, message.bytes) }
  }
}
