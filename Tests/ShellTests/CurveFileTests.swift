// Curves in files that other programs read: TensorBoard's events, and tables.

import Checksum
import Configuration
import Shell
import Testing
import Wire

@Suite struct `Curves for other programs` {
  private let step = StepRecord(
    step: 300, loss: 2.5, task: 2.25, smooth: 0.5, balance: 1, routerZ: 2, gradientNorm: 4, learningRate: 0.125,
    tokens: 512,
    seconds: 0.5, loads: [30, 10])
  private let evaluation = EvaluationRecord(
    step: 300, loss: 1.5, sequences: 8, metrics: [.init(name: "perplexity", value: 4.5)])

  /// The data of the records, whose sums are looked at: `record_writer.h` of TensorFlow.
  private func records(_ bytes: [UInt8]) -> [[UInt8]] {
    var rest = bytes[...], found: [[UInt8]] = []
    func sum(_ part: ArraySlice<UInt8>) -> [UInt8] {
      let sum = part.withUnsafeBytes { crc32c($0) }
      let masked = ((sum >> 15) | (sum << 17)) &+ 0xa282_ead8
      return (0..<4).map { UInt8(truncatingIfNeeded: masked >> ($0 * 8)) }
    }
    while !rest.isEmpty {
      let length = rest.prefix(8).reversed().reduce(0) { $0 << 8 | Int($1) }
      #expect(Array(rest.dropFirst(8).prefix(4)) == sum(rest.prefix(8)))
      let data = rest.dropFirst(12).prefix(length)
      #expect(Array(rest.dropFirst(12 + length).prefix(4)) == sum(data))
      found.append(Array(data))
      rest = rest.dropFirst(16 + length)
    }
    return found
  }

  /// Field numbers of a protocol buffers message with their bytes: the payload, without its length.
  private func fields(_ bytes: [UInt8]) -> [(field: Int, bytes: [UInt8])] {
    var rest = bytes[...], found: [(Int, [UInt8])] = []
    func varint() -> Int {
      var value = 0, shift = 0
      while let byte = rest.popFirst() {
        value |= Int(byte & 127) << shift
        shift += 7
        if byte < 128 { break }
      }
      return value
    }
    func take(_ count: Int) -> [UInt8] {
      defer { rest = rest.dropFirst(count) }
      return Array(rest.prefix(count))
    }
    while !rest.isEmpty {
      let key = varint()
      switch key & 7 {
      case 0:
        let value = varint()
        found.append((key >> 3, (0..<8).map { UInt8(truncatingIfNeeded: value >> ($0 * 8)) }))
      case 1: found.append((key >> 3, take(8)))
      case 5: found.append((key >> 3, take(4)))
      default: found.append((key >> 3, take(varint())))
      }
    }
    return found
  }

  private func bits(_ bytes: [UInt8]) -> UInt64 { bytes.reversed().reduce(0) { $0 << 8 | UInt64($1) } }

  /// Step and values of an event with a summary.
  private func scalars(_ event: [UInt8]) -> (step: Int, values: [String: Float]) {
    var step = 0, values: [String: Float] = [:]
    for (field, bytes) in fields(event) {
      if field == 2 { step = Int(bits(bytes)) }
      guard field == 5 else { continue }
      for (_, value) in fields(bytes) {
        let parts = fields(value)
        values[String(decoding: parts[0].bytes, as: UTF8.self)] = Float(bitPattern: UInt32(bits(parts[1].bytes)))
      }
    }
    return (step, values)
  }

