// The content of the HTTP server: the coordinator's state of half a second ago and the committed stories of the runs,
// so that no client delays the coordinator. Stories are decoded and summarized on a separate queue.
//
// A run whose story began before this process started is read from the store when it is running, or when a client
// requests it. So a coordinator with a thousand old runs starts as fast as one without any.

import Dashboard
import Dispatch
import HTTP
import RunFolder
import RunStore
import Synchronization
import Wire

#if canImport(Glibc)
  import Glibc
#endif

final class DashboardState: @unchecked Sendable {
  private struct View {
    var status = ClusterStatus(runs: [], workers: [])
    var latest: [RunID: PrometheusPage.Latest] = [:]
    var pictures: [RunID: RunHistory] = [:]
    var details: [RunID: RunDetails] = [:]
    /// Runs whose stories are being read from the store.
    var reading: Set<RunID> = []
    /// Runs whose newest records were already looked up in the store.
    var lookedUp: Set<RunID> = []
  }

  private let program: String
  private let storePath: String?
  private let desk: GraphQueue?
  private let boundary: Boundary
  private let nameOfOwner: @Sendable (PublicKey) -> String
  private let view = Mutex(View())
  private let queue = DispatchQueue(label: "ress.window", qos: .utility)
  /// Reads manifests of checkpoints: a file system that does not respond must not delay the curves.
  private let files = DispatchQueue(label: "ress.window.files", qos: .utility)
  /// Used on the queue only.
  private var reader: StoryReader?

  /// - Parameters:
  ///   - store: the store that holds the events from before the start; nil where the store is in memory.
  ///   - graph: computes token graphs; nil: there are no graphs.
  ///   - boundary: where checkpoints must be for their manifests to be read.
  ///   - nameOfOwner: the name under which a key is allowed.
  init(
    program: String, store: String?, graph: GraphQueue.Source?, boundary: Boundary,
    nameOfOwner: @escaping @Sendable (PublicKey) -> String
  ) {
    self.program = program
    storePath = store
    desk = graph.map { GraphQueue($0) }
    self.boundary = boundary
    self.nameOfOwner = nameOfOwner
  }

  // MARK: From the coordinator's thread

  /// - Parameter details: what a run was submitted with. A run that is not at rest may be submitted again with other
  ///   details.
  func show(_ status: ClusterStatus, _ details: (RunID) -> RunDetails?) {
    let (unread, unknown) = view.withLock { view in
      let rested = Set(view.status.runs.filter(\.state.isAtRest).map(\.id))
      for run in status.runs where view.details[run.id] == nil || !rested.contains(run.id) || !run.state.isAtRest {
        view.details[run.id] = details(run.id)
      }
      view.status = status
      let unread = status.runs.filter { !$0.state.isAtRest && view.pictures[$0.id] == nil }.map(\.id)
      let unknown = status.runs.map(\.id).filter { view.lookedUp.insert($0).inserted && storePath != nil }
      return (unread, unknown)
    }
    for run in unread { read(run) }
    for run in unknown { queue.async { [self] in lookUp(run) } }
  }

  /// Adds committed changes.
  func take(_ changes: [StoreChange]) {
    let now = Self.clock
    queue.async { [self] in
      for change in changes {
        switch change {
        case .event(let run, let number, let bytes): take(run, number, bytes, at: now)
        case .forget(let run):
          view.withLock { view in
            view.pictures[run] = nil
            view.latest[run] = nil
            view.details[run] = nil
            view.lookedUp.remove(run)
          }
        case .run, .value: break
        }
      }
    }
  }

  private static var clock: Double {
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
  }

  // MARK: On the queue

  private func take(_ run: RunID, _ number: Int, _ bytes: [UInt8], at time: Double?) {
    guard let event = try? RecordCodec.decode(RunEvent.self, from: bytes) else { return }
    let misses = view.withLock { view in
      // Old events may be read after newer ones have arrived.
      if time != nil { view.latest[run, default: .init()].note(event) }
      // Events must be added in order and without gaps. If some are missing, they are read from the store, with all
      // that arrive meanwhile.
      let known = view.pictures[run]?.event ?? 0
      if number == known + 1 { view.pictures[run, default: RunHistory()].take(event, number: number, time: time) }
      return number > known + 1 && view.pictures[run] != nil
    }
    if misses { read(run) }
    if time != nil, case .saved = event { lookAtCheckpoints(of: run) }
  }

