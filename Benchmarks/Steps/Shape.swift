// The shapes that the Swift and the PyTorch programs measure: Benchmarks/shapes.json, with the keys of a
// configuration's `model` section.

import Configuration
import Foundation
import Model
import Training

struct Shape {
  let name: String
  var configuration = RunConfiguration()
  let vocabulary: Int

  /// Reads a shape from shapes.json in the source tree, or from `--shapes FILE`.
  init(_ name: String, file: String) throws {
    let data = try Data(contentsOf: URL(fileURLWithPath: file))
    guard let shapes = try? JSONDecoder().decode([String: [String: Value]].self, from: data) else {
      throw ShapeError.unreadable(file)
    }
    guard let shape = shapes[name] else { throw ShapeError.unknown(name, shapes.keys.sorted()) }
    self.name = name
    var vocabulary: Int?
    // The configuration's decoder knows every key, and refuses unknown ones.
    var overrides: [ConfigurationOverride] = []
    for (key, value) in shape.sorted(by: { $0.key < $1.key }) {
      switch key {
      case "vocabulary": vocabulary = Int(value.description)
      case "sequence_length": overrides.append(ConfigurationOverride(set: "data.sequence_length=\(value)"))
      default: overrides.append(ConfigurationOverride(set: "model.\(key)=\(value)"))
      }
    }
    overrides.append(ConfigurationOverride(set: "data.path=random"))
    overrides.append(ConfigurationOverride(set: "training.batch_sequences=1"))
    configuration = try ConfigurationDecoder.decode(text: "run: \(name)\n", name: file, overrides: overrides)
    guard let vocabulary else { throw ShapeError.unreadable(file) }
    self.vocabulary = vocabulary
  }

  /// A value as a configuration writes it. JSONSerialization cannot be used, because it does not distinguish false
  /// from 0.
  private enum Value: Decodable, CustomStringConvertible {
    case flag(Bool), whole(Int), real(Double), text(String)

    init(from decoder: any Swift.Decoder) throws {
      let container = try decoder.singleValueContainer()
      if let flag = try? container.decode(Bool.self) {
        self = .flag(flag)
      } else if let whole = try? container.decode(Int.self) {
        self = .whole(whole)
      } else if let real = try? container.decode(Double.self) {
        self = .real(real)
      } else {
        self = .text(try container.decode(String.self))
      }
    }

    var description: String {
      switch self {
      case .flag(let flag): "\(flag)"
      case .whole(let whole): "\(whole)"
      case .real(let real): "\(real)"
      case .text(let text): text
      }
    }
  }

  static var standardFile: String {
    URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .appendingPathComponent("shapes.json").path
  }

  var gigaflopsPerToken: Double { configuration.operationsPerToken(vocabulary: vocabulary) / 1e9 }
}

enum ShapeError: Error, CustomStringConvertible {
  case unreadable(String)
  case unknown(String, [String])

  var description: String {
    switch self {
    case .unreadable(let file): "\(file) holds no shapes"
    case .unknown(let name, let known): "unknown shape '\(name)'; the shapes are \(known.joined(separator: ", "))"
    }
  }
}

/// Random tokens, the same in every step, so that all steps do the same work.
final class RandomTokens: SequenceSource {
  let sequenceCount = 1
  let length: Int
  private let stream: [Int32]

  init(length: Int, vocabulary: Int) {
    self.length = length
    var state: UInt64 = 0x9E37_79B9_7F4A_7C15
    stream = (0...length).map { _ in
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return Int32((state >> 33) % UInt64(vocabulary))
    }
  }

  func read(_ sequence: Int, into buffer: inout SequenceBuffer) {
    if buffer.tokens.count != length {
      buffer.tokens = Array(stream[0..<length])
      buffer.targets = Array(stream[1...length])
    }
  }
}
