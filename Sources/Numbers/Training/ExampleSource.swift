// Presents the examples of a task's dataset as training sequences.

import Data
import Model

package final class ExampleSource: SequenceSource {
  package let length: Int
  package let judge: (any Judge)?
  private let examples: ExampleSplit
  private let readsRelations: Bool

  /// - Parameters:
  ///   - limit: most tokens that are read of an example.
  ///   - longest: tokens of the longest example of both splits. A model that is made for one split must have room
  ///     for the other.
  ///   - readsRelations: whether the model uses the relations of tokens.
  package init(
    _ examples: ExampleSplit, limit: Int, longest: Int, tokenizer: Tokenizer, labels: [String],
    readsRelations: Bool = false
  ) {
    self.examples = examples
    self.readsRelations = readsRelations
    length = max(1, min(limit, max(longest, examples.longest)))
    judge =
      switch examples.task {
      case .lm: nil
      case .classify, .tables, .graphs: ClassJudge()
      case .multipleChoice: ChoiceJudge()
      case .tag: TagJudge(labels: labels)
      case .span: SpanJudge(examples, tokenizer)
      }
  }

  package var sequenceCount: Int { examples.count }
  package var questionCount: Int { examples.questionCount }
  package func sequences(of question: Int) -> Range<Int> { examples.examples(of: question) }
  /// Number of examples that are longer than what is read of them.
  package var cutCount: Int { (0..<examples.count).count { examples.tokenCount(of: $0) > length } }

  package func read(_ sequence: Int, into buffer: inout SequenceBuffer) throws {
    try examples.read(
      sequence, limit: length, features: &buffer.tokens, bags: &buffer.bags, targets: &buffer.targets)
    if readsRelations { try examples.readRelations(sequence, limit: length, into: &buffer.relations) }
  }

  package func tokenCount(of sequence: Int) -> Int { min(length, examples.tokenCount(of: sequence)) }
  package func targetCount(of sequence: Int) throws -> Int { try examples.targetCount(of: sequence, limit: length) }
}
