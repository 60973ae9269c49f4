// The part of HDF5 that ress uses: attributes, lists and tensors.

import Foundation
import HDF5
import Testing

#if canImport(Glibc)
  import Glibc
#endif

@Suite final class HDF5FileTests {
  private let path = NSTemporaryDirectory() + "ress-hdf5-" + UUID().uuidString + ".h5"

  deinit { try? FileManager.default.removeItem(atPath: path) }

  @Test func `a file can be read although another process holds a lock on it`() throws {
    do { try HDF5File.create(path).setAttribute("number", 7) }
    // A process that was just started holds such a lock until it has closed the descriptors that it inherited.
    let descriptor = Glibc.open(path, O_RDWR)
    defer { close(descriptor) }
    try #require(flock(descriptor, LOCK_EX | LOCK_NB) == 0)
    #expect(try HDF5File.open(path).number("number") == 7)
  }

  @Test func `attributes keep numbers and text of any script, also empty text`() throws {
    do {
      let file = try HDF5File.create(path)
      try file.setAttribute("text", "grüße, 世界")
      try file.setAttribute("empty", "")
      try file.setAttribute("number", -7)
    }
    let file = try HDF5File.open(path)
    #expect(try file.text("text") == "grüße, 世界")
    #expect(try file.text("empty") == "")
    #expect(try file.number("number") == -7)
    #expect(throws: HDF5Error.self) { try file.text("none") }
  }

  @Test func `lists grow across chunks and are read from any index`() throws {
    let all = (0..<200_000).map { Int32($0 % 60_000) }
    do {
      let list = try HDF5File.create(path).createList("deep/down/list", .bits16)
      for start in stride(from: 0, to: all.count, by: 65_000) {
        try list.append(Array(all[start..<min(all.count, start + 65_000)]))
      }
      #expect(list.count == all.count)
    }
    let list = try HDF5File.open(path).openList("deep/down/list")
    for (start, count) in [(0, 1), (65_530, 20), (131_071, 2), (199_999, 1), (0, 200_000)] {
      var read = [Int32](repeating: 0, count: count)
      try list.read(from: start, into: &read)
      #expect(read == Array(all[start..<start + count]))
    }
    var past = [Int32](repeating: 0, count: 2)
    #expect(throws: HDF5Error.self) { try list.read(from: 199_999, into: &past) }
  }

  @Test func `tensors of any rank are read back, and errors name the file and the object`() throws {
    let values: [Float] = (0..<24).map { Float($0) }
    do {
      let file = try HDF5File.create(path)
      try file.write("a/b", shape: [2, 3, 4], values, crc32c: 7)
      #expect(file.contains("a/b") && file.contains("a") && !file.contains("a/c") && !file.contains("x/y"))
    }
    let file = try HDF5File.open(path)
    #expect(try file.shape(of: "a/b") == [2, 3, 4])
    var read = [Float](repeating: 0, count: 24)
    try read.withUnsafeMutableBufferPointer { try file.read("a/b", into: $0) }
    #expect(read == values)
    do { _ = try file.shape(of: "a/none") } catch {
      #expect("\(error)".contains(path) && "\(error)".contains("a/none"))
    }
    #expect(throws: HDF5Error.self) { try HDF5File.open(path + ".none") }
    #expect(throws: HDF5Error.self) { try HDF5File.create("/nowhere/at/all.h5") }
  }
}
