// Makes examples from the nodes of graphs: a node whose class is the target, and the nodes around it. Each node is
// a token whose features are its words and its distance.

struct GraphReader {
  /// Most nodes of an example, including the node whose class is asked.
  let nodeLimit: Int
  /// Whether the edges among the nodes of an example become relations.
  let readsRelations: Bool

  private struct Node {
    var words: [Int32]
    var label: Any?
    var neighbours: [Int]
    var split: String
  }

  private var nodes: [Int: Node] = [:]
  /// Numbers of the nodes, in the order of the rows.
  private var order: [Int] = []
  private var largestWord: Int32 = 0

  init(nodeLimit: Int, readsRelations: Bool = false) {
    self.nodeLimit = nodeLimit
    self.readsRelations = readsRelations
  }

  /// Number of features: words and distances.
  var vocabulary: Int { Int(largestWord) + 1 + GraphFeatures.hops }

  mutating func add(_ row: Row) throws(DataError) {
    guard let id = row.values["id"] as? Int else { throw row.problem("field 'id' must be the node's number") }
    guard nodes[id] == nil else { throw row.problem("node \(id) occurs twice") }
    guard let words = row.values["words"] as? [Int], words.allSatisfy({ (0..<1 << 24).contains($0) }) else {
      throw row.problem("field 'words' must be a list of whole numbers from 0 on: the node's features")
    }
    guard let neighbours = row.values["neighbors"] as? [Int] else {
      throw row.problem("field 'neighbors' must be a list of the numbers of nodes")
    }
    nodes[id] = Node(
      words: words.map { Int32($0) }, label: row.values["label"], neighbours: neighbours,
      split: row.values["split"] as? String ?? "train")
    order.append(id)
    largestWord = max(largestWord, words.max().map { Int32($0) } ?? 0)
  }

  /// Calls `body` with an example for each labelled node of a split.
  func forEach(of split: String, _ labels: inout LabelNames, _ body: (Example) throws -> Void) throws {
    for id in order where nodes[id]!.split == split {
      guard let label = nodes[id]!.label else { continue }
      guard let number = labels.number(of: label) else {
        throw DataError.unreadable("node \(id): its label must be a class: a whole number from 0 on, or a name")
      }
      try body(example(around: id, number))
    }
  }

  var splits: Set<String> { Set(nodes.values.map(\.split)) }

  private func example(around id: Int, _ label: Int32) -> Example {
    var example = Example()
    var seen: Set<Int> = [id], ring = [id]
    // The token of each node, and the nodes in the order of their tokens.
    var tokens: [Int: Int] = [:], taken: [Int] = []
    for hop in 0..<GraphFeatures.hops {
      for node in ring where example.tokenCount < nodeLimit {
        example.append(bag: [largestWord + 1 + Int32(hop)] + nodes[node]!.words)
        tokens[node] = taken.count
        taken.append(node)
      }
      ring = ring.flatMap { nodes[$0]!.neighbours }.filter { nodes[$0] != nil && seen.insert($0).inserted }
    }
    if readsRelations {
      // An edge has no direction, whichever of its two nodes names it.
      for (token, node) in taken.enumerated() {
        for neighbour in nodes[node]!.neighbours where neighbour != node {
          if let other = tokens[neighbour] { example.relate(token, other, GraphRelation.edge) }
        }
      }
    }
    example.targets = [label] + Array(repeating: -1, count: example.tokenCount - 1)
    return example
  }
}
