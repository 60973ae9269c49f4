// A configuration printed and read back, and the page that is made from the same schema.

import Configuration
import Foundation
import Testing

@Suite struct `Printing a configuration` {
  @Test func `a configuration reads back as it was printed`() throws {
    var configuration = RunConfiguration()
    configuration.run = "x-1"
    configuration.model.width = 96
    configuration.model.vocabulary = 1000
    configuration.model.sharedExpert = true
    configuration.model.smoothWeight = 0.1 + 0.2
    configuration.data.path = "data/ü \"quoted\" \\ \t: # \u{85}\u{2028} x.h5"
    configuration.training.seed = .max
    configuration.training.bpttSegments = 3
    configuration.training.recompute = .always
    configuration.optimizer.epsilon = 1e-300
    configuration.optimizer.schedule = .constant
    configuration.cluster.patienceSeconds = 2.5
    #expect(try decode(ConfigurationEncoder.yaml(configuration)) == configuration)
  }

  @Test(arguments: [
    "null", "true", "12", "1e3", "~", "-x", "- x", "a b", "é", "a: b", "/tmp/x", "x", "[x]", "*x", "&x", "!x", "%x",
    "'x'",
  ])
  func `any text survives`(text: String) throws {
    var configuration = RunConfiguration()
    configuration.data.path = text
    #expect(try decode(ConfigurationEncoder.yaml(configuration)).data.path == text)
  }

  @Test func `every key is printed with its meaning`() {
    let text = ConfigurationEncoder.yaml(RunConfiguration())
    for section in ConfigurationSchema.sections {
      for field in section.fields {
        #expect(text.contains("\(field.name): "))
        #expect(text.contains("# \(field.documentation)"))
      }
    }
  }

  @Test func `the schema names every field of a run, under its own name`() {
    // Values without children are fields; structures are sections. A new field of RunConfiguration fails here until the
    // schema has it.
    var expected: [String] = []
    for child in Mirror(reflecting: RunConfiguration()).children {
      let name = snakeCase(child.label ?? "")
      let inner = Mirror(reflecting: child.value)
      if inner.displayStyle == .struct, !(child.value is String) {
        expected += inner.children.map { "\(name).\(snakeCase($0.label ?? ""))" }
      } else {
        expected.append(name)
      }
    }
    let known = ConfigurationSchema.sections.flatMap { section in section.fields.map(section.path(of:)) }
    #expect(known == expected)
  }

  @Test func `docs/configuration.md is generated from the schema`() throws {
    let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent()
    let page = try String(contentsOf: root.appending(path: "docs/configuration.md"), encoding: .utf8)
    #expect(
      page == ConfigurationReference.markdown(),
      "run `ress config reference > docs/configuration.md` and commit the page")
  }

  private func snakeCase(_ name: String) -> String {
    name.map { $0.isUppercase ? "_" + $0.lowercased() : String($0) }.joined()
  }
}

@Suite struct `Nearest names` {
  @Test(arguments: [
    ("tain", "train"), ("trian", "train"), ("worke", "worker"), ("Train", "train"), ("evalute", "evaluate"), ("x", nil),
    ("banana", nil), ("", nil), ("eval", "evaluate"), ("W", "worker"),
  ])
  func `a typing error and a beginning have a suggestion, and nonsense has none`(name: String, expected: String?) {
    #expect(NearestName.find(name, among: ["train", "worker", "evaluate", "coordinator"]) == expected)
  }

  @Test func `keys that an older program did not have get their defaults, and null stays null`()
    throws
  {
    var configuration = RunConfiguration()
    (configuration.model.keys, configuration.training.seed) = (nil, .max)
    configuration.data.mixture = [WeightedPath(path: "a.h5", weight: 3)]
    let bytes = try JSONEncoder().encode(configuration)
    #expect(try JSONDecoder().decode(RunConfiguration.self, from: bytes) == configuration)

    var object = try #require(try JSONSerialization.jsonObject(with: bytes) as? [String: Any])
    object["cluster"] = nil
    var data = try #require(object["data"] as? [String: Any])
    data["mixture"] = nil
    object["data"] = data
    let older = try JSONDecoder().decode(
      RunConfiguration.self, from: JSONSerialization.data(withJSONObject: object))
    configuration.data.mixture = []
    #expect(older == configuration)

    data["sequenceLength"] = "long"
    object["data"] = data
    #expect(throws: DecodingError.self) {
      try JSONDecoder().decode(RunConfiguration.self, from: JSONSerialization.data(withJSONObject: object))
    }
  }

  /// The configuration that a program wrote which did not have taps before the experts, nor the keys added with them.
  private func older(_ change: (inout [String: Any]) -> Void) throws -> RunConfiguration {
    let bytes = try JSONEncoder().encode(RunConfiguration())
    var object = try #require(try JSONSerialization.jsonObject(with: bytes) as? [String: Any])
    var model = try #require(object["model"] as? [String: Any])
    for key in [
      "forgetGates", "scoreScale", "expertTaps", "twoSidedTaps", "tapStart", "embeddingStart", "embeddingNorm", "gates",
      "routerStart", "sharedWidth", "sharedEachStep", "classPool",
    ] { #expect(model.removeValue(forKey: key) != nil, "\(key)") }
    (model["activation"], model["sharedExpert"]) = ("sparsemax", false)
    change(&model)
    object["model"] = model
    return try JSONDecoder().decode(RunConfiguration.self, from: JSONSerialization.data(withJSONObject: object))
  }

  @Test func `a model that was stored before a part of the block existed is read without that part`() throws {
    #expect(try older { _ in }.model == .firstForm)
    var shared = ModelConfiguration.firstForm
    (shared.sharedExpert, shared.width) = (true, 64)
    #expect(
      try older {
        $0["sharedExpert"] = true
        $0["width"] = 64
      }.model == shared)
  }

  @Test func `a model that was stored before a class was read from the tokens reads it from the memory`() throws {
    var configuration = RunConfiguration()
    #expect(configuration.model.classPool == .tokens)
    let bytes = try JSONEncoder().encode(configuration)
    var object = try #require(try JSONSerialization.jsonObject(with: bytes) as? [String: Any])
    var model = try #require(object["model"] as? [String: Any])
    #expect(model.removeValue(forKey: "classPool") != nil)
    object["model"] = model
    configuration.model.classPool = .memory
    let older = try JSONDecoder().decode(RunConfiguration.self, from: JSONSerialization.data(withJSONObject: object))
    #expect(older == configuration)
  }

  @Test func `a model that was stored before bf16 existed has factors of fp32`() throws {
    var configuration = RunConfiguration()
    configuration.model.precision = .bf16
    let bytes = try JSONEncoder().encode(configuration)
    #expect(try JSONDecoder().decode(RunConfiguration.self, from: bytes) == configuration)
    var object = try #require(try JSONSerialization.jsonObject(with: bytes) as? [String: Any])
    var model = try #require(object["model"] as? [String: Any])
    #expect(model.removeValue(forKey: "precision") as? String == "bf16")
    object["model"] = model
    let older = try JSONDecoder().decode(
      RunConfiguration.self, from: JSONSerialization.data(withJSONObject: object))
    #expect(older.model.precision == .fp32)
    #expect(!older.model.hasSameMeaning(as: configuration.model))
  }

  @Test func `a stored baseline of an older version has no taps, whatever its recency taps are`() throws {
    #expect(try older { $0["architecture"] = "transformer" }.model == .plainTransformer)
  }
}