  /// Reads the manifests of a run's checkpoints that are not known yet, and finds out which checkpoints were removed.
  private func lookAtCheckpoints(of run: RunID) {
    files.async { [self] in
      let checkpoints = view.withLock { $0.pictures[run]?.checkpoints ?? [] }
      var found: [String: RunHistory.Checkpoint.Found] = [:]
      for checkpoint in checkpoints {
        if case .manifest = checkpoint.found, access(checkpoint.path, F_OK) == 0 { continue }
        let manifest = try? CheckpointFolder.readManifest(checkpoint.path, boundary)
        found[checkpoint.path] =
          manifest.map { .manifest(loss: $0.loss, byteCount: $0.files.reduce(0) { $0 + $1.byteCount }) } ?? .nothing
      }
      view.withLock { $0.pictures[run]?.note(found) }
    }
  }

  /// The newest numbers of a run that was running before this process started, so that an alert does not end because of
  /// a restart. A story may be long, so it is read from its end, and at most a few thousand events are read.
  private func lookUp(_ run: RunID) {
    var found = PrometheusPage.Latest(), before = Int.max
    for _ in 0..<8 where !found.isWhole {
      guard let rows = try? storyReader()?.events(of: run, before: before, limit: 512), let last = rows.last else {
        break
      }
      before = last.number
      for row in rows {
        if let event = try? RecordCodec.decode(RunEvent.self, from: row.event) { found.fill(event) }
      }
    }
    let first = try? storyReader()?.events(of: run, after: 0, limit: 32)
    for row in first ?? [] where found.began == nil {
      guard case .stepped(let record)? = try? RecordCodec.decode(RunEvent.self, from: row.event) else { continue }
      found.began = record.time.map { $0 - record.seconds }
    }
    view.withLock { $0.latest[run, default: .init()].fill(found) }
  }

  private func storyReader() throws(StoreError) -> StoryReader? {
    if reader == nil, let storePath { reader = try StoryReader(path: storePath) }
    return reader
  }

  /// Reads a story from the end of its picture on, a page at a time, so that events of other runs are handled in
  /// between.
  private func read(_ run: RunID) {
    guard storePath != nil, view.withLock({ $0.reading.insert(run).inserted }) else { return }
    queue.async { [self] in readPage(run) }
  }

  private func readPage(_ run: RunID) {
    let after = view.withLock { $0.pictures[run]?.event ?? 0 }
    let rows: [(number: Int, event: [UInt8])]
    do throws(StoreError) {
      rows = try storyReader()?.events(of: run, after: after, limit: 512) ?? []
    } catch {
      rows = []
    }
    for row in rows { take(run, row.number, row.event, at: nil) }
    let isRead = rows.isEmpty || view.withLock { $0.pictures[run]?.event ?? 0 } == after
    guard isRead else { return queue.async { [self] in readPage(run) } }
    view.withLock { view in
      view.reading.remove(run)
      // Nothing was found; do not look it up again twice a second.
      if view.pictures[run] == nil { view.pictures[run] = RunHistory() }
    }
    lookAtCheckpoints(of: run)
  }

  // MARK: From the server's thread

  /// The page itself, which contains no data.
  static let open = Set(files.keys)

  private static let files = PageFile.all.mapValues { file in
    // The page is part of the program, so a hash of its content detects every change.
    HTTPAnswer(type: file.type, file.bytes, tag: "\"\(file.bytes.hash)\"")
  }

