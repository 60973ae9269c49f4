// Keys of CurveZMQ (ZeroMQ RFC 26), with which the processes of a cluster authenticate each other and encrypt. A
// key has 32 bytes; people see it in Z85 (RFC 32), as 40 characters.

import CZeroMQ
import Wire

extension PublicKey {
  /// A key as a user typed it; nil where the text is not a key.
  package init?(typed text: String) {
    var bytes = [UInt8](repeating: 0, count: 32)
    guard text.utf8.count == 40, zmq_z85_decode(&bytes, text) != nil else { return nil }
    self.init(text: text)
  }

  init?(bytes: [UInt8]) {
    guard bytes.count == 32 else { return nil }
    var text = [CChar](repeating: 0, count: 41)
    guard zmq_z85_encode(&text, bytes, 32) != nil else { return nil }
    self.init(text: String(decoding: text.prefix(40).map { UInt8(bitPattern: $0) }, as: UTF8.self))
  }
}

/// A key pair. The secret half is never printed.
package struct KeyPair: Sendable {
  package let publicKey: PublicKey
  package let secret: String

  /// Generates a pair from the system's random numbers.
  package static func make() throws(TransportError) -> KeyPair {
    var open = [CChar](repeating: 0, count: 41), secret = open
    guard zmq_curve_keypair(&open, &secret) == 0 else {
      throw .system(call: "zmq_curve_keypair", reason: TransportError.lastReason())
    }
    func text(_ key: [CChar]) -> String {
      String(decoding: key.prefix(40).map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
    return KeyPair(publicKey: PublicKey(text: text(open)), secret: text(secret))
  }

  /// The pair that belongs to a secret key; nil where the text is not a key.
  package init?(secret: String) {
    guard PublicKey(typed: secret) != nil else { return nil }
    var open = [CChar](repeating: 0, count: 41)
    guard zmq_curve_public(&open, secret) == 0 else { return nil }
    self.init(
      publicKey: PublicKey(text: String(decoding: open.prefix(40).map { UInt8(bitPattern: $0) }, as: UTF8.self)),
      secret: secret)
  }

  private init(publicKey: PublicKey, secret: String) {
    self.publicKey = publicKey
    self.secret = secret
  }
}

/// How the two ends of a connection authenticate each other.
package enum Door: Sendable {
  /// Not encrypted: among processes of one machine, or where an operator insists.
  case open
  /// The listening end, with its own keys. A `Gatekeeper` of the same context decides which client keys are
  /// permitted.
  case guarded(KeyPair)
  /// The connecting end, with its own keys and the key that the server must have.
  case known(KeyPair, server: PublicKey)

  package var isOpen: Bool { if case .open = self { true } else { false } }
}
