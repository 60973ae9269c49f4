// The parts of a model that keep their weights (`training.freeze`). A frozen tensor is one that is not trained: the
// optimizer neither updates nor decays it, it has no moments in shards and checkpoints, and its gradient is no part
// of the global norm, so clipping depends on the trained parts alone. The backward still computes its gradient,
// because gradients pass through it to the tensors before it.

import Configuration

package struct FrozenParts: Equatable, Sendable {
  /// Names of tensors, or beginnings of names that end before a `/`.
  private let parts: [String]

  package init(_ parts: [String]) { self.parts = parts }

  /// Whether one of the parts is the tensor or contains it. The tensors of separate blocks are also found by their
  /// names without the block: `router` is in `block/0002/router/weight`.
  func contains(_ name: String) -> Bool {
    parts.contains { FrozenParts.part($0, contains: name) }
  }

  private static func part(_ part: String, contains name: String) -> Bool {
    if name == part || name.hasPrefix(part + "/") { return true }
    let words = name.split(separator: "/")
    guard words.count > 2, words[0] == "block" else { return false }
    let inner = words.dropFirst(2).joined(separator: "/")
    return inner == part || inner.hasPrefix(part + "/")
  }

  /// Why the run's `training.freeze` has no sense for its model; nil where it has.
  package static func complaint(_ configuration: RunConfiguration) -> String? {
    let parts = configuration.training.freeze
    guard !parts.isEmpty else { return nil }
    // The number of tokens changes no name.
    let layout = ParameterLayout(configuration, vocabulary: 2)
    let entries = (layout.dense + layout.experts.flatMap { $0 }).filter { $0.count > 0 }
    if let unknown = parts.first(where: { part in !entries.contains { FrozenParts.part(part, contains: $0.name) } }) {
      var names: [String] = []
      for entry in entries {
        let words = entry.name.split(separator: "/")
        let name = String(words[0] == "block" && words.count > 2 ? words[2] : words[0])
        if !names.contains(name) { names.append(name) }
      }
      return "training.freeze names '\(unknown)', and no tensor of the model has a name that begins so; "
        + "names begin with \(names.joined(separator: ", "))"
    }
    guard entries.contains(where: \.isTrained) else {
      return "training.freeze contains every part of the model, so there is nothing to train"
    }
    return nil
  }
}
