// What a run reads, as digests. A path says where its dataset lies, and another file may lie there tomorrow, or on another machine: equal
// digests mean equal tokens in an equal order.

package struct DataIdentity: Codable, Equatable, Hashable, Sendable {
  /// Of all lists of the dataset, its shards or the parts of its mixture; nil: not known.
  package var dataset: String?
  /// SHA-256 of the tokenizer's text, in hexadecimal; nil: not known.
  package var tokenizer: String?

  package init(dataset: String?, tokenizer: String?) {
    self.dataset = dataset
    self.tokenizer = tokenizer
  }

  /// In what the other one differs; nil where nothing that both know does.
  package func difference(from other: DataIdentity) -> String? {
    func differ(_ one: String?, _ other: String?) -> Bool { one != nil && other != nil && one != other }
    if differ(tokenizer, other.tokenizer) { return "another tokenizer" }
    return differ(dataset, other.dataset) ? "another dataset" : nil
  }

  /// The same, with what only the other one knows.
  package func completed(by other: DataIdentity) -> DataIdentity {
    DataIdentity(dataset: dataset ?? other.dataset, tokenizer: tokenizer ?? other.tokenizer)
  }

  /// Enough of the dataset's digest to tell two apart.
  package var spoken: String {
    func short(_ digest: String?) -> String {
      digest.map { String($0.split(separator: ":").last?.prefix(12) ?? "") + "…" } ?? "unknown"
    }
    return "dataset \(short(dataset)), tokenizer \(short(tokenizer))"
  }
}
