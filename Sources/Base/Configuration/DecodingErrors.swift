// What is wrong with a JSON text, in a sentence for people.

extension DecodingError {
  /// Names the field, where the error has one: "no field 'merges'", "model.vocab: Expected to decode …".
  package var sentence: String {
    switch self {
    case .keyNotFound(let key, _): return "no field '\(key.stringValue)'"
    case .typeMismatch(_, let context), .valueNotFound(_, let context), .dataCorrupted(let context):
      // A text that is not JSON at all has no field.
      let field = context.codingPath.map(\.stringValue).joined(separator: ".")
      return field.isEmpty ? context.debugDescription : field + ": " + context.debugDescription
    @unknown default: return "\(self)"
    }
  }
}
