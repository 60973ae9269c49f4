// The encoding of messages, whole and damaged. Nothing that arrives may crash a process or be taken for another
// message.

import CChecksum
import Checksum
import Configuration
import Foundation
import Testing
import Wire

@Suite struct MessageTests {
  static let worker = WorkerDescription(
    name: "w", host: "h", process: 3, dataAddress: "tcp://127.0.0.1:9", threads: 2, fingerprint: "F", program: "ress")
  static let step = StepRecord(
    step: 3, loss: 0.1 + 0.2, task: .nan, smooth: .infinity, balance: 1, routerZ: 2, gradientNorm: 3, learningRate: 4,
    tokens: 5, seconds: 6, loads: [7, 8])
  static let evaluation = EvaluationRecord(step: 3, loss: 1 / 3, sequences: 4)
  static let examination = RouterRecord(
    step: 3, active: 2, loads: [[4, 2, 0], [3, 3, 0]], entropy: [1, 0.5], bias: [[0.1, 0, -0.1]], truncation: [0.25])
  static let file = CheckpointManifest.File(name: "a", byteCount: 2, sha256: "00")
  static let entry = RosterEntry(worker: worker, units: 0..<3, experts: [1, 2])
  static let assignment = Assignment(
    run: RunID(77), generation: 4, configuration: RunConfiguration(), roster: [entry],
    helpers: [worker], index: 0, threads: 1,
    start: .memory(MemoryState(generation: 3, step: 9, units: [0..<3], experts: [[1, 2]], holders: [1])), firstStep: 9,
    folder: "/f")
  static let shard = HeldShard(run: RunID(77), generation: 3, index: 0, count: 1, step: 9)
  static let heartbeat: Heartbeat = {
    var heartbeat = Heartbeat(generation: 1, step: 2, waiting: "x", waitingSeconds: 1.5, waitingFor: [0])
    (heartbeat.hasBegun, heartbeat.progress, heartbeat.held) = (true, 5, [shard])
    return heartbeat
  }()
  static let reports: [Report] = [
    .ready, .evaluated(evaluation), .examined(examination), .saved(step: 2, files: [file]),
    .saveFailed(step: 2, reason: "full"),
    .halted(step: 4, held: [shard]), .lacking(reason: "x"), .finished, .failed(reason: "grüße \"\n"),
    .disagreed(Disagreement(step: 1, unit: 2, voters: [0, 1], hashes: [.max, 3])),
  ]

  static let requests: [Request] =
    [
      .hello(worker, heartbeat), .heartbeat(heartbeat), .goodbye(reason: ""),
      .submit(Submission(configuration: RunConfiguration(), resume: .checkpoint(path: "/x"), key: "k")),
      .submit(Submission(configuration: RunConfiguration(), resume: .newest)), .follow(run: "r", after: 7),
      .change(run: "r", .cancel), .change(run: "r", .pause), .change(run: "r", .resume),
      .change(run: "r", .scale(workers: 3)), .change(run: "r", .repair(step: 2, generation: 3, shards: [0])), .status,
      .describe(run: "r"),
    ] + reports.enumerated().map { .report(generation: 1, number: $0.offset, $0.element) }
  static let replies: [Reply] = [
    .welcome(worker: WorkerID(3), patienceSeconds: 2.5, asked: 2, keep: 2, noted: 7), .alive(generation: 2, noted: 8),
    .assigned(assignment), .begin(generation: 2, leftOut: 1),
    .halt(generation: 2, saving: true, reason: "r"), .stop(generation: 2, reason: "r"),
    .rewrite(RewriteOrder(shard: shard, units: [0..<3], experts: [[1]], folder: "/f")), .unknownWorker,
    .submitted(run: RunID(5), name: "n", after: 3), .accepted(run: RunID(5), name: "n", "s"),
    .events(
      run: RunID(5), first: 4,
      [
        .began(name: "n", firstStep: 1, steps: 2, checkpoint: nil), .state(.running, reason: "r"),
        .placed(generation: 3, roster: [entry]), .evaluated(evaluation), .examined(examination),
        .saved(step: 2, path: "/p"), .said("s"),
      ], isEnd: true), .refused(reason: "r"),
    .status(
      ClusterStatus(
        runs: [.init(id: RunID(5), name: "n", state: .queued, reason: "", step: 0, steps: 9)],
        workers: [.init(description: worker, run: "n", silentSeconds: 0.5)])),
    .described(
      RunDetails(
        id: RunID(5), name: "n", configuration: RunConfiguration(), folder: "/f", owner: nil,
        data: DataIdentity(dataset: "d", tokenizer: "t"))),
  ]

