// Messages of the control plane as bytes: JSON, one message a frame, with the protocol's version. Records of the coordinator's
// store are written in the same way.

import Foundation

/// Values of the coordinator's store: JSON as in messages, without an envelope.
package enum RecordCodec {
  package static func encode<Value: Encodable>(_ value: Value) -> [UInt8] {
    do { return try Array(ControlCodec.encoder.encode(value)) } catch {
      preconditionFailure("a value of type \(Value.self) does not encode: \(error)")
    }
  }

  package static func decode<Value: Decodable>(_ type: Value.Type, from bytes: [UInt8]) throws(WireError) -> Value {
    do { return try ControlCodec.decoder.decode(type, from: Data(bytes)) } catch let error as DecodingError {
      throw .malformed(ControlCodec.describe(error))
    } catch {
      throw .malformed("\(error)")
    }
  }
}

/// Messages as frames: JSON of `{"version": 3, "message": …}`.
package enum ControlCodec {
  package static let version = 3
  /// A configuration with a roster of a thousand workers stays far below; more is refused unread.
  package static let largestFrame = 4 << 20

  private struct Envelope<Message: Codable>: Codable {
    var version: Int
    var message: Message
  }
  private struct Version: Codable { var version: Int }

  fileprivate static var encoder: JSONEncoder {
    let encoder = JSONEncoder()
    encoder.outputFormatting = .sortedKeys
    // Losses may be NaN, which JSON does not know.
    encoder.nonConformingFloatEncodingStrategy = .convertToString(
      positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
    return encoder
  }

  fileprivate static var decoder: JSONDecoder {
    let decoder = JSONDecoder()
    decoder.nonConformingFloatDecodingStrategy = .convertFromString(
      positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
    return decoder
  }

  package static func encode<Message: Codable>(_ message: Message) -> [UInt8] {
    do {
      return try Array(encoder.encode(Envelope(version: version, message: message)))
    } catch {
      preconditionFailure("a message of type \(Message.self) does not encode: \(error)")
    }
  }

  package static func decode<Message: Codable>(_ type: Message.Type, from frame: [UInt8]) throws(WireError) -> Message {
    guard frame.count <= largestFrame else {
      throw .malformed("a frame of \(frame.count) bytes; \(largestFrame) are allowed")
    }
    let data = Data(frame)
    guard let theirs = try? decoder.decode(Version.self, from: data) else { throw .malformed("no versioned JSON") }
    guard theirs.version == version else { throw .wrongVersion(theirs: theirs.version, ours: version) }
    do {
      return try decoder.decode(Envelope<Message>.self, from: data).message
    } catch let error as DecodingError {
      throw .malformed(describe(error))
    } catch {
      throw .malformed("\(error)")
    }
  }

  fileprivate static func describe(_ error: DecodingError) -> String {
    switch error {
    case .keyNotFound(let key, _): "no field '\(key.stringValue)'"
    case .typeMismatch(_, let context), .valueNotFound(_, let context), .dataCorrupted(let context):
      context.codingPath.map(\.stringValue).joined(separator: ".") + ": " + context.debugDescription
    @unknown default: "\(error)"
    }
  }
}
