// Safetensors files: what is written can be read by others, and no damaged or forged file does harm.

import Checkpoint
import Foundation
import Testing

@Suite final class `Safetensors files` {
  private let path = NSTemporaryDirectory() + "ress-" + UUID().uuidString + ".safetensors"

  deinit { try? FileManager.default.removeItem(atPath: path) }

  private func write(_ header: String, _ data: [UInt8], length: UInt64? = nil) throws {
    let length = length ?? UInt64(header.utf8.count)
    let bytes = (0..<8).map { UInt8(truncatingIfNeeded: length >> (8 * UInt64($0))) } + Array(header.utf8) + data
    try Data(bytes).write(to: URL(filePath: path))
  }

  private func complaint(_ body: (SafetensorsReader) throws -> Void = { _ in }) -> String {
    do { try body(SafetensorsReader(path)) } catch { return "\(error)".replacing(path + ": ", with: "") }
    return "no error"
  }

  @Test func `tensors and metadata are read back, and the bytes follow the format`() throws {
    let values: [Float] = [1, -2.5, 3, .pi, 0, -0.0]
    try values.withUnsafeBufferPointer { values in
      try SafetensorsFile.write(
        path,
        [
          NamedTensor(name: "a.b", shape: [2, 2], values: values.baseAddress!),
          NamedTensor(name: "c", shape: [2], values: values.baseAddress! + 4),
        ], metadata: ["note": "\"ü\"\n"])
    }
    let reader = try SafetensorsReader(path)
    #expect(reader.metadata == ["note": "\"ü\"\n"])
    #expect(try reader.read("a.b", shape: [2, 2]) == [1, -2.5, 3, .pi])
    #expect(try reader.read("c", shape: [2]).map(\.bitPattern) == [0, 0x8000_0000])
    let bytes = [UInt8](try Data(contentsOf: URL(filePath: path)))
    let header = String(decoding: bytes[8..<bytes.count - 24], as: UTF8.self)
    #expect(header.contains(#""a.b":{"dtype":"F32","shape":[2, 2],"data_offsets":[0,16]}"#))
    #expect((bytes.count - 24) % 8 == 0 && UInt64(bytes[0]) | UInt64(bytes[1]) << 8 == bytes.count - 32)
  }

  @Test func `every type of float is read with its value`() throws {
    try write(
      #"{"h":{"dtype":"F16","shape":[6],"data_offsets":[0,12]},"b":{"dtype":"BF16","shape":[2],"data_offsets":[12,16]},"d":{"dtype":"F64","shape":[1],"data_offsets":[16,24]}}"#,
      // 1, −2, the smallest positive, infinity, 65504, 1.0009765625
      [0x00, 0x3C, 0x00, 0xC0, 0x01, 0x00, 0x00, 0x7C, 0xFF, 0x7B, 0x01, 0x3C]
        + [0x80, 0x3F, 0x20, 0xC0] + withUnsafeBytes(of: 0.1) { Array($0) })
    let reader = try SafetensorsReader(path)
    #expect(try reader.read("h", shape: [6]) == [1, -2, 0x1p-24, .infinity, 65504, 1.0009765625])
    #expect(try reader.read("b", shape: [2]) == [1, -2.5])
    #expect(try reader.read("d", shape: [1]) == [0.1])
  }

  @Test func `a file of another kind or with false sizes is refused with the reason`() throws {
    try write("{}", [], length: 1 << 40)
    #expect(complaint().contains("its header would have 1099511627776 bytes"))
    try write("[1]", [])
    #expect(complaint().contains("its header is not a JSON object"))
    try write(#"{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, [0, 0, 0, 0])
    #expect(complaint() == "x is not described as a tensor, or lies outside of the file")
    try write(#"{"x":{"dtype":"F32","shape":[9223372036854775807,8],"data_offsets":[0,4]}}"#, [0, 0, 0, 0])
    #expect(complaint().hasPrefix("x has 4 bytes for shape"))
    try write(#"{"x":{"dtype":"I8","shape":[4],"data_offsets":[0,4]}}"#, [0, 0, 0, 0])
    #expect(complaint { _ = try $0.read("x", shape: [4]) } == "x is I8; F32, F64, F16 and BF16 are read")
    #expect(complaint { _ = try $0.read("x", shape: [5]) } == "x has shape [4], and the model's is [5]")
    #expect(complaint { _ = try $0.read("y", shape: [5]) } == "y is missing")
  }

  @Test func `no flipped byte and no truncation crashes the reader`() throws {
    try write(
      #"{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"__metadata__":{"a":"b"}}"#, [1, 2, 3, 4, 5, 6, 7, 8])
    let whole = [UInt8](try Data(contentsOf: URL(filePath: path)))
    var read = 0
    for place in whole.indices {
      for bit in 0..<8 {
        var bytes = whole
        bytes[place] ^= 1 << UInt8(bit)
        try Data(bytes).write(to: URL(filePath: path))
        if let reader = try? SafetensorsReader(path), (try? reader.read("x", shape: [2])) != nil { read += 1 }
      }
      try Data(whole[..<place]).write(to: URL(filePath: path))
      #expect(throws: SafetensorsError.self) { try SafetensorsReader(path) }
    }
    // A flip in the values or in the metadata's text changes no shape.
    #expect((64..<whole.count * 8 / 2).contains(read))
  }
}
