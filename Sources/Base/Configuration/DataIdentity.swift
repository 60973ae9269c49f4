// The digests of a run's data. At the same path there may later be another file, or there may be another one on another
// machine; equal digests mean equal tokens in the same order.

package struct DataIdentity: Codable, Equatable, Hashable, Sendable {
  /// Of all lists of the dataset, its shards or the parts of its mixture; nil: not known.
  package var dataset: String?
  /// SHA-256 of the tokenizer's text, in hexadecimal; nil: not known.
  package var tokenizer: String?

  package init(dataset: String?, tokenizer: String?) {
    self.dataset = dataset
    self.tokenizer = tokenizer
  }

  /// The part in which the other one differs; nil if all the parts that both know are equal.
  package func difference(from other: DataIdentity) -> String? {
    func differ(_ one: String?, _ other: String?) -> Bool { one != nil && other != nil && one != other }
    if differ(tokenizer, other.tokenizer) { return "another tokenizer" }
    return differ(dataset, other.dataset) ? "another dataset" : nil
  }

  /// The same identity, completed with the parts that only the other one knows.
  package func completed(by other: DataIdentity) -> DataIdentity {
    DataIdentity(dataset: dataset ?? other.dataset, tokenizer: tokenizer ?? other.tokenizer)
  }

  /// Shortened digests, long enough to tell two datasets apart.
  package var spoken: String {
    func short(_ digest: String?) -> String {
      digest.map { String($0.split(separator: ":").last?.prefix(12) ?? "") + "…" } ?? "unknown"
    }
    return "dataset \(short(dataset)), tokenizer \(short(tokenizer))"
  }
}
