// The dashboard in a real browser, with a real coordinator and a real run. The page's scripts must run under the
// content security policy, and what they draw must be the run.

import Foundation
import FoundationNetworking
import TestSupport
import Testing

#if canImport(Glibc)
  import Glibc
#endif

private let chromium = "/usr/bin/chromium"

@Suite(.serialized, .enabled(if: access(chromium, X_OK) == 0, "chromium (package chromium) is not here"))
final class `The dashboard in a browser` {
  private let place: Workplace
  private let coordinator: Running
  private let worker: Running
  private let address: String
  private let control: [String]

  init() throws {
    place = try Workplace()
    let socket = "ipc://\(place.path)/coordinator"
    control = ["--coordinator", socket]
    coordinator = try place.start(["coordinator", "--listen", socket, "--http", "127.0.0.1:0"])
    worker = try place.start(["worker", "--name", "w1", "--listen", "ipc://\(place.path)/w1"] + control)
    let (coordinator, isUp) = (
      coordinator, waitUntil(20) { [coordinator] in coordinator.output.contains("dashboard: ") }
    )
    try #require(isUp, "\(coordinator.output)")
    address = String(try #require(coordinator.output.firstMatch(of: /dashboard: (http:\S+)\//)).1)
  }

  /// The page as a browser has rendered it after some seconds, and the browser's complaints.
  private func browse(_ path: String, _ words: [String] = ["--dump-dom"]) throws -> (page: String, complaints: [String])
  {
    let process = Process()
    process.executableURL = URL(filePath: chromium)
    process.arguments =
      [
        "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-extensions", "--hide-scrollbars",
        "--user-data-dir=\(place.path)/browser", "--virtual-time-budget=12000", "--enable-logging=stderr", "--v=0",
      ] + words + [address + path]
    let output = Pipe(), errorPath = place.path + "/browser-errors"
    _ = FileManager.default.createFile(atPath: errorPath, contents: nil)
    process.standardOutput = output
    process.standardError = FileHandle(forWritingAtPath: errorPath)
    process.standardInput = FileHandle.nullDevice
    try process.run()
    let identifier = process.processIdentifier
    let watchdog = DispatchWorkItem { kill(identifier, SIGKILL) }
    DispatchQueue.global().asyncAfter(deadline: .now() + 900, execute: watchdog)
    defer { watchdog.cancel() }
    let page = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    let said = try String(contentsOfFile: errorPath, encoding: .utf8)
    return (
      page,
      said.split(separator: "\n").map { String($0) }.filter { line in
        ["CONSOLE", "Refused", "Uncaught", "Content Security Policy"].contains { line.contains($0) }
      }
    )
  }

  /// The final answer to a client that repeats its request as long as it is asked to.
  private func ask(_ path: String) async throws -> (code: Int, body: String) {
    let url = try #require(URL(string: address + path))
    let deadline = ContinuousClock.now + .seconds(1800)
    while ContinuousClock.now < deadline {
      let (data, response) = try await URLSession.shared.data(from: url)
      let code = try #require(response as? HTTPURLResponse).statusCode
      if code != 202 { return (code, String(decoding: data, as: UTF8.self)) }
      try await Task.sleep(for: .milliseconds(100))
    }
    return (202, "still")
  }

  /// Screenshots, kept in RESS_PICTURES=FOLDER.
  private func picture(_ path: String, width: Int, height: Int, isDark: Bool) throws -> Data {
    let name = place.path + "/picture.png"
    let (_, complaints) = try browse(
      path,
      [
        "--window-size=\(width),\(height)", "--screenshot=\(name)",
        "--blink-settings=preferredColorScheme=\(isDark ? 0 : 1)",
      ])
    #expect(complaints.isEmpty, "\(complaints)")
    let data = try #require(FileManager.default.contents(atPath: name))
    if let folder = ProcessInfo.processInfo.environment["RESS_PICTURES"] {
      try data.write(to: URL(filePath: "\(folder)/dashboard-\(width)\(isDark ? "-dark" : "").png"))
    }
    return data
  }

  @Test
  func `a run is shown with curves, experts, generations, events and a sample's graph, without an error`()
    async throws
  {
    let empty = try browse("/")
    #expect(empty.page.contains("No run yet") && empty.page.contains("w1"), "\(empty.page)")
    #expect(empty.complaints.isEmpty, "\(empty.complaints)")
    #expect(try place.run(["train", "run.yaml"] + control).code == 0)
    // Names that a user chose are shown as text, whatever they contain.
    let hostile = "<img src=x onerror=alert(1)>.h5"
    _ = try place.run(["train", "run.yaml", "--set", "run=odd", "--resume=\(hostile)"] + control)

    let cluster = try browse("/")
    #expect(cluster.complaints.isEmpty, "\(cluster.complaints)")
    #expect(
      cluster.page.contains(">first</a>") && cluster.page.contains("40 / 40") && cluster.page.contains("finished"))
    #expect(cluster.page.contains("&lt;img src=x onerror=alert(1)&gt;") && !cluster.page.contains("<img src=\"x\""))
    let run = try #require(cluster.page.firstMatch(of: ##/#/run/([0-9a-f]{12})">first</##)).1

    // The browser's virtual clock runs ahead while it waits, so whatever takes time is done before.
    let graph = try await ask("/api/runs/\(run)/graph?split=validation&sample=1&segment=1")
    #expect(graph.code == 200, "\(graph)")
    let (page, complaints) = try browse("/#/run/\(run)/graph/validation/1/1")
    #expect(complaints.isEmpty, "\(complaints)")
    let line = try #require(page.firstMatch(of: #/class="line" d="M([^"]*)"/#)).1
    #expect(line.split(separator: "L").count == 40 && !line.contains("NaN"), "\(line)")
    #expect(page.matches(of: #/class="line" d="M/#).count == 4)
    #expect(page.matches(of: #/<circle class="dot"/#).count == 2, "two evaluations")
    // Two steps of recurrence, four experts.
    #expect(page.matches(of: #/aria-label="recurrence [12], expert [0-3] on w1: [0-9,]+ tokens?, /#).count == 8)
    #expect(page.contains("Experts in effect") && page.contains("Generation 1") && page.contains("run first begins"))
    #expect(
      page.contains("all 40 steps are done") && page.contains("step-00000040") && page.contains("Steps that count"))
    // The graph of the second segment: 16 tokens of the first segment and 32 of its own, of which one is selected.
    #expect(page.contains("Model of step 40, validation sample 1 of "))
    #expect(page.matches(of: #/role="option"/#).count == 32 && page.matches(of: #/class="token earlier/#).count == 16)
    #expect(page.matches(of: #/aria-selected="true"/#).count == 1 && page.contains("token joined"))
    #expect(page.contains("itself") && page.contains("t = 2"))

