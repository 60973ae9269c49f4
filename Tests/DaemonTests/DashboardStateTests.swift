// What a coordinator serves over HTTP, and to which clients.

import Configuration
import Daemon
import Foundation
import FoundationNetworking
import HTTP
import Testing
import Wire

#if canImport(Glibc)
  import Glibc
#endif

@Suite(.serialized) struct DashboardStateTests {
  private func get(
    _ address: String, _ method: String = "GET", token: String? = nil
  ) async throws -> (code: Int, headers: [String: String], body: String) {
    var request = URLRequest(url: try #require(URL(string: address)))
    request.httpMethod = method
    if let token { request.setValue("Bearer " + token, forHTTPHeaderField: "Authorization") }
    let (data, response) = try await URLSession.shared.data(for: request)
    let answer = try #require(response as? HTTPURLResponse)
    let headers = Dictionary(
      answer.allHeaderFields.map { ("\($0.key)".lowercased(), "\($0.value)") }, uniquingKeysWith: { $1 })
    return (answer.statusCode, headers, String(decoding: data, as: UTF8.self))
  }

  @Test func `a coordinator's numbers are there for Prometheus, and nothing can be changed`() async throws {
    var options = CoordinatorDaemon.Options(listen: "tcp://127.0.0.1:*", program: "ress \"test\"")
    options.http = "127.0.0.1:0"
    let daemon = try CoordinatorDaemon(options)
    daemon.start()
    defer { daemon.stop() }
    var configuration = RunConfiguration()
    (configuration.run, configuration.data.path) = ("seen", "/none/d.h5")
    // The coordinator makes the run's folder, which does not belong into the folder in which tests are run.
    let folder = NSTemporaryDirectory() + "ress-numbers-" + UUID().uuidString.prefix(8)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    configuration.checkpoint.directory = folder
    _ = try CoordinatorClient(daemon.endpoint).submit(Submission(configuration: configuration, resume: .no))
    let address = try #require(daemon.httpAddress)
    var page = try await get(address + "/metrics")
    let deadline = ContinuousClock.now + .seconds(300)
    while !page.body.contains("seen"), ContinuousClock.now < deadline {
      try await Task.sleep(for: .milliseconds(100))
      page = try await get(address + "/metrics")
    }
    #expect(page.code == 200 && page.body.contains("ress_run_step{run=\"seen\"} 0.0\n"), "\(page.body)")
    #expect(page.body.contains(#"ress_build_info{program="ress \"test\""} 1.0"#))
    #expect(page.headers["x-content-type-options"] == "nosniff" && page.headers["x-frame-options"] == "DENY")
    #expect(page.headers["content-security-policy"]?.hasPrefix("default-src 'self'") == true)
    #expect(try await get(address + "/healthz").code == 200)
    #expect(try await get(address + "/nowhere").code == 404)
    for method in ["POST", "PUT", "DELETE"] { #expect(try await get(address + "/metrics", method).code == 405) }
  }

  @Test func `hundreds of slow connections do not lock other clients out`() async throws {
    let server = try HTTPServer("127.0.0.1:0", token: nil) { $0.path == "/x" ? HTTPAnswer("inside") : nil }
    defer { server.close() }
    var there = sockaddr_in()
    there.sin_family = sa_family_t(AF_INET)
    there.sin_port = in_port_t(UInt16(server.address.split(separator: ":").last!)!).bigEndian
    there.sin_addr.s_addr = inet_addr("127.0.0.1")
    var slow: [Int32] = []
    defer { for connection in slow { close(connection) } }
    for count in 1...600 {
      let connection = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
      slow.append(connection)
      _ = withUnsafePointer(to: &there) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
          connect(connection, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
        }
      }
      _ = send(connection, "GET /x HT", 9, Int32(MSG_NOSIGNAL))
      guard count.isMultiple(of: 60) else { continue }
      #expect(try await get(server.address + "/x").body == "inside", "after \(count)")
    }
  }

  @Test func `a bearer token is required where one is set, and must be set where other machines can connect`()
    async throws
  {
    let server = try HTTPServer("127.0.0.1:0", token: "open sesame") { $0.path == "/x" ? HTTPAnswer("inside") : nil }
    defer { server.close() }
    #expect(try await get(server.address + "/x", token: "open sesame").body == "inside")
    for token in [nil, "", "open sesam", "open sesame ", "other"] {
      let refused = try await get(server.address + "/x", token: token)
      #expect(refused.code == 401 && refused.headers["www-authenticate"] == "Bearer" && refused.body != "inside")
    }
    // A path that is not there is not told of either.
    #expect(try await get(server.address + "/y").code == 401)
    #expect(throws: HTTPError.needsToken("0.0.0.0:0")) { _ = try HTTPServer("0.0.0.0:0", token: nil) { _ in nil } }
    for bad in ["localhost", "localhost:", ":80", "no-such-host.invalid:80", "127.0.0.1:99999"] {
      #expect(throws: HTTPError.badAddress(bad)) { _ = try HTTPServer(bad, token: nil) { _ in nil } }
    }
    let named = try HTTPServer("localhost:0", token: nil) { _ in HTTPAnswer("here") }
    defer { named.close() }
    #expect(named.address.hasPrefix("http://127.0.0.1:"))
    #expect(try await get(named.address + "/").body == "here")
    let place = String(server.address.dropFirst("http://".count))
    #expect(throws: HTTPError.cannotListen(place)) { _ = try HTTPServer(place, token: nil) { _ in nil } }
  }

  @Test func `runs of one name are one series, and a loss that is not finite is written as Prometheus writes it`() {
    func run(_ id: UInt64, _ state: RunState, _ step: Int) -> ClusterStatus.Run {
      .init(id: RunID(id), name: "a\\b", state: state, reason: "", step: step, steps: 9)
    }
    var latest = PrometheusPage.Latest()
    latest.step = StepRecord(
      step: 3, loss: .nan, task: .nan, smooth: 0, balance: 0, routerZ: 0, gradientNorm: .infinity, learningRate: 0.5,
      tokens: 100, seconds: 0.5, loads: [30, 10])
    let text = PrometheusPage.text(
      ClusterStatus(runs: [run(1, .failed, 1), run(2, .running, 3)], workers: []), [RunID(2): latest],
      program: "p")
    let samples = text.split(separator: "\n").filter { !$0.hasPrefix("#") }
    #expect(Set(samples.map { $0.prefix { $0 != " " } }).count == samples.count)
    for line in [
      #"ress_run_step{run="a\\b"} 3.0"#, #"ress_run_loss{run="a\\b"} NaN"#, #"ress_run_gradient_norm{run="a\\b"} +Inf"#,
      #"ress_run_tokens_per_second{run="a\\b"} 200.0"#, #"ress_run_largest_expert_load{run="a\\b"} 1.5"#,
      #"ress_run_state{run="a\\b",state="running"} 1.0"#, #"ress_run_state{run="a\\b",state="failed"} 0.0"#,
    ] { #expect(samples.contains { $0 == line }, "\(line)") }
  }

  @Test func `a step that was not applied is NaN for the alert though a part of its loss is finite, and is counted`() {
    let run = ClusterStatus.Run(id: RunID(1), name: "r", state: .running, reason: "", step: 3, steps: 9)
    func lines(_ loss: Double, skipped: String?) -> [Substring] {
      var latest = PrometheusPage.Latest()
      latest.step = StepRecord(
        step: 3, loss: loss, task: 2.5, smooth: 0, balance: 0, routerZ: 0, gradientNorm: 1, learningRate: 0.5,
        tokens: 100, seconds: 0.5, loads: [], skipped: skipped)
      latest.skipped = skipped == nil ? 0 : 4
      return PrometheusPage.text(ClusterStatus(runs: [run], workers: []), [RunID(1): latest], program: "p")
        .split(separator: "\n")
    }
    #expect(lines(3, skipped: nil).contains(#"ress_run_loss{run="r"} 2.5"#))
    #expect(lines(3, skipped: "the gradient is not finite").contains(#"ress_run_loss{run="r"} NaN"#))
    #expect(lines(.nan, skipped: nil).contains(#"ress_run_loss{run="r"} NaN"#))
    #expect(lines(3, skipped: "x").contains(#"ress_run_skipped_steps_total{run="r"} 4.0"#))
  }

  @Test func `a silent worker is not shown as working`() {
    func worker(_ name: String, run: String?, silent: Double) -> ClusterStatus.Worker {
      .init(
        description: WorkerDescription(
          name: name, host: "h", process: 1, dataAddress: "", threads: 1, fingerprint: "", program: ""), run: run,
        silentSeconds: silent)
    }
    let status = ClusterStatus(
      runs: [],
      workers: [worker("a", run: "r", silent: 0.1), worker("b", run: "r", silent: 7), worker("c", run: nil, silent: 0)])
    let text = PrometheusPage.text(status, [:], program: "p")
    for (state, count) in [("busy", 1), ("free", 1), ("silent", 1)] {
      #expect(text.contains("ress_workers{state=\"\(state)\"} \(count).0\n"), "\(text)")
    }
  }

  private static let promtool = "/usr/bin/promtool"

  @Test(.enabled(if: access("/usr/bin/promtool", X_OK) == 0, "promtool is in Debian's package prometheus"))
  func `Prometheus's own tool finds no fault in the page and the rules`() throws {
    func check(_ words: [String], input: String = "") throws -> String {
      let process = Process()
      process.executableURL = URL(filePath: Self.promtool)
      process.arguments = words
      let said = Pipe(), given = Pipe()
      (process.standardOutput, process.standardError, process.standardInput) = (said, said, given)
      try process.run()
      given.fileHandleForWriting.write(Data(input.utf8))
      try given.fileHandleForWriting.close()
      let text = String(decoding: said.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
      process.waitUntilExit()
      return process.terminationStatus == 0 ? text : "failed: \(text)"
    }
    let status = ClusterStatus(
      runs: [.init(id: RunID(1), name: "r", state: .running, reason: "", step: 1, steps: 2)], workers: [])
    #expect(try check(["check", "metrics"], input: PrometheusPage.text(status, [:], program: "p")) == "")
    let rules = URL(filePath: #filePath).deletingLastPathComponent().appending(
      path: "../../cluster/prometheus/alerts.yml")
    #expect(try check(["check", "rules", rules.standardized.path]).contains("11 rules found"))
  }
}
