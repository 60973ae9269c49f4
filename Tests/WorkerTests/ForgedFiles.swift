// Makes forged files: datasets in which any object may have any type, size, storage or link, and bytes that are
// changed at random. Everything follows from a seed.

import CHDF5
import Foundation
import HDF5
import TestSupport
import Worker

#if canImport(Glibc)
  import Glibc
#endif

extension Chance {
  mutating func chance(_ share: Double) -> Bool { Double.random(in: 0..<1, using: &self) < share }
  mutating func pick<Value>(_ values: [Value]) -> Value { values[Int.random(in: 0..<values.count, using: &self)] }
}

/// Number of attempts of a test: a few hundred, or `RESS_FUZZ`; and the first seed, `RESS_SEED`.
enum FuzzPlan {
  static var count: Int { ProcessInfo.processInfo.environment["RESS_FUZZ"].flatMap { Int($0) } ?? 300 }
  static var seeds: Range<UInt64> {
    let first = ProcessInfo.processInfo.environment["RESS_SEED"].flatMap { UInt64($0) } ?? 1
    return first..<first + UInt64(count)
  }

  /// Only then does the process's memory depend on this test alone.
  static var isAlone: Bool { ProcessInfo.processInfo.environment["RESS_FUZZ"] != nil }

  /// Resident memory of this process, in MiB.
  static var residentMiB: Int { ResidentMemory.byteCount >> 20 }
}

enum Forgery {
  /// Bytes of which some are changed, inserted or removed.
  static func mutated(_ bytes: [UInt8], _ numbers: inout Chance) -> [UInt8] {
    var bytes = bytes
    for _ in 0..<Int.random(in: 1...4, using: &numbers) where !bytes.isEmpty {
      // Most of a file's structures are at its beginning.
      let reach = numbers.chance(0.6) ? min(bytes.count, 4096) : bytes.count
      let place = Int.random(in: 0..<reach, using: &numbers)
      switch Int.random(in: 0..<6, using: &numbers) {
      case 0: bytes[place] ^= 1 << UInt8.random(in: 0..<8, using: &numbers)
      case 1: bytes[place] = numbers.pick([0, 1, 0x7F, 0x80, 0xFF])
      case 2:
        let word: UInt64 = numbers.pick([0, 1, .max, 1 << 31, 1 << 32, 1 << 62, UInt64(Int64.max), numbers.next()])
        for byte in 0..<8 where place + byte < bytes.count {
          bytes[place + byte] = UInt8(truncatingIfNeeded: word >> (8 * UInt64(byte)))
        }
      case 3: bytes.removeSubrange(place..<min(bytes.count, place + Int.random(in: 1...64, using: &numbers)))
      case 4:
        let piece = Array(bytes[place..<min(bytes.count, place + 32)])
        bytes.insert(contentsOf: piece, at: Int.random(in: 0...bytes.count, using: &numbers))
      default: bytes.removeSubrange(place...)
      }
    }
    return bytes
  }

  /// Content that no dataset of ours has. A reader that returns it has followed a link out of the file.
  static let secret = Int32(90)

  /// An HDF5 file in which each object may be wrong in any way that HDF5 can write.
  /// - Parameter outside: another file for links to point to; its content is `secret`.
  static func dataset(
    at path: String, outside: String, attributes: [(String, Int?)], lists: [String], _ numbers: inout Chance
  ) {
    HDF5Lock.begin()
    defer { HDF5Lock.end() }
    ress_h5_quiet()
    unlink(path)
    let access = H5Pcreate(ress_h5_file_access())
    H5Pset_libver_bounds(access, H5F_LIBVER_V110, H5F_LIBVER_V110)
    let file = H5Fcreate(path, ress_h5_truncate(), 0, access)
    H5Pclose(access)
    guard file >= 0 else { return }
    defer { H5Fclose(file) }
    for (name, number) in attributes {
      if numbers.chance(0.75) { rightAttribute(file, name, number) } else { wrongAttribute(file, name, &numbers) }
    }
    for name in lists {
      let parent = (name as NSString).deletingLastPathComponent
      if !parent.isEmpty, H5Lexists(file, parent, 0) <= 0 { H5Gclose(H5Gcreate2(file, parent, 0, 0, 0)) }
      if numbers.chance(0.7) { rightList(file, name, &numbers) } else { wrongList(file, name, outside, &numbers) }
    }
  }

  private static func rightAttribute(_ file: hid_t, _ name: String, _ number: Int?) {
    let space = H5Screate(H5S_SCALAR)
    defer { H5Sclose(space) }
    if let number {
      var value = Int64(number)
      let attribute = H5Acreate2(file, name, ress_h5_int64_file(), space, 0, 0)
      H5Awrite(attribute, ress_h5_int64(), &value)
      H5Aclose(attribute)
    } else {
      let text = Array((name == "labels" ? "[\"a\",\"b\"]" : name == "task" ? "tag" : "bytes").utf8)
      let type = ress_h5_string(text.count)
      let attribute = H5Acreate2(file, name, type, space, 0, 0)
      H5Awrite(attribute, type, text)
      H5Aclose(attribute)
      H5Tclose(type)
    }
  }

