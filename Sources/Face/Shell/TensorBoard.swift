// A run's curves for TensorBoard: an event file of TFRecords, each with an Event in the wire format of protocol
// buffers. https://github.com/tensorflow/tensorboard, proto/event.proto and summary.proto; TFRecord:
// tensorflow/core/lib/io/record_writer.h.

import Checksum
import Configuration
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

  // MARK: the run's configuration

  /// The configuration as a text, and as hyperparameters for the HParams page, which compares runs.
  package static func records(of configuration: RunConfiguration, at seconds: Double) -> [UInt8] {
    var experiment = Message()
    experiment.double(3, seconds)
    for tag in ["loss/total", "validation/loss"] {
      var name = Message(), metric = Message()
      name.text(2, tag)
      metric.message(1, name)
      experiment.message(5, metric)
    }
    var start = Message()
    for (key, value) in hyperparameters(configuration) {
      var entry = Message()
      entry.text(1, key)
      entry.message(2, value)
      start.message(1, entry)
      var about = Message()
      about.text(1, key)
      about.whole(4, value.kind)
      experiment.message(4, about)
    }
    start.text(4, configuration.run)
    start.double(5, seconds)
    return text("configuration", markdown(configuration), at: seconds)
      + hparams("experiment", 2, experiment, at: seconds) + hparams("session_start_info", 3, start, at: seconds)
  }

  /// The end of the run, for the HParams page; nothing for a state in which it may continue.
  package static func records(of state: RunState, at seconds: Double) -> [UInt8] {
    var end = Message()
    switch state {
    case .finished: end.whole(1, 1)  // STATUS_SUCCESS
    case .failed, .cancelled: end.whole(1, 2)  // STATUS_FAILURE
    case .queued, .placing, .running, .paused: return []
    }
    end.double(2, seconds)
    return hparams("session_end_info", 4, end, at: seconds)
  }

  /// Keys that decide the curve, with their values as `google.protobuf.Value`. A key whose value is null is left out,
  /// because each key has one type in all runs.
  private static func hyperparameters(_ configuration: RunConfiguration) -> [(key: String, value: Message)] {
    let sections = ConfigurationSchema.sections.filter { ["model", "data", "training", "optimizer"].contains($0.name) }
    return sections.flatMap { section in
      section.fields.compactMap { field in
        let text = field.text(in: configuration)
        guard text != "null" else { return nil }
        var value = Message()
        if let number = Double(text) {
          value.double(2, number)
          value.kind = 3  // DATA_TYPE_FLOAT64
        } else if let flag = Bool(text) {
          value.whole(4, flag ? 1 : 0)
          value.kind = 2  // DATA_TYPE_BOOL
        } else {
          value.text(3, text)
          value.kind = 1  // DATA_TYPE_STRING
        }
        return (section.path(of: field), value)
      }
    }
  }

  /// TensorBoard shows Markdown; indented lines are shown as they are.
  private static func markdown(_ configuration: RunConfiguration) -> String {
    ConfigurationEncoder.yaml(configuration).split(separator: "\n", omittingEmptySubsequences: false)
      .map { "    " + $0 }.joined(separator: "\n")
  }

  private static func text(_ tag: String, _ text: String, at seconds: Double) -> [UInt8] {
    var size = Message(), shape = Message(), tensor = Message()
    size.whole(1, 1)
    shape.message(2, size)
    tensor.whole(1, 7)  // DT_STRING
    tensor.message(2, shape)
    tensor.text(8, text)
    return plugin("text", content: Message(), tag + "/text_summary", tensor, at: seconds)
  }

  /// - Parameter field: of HParamsPluginData.
  private static func hparams(_ name: String, _ field: UInt64, _ part: Message, at seconds: Double) -> [UInt8] {
    var content = Message()
    content.message(field, part)
    return plugin("hparams", content: content, "_hparams_/" + name, nil, at: seconds)
  }

  private static func plugin(
    _ name: String, content: Message, _ tag: String, _ tensor: Message?, at seconds: Double
  ) -> [UInt8] {
    var data = Message(), metadata = Message(), value = Message(), summary = Message(), event = Message()
    data.text(1, name)
    data.message(2, content)
    metadata.message(1, data)
    value.text(1, tag)
    if let tensor { value.message(8, tensor) }
    value.message(9, metadata)
    summary.message(1, value)
    event.double(1, seconds)
    event.message(5, summary)
    return record(event.bytes)
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
    /// For a hyperparameter: its type in HParamInfo.
    var kind = 0

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
