// The prompts of `ress generate --prompts`, and the lines of its texts.

import Configuration
import Data
import Shell
import Trained

struct PromptFile {
  let request: TextRequest
  private let prompt: String
  /// The row's `id` as JSON; nil where it has none.
  private let id: JSON?

  /// Reads all rows. `request` makes the request for a prompt; the row's `tokens` and `seed` take precedence.
  static func read(_ path: String, _ request: (String) -> TextRequest) throws -> [PromptFile] {
    var prompts: [PromptFile] = []
    try RowFile.forEach(path) { row, place in
      guard let prompt = row["prompt"] as? String else {
        throw DataError.badRow(place: place, problem: "no text in field 'prompt'")
      }
      var asked = request(prompt)
      asked.options.seed &+= UInt64(prompts.count)
      if let seed = row["seed"] {
        guard let seed = seed as? Int, seed >= 0 else {
          throw DataError.badRow(place: place, problem: "field 'seed' must be a whole number from 0 on")
        }
        asked.options.seed = UInt64(seed)
      }
      if let count = row["tokens"] {
        guard let count = count as? Int, (1...100_000_000).contains(count) else {
          throw DataError.badRow(place: place, problem: "field 'tokens' must be a whole number from 1 to 100000000")
        }
        asked.count = count
      }
      prompts.append(PromptFile(request: asked, prompt: prompt, id: RowIdentity.json(row)))
    }
    return prompts
  }

  func line(_ number: Int, _ text: WrittenText) -> String {
    JSON.object(
      [("index", .whole(number))] + (id.map { [("id", $0)] } ?? []) + [
        ("prompt", .text(prompt)), ("text", .text(String(decoding: text.bytes, as: UTF8.self))),
        ("tokens", .whole(text.tokenCount)), ("seed", .unsigned(request.options.seed)),
        ("stop", .init(text.stop)),
      ]
    ).line
  }
}

enum RowIdentity {
  /// The row's `id`, a text or a whole number, by which its answer is found again; nil where it has none.
  static func json(_ row: [String: Any]) -> JSON? {
    switch row["id"] {
    case let text as String: .text(text)
    case let number as Int: .whole(number)
    default: nil
    }
  }
}
