/// Who somebody is, to those who do not trust the network: a public key of Curve25519, in 40 letters of Z85.
package struct PublicKey: Codable, Hashable, Sendable, CustomStringConvertible {
  package let text: String

  package init(text: String) { self.text = text }

  package var description: String { text }
}
