// A row of JSON or of a table, and typed access to its fields. Every error names the row's file and line.

import Foundation

struct Row {
  let values: [String: Any]
  let place: String

  init(_ values: [String: Any], _ place: String) {
    self.values = values
    self.place = place
  }

  /// A row of a table, whose fields are texts: a label or an id that is a whole number is one, and a field with a list
  /// or an object of JSON is that value where a task expects one.
  init(fields: [String: Any], _ place: String) {
    var values = fields
    for name in ["label", "id"] {
      if let text = fields[name] as? String, let number = Int(text) { values[name] = number }
    }
    for name in Row.listNames {
      guard let text = fields[name] as? String, text.hasPrefix("[") || text.hasPrefix("{"),
        let value = try? JSONSerialization.jsonObject(with: Data(text.utf8))
      else { continue }
      values[name] = value
    }
    self.init(values, place)
  }

  private static let listNames = [
    "choices", "answers", "paragraphs", "questions", "words", "tokens", "tags", "header", "rows", "statements",
    "neighbors", "relations",
  ]

  func problem(_ text: String) -> DataError { .badRow(place: place, problem: text) }

  func text(_ name: String) throws(DataError) -> String {
    guard let text = values[name] as? String else {
      let texts = values.filter { $0.value is String }.keys.sorted()
      throw problem(
        "no text in field '\(name)'" + (texts.isEmpty ? "" : "; it has texts in \(texts.joined(separator: ", "))"))
    }
    return text
  }

  func texts(_ name: String) throws(DataError) -> [String] {
    guard let texts = values[name] as? [String], !texts.isEmpty else {
      throw problem("field '\(name)' must be a list of texts")
    }
    return texts
  }

  /// The index of the right choice, which a row gives as a number, a letter or a text.
  func choice(_ name: String, among choices: [String]) throws(DataError) -> Int {
    let value = values[name] ?? values["label"]
    if let number = value as? Int, choices.indices.contains(number) { return number }
    if let text = value as? String {
      if let place = choices.firstIndex(of: text) { return place }
      if let letter = text.uppercased().utf8.first, text.utf8.count == 1, letter >= 65,
        choices.indices.contains(Int(letter) - 65)
      {
        return Int(letter) - 65
      }
    }
    throw problem("field '\(name)' must name one of the \(choices.count) choices: its number from 0 on, letter or text")
  }

  /// The text in which the answer is: `context`, or `paragraphs` with `title` and `text`. Offsets of answers are
  /// valid in a context only.
  func paragraphs() throws(DataError) -> (texts: [String], at: Int?) {
    guard let paragraphs = values["paragraphs"] as? [[String: Any]] else { return ([try text("context")], 0) }
    var texts: [String] = []
    for paragraph in paragraphs {
      guard let text = paragraph["text"] as? String else { throw problem("a paragraph must have a field 'text'") }
      texts.append((paragraph["title"] as? String).map { $0 + "\n" + text } ?? text)
    }
    return (texts, nil)
  }

  /// The answers, in the form of SQuAD's JSON, of Hugging Face's rows, or as texts alone.
  func answers() throws(DataError) -> [Answer] {
    switch values["answers"] ?? values["answer"] {
    case let text as String: return [Answer(text: text)]
    case let texts as [String]: return texts.map { Answer(text: $0) }
    case let objects as [[String: Any]]:
      var answers: [Answer] = []
      for object in objects {
        guard let text = object["text"] as? String else { throw problem("an answer must have a field 'text'") }
        answers.append(Answer(text: text, start: (object["answer_start"] ?? object["start"]) as? Int))
      }
      return answers
    case let lists as [String: Any]:
      guard let texts = lists["text"] as? [String] else { throw problem("'answers' must have a list 'text'") }
      let starts = lists["answer_start"] as? [Int] ?? []
      return texts.enumerated().map {
        Answer(text: $1, start: starts.indices.contains($0) ? starts[$0] : nil)
      }
    default: throw problem("field 'answers' must be a list of texts, or of objects with text and answer_start")
    }
  }

  /// For answers that do not occur in the text word for word: the piece of text that is nearest, where the row
  /// names it.
  var span: [Answer] { (values["span_text"] as? String).map { [Answer(text: $0)] } ?? [] }
}

struct Answer {
  var text: String
  /// Its offset in the context, in Unicode scalars, as Python counts.
  var start: Int?

  /// Where the answer occurs: at the given offset if it is there, or else at its first occurrence.
  func find(in paragraphs: [String], at place: Int?) -> FoundAnswer? {
    let bytes = Array(text.utf8)
    guard !bytes.isEmpty else { return nil }
    if let start, let place {
      let scalars = paragraphs[place].unicodeScalars
      if let index = scalars.index(scalars.startIndex, offsetBy: start, limitedBy: scalars.endIndex) {
        let offset = paragraphs[place].utf8.distance(from: paragraphs[place].utf8.startIndex, to: index)
        let there = paragraphs[place].utf8.dropFirst(offset).prefix(bytes.count)
        if there.elementsEqual(bytes) {
          return FoundAnswer(paragraph: place, bytes: offset..<offset + bytes.count)
        }
      }
    }
    for (number, paragraph) in paragraphs.enumerated() {
      let utf8 = Array(paragraph.utf8)
      guard utf8.count >= bytes.count else { continue }
      for offset in 0...utf8.count - bytes.count
      where utf8[offset] == bytes[0] && utf8[offset..<offset + bytes.count].elementsEqual(bytes) {
        return FoundAnswer(paragraph: number, bytes: offset..<offset + bytes.count)
      }
    }
    return nil
  }
}

struct FoundAnswer {
  var paragraph: Int
  /// Offsets in the paragraph's UTF-8.
  var bytes: Range<Int>
}