    // A run's name links to it; an unknown run is reported; and a run that failed before its first step shows the
    // reason once.
    let named = try browse("/#/run/first").page
    #expect(named.contains("all 40 steps are done") && named.contains("Generation 1"))
    #expect(try browse("/#/run/nobody").page.contains("has no run called nobody"))
    #expect(try browse("/#/elsewhere").page.contains("There is no page #/elsewhere."))
    let failed = try browse("/#/run/odd").page
    #expect(failed.contains(#"class="banner failed""#) && failed.contains("ress logs odd"), "\(failed)")
    #expect(failed.matches(of: #/class="(?:wide|low)" hidden=""/#).count == 4)
    // Steps at the axis are whole numbers, and none is repeated.
    let short = try place.run(["train", "run.yaml", "--set", "run=short", "--set", "training.steps=3"] + control)
    #expect(short.code == 0, "\(short.errors)")
    let axis = try browse("/#/run/short").page.matches(of: #/class="axis middle"[^>]*>([^<]*)</#).map { String($0.1) }
    // Of four charts.
    #expect(axis == Array(repeating: ["0", "1", "2", "3"], count: 4).flatMap { $0 }, "\(axis)")

    // The page has what the run was submitted with, and what its checkpoints are.
    #expect(page.contains("text.h5") && page.contains("optimizer.learning_rate") && page.contains("To train further"))
    #expect(page.contains("ress submit CONFIG --resume --set run=first"))
    let checkpoints = try #require(page.range(of: ">Checkpoints<")).upperBound
    #expect(page[checkpoints...].matches(of: #/ KiB<\/td>/#).count == 4, "four checkpoints with their sizes")
    #expect(page.contains("Plan and workers") && page.contains("Memory of a worker") && page.contains("A step"))

    // Both runs in one picture: a line and a marker for each evaluation; the choices are those of the address.
    let both = try browse("/#/compare/first/short?x=tokens&smooth=0.5")
    #expect(both.complaints.isEmpty, "\(both.complaints)")
    #expect(both.page.matches(of: #/class="curve" d="M/#).count == 2 && both.page.contains(">tokens</text>"))
    #expect(both.page.contains("Smoothing ") && both.page.contains(">0.50<"))
    #expect(
      both.page.contains("training.steps") && !both.page.contains(">optimizer.learning_rate<"), "the keys that differ")
    // A part is enlarged, and a run is hidden.
    let part = try browse("/#/compare/first/short?from=10&to=20&hide=short")
    #expect(part.page.matches(of: #/class="curve" d="M/#).count == 1 && !part.page.contains(">0</text>"))
    // The table of runs, filtered and sorted by the address.
    let filtered = try browse("/#/?q=text.h5&state=finished&sort=-step").page
    let order = filtered.matches(of: ##/#/run/[0-9a-f]{12}">([a-z]+)</##).map { String($0.1) }
    #expect(order == ["first", "short"] && filtered.contains("2 of 3 runs"), "\(order)")

    // Only a person can judge a picture. The test checks that there is one and that dark mode differs.
    let path = "/#/run/\(run)/graph/validation/1/1"
    let light = try picture(path, width: 1280, height: 2600, isDark: false)
    let phone = try picture(path, width: 360, height: 3600, isDark: true)
    #expect(light.count > 50_000 && phone.count > 50_000 && light != phone)
  }

  @Test func `the page shows why a graph is not available, and that an unknown run does not exist`() async throws {
    #expect(try place.run(["train", "run.yaml", "--set", "training.steps=2"] + control).code == 0)
    // The page's data may be half a second old.
    var cluster = ""
    let deadline = ContinuousClock.now + .seconds(300)
    while !cluster.contains(#""name":"first""#), ContinuousClock.now < deadline {
      cluster = try await ask("/api/cluster").body
    }
    let run = try #require(cluster.firstMatch(of: /"id":"([0-9a-f]{12})"/)).1
    let refused = try await ask("/api/runs/\(run)/graph?sample=100000")
    #expect(refused.code == 422 && refused.body.contains("its validation split has sequences 0 to "), "\(refused)")
    #expect(try browse("/#/run/00000000000a").page.contains("has no such run"))
  }
}
