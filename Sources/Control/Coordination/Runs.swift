// The runs that a coordinator knows, in the order in which they were submitted, with the one way to look up a run and the one order of
// the queue: higher priority first, then the run that was put into the queue first.

import Wire

struct Runs: Sendable {
  /// Runs that have ended are kept for users who ask, up to this many.
  static let limit = 500

  private var inOrder: [Run] = []
  /// Where each run is in `inOrder`.
  private var places: [RunID: Int] = [:]
  /// Runs that may have changed since `takeTouched`: a turn looks at the records of these alone, however many old runs there are.
  private var touched: Set<RunID> = []

  var all: [Run] { inOrder }
  /// In order of submission.
  var ids: [RunID] { inOrder.map(\.id) }

  /// Those of some runs. A loop over `all` that changes runs would copy all of them.
  func ids(where isMeant: (Run) -> Bool) -> [RunID] { inOrder.lazy.filter(isMeant).map(\.id) }

  func contains(_ id: RunID) -> Bool { places[id] != nil }

  /// A run that is known.
  subscript(id: RunID) -> Run {
    get { inOrder[known(id)] }
    _modify {
      touched.insert(id)
      yield &inOrder[known(id)]
    }
  }

  /// In order of submission.
  mutating func takeTouched() -> [Run] {
    defer { touched = [] }
    return touched.compactMap { places[$0] }.sorted().map { inOrder[$0] }
  }

  private func known(_ id: RunID) -> Int {
    guard let index = places[id] else { preconditionFailure("run \(id) is not known") }
    return index
  }

  /// By identifier, else the newest of that name. Every question about a run goes through here: what a user may do is decided about the
  /// run to which it is then done.
  func find(_ text: String) -> Run? {
    inOrder.first { $0.id.description == text } ?? newest(named: text)
  }

  func newest(named name: String) -> Run? { inOrder.last { $0.name == name } }

  /// The run that was submitted with this key by this user.
  func submitted(with key: String, by owner: PublicKey?) -> Run? {
    inOrder.first { $0.submission.key == key && $0.submission.owner == owner }
  }

  /// The newest run of a run's name and folder: the folder is that one's.
  func owner(ofFolderOf run: Run) -> Run? {
    let directory = run.configuration.checkpoint.directory
    return inOrder.last { $0.name == run.name && $0.configuration.checkpoint.directory == directory }
  }

  mutating func restore(_ run: Run) {
    places[run.id] = inOrder.count
    inOrder.append(run)
  }

  mutating func add(_ run: Run) {
    restore(run)
    touched.insert(run.id)
    guard inOrder.count > Runs.limit, let old = inOrder.firstIndex(where: \.state.isEnd) else { return }
    inOrder.remove(at: old)
    places = Dictionary(uniqueKeysWithValues: inOrder.enumerated().map { ($1.id, $0) })
  }

  // MARK: the queue

  /// Runs that wait for workers, the next one first.
  var queue: [Run] {
    inOrder.filter { !$0.state.isAtRest && !$0.phase.hasWorkers && !$0.phase.isSaving }
      .sorted { ($1.priority, $0.queueNumber) < ($0.priority, $1.queueNumber) }
  }

  /// Runs that have workers and would give them to a run of this priority, the first to do so first: the reverse order of the queue.
  func workingRuns(below priority: Int) -> [Run] {
    inOrder.filter { $0.phase.hasWorkers && $0.priority < priority }
      .sorted { ($0.priority, $1.queueNumber) < ($1.priority, $0.queueNumber) }
  }
}
