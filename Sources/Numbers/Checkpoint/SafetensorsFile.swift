// Reads and writes safetensors files (Hugging Face): eight bytes with the length of the header, the header in JSON,
// and the numbers, little-endian, one tensor after the other. Format: https://github.com/huggingface/safetensors,
// section "Format".

import Configuration
import Foundation
import RunFolder

#if canImport(Glibc)
  import Glibc
#endif

package enum SafetensorsError: Error, Equatable, CustomStringConvertible {
  case file(path: String, problem: String)
  case tensor(path: String, name: String, problem: String)

  package var description: String {
    switch self {
    case .file(let path, let problem): "\(path): \(problem)"
    case .tensor(let path, let name, let problem): "\(path): \(name) \(problem)"
    }
  }
}

package enum SafetensorsFile {
  /// The name of a tensor in safetensors files: `model/embed/weight` becomes `embed.weight` after its prefix is
  /// removed.
  package static func name(of tensor: String) -> String { tensor.replacing("/", with: ".") }

  /// Writes float32 tensors in the given order, to a temporary file that is then renamed. `metadata` is free text
  /// for readers.
  package static func write(
    _ path: String, _ tensors: [NamedTensor], metadata: [String: String]
  ) throws(SafetensorsError) {
    var header = try json(metadata, path).map { "{\"__metadata__\":\($0)" } ?? "{"
    var offset = 0
    for tensor in tensors {
      let count = 4 * tensor.shape.reduce(1, *)
      header += header.count > 1 ? "," : ""
      header += "\"\(tensor.name)\":{\"dtype\":\"F32\",\"shape\":\(tensor.shape),"
      header += "\"data_offsets\":[\(offset),\(offset + count)]}"
      offset += count
    }
    header += "}"
    // The numbers must begin at a multiple of eight bytes, so the header is padded with spaces.
    while header.utf8.count % 8 != 0 { header += " " }

    if let problem = OutputPlace.problem(path) {
      throw .file(path: path, problem: "it cannot be written: \(problem)")
    }
    let aside = path + ".tmp"
    unlink(aside)
    let descriptor = open(aside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o644)
    func failure(_ action: String) -> SafetensorsError {
      .file(path: path, problem: "it cannot be \(action): \(String(cString: strerror(errno)))")
    }
    guard descriptor >= 0 else { throw failure("written") }
    defer { unlink(aside) }
    func put(_ bytes: UnsafeRawBufferPointer) -> Bool {
      var done = 0
      while done < bytes.count {
        let written = Glibc.write(descriptor, bytes.baseAddress! + done, bytes.count - done)
        if written < 0 && errno == EINTR { continue }
        guard written > 0 else { return false }
        done += written
      }
      return true
    }
    var length = UInt64(header.utf8.count).littleEndian
    var isWritten = withUnsafeBytes(of: &length, put) && Array(header.utf8).withUnsafeBytes(put)
    for tensor in tensors where isWritten {
      tensor.read { isWritten = put(UnsafeRawBufferPointer(start: $0, count: 4 * tensor.count)) }
    }
    isWritten = isWritten && fsync(descriptor) == 0
    let problem = failure("written")
    close(descriptor)
    guard isWritten else { throw problem }
    guard rename(aside, path) == 0 else { throw failure("put in its place") }
  }

  private static func json(_ metadata: [String: String], _ path: String) throws(SafetensorsError) -> String? {
    guard !metadata.isEmpty else { return nil }
    guard let bytes = try? JSON.encode(metadata) else {
      throw .file(path: path, problem: "its metadata is not text")
    }
    return String(decoding: bytes, as: UTF8.self)
  }
}

