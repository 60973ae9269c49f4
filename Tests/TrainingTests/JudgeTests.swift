// The scores of tasks, compared with values computed by hand or by the programs of the field.

import Kernels
import Model
import Testing
import Training

@Suite struct Judges {
  private func answer(_ targets: [Int32], _ logits: [Real], classes: Int) -> Answer {
    Answer(
      sequence: 0, tokens: Array(repeating: 0, count: targets.count), targets: targets, classes: classes, logits: logits
    )
  }

  @Test func `the likeliest class is the answer, and rows without a target do not count`() {
    let judged = ClassJudge().scores([answer([1, -1, 0], [0, 2, 5, 0, 3, 4], classes: 2)])
    #expect(judged.answers == 2 && judged.right == 1)
    #expect(TaskMetrics.of(.classify, sums(judged)).map(\.value) == [0.5])
  }

  @Test func `the choice with the best odds is the answer`() {
    let wrong = answer([0], [1, 3], classes: 2), right = answer([1], [-3, 0], classes: 2)
    #expect(ChoiceJudge().scores([wrong, right]).right == 1)
    #expect(ChoiceJudge().scores([wrong, answer([1], [0, 0], classes: 2)]).right == 0)
  }

  @Test func `phrases are those that conlleval finds`() {
    func phrases(_ tags: String) -> [String] {
      TagJudge.phrases(tags.split(separator: " ").map(String.init)).map { "\($0.words) \($0.kind)" }
    }
    #expect(phrases("B-PER I-PER O B-LOC") == ["0..<2 PER", "3..<4 LOC"])
    #expect(phrases("B-PER B-PER I-LOC O I-LOC") == ["0..<1 PER", "1..<2 PER", "2..<3 LOC", "4..<5 LOC"])
    #expect(phrases("O O") == [])
  }

  @Test func `a phrase counts as found if its words and its kind are right`() {
    let labels = ["O", "B-PER", "I-PER"]
    // Expected: words 0–1 and word 3. Found: words 0–1 and word 2.
    func row(_ label: Int) -> [Real] { (0..<3).map { $0 == label ? 1 : 0 } }
    let judged = TagJudge(labels: labels).scores([
      answer([1, 2, 0, 1], row(1) + row(2) + row(1) + row(0), classes: 3)
    ])
    #expect(judged.matched == 1 && judged.found == 2 && judged.expected == 2)
    #expect(TaskMetrics.of(.tag, sums(judged)).map(\.value) == [0.5, 0.5])
  }

  @Test func `answers are compared as SQuAD's evaluation compares them`() {
    // Values computed by normalize_answer and f1_score in evaluate-v1.1.py.
    #expect(SpanJudge.words("The  U.S.'s “best” a-team!") == ["uss", "“best”", "ateam"])
    #expect(SpanJudge.words("a an the") == [])
    #expect(SpanJudge.overlap(["x", "y", "y"], ["y", "z"]) == 0.4)
    #expect(SpanJudge.overlap([], []) == 1 && SpanJudge.overlap(["x"], []) == 0)
  }

  @Test func `perplexity and bits per byte follow from the loss and the text's bytes`() {
    var all = LossSums()
    all.task = 20 * 0.693_147_180_559_945_3
    all.targets = 10
    all.scores.bytes = 40
    let metrics = TaskMetrics.of(.lm, all)
    #expect(metrics.map(\.name) == ["perplexity", "bits_per_byte"])
    #expect(abs(metrics[0].value - 4) < 1e-12 && abs(metrics[1].value - 0.5) < 1e-12)
  }

  @Test func `sums are decoded as they were encoded, and invalid numbers are refused`() {
    var all = LossSums()
    all.task = 1.5
    (all.targets, all.tokens) = (3, 4)
    (all.scores.answers, all.scores.right, all.scores.overlap) = (5, 2, 0.25)
    (all.scores.matched, all.scores.found, all.scores.expected, all.scores.bytes) = (6, 7, 8, 9)
    #expect(LossSums(all.numbers) == all)
    #expect((all + all).scores.bytes == 18)
    #expect(LossSums(all.numbers.dropLast()) == nil)
    for place in [1, 5, 6, 12] {
      var bad = all.numbers
      bad[place] = .nan
      #expect(LossSums(bad) == nil)
      bad[place] = -1
      #expect(LossSums(bad) == nil)
    }
  }

  private func sums(_ scores: ScoreSums) -> LossSums {
    var sums = LossSums()
    sums.scores = scores
    return sums
  }
}