  func page(_ request: HTTPRequest) -> HTTPAnswer? {
    if let file = Self.files[request.path] { return file }
    switch request.path {
    case "/metrics":
      let (status, latest) = view.withLock { view in
        (
          view.status,
          view.latest.reduce(into: view.latest) { latest, entry in
            guard !view.reading.contains(entry.key) else { return }
            latest[entry.key]?.skipped = view.pictures[entry.key]?.curve.skipped
          }
        )
      }
      let known = Set(status.runs.map(\.id))
      return HTTPAnswer(
        type: "text/plain; version=0.0.4; charset=utf-8",
        PrometheusPage.text(status, latest.filter { known.contains($0.key) }, program: program))
    case "/healthz": return HTTPAnswer("the coordinator is running\n")
    case "/api/cluster":
      var known = view.withLock {
        ClusterPage.Known(status: $0.status, pictures: $0.pictures, latest: $0.latest, details: $0.details)
      }
      // The page of a run needs that run alone.
      let run = request.query["run"].flatMap { RunID($0) }
      if let run { known.status.runs.removeAll { $0.id != run } }
      return .json(
        ClusterPage(
          known, program: program, time: Self.clock, drawsGraphs: desk != nil, isAboutOne: run != nil, nameOfOwner))
    default: return runPage(request)
    }
  }

  /// `/api/runs/ID` and what is below it.
  private func runPage(_ request: HTTPRequest) -> HTTPAnswer? {
    let parts = request.path.split(separator: "/", omittingEmptySubsequences: false)
    guard parts.count >= 4, parts[0].isEmpty, parts[1] == "api", parts[2] == "runs", let id = RunID(String(parts[3]))
    else { return nil }
    let (run, picture, details, isReading) = view.withLock { view in
      (view.status.runs.first { $0.id == id }, view.pictures[id], view.details[id], view.reading.contains(id))
    }
    guard let run else { return .refusal(404, "there is no run \(id)") }
    if picture == nil { read(id) }
    do throws(HTTPComplaint) {
      switch parts[4...] {
      case []:
        let since = try request.whole("since", in: 0...Int.max, else: 0)
        var answer = HTTPAnswer.json(
          RunPage(
            run, picture ?? RunHistory(), since: since, shape: request.query["shape"],
            isReading: isReading || (picture == nil && storePath != nil)))
        if let picture, !isReading { answer.tag = "\"\(id)-\(picture.event)-\(picture.findings)\"" }
        return answer
      case ["details"]:
        guard let details else { return .notYet("the run's details are not known yet") }
        return .json(DetailsPage(details, owner: details.owner.map(nameOfOwner)))
      case ["graph"]:
        guard let desk else { return .refusal(404, "this coordinator computes no graphs") }
        guard let picture, !isReading else { return .notYet("the run's story is being read") }
        guard let path = picture.modelPath else {
          return .refusal(
            404,
            "run \(run.name) has no checkpoint yet, and a graph needs a checkpoint's model; see checkpoint.every"
          )
        }
        return desk.answer(
          GraphQuestion(
            checkpoint: path, split: try Self.split(request),
            sample: try request.whole("sample", in: 0...1_000_000_000),
            segment: try request.whole("segment", in: 0...1_000_000, else: 0)))
      default: return nil
      }
    } catch {
      return .refusal(400, error.sentence)
    }
  }

  private static func split(_ request: HTTPRequest) throws(HTTPComplaint) -> GraphQuestion.Split {
    guard let split = GraphQuestion.Split(rawValue: request.query["split"] ?? "validation") else {
      throw HTTPComplaint("'split' must be train or validation")
    }
    return split
  }
}

extension PrometheusPage.Latest {
  fileprivate var isWhole: Bool { step != nil && evaluation != nil && router != nil }

  /// Adds the records that are not known yet.
  fileprivate mutating func fill(_ event: RunEvent) {
    switch event {
    case .stepped(let record): step = step ?? record
    case .evaluated(let record): evaluation = evaluation ?? record
    case .examined(let record): router = router ?? record
    case .began, .state, .placed, .saved, .said: break
    }
  }

  fileprivate mutating func fill(_ other: Self) {
    step = step ?? other.step
    evaluation = evaluation ?? other.evaluation
    router = router ?? other.router
    began = began ?? other.began
  }

  mutating func note(_ event: RunEvent) {
    switch event {
    case .stepped(let record): step = record
    case .evaluated(let record): evaluation = record
    case .examined(let record): router = record
    case .began, .state, .placed, .saved, .said: break
    }
  }
}

extension [UInt8] {
  /// FNV-1a, 64 bits.
  fileprivate var hash: String {
    String(reduce(0xcbf2_9ce4_8422_2325 as UInt64) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }, radix: 16)
  }
}
