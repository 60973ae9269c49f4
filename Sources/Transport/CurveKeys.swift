// Keys of CurveZMQ (RFC 26): who a process is, and who may speak with it. 32 bytes each, in Z85 (RFC 32) where people see them.

import CZeroMQ
import Wire

extension PublicKey {
  /// A key as it was typed; nil where it is none.
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

/// What a process proves itself with. The secret half is never printed.
package struct KeyPair: Sendable {
  package let publicKey: PublicKey
  package let secret: String

  /// New ones, of the system's random numbers.
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

  /// The pair of a secret key; nil where the text is none.
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

/// How the two ends of a connection know each other.
package enum Door: Sendable {
  /// In the clear: among processes of one machine, or where an operator insists.
  case open
  /// The end that listens. A `Gatekeeper` of the same context says who may come in.
  case guarded(KeyPair)
  /// The end that connects, and whom it must find there.
  case known(KeyPair, server: PublicKey)

  package var isOpen: Bool { if case .open = self { true } else { false } }
}