  static func wrongAttribute(_ file: hid_t, _ name: String, _ numbers: inout Chance) {
    let size = numbers.pick([1, 8, 9, 1000, 60_000])
    let text = ress_h5_string(size)
    let types: [hid_t] = [
      ress_h5_int64_file(), ress_h5_uint8_file(), ress_h5_float64_file(), text, ress_h5_float32_file(),
    ]
    let type = numbers.pick(types)
    // An attribute has at most 64 KiB.
    let counts: [hsize_t] = [hsize_t(max(1, min(numbers.pick([1, 2, 1000, 7000]), 60_000 / H5Tget_size(type))))]
    let space =
      switch Int.random(in: 0..<3, using: &numbers) {
      case 0: H5Screate(H5S_SCALAR)
      case 1: H5Screate(H5S_NULL)
      default: H5Screate_simple(1, counts, nil)
      }
    let attribute = H5Acreate2(file, name, type, space, 0, 0)
    if attribute >= 0 {
      let values = [UInt8](repeating: 0x41, count: Int(H5Sget_simple_extent_npoints(space)) * H5Tget_size(type) + 8)
      H5Awrite(attribute, type, values)
      H5Aclose(attribute)
    }
    H5Sclose(space)
    H5Tclose(text)
  }

  private static func rightList(_ file: hid_t, _ name: String, _ numbers: inout Chance) {
    let properties = H5Pcreate(ress_h5_dataset_create())
    H5Pset_chunk(properties, 1, [16])
    H5Pset_fletcher32(properties)
    let count = Int.random(in: 0...60, using: &numbers)
    let space = H5Screate_simple(1, [hsize_t(count)], [ress_h5_unlimited()])
    let type = numbers.pick([ress_h5_uint8_file(), ress_h5_uint16_file(), ress_h5_uint64_file()])
    let list = H5Dcreate2(file, name, type, space, 0, properties, 0)
    // Ascending, as offsets are, or arbitrary, sometimes beyond all limits.
    var values = (0..<count).map { UInt64($0) }
    if numbers.chance(0.4) { values = values.map { _ in UInt64.random(in: 0..<70, using: &numbers) } }
    if numbers.chance(0.2), count > 0 { values[count - 1] = numbers.pick([.max, 1 << 63, UInt64(Int64.max), 1 << 40]) }
    values = values.map { $0 == UInt64(secret) ? 0 : $0 }
    H5Dwrite(list, ress_h5_uint64(), 0, 0, 0, values)
    H5Dclose(list)
    H5Sclose(space)
    H5Pclose(properties)
  }

  static func wrongList(_ file: hid_t, _ name: String, _ outside: String, _ numbers: inout Chance) {
    let kind = Int.random(in: 0..<8, using: &numbers)
    if kind == 0 {
      H5Lcreate_external(outside, "/secret", file, name, 0, 0)
      return
    }
    if kind == 1 {
      H5Lcreate_soft(numbers.pick(["/", "/train", "/" + name, "/nowhere"]), file, name, 0, 0)
      return
    }
    let properties = H5Pcreate(ress_h5_dataset_create())
    defer { H5Pclose(properties) }
    let shapes: [[hsize_t]] = [
      [0], [7], [1 << 40], [1 << 62], [2, 3], [1 << 20, 1 << 20, 1 << 20], [], [64],
    ]
    let shape = kind == 2 || kind == 3 ? [64] : numbers.pick(shapes)
    let text = ress_h5_string(numbers.pick([3, 500]))
    defer { H5Tclose(text) }
    let types: [hid_t] = [
      ress_h5_uint8_file(), ress_h5_uint64_file(), ress_h5_float32_file(), ress_h5_float64_file(), ress_h5_int64_file(),
      text,
    ]
    let type = kind == 2 || kind == 3 ? ress_h5_uint8_file() : numbers.pick(types)
    let space = H5Screate_simple(Int32(shape.count), shape, nil)
    defer { H5Sclose(space) }
    switch kind {
    case 2: H5Pset_external(properties, outside + ".raw", 0, 64)
    case 3: H5Pset_virtual(properties, space, outside, "/secret", space)
    case 4: H5Pset_layout(properties, H5D_COMPACT)
    case 5:
      H5Pset_chunk(properties, Int32(max(1, shape.count)), shape.map { _ in numbers.pick([1, 16, 1 << 30]) })
    case 6:
      H5Pset_chunk(properties, Int32(max(1, shape.count)), shape.map { _ in 4 })
      H5Pset_shuffle(properties)
    default: break
    }
    let list = H5Dcreate2(file, name, type, space, 0, properties, 0)
    if list >= 0 { H5Dclose(list) }
  }

  /// The target of links in forged files: a dataset and a plain file that contain only `secret`.
  static func makeOutside(_ path: String) throws {
    try Data([UInt8](repeating: UInt8(secret), count: 64)).write(to: URL(filePath: path + ".raw"))
    HDF5Lock.begin()
    defer { HDF5Lock.end() }
    ress_h5_quiet()
    let file = H5Fcreate(path, ress_h5_truncate(), 0, 0)
    let space = H5Screate_simple(1, [64], nil)
    let list = H5Dcreate2(file, "/secret", ress_h5_uint8_file(), space, 0, 0, 0)
    H5Dwrite(list, ress_h5_int32(), 0, 0, 0, [Int32](repeating: secret, count: 64))
    H5Dclose(list)
    H5Sclose(space)
    H5Fclose(file)
  }
}
