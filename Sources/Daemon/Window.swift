// What HTTP shows: the state of half a second ago, so that no visitor keeps the coordinator waiting.

import HTTP
import Synchronization
import Wire

final class Window: Sendable {
  private struct View {
    var status = ClusterStatus(runs: [], workers: [])
    var latest: [RunID: PrometheusPage.Latest] = [:]
  }

  private let program: String
  private let view = Mutex(View())

  init(program: String) { self.program = program }

  func show(_ status: ClusterStatus) {
    view.withLock { view in
      view.status = status
      let known = Set(status.runs.map(\.id))
      view.latest = view.latest.filter { known.contains($0.key) }
    }
  }

  func note(_ event: RunEvent, of run: RunID) {
    view.withLock { view in
      switch event {
      case .stepped(let record): view.latest[run, default: .init()].step = record
      case .evaluated(let record): view.latest[run, default: .init()].evaluation = record
      case .examined(let record): view.latest[run, default: .init()].router = record
      case .began, .state, .placed, .saved, .said: break
      }
    }
  }

  func page(_ path: String) -> HTTPAnswer? {
    let view = view.withLock { $0 }
    switch path {
    case "/metrics":
      return HTTPAnswer(
        type: "text/plain; version=0.0.4; charset=utf-8",
        PrometheusPage.text(view.status, view.latest, program: program))
    case "/healthz": return HTTPAnswer("the coordinator turns\n")
    default: return nil
    }
  }
}