/// A file to read from. It is mapped into memory, so that only the requested parts are read.
package final class SafetensorsReader {
  package struct Tensor {
    package let type: String
    package let shape: [Int]
    fileprivate let range: Range<Int>
  }

  package let path: String
  package let metadata: [String: String]
  package let tensors: [String: Tensor]
  private let data: Data
  private let start: Int

  private static let headerLimit = 100 << 20
  private static let widths = ["F64": 8, "F32": 4, "F16": 2, "BF16": 2]

  package init(_ path: String) throws(SafetensorsError) {
    self.path = path
    func problem(_ text: String) -> SafetensorsError { .file(path: path, problem: text) }
    guard let data = try? Data(contentsOf: URL(filePath: path), options: .mappedIfSafe) else {
      throw problem(FileManager.default.fileExists(atPath: path) ? "it cannot be read" : "no such file")
    }
    self.data = data
    guard data.count >= 8 else { throw problem("it is not a safetensors file: it ends within its first eight bytes") }
    let length = (0..<8).reduce(UInt64(0)) { $0 | UInt64(data[$1]) << (8 * UInt64($1)) }
    guard length <= Self.headerLimit, Int(length) <= data.count - 8 else {
      throw problem("it is not a safetensors file, or was truncated: its header would have \(length) bytes")
    }
    start = 8 + Int(length)
    guard let header = (try? JSONSerialization.jsonObject(with: data[8..<start])) as? [String: Any] else {
      throw problem("it is not a safetensors file: its header is not a JSON object")
    }
    metadata = header["__metadata__"] as? [String: String] ?? [:]
    var tensors: [String: Tensor] = [:]
    for (name, value) in header where name != "__metadata__" {
      guard let value = value as? [String: Any], let type = value["dtype"] as? String,
        let shape = value["shape"] as? [Int], let offsets = value["data_offsets"] as? [Int], offsets.count == 2,
        shape.allSatisfy({ $0 >= 0 }), 0 <= offsets[0], offsets[0] <= offsets[1], offsets[1] <= data.count - start
      else {
        throw .tensor(path: path, name: name, problem: "is not described as a tensor, or lies outside of the file")
      }
      // The width of an unsupported type is not known, but its shape must still be a valid size.
      var size = Self.widths[type] ?? 1, overflows = false
      for length in shape where !overflows { (size, overflows) = size.multipliedReportingOverflow(by: length) }
      guard !overflows, Self.widths[type] == nil || size == offsets[1] - offsets[0] else {
        throw .tensor(path: path, name: name, problem: "has \(offsets[1] - offsets[0]) bytes for shape \(shape)")
      }
      tensors[name] = Tensor(type: type, shape: shape, range: offsets[0]..<offsets[1])
    }
    self.tensors = tensors
  }

  /// The numbers of a tensor as float32, converted from the stored type.
  package func read(_ name: String, shape: [Int]) throws(SafetensorsError) -> [Float] {
    guard let tensor = tensors[name] else { throw .tensor(path: path, name: name, problem: "is missing") }
    guard tensor.shape == shape else {
      throw .tensor(path: path, name: name, problem: "has shape \(tensor.shape), and the model's is \(shape)")
    }
    let bytes = data[(start + tensor.range.lowerBound)..<(start + tensor.range.upperBound)]
    let count = shape.reduce(1, *)
    func word<Word: FixedWidthInteger>(_ raw: UnsafeRawBufferPointer, _ index: Int, _: Word.Type) -> Word {
      Word(littleEndian: raw.loadUnaligned(fromByteOffset: index * MemoryLayout<Word>.size, as: Word.self))
    }
    let numbers = bytes.withUnsafeBytes { raw -> [Float]? in
      switch tensor.type {
      case "F32": (0..<count).map { Float(bitPattern: word(raw, $0, UInt32.self)) }
      case "F64": (0..<count).map { Float(Double(bitPattern: word(raw, $0, UInt64.self))) }
      case "BF16": (0..<count).map { Float(bitPattern: UInt32(word(raw, $0, UInt16.self)) << 16) }
      case "F16": (0..<count).map { Self.float(half: word(raw, $0, UInt16.self)) }
      default: nil
      }
    }
    guard let numbers else {
      throw .tensor(path: path, name: name, problem: "is \(tensor.type); F32, F64, F16 and BF16 are read")
    }
    return numbers
  }

  /// Converts IEEE 754 binary16, for which Swift has no type on x86-64.
  private static func float(half: UInt16) -> Float {
    let sign: Float = half >> 15 == 0 ? 1 : -1
    let exponent = Int(half >> 10 & 31), fraction = Float(half & 1023)
    if exponent == 31 { return fraction == 0 ? sign * .infinity : .nan }
    return exponent == 0
      ? sign * fraction * 0x1p-24 : sign * Float(sign: .plus, exponent: exponent - 15, significand: 1 + fraction / 1024)
  }
}
