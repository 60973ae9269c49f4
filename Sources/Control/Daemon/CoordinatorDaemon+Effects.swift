// What the coordinator's loop does when an effect leaves the outbox: it sends, asks the disk's queue for work in runs'
// folders, starts commands, and computes answers to the costly questions, a few a turn.

import Configuration
import Coordination
import Dispatch
import RunFolder
import Transport
import Wire

#if canImport(Glibc)
  import Glibc
#endif

extension CoordinatorDaemon {
  func run(_ effect: Outbox.Effect, at now: Instant) {
    switch effect {
    case .action(let action): run(action, at: now)
    case .answer(let peer, let reply): port.send(reply, to: peer, at: now)
    case .completeFiles(let run, let folder, let step): records.complete(run, in: folder, upTo: step)
    case .release(let id, let folder, let step):
      for (run, folder) in metrics.due(at: now, ending: id) {
        records.complete(run, in: folder, upTo: run == id ? step : coordinator.recordedStep(run) ?? .max)
      }
      disk.async { [locks] in locks.release(folder) }
    case .stored(let changes): dashboard.take(changes)
    case .look(let status): dashboard.show(status, coordinator.details)
    }
  }

  private func run(_ action: Action, at now: Instant) {
    let log = options.log, boundary = boundary
    switch action {
    case .store: preconditionFailure("changes are committed before actions are run")
    case .completeMetrics, .releaseFolder: preconditionFailure("held as effects of their own")
    case .send(let peer, let reply): port.send(reply, to: peer, at: now)
    case .sendEvents(let peer, let id, let after, let count, let ended):
      questions.ask(.page(id, after: after, count: count, ended: ended), peer, of: port.user(of: peer))
    case .sendStatus(let peer): questions.ask(.status, peer, of: port.user(of: peer))
    case .sendDetails(let peer, let id): questions.ask(.details(id), peer, of: port.user(of: peer))
    case .log(let line): options.log(line)
    case .complain(let line): complain(line, at: now)
    case .takeFolder(let id, let folder):
      disk.async { [locks, inbox] in
        do throws(FolderError) { if access(folder, F_OK) == 0 { try locks.take(folder) } } catch {
          inbox.tell(.folderTaken(id, reason: "\(error)"))
        }
      }
    case .prepareRun(let id, let submission, let again, let from): prepare(id, submission, again: again, from: from)
    case .commit(let id, let unsigned, let folder):
      disk.async { [locks, inbox] in
        do throws(FolderError) {
          inbox.tell(
            try locks.during(folder) { RunFolderWork.commit(id, unsigned, folder: folder, boundary, log: log) })
        } catch {
          inbox.tell(.commitFailed(id, step: unsigned.step, reason: "\(error)"))
        }
      }
    // A run of the store may have been submitted to a coordinator that allowed commands.
    case .runCommand(let id, let ending):
      guard let commands else {
        options.log("run \(ending.name): cluster.on_end is not run, because --allow-commands is not given")
        return
      }
      commands.start(id, ending)
    case .prove(let checkpoint, let mark):
      disk.async { RunFolderWork.prove(checkpoint, mark, boundary, log: log) }
    case .record(let id, let event, let folder):
      if metrics.appends(id) { records.append(event, of: id, in: folder) }
    }
  }

  /// Checks a run's folder while holding its lock, which is kept if the run is ready. A failure that may pass is
  /// retried for a while.
  private func prepare(
    _ id: RunID, _ submission: Submission, again: Bool, from: WeightSource?, attempts: Int = 30
  ) {
    disk.async { [self] in
      do throws(FolderError) {
        let (preparation, note) = try locks.prepare(FolderLocks.folder(of: submission)) { () throws(FolderError) in
          try RunFolderWork.prepare(id, submission, again: again, from: from, boundary)
        }
        if let note { inbox.tell(.noted(id, note)) }
        inbox.tell(.prepared(id, preparation))
      } catch {
        guard error.isPassing, attempts > 0, !stopping.load(ordering: .acquiring) else {
          return inbox.tell(.prepared(id, .refused(reason: "\(error)")))
        }
        DispatchQueue.global().asyncAfter(deadline: .now() + 1) { [self] in
          prepare(id, submission, again: again, from: from, attempts: attempts - 1)
        }
      }
    }
  }

  /// At the end of the process, after its loop: completes all record files.
  func completeAllFiles() {
    for outcome in inbox.take().outcomes { _ = metrics.note(outcome, at: MonotonicClock.now) }
    for (run, folder) in metrics.due(at: Instant(nanoseconds: .max)) {
      records.complete(run, in: folder, upTo: coordinator.recordedStep(run) ?? .max)
    }
    disk.sync {}
  }

  // MARK: Answers

  /// Whether a process has received its last answer.
  func mayBeAnswered(_ peer: PeerID) -> Bool { port.hasTakenAll(peer) && !outbox.holdsAnswer(for: peer) }

  /// Answers some of the queued questions. An answer shows changes of this turn, so it waits for them in the outbox.
  func answer(at now: Instant) {
    for _ in 0..<Self.answersATurn {
      guard let (peer, question) = questions.next(mayBeAnswered) else { return }
      outbox.add(.answer(peer, reply(to: question, at: now)), after: writer.added)
    }
  }

  private func reply(to question: Questions.Question, at now: Instant) -> Reply {
    switch question {
    case .status: return .status(coordinator.status(at: now))
    case .details(let id):
      return coordinator.details(of: id).map { .described($0) } ?? .refused(reason: "run \(id) was forgotten")
    case .page(let id, let after, let count, let ended):
      do {
        let events = try page(id, after: after)
        return .events(run: id, first: after + 1, events, isEnd: ended && after + events.count >= count)
      } catch {
        return .refused(reason: "the events of run \(id) cannot be read: \(error)")
      }
    }
  }

  /// The events that fit into one message.
  private func page(_ id: RunID, after: Int) throws -> [RunEvent] {
    var page: [RunEvent] = []
    var byteCount = 0
    for row in try events.of(id, after: after, limit: 512) {
      byteCount += row.event.count
      if byteCount > Self.pageBytes && !page.isEmpty { break }
      page.append(try RecordCodec.decode(RunEvent.self, from: row.event))
    }
    return page
  }

  private static var pageBytes: Int { 1 << 20 }

  /// Requests that are answered in one turn: about 25 ms each if a run has a long story.
  private static var answersATurn: Int { 2 }
}
