// The dashboard's routes: what is shown to whom, what old runs look like, and what a hostile visitor gets.

import Configuration
import Daemon
import Foundation
import HTTP
import RunStore
import Synchronization
import TestSupport
import Testing
import Wire

#if canImport(Glibc)
  import Glibc
#endif

@Suite(.serialized) final class DashboardTests {
  private let folder = NSTemporaryDirectory() + "ress-dashboard-" + UUID().uuidString.prefix(8)

  init() throws { try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true) }
  deinit { try? FileManager.default.removeItem(atPath: folder) }

  private func daemon(_ change: (inout CoordinatorDaemon.Options) -> Void = { _ in }) throws -> CoordinatorDaemon {
    var options = CoordinatorDaemon.Options(listen: "tcp://127.0.0.1:*", program: "ress test")
    options.http = "127.0.0.1:0"
    change(&options)
    let daemon = try CoordinatorDaemon(options)
    daemon.start()
    return daemon
  }

  private func submit(_ daemon: CoordinatorDaemon, _ name: String) throws -> RunID {
    var configuration = RunConfiguration()
    (configuration.run, configuration.data.path) = (name, "/none/d.h5")
    configuration.checkpoint.directory = folder + "/checkpoints"
    return try CoordinatorClient(daemon.endpoint).submit(Submission(configuration: configuration, resume: .no)).run
  }

  /// Exactly these bytes, and all that comes back until the connection closes.
  private func say(_ daemon: CoordinatorDaemon, _ request: String) throws -> String {
    let address = try #require(daemon.httpAddress)
    let port = try #require(UInt16(address.split(separator: ":").last!))
    let connection = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    defer { close(connection) }
    var limit = timeval(tv_sec: 12, tv_usec: 0)
    setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
    var place = sockaddr_in()
    (place.sin_family, place.sin_port) = (sa_family_t(AF_INET), port.bigEndian)
    place.sin_addr.s_addr = inet_addr("127.0.0.1")
    let status = withUnsafePointer(to: &place) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        connect(connection, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
      }
    }
    try #require(status == 0)
    let bytes = Array(request.utf8)
    _ = bytes.withUnsafeBytes { send(connection, $0.baseAddress!, $0.count, Int32(MSG_NOSIGNAL)) }
    var answer: [UInt8] = [], part = [UInt8](repeating: 0, count: 65536)
    while case let count = recv(connection, &part, part.count, 0), count > 0 { answer += part[..<count] }
    return String(decoding: answer, as: UTF8.self)
  }

  private func get(
    _ daemon: CoordinatorDaemon, _ path: String, method: String = "GET", _ headers: [String] = []
  ) throws -> (code: Int, head: String, body: String) {
    let lines = ["\(method) \(path) HTTP/1.1", "Host: localhost", "Connection: close"] + headers
    let answer = try say(daemon, lines.joined(separator: "\r\n") + "\r\n\r\n")
    let parts = answer.components(separatedBy: "\r\n\r\n")
    return (
      Int(answer.split(separator: " ").dropFirst().first ?? "") ?? 0, parts[0],
      parts.dropFirst().joined(separator: "\r\n\r\n")
    )
  }

  private func object(_ text: String) throws -> [String: Any] {
    try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any], "\(text)")
  }

  /// Asks until the answer is as expected.
  private func wait(
    _ daemon: CoordinatorDaemon, _ path: String, until isRight: ([String: Any]) -> Bool
  ) throws -> [String: Any] {
    var last = ""
    var found: [String: Any]?
    let isFound = try waitUntil {
      last = try get(daemon, path).body
      found = (try? object(last)).flatMap { isRight($0) ? $0 : nil }
      return found != nil
    }
    if isFound, let found { return found }
    Issue.record("\(path) came to be \(last.prefix(2000))")
    return [:]
  }

  @Test func `the page and everything it loads come from the program, and name no other host`() throws {
    let daemon = try daemon()
    defer { daemon.stop() }
    let page = try get(daemon, "/")
    #expect(page.code == 200 && page.head.contains("text/html") && page.body.contains("<main"))
    var found: Set<String> = []
    for text in [page.body, try get(daemon, "/app.js").body, try get(daemon, "/run.js").body] {
      found.formUnion(text.matches(of: /"\.?(\/[a-z]+\.(?:js|css|svg))"/).map { String($0.1) })
    }
    #expect(found.count >= 8, "\(found)")
    for path in found.sorted() {
      let file = try get(daemon, path)
      #expect(file.code == 200 && !file.body.isEmpty, "\(path)")
      // The one address is the name of SVG's elements, which nobody asks for.
      let others = file.body.matches(of: /https?:\/\/[^"']*/).map { String($0.0) }
      #expect(others.allSatisfy { $0 == "http://www.w3.org/2000/svg" }, "\(path): \(others)")
      #expect(!file.body.contains("innerHTML") && !file.body.contains("eval("), "\(path)")
    }
    // Who has a file is not sent it again.
    let tag = try #require(page.head.firstMatch(of: /ETag: ("[0-9a-f]+")/)).1
    let again = try get(daemon, "/", ["If-None-Match: \(tag)"])
    #expect(again.code == 304 && again.body.isEmpty)
    let head = try get(daemon, "/", method: "HEAD")
    #expect(head.code == 200 && head.body.isEmpty && head.head.contains("Content-Length: \(page.body.utf8.count)"))
  }

  @Test func `without the bearer token the page is served and no data, and with it everything is`() throws {
    let daemon = try daemon { $0.httpToken = "open sesame" }
    defer { daemon.stop() }
    let run = try submit(daemon, "secret")
    for path in ["/", "/app.js", "/style.css"] { #expect(try get(daemon, path).code == 200, "\(path)") }
    for path in [
      "/api/cluster", "/api/runs/\(run)", "/api/runs/\(run)/graph?sample=0", "/metrics", "/healthz", "/none",
    ] {
      let refused = try get(daemon, path)
      #expect(refused.code == 401 && !refused.body.contains("secret"), "\(path)")
      #expect(try get(daemon, path, ["Authorization: Bearer wrong"]).code == 401, "\(path)")
    }
    #expect(try get(daemon, "/api/cluster", ["Authorization: Bearer open sesame"]).code == 200)
    #expect(try get(daemon, "/", method: "POST").code == 405)
  }

  @Test func `a run is in the cluster with its reason, and its events are sent once`() throws {
    let daemon = try daemon()
    defer { daemon.stop() }
    let run = try submit(daemon, "seen")
    let cluster = try wait(daemon, "/api/cluster") { !(($0["runs"] as? [Any])?.isEmpty ?? true) }
    let line = try #require((cluster["runs"] as? [[String: Any]])?.first)
    #expect(line["name"] as? String == "seen" && line["id"] as? String == run.description)
    // The list of all runs is short; the page of a run asks for that run alone.
    #expect(line["causes"] == nil && line["costs"] == nil && line["dataset"] as? String == "/none/d.h5")
    let other = try submit(daemon, "other")
    _ = try wait(daemon, "/api/cluster") { ($0["runs"] as? [Any])?.count == 2 }
    let alone = try object(try get(daemon, "/api/cluster?run=\(run)").body)["runs"] as? [[String: Any]]
    #expect(alone?.map { $0["id"] as? String } == [run.description] && run != other)
    #expect(
      (alone?.first?["causes"] as? [[String: Any]])?.map { $0["cause"] as? String } == [
        "useful", "start", "checkpoint", "fault", "straggler", "exchange",
      ])
    let costs = try #require(alone?.first?["costs"] as? [String: Any])
    #expect(Set(costs.keys) == ["expected", "actual", "workers"] && (costs["workers"] as? [Any])?.isEmpty == true)
    let path = "/api/runs/\(run)"
    let whole = try wait(daemon, path) { "\($0["story"] ?? "")".contains("waits for 1 worker") }
    #expect(whole["isWhole"] as? Bool == true && whole["isReading"] as? Bool == false)
    let event = try #require(whole["event"] as? Int), shape = try #require(whole["shape"] as? String)
    let rest = try object(try get(daemon, "\(path)?since=\(event)&shape=\(shape)").body)
    #expect(rest["isWhole"] as? Bool == false && (rest["story"] as? [Any])?.isEmpty == true)
    // Nothing new costs a few bytes.
    let tag = try #require(try get(daemon, path).head.firstMatch(of: /ETag: (\S+)/)).1
    #expect(try get(daemon, path, ["If-None-Match: \(tag)"]).code == 304)
  }

  @Test func `a run's configuration is shown with its meaning, and the keys that differ from the defaults are marked`()
    throws
  {
    let daemon = try daemon()
    defer { daemon.stop() }
    let run = try submit(daemon, "seen")
    let details = try wait(daemon, "/api/runs/\(run)/details") { $0["configuration"] != nil }
    #expect(details["folder"] as? String == folder + "/checkpoints/seen" && details["owner"] == nil)
    let keys = try #require(details["configuration"] as? [[String: Any]])
    let changed = keys.filter { $0["isDefault"] as? Bool == false }.map { $0["key"] as? String }
    #expect(changed == ["run", "data.path", "checkpoint.directory"])
    let width = try #require(keys.first { $0["key"] as? String == "model.width" })
    #expect(width["value"] as? String == "128" && width["meaning"] as? String == "d: width of the token vectors.")
    #expect(try get(daemon, "/api/runs/00000000000a/details").code == 404)
    let told = try CoordinatorClient(daemon.endpoint).details(of: "seen")
    #expect(told.id == run && told.configuration.data.path == "/none/d.h5")
  }

  @Test func `a long history from before the start is read on demand, and sent in few points`() throws {
    let store = folder + "/store.db"
    let run: RunID
    do {
      let first = try daemon { $0.store = store }
      run = try submit(first, "old")
      _ = try wait(first, "/api/runs/\(run)") { "\($0["story"] ?? "")".contains("waits for 1 worker") }
      first.stop()
    }
    let count = 3000
    do {
      let store = try RunStore(path: store, holder: "test")
      let before = try store.events(of: run, after: 0, limit: 1000).last!.number
      try store.commit(
        (1...count).map { step in
          .event(
            run, number: before + step,
            RecordCodec.encode(
              RunEvent.stepped(
                StepRecord(
                  step: step, loss: 1, task: step == 1234 ? 50 : 2, smooth: 0, balance: 0, routerZ: 0, gradientNorm: 1,
                  learningRate: 0.1, tokens: 10, seconds: 0.1, loads: [3, 1]))))
        })
    }
    let second = try daemon { $0.store = store }
    defer { second.stop() }
    // What watches the numbers need not wait for the next step, nor for a visitor of the run.
    #expect(try waitUntil { try get(second, "/metrics").body.contains("ress_run_loss{run=\"old\"} 2.0") })
    _ = try wait(second, "/api/cluster") { !(($0["runs"] as? [Any])?.isEmpty ?? true) }
    let page = try wait(second, "/api/runs/\(run)") { page in
      page["isReading"] as? Bool == false && (page["newest"] as? [String: Any])?["step"] as? Int == count
    }
    let curve = try #require(page["curve"] as? [String: Any])
    #expect((curve["first"] as? [Any])?.count == 750 && curve["width"] as? Int == 4)
    #expect(((curve["loss"] as? [String: Any])?["maximum"] as? [Double])?.max() == 50)
    #expect("\(page["story"] ?? "")".contains("submitted"))
  }

  @Test func `a hostile request gets an answer in a sentence, or a closed connection, and nothing is computed`() throws
  {
    let asked = Mutex(0)
    let daemon = try daemon {
      $0.graph = { _ throws(GraphError) in
        asked.withLock { $0 += 1 }
        return []
      }
    }
    defer { daemon.stop() }
    let run = try submit(daemon, "victim")
    _ = try wait(daemon, "/api/runs/\(run)") { "\($0["story"] ?? "")".contains("waits for 1 worker") }
    for query in [
      "since=-1", "since=1e3", "since=99999999999999999999", "since=", "since=%00", "since=1;ls", "since=+1",
      "since=0x10",
      "since=%F0%9F%92%A3", "since=1%201",
    ] {
      let answer = try get(daemon, "/api/runs/\(run)?\(query)")
      #expect(answer.code == 400 && answer.body.contains("whole number"), "\(query): \(answer)")
    }
    #expect(try get(daemon, "/api/runs/\(run)?shape=%22%3E%3Cscript%3E&since=3").code == 200)
    for path in [
      "/api/runs/zzzzzzzzzzzz", "/api/runs/", "/api/runs", "/api/runs/\(run)/", "/api/runs/\(run)/graph/1", "/api",
      "/..",
      "/api/runs/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/index.html%00.js", "//",
      "/api/runs/0000000000001/graph",
    ] { #expect(try get(daemon, path).code == 404, "\(path)") }
    #expect(try get(daemon, "/api/runs/000000000001").body.contains("there is no run 000000000001"))
    // A run without a checkpoint has no graph.
    let none = try get(daemon, "/api/runs/\(run)/graph?sample=0")
    #expect(none.code == 404 && none.body.contains("has no checkpoint yet"), "\(none)")
    #expect(asked.withLock { $0 } == 0)
    // A body is refused before it comes.
    let posted = try say(
      daemon,
      "POST /api/cluster HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 1000000000\r\n\r\nabc")
    #expect(posted.hasPrefix("HTTP/1.1 405"), "\(posted.prefix(100))")
    // A page of another site whose name was pointed here reads nothing.
    for host in ["evil.example", "evil.example:7078", "127.0.0.1.evil.example", "localhost.evil.example", "[::2]"] {
      let answer = try say(daemon, "GET /api/cluster HTTP/1.1\r\nHost: \(host)\r\nConnection: close\r\n\r\n")
      #expect(answer.hasPrefix("HTTP/1.1 421") && !answer.contains("victim"), "\(host): \(answer.prefix(300))")
    }
    for host in ["127.0.0.1:80", "127.3.2.1", "LOCALHOST:1", "[::1]:7078"] {
      let answer = try say(daemon, "GET /api/cluster HTTP/1.1\r\nHost: \(host)\r\nConnection: close\r\n\r\n")
      #expect(answer.hasPrefix("HTTP/1.1 200"), "\(host)")
    }
    let query = (0..<2000).map { "a\($0)=b" }.joined(separator: "&")
    _ = try get(daemon, "/api/cluster?\(query)")
    #expect(try get(daemon, "/healthz").code == 200)
  }

  @Test func `graphs are computed one at a time and kept within a limit, and an error is sent once`() throws {
    let gate = DispatchSemaphore(value: 0)
    let asked = Mutex<[Int]>([])
    let desk = GraphQueue { question throws(GraphError) in
      asked.withLock { $0.append(question.sample) }
      gate.wait()
      if question.sample == 1 { throw GraphError("sample 1 is not in d.h5") }
      return Array("graph \(question.sample)".utf8)
    }
    func question(_ sample: Int) -> GraphQuestion {
      GraphQuestion(checkpoint: "c", split: .train, sample: sample, segment: 0)
    }
    func answer(_ sample: Int) -> HTTPAnswer {
      var answer = HTTPAnswer(code: 0, "it never came")
      _ = waitUntil {
        answer = desk.answer(question(sample))
        return answer.code != 202
      }
      return answer
    }
    for sample in 0..<GraphQueue.waitingLimit {
      let first = desk.answer(question(sample))
      #expect(first.code == 202 && first.retryAfter == 1)
      // Asking again is not asking twice.
      #expect(desk.answer(question(sample)).code == 202)
    }
    let late = desk.answer(question(99))
    #expect(late.code == 503 && late.retryAfter != nil)
    for _ in 0..<GraphQueue.waitingLimit { gate.signal() }
    #expect(answer(0).body == Array("graph 0".utf8))
    #expect(answer(1).code == 422)
    #expect(answer(2).code == 200 && answer(3).code == 200 && answer(0).code == 200)
    #expect(asked.withLock { $0 } == [0, 1, 2, 3])
    gate.signal()
    #expect(desk.answer(question(1)).code == 202)
    #expect(String(decoding: answer(1).body, as: UTF8.self).contains("sample 1 is not in d.h5"))
    #expect(asked.withLock { $0 } == [0, 1, 2, 3, 1])
    // Those that were not looked at for longest are forgotten.
    for sample in 10..<10 + GraphQueue.keptLimit {
      gate.signal()
      #expect(answer(sample).code == 200)
    }
    gate.signal()
    #expect(desk.answer(question(0)).code == 202)
  }
}