  @Test func `a step is an event that TensorBoard plots, with the sums that its reader looks at`() throws {
    let found = records(TensorBoard.records(of: .stepped(step), at: 12.5))
    #expect(found.count == 1)
    let event = scalars(found[0])
    #expect(event.step == 300)
    #expect(
      event.values == [
        "loss/total": 2.5, "loss/task": 2.25, "loss/smooth": 0.5, "loss/balance": 1, "loss/router_z": 2,
        "training/gradient_norm": 4, "training/learning_rate": 0.125, "training/tokens_per_second": 1024,
        "experts/largest_load": 1.5,
      ])
    #expect(Double(bitPattern: bits(fields(found[0])[0].bytes)) == 12.5)
  }

  /// The plug-in, its content and the tensor of an event that has one.
  private func plugin(_ event: [UInt8]) -> (tag: String, name: String, content: [UInt8], tensor: [UInt8]?) {
    let summary = fields(event).first { $0.field == 5 }!.bytes
    let value = fields(fields(summary)[0].bytes)
    let data = fields(fields(value.first { $0.field == 9 }!.bytes)[0].bytes)
    return (
      String(decoding: value.first { $0.field == 1 }!.bytes, as: UTF8.self),
      String(decoding: data[0].bytes, as: UTF8.self),
      data[1].bytes, value.first { $0.field == 8 }?.bytes
    )
  }

  @Test func `the configuration is a text and hyperparameters, each key with its type`() throws {
    var configuration = RunConfiguration()
    configuration.optimizer.learningRate = 0.25
    configuration.model.memorySlots = 0
    let found = records(TensorBoard.records(of: configuration, at: 3)).map { plugin($0) }
    #expect(found.map(\.tag) == ["configuration/text_summary", "_hparams_/experiment", "_hparams_/session_start_info"])
    #expect(found.map(\.name) == ["text", "hparams", "hparams"])
    let text = fields(try #require(found[0].tensor)).first { $0.field == 8 }!.bytes
    #expect(String(decoding: text, as: UTF8.self).contains("      learning_rate: 0.25"))
    let start = fields(found[2].content)[0]
    #expect(start.field == 3)
    var values: [String: (field: Int, bytes: [UInt8])] = [:]
    for (field, entry) in fields(start.bytes) where field == 1 {
      let pair = fields(entry)
      values[String(decoding: pair[0].bytes, as: UTF8.self)] = fields(pair[1].bytes)[0]
    }
    #expect(values["optimizer.learning_rate"].map { Double(bitPattern: bits($0.bytes)) } == 0.25)
    #expect(values["model.memory_slots"]?.field == 2, "a number, also where it is 0")
    #expect(values["model.structure_bias"]?.field == 4 && values["model.head"]?.field == 3)
    #expect(values["model.sequence"] == nil && values["cluster.workers"] == nil)
    // The experiment lists the same keys, and the curves to compare.
    let experiment = fields(fields(found[1].content)[0].bytes)
    #expect(experiment.count { $0.field == 4 } == values.count && experiment.count { $0.field == 5 } == 2)
  }

  @Test func `the HParams page shows the end of a run, but not a pause`() {
    #expect(TensorBoard.records(of: .paused, at: 1).isEmpty)
    let end = plugin(records(TensorBoard.records(of: RunState.failed, at: 1))[0])
    #expect(end.tag == "_hparams_/session_end_info" && fields(fields(end.content)[0].bytes)[0].bytes.first == 2)
  }

  @Test func `an evaluation's metrics are curves of their own, and texts are not`() {
    let found = records(TensorBoard.records(of: .evaluated(evaluation), at: 1))
    #expect(scalars(found[0]).values == ["validation/loss": 1.5, "validation/perplexity": 4.5])
    #expect(TensorBoard.records(of: .said("hello"), at: 1).isEmpty)
  }

  @Test func `a file begins with its version, and with the step that puts an earlier file's later ones aside`() {
    let found = records(TensorBoard.beginning(step: 7, at: 1))
    #expect(fields(found[0]).last.map { String(decoding: $0.bytes, as: UTF8.self) } == "brain.Event:2")
    #expect(fields(found[1]).map(\.field) == [1, 2, 7] && scalars(found[1]).step == 7)
  }

  private let lines = """
    {"step":1,"loss":0.10000000000000001,"loads":[1,2]}
    {"step":2,"loss":null,"skipped":"no \\"number\\""}
    {"step":2,"validation_loss":1.5,"sequences":8,"perplexity":4.5}
    {"step":3,"lo
    """

  @Test func `a table has a row a step, digits as they were written, and forgives a line that a crash cut`() {
    #expect(
      MetricsTable(lines).csv == """
        step,loss,skipped,validation_loss,validation_sequences,perplexity\r
        1,0.10000000000000001,,,,\r
        2,,"no ""number""\",1.5,8,4.5\r

        """)
  }

  @Test func `each line has the time at which it was written`() throws {
    let lines = """
      {"step":1,"loss":0.5,"seconds":0.25,"time":1000.5,"loads":[1,2]}
      {"step":1,"validation_loss":1.5,"sequences":8,"time":1002.25,"perplexity":4.5}
      """
    #expect(
      MetricsTable(lines).csv
        == "step,loss,seconds,time,validation_loss,validation_sequences,validation_time,perplexity\r\n"
        + "1,0.5,0.25,1000.5,1.5,8,1002.25,4.5\r\n")
    let events = lines.split(separator: "\n").compactMap { MetricsTable.event($0) }
    #expect(events.map(\.time) == [1000.5, 1002.25])
    guard case .evaluated(let record) = events[1] else {
      Issue.record("not an evaluation")
      return
    }
    #expect(record.metrics.map(\.name) == ["perplexity"])
  }

  @Test func `lines of metrics are the events that they were`() throws {
    let events = lines.split(separator: "\n").map { MetricsTable.event($0) }
    #expect(events.count == 4 && events[3] == nil)
    guard case .stepped(let first) = events[0], case .evaluated(let third) = events[2] else {
      Issue.record("not a step and an evaluation")
      return
    }
    #expect(first.loss == 0.1 && first.loads == [1, 2])
    #expect(
      third == EvaluationRecord(step: 2, loss: 1.5, sequences: 8, metrics: [.init(name: "perplexity", value: 4.5)]))
  }
}
