// The field `relations` of a row of task `tag`: which of its words are related, and how.

/// Two words of a row that are related.
struct WordRelation: Equatable {
  var word, other: Int
  /// The kind of the relation for `word`, and for `other`.
  var kind, back: Int
}

extension Row {
  private static let relationForm =
    "two words, [0, 3], and where there are several kinds the kind, [0, 3, 1]; a fourth number is the kind from the "
    + "second word to the first, if it is another one"

  /// The relations of a row of words; none where the row does not have the field.
  /// - Parameter kinds: kinds that are allowed, from 0 on.
  func wordRelations(words: Int, kinds: Int) throws(DataError) -> [WordRelation] {
    guard let value = values["relations"] else { return [] }
    guard let list = value as? [Any] else {
      throw problem("field 'relations' must be a list, whose items are " + Row.relationForm)
    }
    var relations: [WordRelation] = []
    for (number, item) in list.enumerated() {
      let spoken = "relation \(number) (the first is 0)"
      guard let numbers = item as? [Int], (2...4).contains(numbers.count) else {
        throw problem("\(spoken) must be " + Row.relationForm)
      }
      if let wrong = numbers.prefix(2).first(where: { !(0..<words).contains($0) }) {
        throw problem(
          "\(spoken) names word \(wrong), and the row's \(words) words are 0 to \(words - 1)")
      }
      if numbers[0] == numbers[1] {
        throw problem("\(spoken) relates word \(numbers[0]) to itself; leave it out, because a word always sees itself")
      }
      if let wrong = numbers.dropFirst(2).first(where: { !(0..<kinds).contains($0) }) {
        throw problem("\(spoken) is of kind \(wrong), and kinds are 0 to \(kinds - 1)")
      }
      let kind = numbers.count > 2 ? numbers[2] : 0
      relations.append(
        WordRelation(word: numbers[0], other: numbers[1], kind: kind, back: numbers.count > 3 ? numbers[3] : kind))
    }
    return relations
  }
}
