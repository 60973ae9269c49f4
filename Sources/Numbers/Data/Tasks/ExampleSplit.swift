// The examples of one split, read from the dataset's file on demand. The layout of the file is described in
// ExamplePreparation.swift; the small lists of offsets are held in memory, tokens and targets are read per example.
// All values are checked, since a damaged file must end in an error that names it and not in a crash.

import Foundation
import HDF5
import Model

package final class ExampleSplit {
  package let task: TaskKind
  /// Tokens of the longest example.
  package let longest: Int
  private let path: String
  private let split: Split
  private let vocabulary: Int
  private let tokens, targets, answers: HDF5List
  /// Index of the first token of each example, and the end of the last one.
  private let starts: [Int]
  /// Index of the first example of each question, and the end.
  private let questions: [Int]
  private let answerStarts: [Int]
  private let bags: HDF5List?
  /// Nil in a dataset without relations.
  private let relations: HDF5List?
  /// Index of the first relation of each example, and the end; empty in a dataset without relations.
  private let relationStarts: [Int]
  private let relationKinds: Int
  /// Number of classes; a target that is a class must be smaller.
  private let classes: Int
  /// Values of the list that is being read, at the width in which the file has them. Reused.
  private var wide: [UInt64] = []
  /// The relations that are being read. Reused.
  private var triples: [Int32] = []

  /// - Parameter relationKinds: number of kinds of relations; 0 for a dataset without relations.
  init(
    _ file: HDF5File, _ split: Split, _ task: TaskKind, vocabulary: Int, classes: Int, relationKinds: Int
  ) throws(HDF5Error) {
    self.classes = classes
    self.relationKinds = relationKinds
    self.task = task
    self.split = split
    self.vocabulary = vocabulary
    path = file.path
    func list(_ name: String) throws(HDF5Error) -> HDF5List { try file.openList("\(split.rawValue)/\(name)") }
    func places(_ name: String, end: Int) throws(HDF5Error) -> [Int] {
      let list = try list(name)
      var values = [UInt64](repeating: 0, count: list.count)
      try list.read(from: 0, into: &values)
      let places = values.map { Int(truncatingIfNeeded: $0) } + [end]
      guard zip(places, places.dropFirst()).allSatisfy({ $0 >= 0 && $0 <= $1 }) else {
        throw .object(
          path: file.path, name: list.name, reason: "its numbers are not in ascending order; the file is damaged")
      }
      return places
    }
    (tokens, targets, answers) = (try list("tokens"), try list("targets"), try list("answers"))
    bags = task.hasBags ? try list("bags") : nil
    starts = try places("documents", end: bags?.count ?? tokens.count)
    questions = try places("questions", end: starts.count - 1)
    answerStarts = task == .span ? try places("answer_starts", end: answers.count) : []
    guard task != .span || answerStarts.count == starts.count else {
      throw .object(
        path: file.path, name: "\(split.rawValue)/answer_starts", reason: "it does not have one number per example")
    }
    relations = relationKinds > 0 ? try list("relations") : nil
    if let relations {
      guard relations.count.isMultiple(of: 3) else {
        throw .object(path: file.path, name: relations.name, reason: "it does not have three numbers for each relation")
      }
      relationStarts = try places("relation_starts", end: relations.count / 3)
      guard relationStarts.count == starts.count else {
        throw .object(
          path: file.path, name: "\(split.rawValue)/relation_starts", reason: "it does not have one number per example")
      }
    } else {
      relationStarts = []
    }
    longest = zip(starts, starts.dropFirst()).map { $1 - $0 }.max() ?? 0
  }

  package var count: Int { starts.count - 1 }
  package var tokenCount: Int { starts.last! }
  package var questionCount: Int { questions.count - 1 }
  package func examples(of question: Int) -> Range<Int> { questions[question]..<questions[question + 1] }
  package func tokenCount(of example: Int) -> Int { starts[example + 1] - starts[example] }
  /// Number of relations, in both directions; 0 in a dataset without relations.
  package var relationCount: Int { (relations?.count ?? 0) / 3 }
  package var lengths: [Int] { (0..<count).map { tokenCount(of: $0) } }

  /// Reads the first `limit` tokens of an example. A target after them becomes −1 (none).
  ///
  /// - Parameters:
  ///   - features: the features of all tokens.
  ///   - bags: index of the first feature of each token, and the end of the last one's; empty where every token has
  ///     one feature.
  package func read(
    _ example: Int, limit: Int, features: inout [Int32], bags starts_: inout [Int32], targets: inout [Int32]
  ) throws(DataError) {
    let first = starts[example], count = min(limit, tokenCount(of: example))
    do throws(HDF5Error) {
      var place = first, featureCount = count
      if let bags {
        // One more number than tokens: the beginning of the next token, or the end of all features.
        let isLast = first + count == bags.count
        resize(&wide, isLast ? count : count + 1)
        try bags.read(from: first, into: &wide)
        let end = isLast ? tokens.count : Int(truncatingIfNeeded: wide[count])
        place = Int(truncatingIfNeeded: wide[0])
        guard (0...tokens.count).contains(end), (0...end).contains(place), end - place <= Int(Int32.max) else {
          throw damaged(bags.name)
        }
        featureCount = end - place
        resize(&starts_, count + 1)
        for token in 0..<count {
          starts_[token] = Int32(truncatingIfNeeded: Int(truncatingIfNeeded: wide[token]) - place)
        }
        starts_[count] = Int32(featureCount)
        guard zip(starts_, starts_.dropFirst()).allSatisfy({ 0 <= $0 && $0 < $1 }) else { throw damaged(bags.name) }
      } else if !starts_.isEmpty {
        starts_ = []
      }
      resize(&features, featureCount)
      try tokens.read(from: place, into: &features)
      resize(&targets, task.targetCount(tokens: count))
      try self.targets.read(from: task.firstTarget(example: example, token: first), into: &targets)
    } catch {
      throw .unreadable("\(error)")
    }
    for (offset, feature) in features.enumerated() where feature < 0 || feature >= vocabulary {
      throw .tokenOutOfRange(
        path: path, split: split.rawValue, offset: first + offset, token: feature, vocabulary: vocabulary)
    }
    // The file has targets plus 1, so that 0 can mean no target.
    for place in targets.indices {
      guard targets[place] >= 0, task.head == .span || task.head == .lm || Int(targets[place]) <= classes else {
        throw .unreadable(
          "\(path): class \(targets[place]) of example \(example) of the \(split.rawValue) split is not one of \(classes); "
            + "the file is damaged, prepare it again")
      }
      targets[place] -= 1
    }
    // An answer that ends after the limit cannot be predicted; the example then counts as one without an answer.
    if task.head == .span, targets.contains(where: { $0 >= count }) { targets = [-1, -1] }
  }

  /// Reads the relations among the first `limit` tokens of an example; none in a dataset without relations.
  package func readRelations(_ example: Int, limit: Int, into table: inout RelationTable) throws(DataError) {
    table.clear()
    guard let relations else { return }
    let first = relationStarts[example], all = tokenCount(of: example), count = min(limit, all)
    resize(&triples, 3 * (relationStarts[example + 1] - first))
    do throws(HDF5Error) {
      try relations.read(from: 3 * first, into: &triples)
    } catch {
      throw .unreadable("\(error)")
    }
    var last: (token: Int32, other: Int32, kind: Int32) = (-1, -1, -1)
    for place in stride(from: 0, to: triples.count, by: 3) {
      let next = (token: triples[place], other: triples[place + 1], kind: triples[place + 2])
      guard next > last, (0..<all).contains(Int(next.token)), (0..<all).contains(Int(next.other)),
        (0..<relationKinds).contains(Int(next.kind))
      else {
        throw .unreadable(
          "\(path): relation \(place / 3) of example \(example) of the \(split.rawValue) split, tokens \(next.token) and "
            + "\(next.other) of kind \(next.kind), is out of order, or not one of \(all) tokens and \(relationKinds) kinds; "
            + "the file is damaged, prepare it again")
      }
      last = next
    }
    table.set(triples, tokens: count)
  }

  private func damaged(_ name: String) -> HDF5Error {
    .object(path: path, name: name, reason: "its numbers are not in ascending order; the file is damaged")
  }

  private func resize<Value: ExpressibleByIntegerLiteral>(_ values: inout [Value], _ count: Int) {
    if values.count != count { values = Array(repeating: 0, count: count) }
  }

  /// Number of targets of an example when `limit` of its tokens are read.
  package func targetCount(of example: Int, limit: Int) throws(DataError) -> Int {
    let count = min(limit, tokenCount(of: example))
    var asked = [Int32](repeating: 0, count: task.targetCount(tokens: count))
    do throws(HDF5Error) {
      try targets.read(from: task.firstTarget(example: example, token: starts[example]), into: &asked)
    } catch {
      throw .unreadable("\(error)")
    }
    if task.head == .span, asked.contains(where: { $0 > count }) { return 0 }
    return asked.count { $0 > 0 }
  }

  /// The right answers of an example.
  package func answers(of example: Int) throws(DataError) -> [String] {
    guard task == .span else { return [] }
    var text = [Int32](repeating: 0, count: answerStarts[example + 1] - answerStarts[example])
    do throws(HDF5Error) { try answers.read(from: answerStarts[example], into: &text) } catch {
      throw .unreadable("\(error)")
    }
    let data = Data(text.map { UInt8(truncatingIfNeeded: $0) })
    guard let answers = try? JSONDecoder().decode([String].self, from: data) else {
      throw .unreadable("\(path): answers of example \(example) of the \(split.rawValue) split are damaged")
    }
    return answers
  }
}
