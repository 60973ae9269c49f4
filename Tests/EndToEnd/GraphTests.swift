// `ress graph`: the links of a trained model, whose weights must obey the model's definition (docs/model.md).

import Foundation
import Testing

@Suite(.serialized) final class `Graphs` {
  private let place: Workplace

  init() throws {
    place = try Workplace()
    let trained = try place.run(["train", "run.yaml", "--set", "training.steps=3", "--set", "checkpoint.every=0"])
    #expect(trained.code == 0, "\(trained.output)\(trained.errors)")
  }

  private struct Page: Decodable {
    struct Step: Decodable {
      var neighbours: [[Int]]
      var weights: [[Double]]
    }
    var checkpoint: String
    var step, sample, samples, segment, segments, first, own, windowBefore, windowAfter: Int
    var identifiers: [Int]
    var texts: [String]
    var steps: [Step]
  }

  private func page(_ words: String...) throws -> Page {
    let finished = try place.run(["graph", "checkpoints/first", "--json"] + words)
    #expect(finished.code == 0, "\(finished.errors)")
    return try JSONDecoder().decode(Page.self, from: Data(finished.output.utf8))
  }

  @Test(arguments: ["train", "validation"], [0, 1])
  func `a token's weights add up to one over its window and the chosen tokens before it`(split: String, segment: Int)
    throws
  {
    let graph = try page("--split", split, "--sample", "2", "--segment", "\(segment)")
    // As in run.yaml: two steps, segments of 32, a cache of 16, a window of 4, a degree of 4.
    #expect(graph.steps.count == 2 && graph.segments == 2 && graph.step == 3)
    #expect(graph.own == (segment == 0 ? 0 : 16) && graph.first == (segment == 0 ? 0 : 16))
    #expect(graph.texts.count == graph.own + 32 && graph.identifiers.count == graph.texts.count)
    #expect(graph.windowBefore == 3 && graph.windowAfter == 0)
    for step in graph.steps {
      #expect(step.neighbours.count == 32 && step.weights.count == 32)
      for (row, (neighbours, weights)) in zip(step.neighbours, step.weights).enumerated() {
        let token = graph.own + row
        #expect(neighbours == Array(Set(neighbours)).sorted() && neighbours.count == min(token + 1, 4 + 4))
        #expect(neighbours.allSatisfy { (0...token).contains($0) })
        #expect(Set(max(0, token - 3)...token).isSubset(of: neighbours), "the window of \(token)")
        #expect(weights.count == neighbours.count && weights.allSatisfy { $0 >= 0 })
        #expect(abs(weights.reduce(0, +) - 1) < 1e-3, "\(weights)")
      }
    }
    #expect(graph.steps[0].neighbours != graph.steps[1].neighbours)
    // The words of the prepared text.
    let text = try String(contentsOfFile: place.path + "/text.txt", encoding: .utf8)
    #expect(text.contains(graph.texts.joined().replacing("⟨document⟩", with: "")))
  }

  @Test
  func `a later segment's cached tokens are the end of the one before, and the strongest are those that weigh most`()
    throws
  {
    let first = try page("--sample", "1"), second = try page("--sample", "1", "--segment", "1")
    #expect(Array(second.texts.prefix(16)) == Array(first.texts.suffix(16)))
    let few = try page("--sample", "1", "--segment", "1", "--strongest", "3")
    for (all, chosen) in zip(second.steps, few.steps) {
      for row in all.weights.indices {
        #expect(chosen.weights[row] == Array(all.weights[row].sorted(by: >).prefix(3)))
        #expect(Set(chosen.neighbours[row]).isSubset(of: all.neighbours[row]))
      }
    }
    // The number of threads never changes a value.
    #expect(
      try place.run(["graph", "checkpoints/first", "--threads", "1"]).output
        == place.run(["graph", "checkpoints/first"]).output)
  }

  @Test func `the default output is a table, and the error for an unknown sample names the valid ones`() throws {
    let read = try place.run(["graph", "checkpoints/first", "--sample", "1", "--segment", "1", "--step", "1"])
    #expect(read.code == 0 && read.output.contains("segment 1 of 2, step of recurrence 1 of 2"), "\(read.output)")
    #expect(read.output.split(separator: "\n").count == 34)
    func complaint(_ words: String..., of run: String = "first") throws -> String {
      let finished = try place.run(["graph", "checkpoints/\(run)"] + words)
      #expect(finished.code != 0 && finished.output.isEmpty)
      return finished.errors
    }
    #expect(try complaint("--sample", "100000").contains("its validation split has sequences 0 to "))
    #expect(try complaint("--segment", "2").contains("it has 64 tokens in segments 0 to 1"))
    #expect(try complaint("--step", "3").contains("the model has 2 steps of recurrence"))
    #expect(try complaint("--data", "none.h5").contains("none.h5"))
    #expect(try complaint(of: "none").contains("checkpoints/none"))
    let dense = [
      "train", "run.yaml", "--set", "run=dense", "--set", "model.architecture=transformer", "--set", "model.segment=64",
      "--set", "training.steps=2", "--set", "checkpoint.every=0",
    ]
    #expect(try place.run(dense).code == 0)
    #expect(try complaint(of: "dense").contains("is a dense transformer, in which every token sees all before it"))
  }
}
