// The identity of a user, worker or coordinator on an encrypted connection. It is a text here, so that messages and
// stores can hold it; Transport generates and checks the keys (docs/security.md).
/// A public key of Curve25519 (CurveZMQ), in 40 characters of Z85 (ZeroMQ RFC 32).
package struct PublicKey: Codable, Hashable, Sendable, CustomStringConvertible {
  package let text: String

  package init(text: String) { self.text = text }

  package var description: String { text }
}