  @Test func `every message is decoded as it was encoded`() throws {
    for request in Self.requests {
      #expect(try ControlCodec.decode(Request.self, from: ControlCodec.encode(request)) == request)
    }
    for reply in Self.replies {
      #expect(try ControlCodec.decode(Reply.self, from: ControlCodec.encode(reply)) == reply)
    }
  }

  @Test func `losses are transferred to the bit, also those that are not finite`() throws {
    let request = Request.report(generation: 1, number: 1, .stepDone(Self.step))
    guard
      case .report(_, _, .stepDone(let back)) = try ControlCodec.decode(
        Request.self, from: ControlCodec.encode(request))
    else {
      Issue.record("another message")
      return
    }
    #expect(back.loss.bitPattern == Self.step.loss.bitPattern && back.task.isNaN && back.smooth == .infinity)
  }

  private func message(_ body: () throws -> Void) -> String {
    do { try body() } catch { return "\(error)" }
    return "no error"
  }

  @Test func `another version, an unknown message, text that is not JSON and too long frames are refused`() {
    func decode(_ text: String) -> String {
      message { _ = try ControlCodec.decode(Request.self, from: Array(text.utf8)) }
    }
    #expect(
      decode("{\"version\":1,\"message\":{\"status\":{}}}").contains(
        "protocol version 1 where this program speaks \(ControlCodec.version)"))
    #expect(
      decode("{\"version\":\(ControlCodec.version),\"message\":{\"dance\":{}}}").hasPrefix("a message cannot be read"))
    #expect(decode("{\"version\":\(ControlCodec.version)}").contains("no field 'message'"))
    #expect(decode("hello").contains("it is not JSON with a version"))
    #expect(decode("").contains("it is not JSON with a version"))
    #expect(decode(String(repeating: " ", count: ControlCodec.largestFrame + 1)).contains("are allowed"))
    let deep = String(repeating: "[", count: 100_000)
    #expect(decode("{\"version\":\(ControlCodec.version),\"message\":" + deep).contains("cannot be read"))
  }

  @Test func `damaged control messages never crash, and what decodes is a valid message`() {
    var random = Random(state: 5)
    let valid = Self.requests.map { ControlCodec.encode($0) }
    for round in 0..<20_000 {
      var bytes = valid[round % valid.count]
      switch random.below(3) {
      case 0: bytes = Array(bytes.prefix(random.below(bytes.count)))
      case 1: for _ in 0...random.below(4) { bytes[random.below(bytes.count)] ^= UInt8(1 << random.below(8)) }
      default: bytes = (0..<random.below(200)).map { _ in UInt8(random.below(256)) }
      }
      guard let request = try? ControlCodec.decode(Request.self, from: bytes) else { continue }
      // A message that still decodes must survive its own round trip.
      #expect((try? ControlCodec.decode(Request.self, from: ControlCodec.encode(request))) == request, "round \(round)")
    }
  }

  private func data(_ count: Int) -> DataMessage {
    var header = DataHeader(
      phase: .combineBackward, sender: 513, .site(unit: 1, sequence: 2, segment: 3, recurrence: 4))
    header.round = .max
    header.rows = 5
    header.columns = 6
    let payload = Payload(byteCount: count)
    for index in 0..<count { payload.bytes[index] = UInt8(truncatingIfNeeded: index &* 7) }
    return DataMessage(header: header, payload: payload)
  }

  @Test(arguments: [0, 1, 64, 4097])
  func `rows are decoded with their header, and a flipped bit anywhere is found`(count: Int) throws {
    let message = data(count)
    let header = message.encodedHeader()
    #expect(header.count == DataHeader.byteCount)
    #expect(try DataMessage(header: header, payload: message.payload).header == message.header)
    for bit in 0..<header.count * 8 {
      var damaged = header
      damaged[bit / 8] ^= 1 << (bit % 8)
      #expect(throws: WireError.self) { try DataMessage(header: damaged, payload: message.payload) }
    }
    for bit in stride(from: 0, to: count * 8, by: 13) {
      message.payload.bytes[bit / 8] ^= 1 << (bit % 8)
      #expect(throws: WireError.self) { try DataMessage(header: header, payload: message.payload) }
      message.payload.bytes[bit / 8] ^= 1 << (bit % 8)
    }
    #expect(throws: WireError.self) { try DataMessage(header: header, payload: Payload(byteCount: count + 1)) }
  }

  @Test(arguments: [0, 1, DataPiece.largest, DataPiece.largest + 1, 3 * DataPiece.largest - 4])
  func `a large message travels in pieces that fit a frame, and is put together again`(count: Int) throws {
    let message = data(count)
    let pieces = DataPiece.pieces(of: message)
    #expect(pieces.count == max(1, (count + DataPiece.largest - 1) / DataPiece.largest))
    #expect(pieces.allSatisfy { $0.range.count <= DataPiece.largest })
    func arrived(_ piece: DataPiece) throws -> DataPiece {
      let copy = Payload(byteCount: piece.range.count)
      copy.bytes.copyMemory(from: UnsafeRawBufferPointer(rebasing: message.payload.bytes[piece.range]))
      return try DataPiece(header: piece.encodedHeader(), payload: copy)
    }
    var assembly = DataAssembly()
    for (number, piece) in pieces.enumerated() {
      let whole = try assembly.take(try arrived(piece))
      #expect((whole != nil) == (number == pieces.count - 1))
      if let whole { #expect(whole.header == message.header && whole.payload.array == message.payload.array) }
    }
    guard pieces.count > 1 else { return }
    // A piece that is missing, repeated, or of another message discards the incomplete message.
    #expect(throws: WireError.self) { try assembly.take(try arrived(pieces[1])) }
    #expect(try assembly.take(try arrived(pieces[0])) == nil)
    #expect(throws: WireError.self) { try assembly.take(try arrived(pieces[0])) }
    #expect(try assembly.take(try arrived(pieces[0])) == nil)
    var other = pieces[1]
    other.header.subject = .site(unit: 2, sequence: 2, segment: 3, recurrence: 4)
    #expect(throws: WireError.self) { try assembly.take(try arrived(other)) }
    #expect(throws: WireError.self) {
      try DataMessage(header: pieces[0].encodedHeader(), payload: try arrived(pieces[0]).payload)
    }
  }

  /// The largest number of each field, with the phases whose messages have that subject.
  private static let subjects: [(DataSubject, [DataPhase])] = {
    let most = Int(UInt32.max)
    return [
      (.step, [.norms, .probe, .echo]), (.unit(most), [.unitFinished]),
      (
        .site(unit: most, sequence: 1, segment: most - 1, recurrence: Int(UInt16.max)),
        [.dispatchForward, .dispatchEvaluation, .dispatchBackward, .combineForward, .combineBackward]
      ),
      (.node(level: 3, index: most, part: 6), [.gradient]), (.part(most), [.parameters]),
      (.expertNode(level: 3, index: most, expert: 7, part: 5), [.expertGradient]),
      (.expertPart(expert: most, part: 4), [.expertParameters]),
      (.tensor(number: most, kind: 2, chunk: 5), [.state]),
      (.copy(step: most, piece: 6, count: 7), [.mirror, .mirrored]),
    ]
  }()

  @Test func `every phase has one kind of subject, which arrives as it was sent`() throws {
    #expect(Set(Self.subjects.flatMap(\.1)).count == DataPhase.allCases.count)
    for (subject, phases) in Self.subjects {
      for phase in phases {
        let payload = Payload(byteCount: 4)
        payload.words[0] = 9
        let message = DataMessage(header: DataHeader(phase: phase, sender: 2, subject), payload: payload)
        let arrived = try DataMessage(header: message.encodedHeader(), payload: payload)
        #expect(arrived.header == message.header && arrived.header.subject == subject)
      }
    }
  }

  @Test func `a piece outside of its message, or too large a message, is refused`() {
    for (place, whole) in [(1, 8), (-1, 8), (Int.max, 8), (0, 7), (0, DataPiece.largestMessage + 1), (0, Int.max)] {
      var piece = DataPiece.pieces(of: data(8))[0]
      (piece.place, piece.messageByteCount) = (place, whole)
      let encoded = encodedRaw(piece, place: place, whole: whole)
      #expect(throws: WireError.self) { try DataPiece(header: encoded, payload: piece.payload) }
    }
  }

  @Test func `a message that is larger than any of the run is refused at its first piece`() throws {
    var c = RunConfiguration()
    #expect(DataPiece.largestMessage(of: c) == 16 << 20)
    (c.model.segment, c.model.activeExperts, c.model.width) = (4096, 4, 1024)
    c.data.sequenceLength = 4096
    let largest = DataPiece.largestMessage(of: c)
    #expect(largest == 4 * (4096 * 4 * 1024 + c.model.expertCount))
    c.data.sequenceLength = 100
    #expect(DataPiece.largestMessage(of: c) == 16 << 20)
    (c.model.segment, c.model.activeExperts, c.model.width) = (1 << 20, 9_999, 65_536)
    c.data.sequenceLength = 1 << 30
    #expect(DataPiece.largestMessage(of: c) == DataPiece.largestMessage)
    for (count, isTaken) in [(8, true), (9, false)] {
      var assembly = DataAssembly(largest: 8)
      let taken = try? assembly.take(DataPiece.pieces(of: data(count))[0])
      #expect((taken != nil) == isTaken)
    }
    var piece = DataPiece.pieces(of: data(DataPiece.largest + 1))[0]
    piece.messageByteCount = largest + 1
    var assembly = DataAssembly(largest: largest)
    #expect(throws: WireError.self) { try assembly.take(piece) }
  }

  /// A forged header: numbers that do not fit an `Int`, with a correct checksum.
  private func encodedRaw(_ piece: DataPiece, place: Int, whole: Int) -> [UInt8] {
    var honest = piece
    (honest.place, honest.messageByteCount) = (0, 8)
    var bytes = Array(honest.encodedHeader().dropLast(4))
    let start = DataHeader.byteCount - 4 - 4 - 8 - 8 - 8
    for (offset, number) in [(start, place), (start + 8, whole)] {
      let word = UInt64(bitPattern: Int64(number))
      for byte in 0..<8 { bytes[offset + byte] = UInt8(truncatingIfNeeded: word >> (8 * UInt64(byte))) }
    }
    let sum = bytes.withUnsafeBytes { crc32c($0) }
    return bytes + (0..<4).map { UInt8(truncatingIfNeeded: sum >> (8 * UInt32($0))) }
  }

  @Test func `random bytes are not accepted as a header`() {
    var random = Random(state: 9)
    for _ in 0..<20_000 {
      let bytes = (0..<(random.below(2) == 0 ? DataHeader.byteCount : random.below(100))).map { _ in
        UInt8(random.below(256))
      }
      #expect(throws: WireError.self) { try DataMessage(header: bytes, payload: Payload(byteCount: 0)) }
      #expect(throws: WireError.self) { try LinkHeader(bytes) }
    }
  }

  @Test func `endless brackets are not accepted as a message`() {
    for bracket in ["[", "{\"message\":"] {
      let frame = Array(String(repeating: bracket, count: ControlCodec.largestFrame / bracket.utf8.count).utf8)
      #expect(throws: WireError.self) { try ControlCodec.decode(Request.self, from: frame) }
    }
  }

  @Test func `values out of range are refused with the field's name, and valid ones are not`() {
    for request in Self.requests { #expect(request.problem == nil, "\(request)") }
    for report in Self.reports { #expect(Request.report(generation: 1, number: 1, report).problem == nil) }
    var late = Heartbeat()
    late.waitingSeconds = .nan
    #expect(Request.heartbeat(late).problem == "waitingSeconds is nan")
    #expect(Request.follow(run: "r", after: -1).problem == "after is -1")
    var step = Self.step
    step.step = .max
    #expect(Request.report(generation: 1, number: 1, .stepDone(step)).problem == "step is \(Int.max)")
    var rank = Self.worker
    for (place, problem) in [
      (MPIPlace(world: 1, rank: 2, size: 2), "mpi.rank is 2"),
      (MPIPlace(world: 1, rank: 0, size: .min), "mpi.size is \(Int.min)"),
    ] {
      rank.mpi = place
      #expect(Request.hello(rank, Heartbeat()).problem == problem)
    }
    #expect(Request.change(run: "r", .scale(workers: 0)).problem == "workers is 0")
  }

  @Test func `CRC-32C gives the published checksums, by instruction and by table`() {
    func sum(_ bytes: [UInt8]) -> UInt32 { bytes.withUnsafeBytes { crc32c($0) } }
    // RFC 3720, B.4.
    #expect(sum(Array(repeating: 0, count: 32)) == 0x8A91_36AA)
    #expect(sum(Array(repeating: 0xFF, count: 32)) == 0x62A8_AB43)
    #expect(sum((0..<32).map { UInt8($0) }) == 0x46DD_794E)
    #expect(sum([]) == 0)
    var random = Random(state: 3)
    for count in [1, 7, 8, 511, 1535, 1536, 1537, 5000, 100_003] {
      let bytes = (0..<count).map { _ in UInt8(random.below(256)) }
      #expect(sum(bytes) == ress_crc32c_table(0, bytes, bytes.count))
      let cut = random.below(count)
      let first = sum(Array(bytes[..<cut]))
      #expect(bytes[cut...].withUnsafeBytes { crc32c($0, continuing: first) } == sum(bytes))
    }
  }
}

struct Random {
  var state: UInt64
  mutating func below(_ limit: Int) -> Int {
    state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
    return Int((state >> 33) % UInt64(limit))
  }
}

@Suite struct `Values that are encoded once` {
  private struct Message: Codable, Equatable {
    var before = "insert-"
    @EncodedOnce var names: [String]
    var zone = 7
  }

  @Test func `the JSON is the same as without them, and several messages share it`() throws {
    struct Plain: Codable {
      var before = "insert-"
      var names: [String]
      var zone = 7
    }
    let names = ["a \"quoted\" name", "insert-0", "ü"]
    let message = Message(names: names)
    var other = Message(names: [])
    other.$names = message.$names
    other.zone = 8
    #expect(RecordCodec.encode(message) == RecordCodec.encode(Plain(names: names)))
    #expect(
      RecordCodec.encode([message, other]) == RecordCodec.encode([Plain(names: names), Plain(names: names, zone: 8)]))
    #expect(try RecordCodec.decode(Message.self, from: RecordCodec.encode(other)) == other)
    other.names = ["another"]
    #expect(message.names == names && other != message)
    #expect(try RecordCodec.decode(Message.self, from: RecordCodec.encode(other)).names == ["another"])
  }
}
