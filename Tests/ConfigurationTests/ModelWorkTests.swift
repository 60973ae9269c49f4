// The count of a model's work, compared with a walk over every token of a sequence.

import Configuration
import Testing

@Suite struct `The work of a model` {
  @Test(arguments: [1, 5, 64, 65, 200, 1_000], [1, 7, 64, 300])
  func `the mean numbers of visible tokens and of neighbours are those of a walk over the tokens`(
    length: Int, segment: Int
  ) {
    for cache in [0, 1, 10, 64, 5_000] {
      for degree in [0, 8, 100, nil] {
        for head in [Head.lm, .tag] {
          var c = RunConfiguration()
          c.data.sequenceLength = length
          (c.model.segment, c.model.cache, c.model.window, c.model.graphDegree) = (segment, cache, 8, degree)
          c.model.head = head
          let walked = walk(c)
          let found = c.meanSight
          #expect(abs(found.visible - walked.visible) < 1e-9 * walked.visible, "\(cache) \(degree ?? -1) \(head)")
          #expect(
            abs(found.neighbours - walked.neighbours) < 1e-9 * walked.neighbours, "\(cache) \(degree ?? -1) \(head)")
        }
      }
    }
  }

  private func walk(_ c: RunConfiguration) -> (visible: Double, neighbours: Double) {
    let (model, length) = (c.model, c.data.sequenceLength)
    var (visible, neighbours) = (0, 0)
    for token in 0..<length {
      let first = token / model.segment * model.segment
      let own = model.head == .lm ? token - first + 1 : min(model.segment, length - first)
      let seen = min(first, model.cache) + own
      visible += seen
      neighbours += min(seen, model.graphDegree.map { $0 + model.window } ?? seen)
    }
    return (Double(visible) / Double(length), Double(neighbours) / Double(length))
  }
}
