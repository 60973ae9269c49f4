// Encodes messages of the control plane and records of the coordinator's store as JSON.
//
// A message is one frame, with the version of the protocol around it: a program of another version is refused by
// that number before the rest of its message is read. JSON was chosen over a binary form because these messages are
// few and small (the numbers of training travel in `DataMessage`), and because captured messages and store records
// can be read with any tool.

import Configuration
import Foundation

/// Records of the coordinator's store: the same JSON as messages, without the envelope that holds the version.
package enum RecordCodec {
  package static func encode<Value: Encodable>(_ value: Value) -> [UInt8] {
    do { return try JSON.encode(value) } catch {
      preconditionFailure("a value of type \(Value.self) does not encode: \(error)")
    }
  }

  package static func decode<Value: Decodable>(_ type: Value.Type, from bytes: [UInt8]) throws(WireError) -> Value {
    do { return try JSON.decode(type, from: Data(bytes)) } catch let error as DecodingError {
      throw .malformed(error.sentence)
    } catch {
      throw .malformed("\(error)")
    }
  }
}

/// Messages as frames: JSON of `{"version": …, "message": …}`.
package enum ControlCodec {
  /// Version of the control protocol. It grows whenever an older program would misread a message.
  package static let version = 6
  /// Largest accepted frame in bytes. An assignment with a roster of a thousand workers is far smaller; a larger
  /// frame is refused before it is parsed.
  package static let largestFrame = 4 << 20

  private struct Envelope<Message: Codable>: Codable {
    var version: Int
    var message: Message
  }
  private struct Version: Codable { var version: Int }

  /// A frame with the message. Types of messages always encode, so a failure is an error in the program.
  package static func encode<Message: Codable>(_ message: Message) -> [UInt8] {
    do {
      return try JSON.encode(Envelope(version: version, message: message))
    } catch {
      preconditionFailure("a message of type \(Message.self) does not encode: \(error)")
    }
  }

  /// Reads a frame. Throws `wrongVersion` for another version of the protocol, and `malformed` for everything else
  /// that is wrong with it.
  package static func decode<Message: Codable>(_ type: Message.Type, from frame: [UInt8]) throws(WireError) -> Message {
    guard frame.count <= largestFrame else {
      throw .malformed("a frame of \(frame.count) bytes; \(largestFrame) are allowed")
    }
    let data = Data(frame)
    guard let theirs = try? JSON.decode(Version.self, from: data) else {
      throw .malformed("it is not JSON with a version")
    }
    guard theirs.version == version else { throw .wrongVersion(theirs: theirs.version, ours: version) }
    do {
      return try JSON.decode(Envelope<Message>.self, from: data).message
    } catch let error as DecodingError {
      throw .malformed(error.sentence)
    } catch {
      throw .malformed("\(error)")
    }
  }
}
