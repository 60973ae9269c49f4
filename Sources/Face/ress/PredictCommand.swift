// `ress predict`: a trained model's answers to rows, one JSON object a line.

import Configuration
import Data
import Foundation
import Shell
import Trained

func predict(_ options: PredictOptions) throws -> ExitCode {
  let model = try TrainedModel(options.checkpoint, threads: options.threads ?? 0)
  for sentence in model.skipped { Terminal.complain(sentence) }
  let predictor = try Predictor(
    model, task: options.task.flatMap { TaskKind(rawValue: $0) }, length: options.length,
    recurrence: options.recurrence)
  let sheet = try LineSheet(options.output)
  var reader = predictor.reader(field: options.field)
  var number = 0
  try RowFile.forEach(options.rows) { row, place in
    let queries = try reader.queries(row, at: place)
    for (question, query) in queries.enumerated() {
      var line: [(String, JSON)] = [("row", .whole(number))]
      if let id = RowIdentity.json(row) { line.append(("id", id)) }
      if queries.count > 1 { line.append(("question", .whole(question))) }
      line += answer(try predictor.answer(query), predictor.labels, choices: row["choices"] as? [String] ?? [])
      if predictor.cuts(query) { line.append(("cut", .flag(true))) }
      try sheet.write(JSON.object(line).line)
    }
    number += 1
  }
  try sheet.finish()
  return .done
}

private func answer(
  _ prediction: Prediction, _ labels: [String], choices: [String]
) -> [(String, JSON)] {
  func name(_ index: Int) -> String { labels.indices.contains(index) ? labels[index] : String(index) }
  /// The first of equally likely ones.
  func best(_ probabilities: [Double]) -> Int {
    probabilities.indices.max { probabilities[$0] < probabilities[$1] } ?? 0
  }
  switch prediction {
  case .classes(let probabilities):
    let choice = best(probabilities)
    return [
      ("label", .text(name(choice))), ("probability", .real(probabilities[choice])),
      ("probabilities", .object(probabilities.enumerated().map { (name($0), .real($1)) })),
    ]
  case .choices(let probabilities):
    let choice = best(probabilities)
    return [
      ("choice", .whole(choice)), ("text", .text(choices.indices.contains(choice) ? choices[choice] : "")),
      ("probabilities", .list(probabilities)),
    ]
  case .tags(let words):
    return [
      ("tags", .list(words.map { name(best($0)) })),
      ("probabilities", .list(words.map { $0[best($0)] })),
    ]
  case .span(let text, let probability): return [("answer", .text(text)), ("probability", .real(probability))]
  case .text(let loss, let tokens, let bytes):
    return [
      ("loss", .real(loss)), ("tokens", .whole(tokens)),
      ("bits_per_byte", .real(bytes == 0 ? .nan : loss * Double(tokens) / Double(bytes) / log(2))),
    ]
  }
}
