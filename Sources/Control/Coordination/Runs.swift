// The runs that a coordinator knows, in the order in which they were submitted, with the one way to look up a run and the one order of
// the queue: higher priority first, then the run that was put into the queue first.

import Wire

struct Runs: Sendable {
  /// Runs that have ended are kept for users who ask, up to this many.
  private static let limit = 100

  private var inOrder: [Run] = []

  var all: [Run] { inOrder }
  /// In order of submission.
  var ids: [RunID] { inOrder.map(\.id) }

  func contains(_ id: RunID) -> Bool { index(of: id) != nil }

  /// A run that is known.
  subscript(id: RunID) -> Run {
    get { inOrder[known(id)] }
    _modify { yield &inOrder[known(id)] }
  }

  private func index(of id: RunID) -> Int? { inOrder.firstIndex { $0.id == id } }

  private func known(_ id: RunID) -> Int {
    guard let index = index(of: id) else { preconditionFailure("run \(id) is not known") }
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

  mutating func restore(_ run: Run) { inOrder.append(run) }

  mutating func add(_ run: Run) {
    inOrder.append(run)
    if inOrder.count > Runs.limit, let old = inOrder.firstIndex(where: \.state.isEnd) { inOrder.remove(at: old) }
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
