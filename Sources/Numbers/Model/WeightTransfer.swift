// A warm start: which tensors of a model are taken from another model, and which are drawn from the seed. The head may
// be another one, and the kinds of relations may be others; these are then drawn. Everything else must have the same
// sizes.

import Configuration

/// The tensors that a model takes from another one.
package struct WeightTransfer: Equatable, Sendable {
  /// Names of the tensors that are drawn from the seed; the source has another head or other kinds of relations, or
  /// none.
  package let drawn: [String]

  /// - Parameters:
  ///   - source: the configuration that the source was trained with, and the rows of its embedding.
  ///   - target: the configuration of the model that takes its weights, and the rows of its embedding.
  ///   - path: the source's path, for messages.
  package init(
    from source: (configuration: RunConfiguration, vocabulary: Int),
    to target: (configuration: RunConfiguration, vocabulary: Int), path: String
  ) throws(WeightMismatch) {
    let theirs = Shapes(source.configuration, source.vocabulary), own = Shapes(target.configuration, target.vocabulary)
    guard theirs.tensors == own.tensors else {
      throw WeightMismatch(path: path, reason: WeightTransfer.difference(source, target, theirs: theirs, own: own))
    }
    let (a, b) = (source.configuration.model, target.configuration.model)
    drawn = own.drawable.filter { tensor in
      !theirs.drawable.contains(tensor) || tensor.name == "head/weight" && a.head != b.head
    }.map(\.name)
  }

  package func takes(_ name: String) -> Bool { !drawn.contains(name) }

  /// Names and shapes of a model's tensors; those that may be drawn are separate.
  private struct Shapes {
    struct Tensor: Equatable {
      let name: String
      let shape: [Int]
    }
    var tensors: [Tensor] = []
    var drawable: [Tensor] = []

    init(_ configuration: RunConfiguration, _ vocabulary: Int) {
      let layout = ParameterLayout(configuration.model, vocabulary: vocabulary)
      for entry in layout.dense + layout.experts.flatMap({ $0 }) where entry.count > 0 {
        let tensor = Tensor(name: entry.name, shape: entry.shape)
        if ["head/weight", "relation/bias"].contains(entry.name) {
          drawable.append(tensor)
        } else {
          tensors.append(tensor)
        }
      }
    }
  }

  /// The keys whose values make the sizes differ, with both values.
  private static func difference(
    _ source: (configuration: RunConfiguration, vocabulary: Int),
    _ target: (configuration: RunConfiguration, vocabulary: Int), theirs: Shapes, own: Shapes
  ) -> String {
    var reasons: [String] = []
    var changesTaps = false
    if source.vocabulary != target.vocabulary {
      reasons.append("model.vocabulary is \(source.vocabulary) there and \(target.vocabulary) here")
    }
    for (key, there, here) in ConfigurationEncoder.differences(source.configuration, target.configuration)
    where key.hasPrefix("model.") && key != "model.from" && key != "model.vocabulary" {
      let mixed = ConfigurationSchema.replacing(key, in: source.configuration, by: target.configuration)
      guard Shapes(mixed, source.vocabulary).tensors != theirs.tensors else { continue }
      reasons.append("\(key) is \(there) there and \(here) here")
      if key == "model.head" { changesTaps = true }
    }
    // Keys that change sizes only together.
    if reasons.isEmpty {
      reasons = zip(theirs.tensors, own.tensors).filter { $0 != $1 }.prefix(3).map {
        "\($0.name) has the shape \($0.shape) there and \($1.name) \($1.shape) here"
      }
    }
    return reasons.joined(separator: ", ")
      + (changesTaps ? "; this head reads taps in both directions: use model.two_sided_taps: false" : "")
  }
}

/// A model whose weights do not fit into another one.
package struct WeightMismatch: Error, Equatable, CustomStringConvertible {
  package let path: String
  package let reason: String

  package var description: String {
    "the weights of \(path) do not fit the configuration: \(reason)"
  }
}
