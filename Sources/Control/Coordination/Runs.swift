// The runs that a coordinator knows, in the order in which they were submitted. The only look-up of a run and the only
// order of the queue are here: higher priority first, then the run that was queued first.

import Wire

struct Runs: Sendable {
  /// Largest number of ended runs that are kept for users' requests.
  static let limit = 500

  private var inOrder: [Run] = []
  /// The index of each run in `inOrder`.
  private var places: [RunID: Int] = [:]
  /// Runs that may have changed since `takeTouched`. A turn examines the records of these alone, however many old runs
  /// there are.
  private var touched: Set<RunID> = []

  var all: [Run] { inOrder }
  /// In order of submission.
  var ids: [RunID] { inOrder.map(\.id) }

  /// The identifiers of some runs. A loop over `all` that changes runs would copy all of them.
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

  /// A run by its identifier, or else the newest run of that name. Every request finds its run here, so that the run
  /// whose owner is checked is the run that is then changed.
  func find(_ text: String) -> Run? {
    inOrder.first { $0.id.description == text } ?? newest(named: text)
  }

  func newest(named name: String) -> Run? { inOrder.last { $0.name == name } }

  /// The run that was submitted with this key by this user.
  func submitted(with key: String, by owner: PublicKey?) -> Run? {
    inOrder.first { $0.submission.key == key && $0.submission.owner == owner }
  }

  /// The newest run of a run's name and folder, to which the folder belongs.
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

  /// Runs that would give their workers to a run of this priority, in the reverse order of the queue.
  func workingRuns(below priority: Int) -> [Run] {
    inOrder.filter { $0.phase.hasWorkers && $0.priority < priority }
      .sorted { ($0.priority, $1.queueNumber) < ($1.priority, $0.queueNumber) }
  }
}
