// A configuration in a checkpoint's manifest, a coordinator's store or a message may have been written by an older
// program: newer keys then have their defaults. A key that is present must be valid; a key without a value is present
// as null.

import Foundation

extension RunConfiguration {
  private enum Key: String, CodingKey { case run, model, data, training, optimizer, checkpoint, cluster }

  package init(from decoder: any Decoder) throws {
    let container = try decoder.container(keyedBy: Key.self)
    func section<Section: Codable>(_ key: Key, _ standard: Section) throws -> Section {
      guard container.contains(key) else { return standard }
      var tree = try JSONTree(standard)
      tree.overlay(try container.decode(JSONTree.self, forKey: key))
      return try JSONDecoder().decode(Section.self, from: JSONEncoder().encode(tree))
    }
    self.init()
    run = try container.decode(String.self, forKey: .run)
    let defaults = try Self.modelDefaults(container)
    model = try section(.model, defaults)
    if defaults == .firstForm, model.isTransformer {
      model.recencyTaps = ModelConfiguration.plainTransformer.recencyTaps
      model.embeddingNorm = ModelConfiguration.plainTransformer.embeddingNorm
    }
    data = try section(.data, data)
    training = try section(.training, training)
    optimizer = try section(.optimizer, optimizer)
    checkpoint = try section(.checkpoint, checkpoint)
    cluster = try section(.cluster, cluster)
  }

  /// The values that a model of that time had: a configuration from before the taps at the experts describes the first
  /// form of the model. The baseline did not use `recencyTaps` at that time, whatever its value. Before `classPool` a
  /// class was read from the memory.
  private static func modelDefaults(_ container: KeyedDecodingContainer<Key>) throws -> ModelConfiguration {
    guard container.contains(.model), case .object(let keys) = try container.decode(JSONTree.self, forKey: .model)
    else { return ModelConfiguration() }
    guard keys["expertTaps"] != nil else { return .firstForm }
    var model = ModelConfiguration()
    if keys["classPool"] == nil { model.classPool = .memory }
    return model
  }

  package func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: Key.self)
    try container.encode(run, forKey: .run)
    try container.encode(JSONTree(withNulls: model), forKey: .model)
    try container.encode(JSONTree(withNulls: data), forKey: .data)
    try container.encode(JSONTree(withNulls: training), forKey: .training)
    try container.encode(JSONTree(withNulls: optimizer), forKey: .optimizer)
    try container.encode(JSONTree(withNulls: checkpoint), forKey: .checkpoint)
    try container.encode(JSONTree(withNulls: cluster), forKey: .cluster)
  }
}

/// JSON with arbitrary keys.
private enum JSONTree: Codable {
  case null, flag(Bool), unsigned(UInt64), signed(Int64), number(Double), text(String)
  case list([JSONTree]), object([String: JSONTree])

  init(_ value: some Encodable) throws {
    self = try JSONDecoder().decode(JSONTree.self, from: JSONEncoder().encode(value))
  }

  /// The value including optional properties that are nil, which Swift leaves out.
  init(withNulls value: some Encodable) throws {
    self = try JSONTree(value)
    guard case .object(var own) = self else { return }
    for property in Mirror(reflecting: value).children where property.label.map({ own[$0] == nil }) == true {
      own[property.label!] = .null
    }
    self = .object(own)
  }

  init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    if container.decodeNil() {
      self = .null
    } else if let value = try? container.decode(Bool.self) {
      self = .flag(value)
    } else if let value = try? container.decode(UInt64.self) {
      self = .unsigned(value)
    } else if let value = try? container.decode(Int64.self) {
      self = .signed(value)
    } else if let value = try? container.decode(Double.self) {
      self = .number(value)
    } else if let value = try? container.decode(String.self) {
      self = .text(value)
    } else if let value = try? container.decode([JSONTree].self) {
      self = .list(value)
    } else {
      self = .object(try container.decode([String: JSONTree].self))
    }
  }

  func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    switch self {
    case .null: try container.encodeNil()
    case .flag(let value): try container.encode(value)
    case .unsigned(let value): try container.encode(value)
    case .signed(let value): try container.encode(value)
    case .number(let value): try container.encode(value)
    case .text(let value): try container.encode(value)
    case .list(let value): try container.encode(value)
    case .object(let value): try container.encode(value)
    }
  }

  /// The values of `above` over this object's.
  mutating func overlay(_ above: JSONTree) {
    guard case .object(let values) = above, case .object(var own) = self else { return self = above }
    own.merge(values) { $1 }
    self = .object(own)
  }
}
