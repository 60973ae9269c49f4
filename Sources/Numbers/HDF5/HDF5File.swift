// The part of HDF5 that ress uses: files with groups, datasets of numbers, attributes, and external links.
//
// Every call holds the lock in HDF5Lock.swift, because Debian's HDF5 is not thread-safe. Files are written in the
// format of library version 1.10, so that Debian's h5ls and h5dump can read them. Equal contents give equal bytes,
// because no time stamps are written; the SHA-256 of a rewritten checkpoint file is therefore the same.

import CHDF5

/// An error of HDF5, with the file and object.
package enum HDF5Error: Error, Equatable, CustomStringConvertible {
  case cannotOpen(path: String, reason: String)
  case cannotCreate(path: String, reason: String)
  case object(path: String, name: String, reason: String)

  package var description: String {
    switch self {
    case .cannotOpen(let path, let reason): "cannot open \(path): \(reason)"
    case .cannotCreate(let path, let reason): "cannot create \(path): \(reason)"
    case .object(let path, let name, let reason): "\(path): \(name): \(reason)"
    }
  }

  /// The reason of the last failed call in this turn, if HDF5 has one.
  static func lastReason(_ otherwise: String) -> String {
    let reason = stackedReason
    return !reason.isEmpty ? reason : HDF5Lock.reason.isEmpty ? otherwise : HDF5Lock.reason
  }

  /// The innermost message on HDF5's error stack. Every further HDF5 call clears it.
  static var stackedReason: String {
    var text = [CChar](repeating: 0, count: 256)
    ress_h5_reason(&text)
    return String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }
}

/// An HDF5 identifier with a single owner, closed when its owner is released.
struct Handle: ~Copyable {
  let id: hid_t
  private let close: (hid_t) -> herr_t

  /// Nil where HDF5 returned an error.
  init?(_ id: hid_t, _ close: @escaping (hid_t) -> herr_t) {
    guard id >= 0 else { return nil }
    self.id = id
    self.close = close
  }

  deinit {
    HDF5Lock.begin()
    // Closing clears the error stack, so the reason of the failed call that led here is saved first.
    let reason = HDF5Error.stackedReason
    if !reason.isEmpty { HDF5Lock.reason = reason }
    _ = close(id)
    HDF5Lock.end()
  }
}

/// An open file.
package final class HDF5File {
  package let path: String
  let file: Handle

  private init(path: String, file: consuming Handle) {
    self.path = path
    self.file = file
  }

  /// Creates a file; an existing one is replaced.
  /// - Parameters:
  ///   - isNew: whether the name must be free. Nothing is written through a symbolic link then.
  ///   - spoken: the file's name in errors; nil means its path.
  package static func create(
    _ path: String, isNew: Bool = false, spoken: String? = nil
  ) throws(HDF5Error) -> HDF5File {
    HDF5Lock.begin()
    defer { HDF5Lock.end() }
    ress_h5_quiet()
    // Time stamps are switched off, so that equal contents give equal bytes.
    guard let access = Handle(H5Pcreate(ress_h5_file_access()), H5Pclose),
      H5Pset_libver_bounds(access.id, H5F_LIBVER_V110, H5F_LIBVER_V110) >= 0,
      let creation = Handle(H5Pcreate(ress_h5_file_create()), H5Pclose),
      H5Pset_obj_track_times(creation.id, false) >= 0,
      let file = Handle(
        H5Fcreate(path, isNew ? ress_h5_exclusive() : ress_h5_truncate(), creation.id, access.id), ress_h5_close_file)
    else { throw .cannotCreate(path: spoken ?? path, reason: HDF5Error.lastReason("HDF5 refused")) }
    return HDF5File(path: spoken ?? path, file: file)
  }

  /// Opens an existing file for reading. It is opened once, and its place is checked by its descriptor, so that it
  /// cannot be replaced between the check and the first read.
  /// - Parameters:
  ///   - followsLinks: whether the name may be a symbolic link.
  ///   - isAllowed: whether a file at a path may be read, called with symbolic links resolved.
  ///   - spoken: the file's name in errors; nil means its path.
  package static func open(
    _ path: String, followsLinks: Bool = true, isAllowed: ((String) -> Bool)? = nil, spoken: String? = nil
  ) throws(HDF5Error) -> HDF5File {
    let name = spoken ?? path
    let plain = try PlainFile(path, followsLinks: followsLinks, isAllowed: isAllowed, spoken: name)
    HDF5Lock.begin()
    defer { HDF5Lock.end() }
    ress_h5_quiet()
    guard let file = Handle(H5Fopen(plain.place, ress_h5_read_only(), 0), H5Fclose) else {
      throw .cannotOpen(path: name, reason: HDF5Error.lastReason("it is not an HDF5 file"))
    }
    return HDF5File(path: name, file: file)
  }

  func fail(_ name: String, _ otherwise: String) -> HDF5Error {
    .object(path: path, name: name, reason: HDF5Error.lastReason(otherwise))
  }

  /// Writes HDF5's buffers to the file.
  package func flush() throws(HDF5Error) {
    HDF5Lock.begin()
    defer { HDF5Lock.end() }
    guard H5Fflush(file.id, H5F_SCOPE_GLOBAL) >= 0 else { throw fail("/", "it cannot be flushed") }
  }

  /// Whether the file itself contains an object of that name.
  package func contains(_ name: String) -> Bool {
    HDF5Lock.begin()
    defer { HDF5Lock.end() }
    var prefix = ""
    for part in name.split(separator: "/") {
      prefix += "/" + part
      guard H5Lexists(file.id, prefix, 0) > 0 else { return false }
      // An object behind a link to another file is not in this file.
      guard ress_h5_link_kind(file.id, prefix) == H5L_TYPE_HARD.rawValue else { return false }
    }
    return true
  }

  /// Creates the missing groups above a name. HDF5 would create them itself, but with time stamps.
  private func createParents(_ name: String) throws(HDF5Error) {
    var path = ""
    for part in name.split(separator: "/").dropLast() {
      path += "/" + part
      if H5Lexists(file.id, path, 0) > 0 { continue }
      guard let properties = Handle(H5Pcreate(ress_h5_group_create()), H5Pclose),
        H5Pset_obj_track_times(properties.id, false) >= 0,
        let _ = Handle(H5Gcreate2(file.id, path, 0, properties.id, 0), H5Gclose)
      else { throw fail(path, "the group cannot be created") }
    }
  }

  // MARK: tensors

  /// Creates a float32 dataset of the given shape with its CRC-32C, and allocates space for its values, which the
  /// caller writes into the file after it is closed. This avoids HDF5's copies and does not block other threads
  /// that use HDF5.
  /// - Returns: the offset of the values in the file, in bytes.
  package func reserve(_ name: String, shape: [Int], crc32c: UInt32) throws(HDF5Error) -> Int {
    let dataset = try create(name, shape, crc32c, takesPlace: true)
    HDF5Lock.begin()
    defer { HDF5Lock.end() }
    guard let place = Int(exactly: H5Dget_offset(dataset.id)) else { throw fail(name, "it has no place in the file") }
    return place
  }

  /// Values that are written while the lock is held: another thread that reads data meanwhile waits a millisecond
  /// or two.
  private static let turnCount = 1 << 20

  /// Writes a float32 dataset of the given shape, with its CRC-32C.
  package func write(_ name: String, shape: [Int], _ values: UnsafePointer<Float>, crc32c: UInt32) throws(HDF5Error) {
    let dataset = try create(name, shape, crc32c, takesPlace: false)
    let rows = shape.first ?? 1
    let rowCount = shape.dropFirst().reduce(1, *)
    let turnRows = max(1, HDF5File.turnCount / max(1, rowCount))
    for start in stride(from: 0, to: rows, by: turnRows) {
      try write(
        dataset, name, shape, rows: start..<min(rows, start + turnRows), values + start * rowCount)
    }
  }

  private func create(
    _ name: String, _ shape: [Int], _ crc32c: UInt32, takesPlace: Bool
  ) throws(HDF5Error) -> Handle {
    HDF5Lock.begin()
    defer { HDF5Lock.end() }
    try createParents(name)
    var sum = crc32c
    guard let properties = Handle(H5Pcreate(ress_h5_dataset_create()), H5Pclose),
      H5Pset_obj_track_times(properties.id, false) >= 0,
      !takesPlace || H5Pset_alloc_time(properties.id, H5D_ALLOC_TIME_EARLY) >= 0,
      !takesPlace || H5Pset_fill_time(properties.id, H5D_FILL_TIME_NEVER) >= 0,
      let space = Handle(H5Screate_simple(Int32(shape.count), shape.map { hsize_t($0) }, nil), H5Sclose),
      let dataset = Handle(
        H5Dcreate2(file.id, name, ress_h5_float32_file(), space.id, 0, properties.id, 0), H5Dclose),
      let scalar = Handle(H5Screate(H5S_SCALAR), H5Sclose),
      let attribute = Handle(
        H5Acreate2(dataset.id, HDF5File.sumName, ress_h5_uint32_file(), scalar.id, 0, 0), H5Aclose),
      H5Awrite(attribute.id, ress_h5_uint32(), &sum) >= 0
    else { throw fail(name, "it cannot be written") }
    return dataset
  }

  private static let sumName = "crc32c"

  private func write(
    _ dataset: borrowing Handle, _ name: String, _ shape: [Int], rows: Range<Int>, _ values: UnsafePointer<Float>
  ) throws(HDF5Error) {
    HDF5Lock.begin()
    defer { HDF5Lock.end() }
    var start = [hsize_t](repeating: 0, count: shape.count), size = shape.map { hsize_t($0) }
    if !shape.isEmpty { (start[0], size[0]) = (hsize_t(rows.lowerBound), hsize_t(rows.count)) }
    guard let memory = Handle(H5Screate_simple(Int32(shape.count), size, nil), H5Sclose),
      let space = Handle(H5Dget_space(dataset.id), H5Sclose),
      H5Sselect_hyperslab(space.id, H5S_SELECT_SET, start, nil, size, nil) >= 0,
      H5Dwrite(dataset.id, ress_h5_float32(), memory.id, space.id, 0, values) >= 0
    else { throw fail(name, "it cannot be written") }
  }

  /// The CRC-32C that was stored with a dataset.
  package func crc32c(of name: String) throws(HDF5Error) -> UInt32 {
    HDF5Lock.begin()
    defer { HDF5Lock.end() }
    let dataset = try openDataset(name)
    guard let attribute = Handle(H5Aopen(dataset.id, HDF5File.sumName, 0), H5Aclose) else {
      throw fail(name, "it has no CRC-32C")
    }
    return UInt32(truncatingIfNeeded: try readNumber(attribute, name))
  }

  /// The dimensions of a dataset.
  package func shape(of name: String) throws(HDF5Error) -> [Int] {
    HDF5Lock.begin()
    defer { HDF5Lock.end() }
    return try checkedExtent(try openDataset(name), name).shape
  }

  /// Reads a whole float32 dataset into a buffer of exactly its size.
  package func read(_ name: String, into values: UnsafeMutableBufferPointer<Float>) throws(HDF5Error) {
    HDF5Lock.begin()
    defer { HDF5Lock.end() }
    let dataset = try openDataset(name)
    let extent = try checkedExtent(dataset, name)
    guard let type = Handle(H5Dget_type(dataset.id), H5Tclose), H5Tequal(type.id, ress_h5_float32_file()) > 0 else {
      throw refuse(name, "its numbers are not 32-bit floats, little-endian")
    }
    guard extent.count == values.count else {
      throw refuse(name, "\(extent.count) numbers where \(values.count) are needed")
    }
    guard values.count > 0 else { return }
    guard H5Dread(dataset.id, ress_h5_float32(), 0, 0, 0, values.baseAddress) >= 0 else {
      throw fail(name, "it cannot be read")
    }
  }

  /// Creates a link to an object of another file, whose name is relative to this file, so that the folder can be
  /// moved.
  package func link(_ name: String, to object: String, in other: String) throws(HDF5Error) {
    HDF5Lock.begin()
    defer { HDF5Lock.end() }
    try createParents(name)
    guard H5Lcreate_external(other, object, file.id, name, 0, 0) >= 0 else {
      throw fail(name, "the link cannot be written")
    }
  }

  /// The file and object that an external link refers to; nil where `name` is not an external link. HDF5 never
  /// follows such a link itself (`openDataset`): the caller decides which files to open.
  package func linkTarget(of name: String) throws(HDF5Error) -> (file: String, object: String)? {
    HDF5Lock.begin()
    defer { HDF5Lock.end() }
    var prefix = ""
    for part in name.split(separator: "/").dropLast() {
      prefix += "/" + part
      guard H5Lexists(file.id, prefix, 0) > 0, ress_h5_link_kind(file.id, prefix) == H5L_TYPE_HARD.rawValue else {
        return nil
      }
    }
    guard H5Lexists(file.id, name, 0) > 0, ress_h5_link_kind(file.id, name) == H5L_TYPE_EXTERNAL.rawValue else {
      return nil
    }
    let size = ress_h5_link_size(file.id, name)
    guard (1...HDF5File.largestLink).contains(size) else { throw refuse(name, "the link has \(size) bytes") }
    // The buffer has one byte more than HDF5 fills, so that both names are terminated, whatever it contains.
    var value = [UInt8](repeating: 0, count: size + 1)
    var flags: UInt32 = 0
    var other: UnsafePointer<CChar>?, object: UnsafePointer<CChar>?
    let names = value.withUnsafeMutableBytes { bytes -> (String, String)? in
      guard H5Lget_val(file.id, name, bytes.baseAddress, size, 0) >= 0,
        H5Lunpack_elink_val(bytes.baseAddress, size, &flags, &other, &object) >= 0, let other, let object
      else { return nil }
      return (String(cString: other), String(cString: object))
    }
    guard let names else { throw fail(name, "the link cannot be read") }
    return names
  }

  private static let largestLink = 4096

  // MARK: attributes of the root

  /// Writes a new text attribute of the root group, with a fixed length.
  package func setAttribute(_ name: String, _ text: String) throws(HDF5Error) {
    HDF5Lock.begin()
    defer { HDF5Lock.end() }
    let bytes = Array(text.utf8)
    guard let type = Handle(ress_h5_string(bytes.count), H5Tclose), let space = Handle(H5Screate(H5S_SCALAR), H5Sclose),
      let attribute = Handle(H5Acreate2(file.id, name, type.id, space.id, 0, 0), H5Aclose),
      H5Awrite(attribute.id, type.id, bytes.isEmpty ? [0] : bytes) >= 0
    else { throw fail(name, "the attribute cannot be written") }
  }

  /// Writes a new integer attribute of the root group (64 bits).
  package func setAttribute(_ name: String, _ number: Int) throws(HDF5Error) {
    HDF5Lock.begin()
    defer { HDF5Lock.end() }
    var value = Int64(number)
    guard let space = Handle(H5Screate(H5S_SCALAR), H5Sclose),
      let attribute = Handle(H5Acreate2(file.id, name, ress_h5_int64_file(), space.id, 0, 0), H5Aclose),
      H5Awrite(attribute.id, ress_h5_int64(), &value) >= 0
    else { throw fail(name, "the attribute cannot be written") }
  }

  /// Reads a text attribute of the root group, up to its first zero byte.
  package func text(_ name: String) throws(HDF5Error) -> String {
    HDF5Lock.begin()
    defer { HDF5Lock.end() }
    guard let attribute = Handle(H5Aopen(file.id, name, 0), H5Aclose),
      let type = Handle(H5Aget_type(attribute.id), H5Tclose),
      H5Tget_class(type.id) == H5T_STRING, H5Tis_variable_str(type.id) == 0
    else { throw fail(name, "there is no such text attribute") }
    try checkSingle(attribute, name)
    let size = H5Tget_size(type.id)
    guard (1...HDF5File.largestText).contains(size), H5Aget_storage_size(attribute.id) == hsize_t(size) else {
      throw refuse(name, "the text has \(size) bytes; \(HDF5File.largestText) are the most")
    }
    var bytes = [UInt8](repeating: 0, count: size)
    guard H5Aread(attribute.id, type.id, &bytes) >= 0 else { throw fail(name, "the attribute cannot be read") }
    return String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
  }

  /// Longest text attribute in bytes; the list of sources of a large dataset is much shorter.
  private static let largestText = 16 << 20

  /// Reads an integer attribute of the root group.
  package func number(_ name: String) throws(HDF5Error) -> Int {
    HDF5Lock.begin()
    defer { HDF5Lock.end() }
    guard let attribute = Handle(H5Aopen(file.id, name, 0), H5Aclose) else {
      throw fail(name, "there is no such number attribute")
    }
    return try readNumber(attribute, name)
  }

  // MARK: lists of integers

  /// Size of a list's values in the file; all are unsigned.
  package enum IntegerWidth { case bits8, bits16, bits32, bits64 }

  /// Creates an empty list that grows by chunks. Each chunk has a checksum (Fletcher-32), which is verified when it
  /// is read.
  /// - Parameter chunk: number of values that are stored, checked and cached together.
  package func createList(_ name: String, _ width: IntegerWidth, chunk: Int = HDF5List.chunk) throws(HDF5Error)
    -> HDF5List
  {
    HDF5Lock.begin()
    defer { HDF5Lock.end() }
    let type =
      switch width {
      case .bits8: ress_h5_uint8_file()
      case .bits16: ress_h5_uint16_file()
      case .bits32: ress_h5_uint32_file()
      case .bits64: ress_h5_uint64_file()
      }
    try createParents(name)
    guard let properties = Handle(H5Pcreate(ress_h5_dataset_create()), H5Pclose),
      H5Pset_obj_track_times(properties.id, false) >= 0,
      H5Pset_chunk(properties.id, 1, [hsize_t(chunk)]) >= 0, H5Pset_fletcher32(properties.id) >= 0,
      let space = Handle(H5Screate_simple(1, [0], [ress_h5_unlimited()]), H5Sclose),
      let dataset = Handle(H5Dcreate2(file.id, name, type, space.id, 0, properties.id, 0), ress_h5_close_list)
    else { throw fail(name, "the list cannot be created") }
    return HDF5List(file: self, name: name, dataset: dataset, count: 0)
  }

  /// Opens a list for reading.
  package func openList(_ name: String) throws(HDF5Error) -> HDF5List {
    HDF5Lock.begin()
    defer { HDF5Lock.end() }
    let dataset = try openDataset(name)
    let extent = try checkedExtent(dataset, name)
    guard extent.shape.count == 1 else {
      throw refuse(name, "it is not a list: it has \(extent.shape.count) dimensions")
    }
    guard let type = Handle(H5Dget_type(dataset.id), H5Tclose), ress_h5_is_whole(type.id, 0) != 0 else {
      throw refuse(name, "it is not a list of unsigned whole numbers")
    }
    return HDF5List(file: self, name: name, dataset: dataset, count: extent.count)
  }
}

/// A one-dimensional dataset of integers: a new one can be appended to, an existing one is read in pieces.
package final class HDF5List {
  package static let chunk = 1 << 16

  package let name: String
  package private(set) var count: Int
  private let file: HDF5File
  private let dataset: Handle

  fileprivate init(file: HDF5File, name: String, dataset: consuming Handle, count: Int) {
    self.file = file
    self.name = name
    self.dataset = dataset
    self.count = count
  }

  private func fail(_ otherwise: String) -> HDF5Error {
    .object(path: file.path, name: name, reason: HDF5Error.lastReason(otherwise))
  }

  /// Appends values; they are stored in the list's own width.
  package func append(_ values: [Int32]) throws(HDF5Error) {
    HDF5Lock.begin()
    defer { HDF5Lock.end() }
    try append(values.count) { writeSelected($0, $1, ress_h5_int32(), values) }
  }

  package func append(_ values: [UInt64]) throws(HDF5Error) {
    HDF5Lock.begin()
    defer { HDF5Lock.end() }
    try append(values.count) { writeSelected($0, $1, ress_h5_uint64(), values) }
  }

  private func append(_ added: Int, _ write: (hid_t, hid_t) -> herr_t) throws(HDF5Error) {
    HDF5Lock.begin()
    defer { HDF5Lock.end() }
    guard added > 0 else { return }
    guard H5Dset_extent(dataset.id, [hsize_t(count + added)]) >= 0,
      let space = Handle(H5Dget_space(dataset.id), H5Sclose),
      H5Sselect_hyperslab(space.id, H5S_SELECT_SET, [hsize_t(count)], nil, [hsize_t(added)], nil) >= 0,
      write(dataset.id, space.id) >= 0
    else { throw fail("it cannot be extended") }
    count += added
  }

  /// Fills the buffer with the values from index `start` on.
  package func read(from start: Int, into values: inout [Int32]) throws(HDF5Error) {
    HDF5Lock.begin()
    defer { HDF5Lock.end() }
    try select(start, values.count) { dataset, memory, space in
      values.withUnsafeMutableBufferPointer { H5Dread(dataset, ress_h5_int32(), memory, space, 0, $0.baseAddress) }
    }
  }

  package func read(from start: Int, into values: inout [UInt64]) throws(HDF5Error) {
    HDF5Lock.begin()
    defer { HDF5Lock.end() }
    try select(start, values.count) { dataset, memory, space in
      values.withUnsafeMutableBufferPointer { H5Dread(dataset, ress_h5_uint64(), memory, space, 0, $0.baseAddress) }
    }
  }

  private func select(_ start: Int, _ length: Int, _ read: (hid_t, hid_t, hid_t) -> herr_t) throws(HDF5Error) {
    HDF5Lock.begin()
    defer { HDF5Lock.end() }
    guard length > 0 else { return }
    // Compared by subtraction, because in a damaged file `start + length` might overflow.
    guard start >= 0, start <= count, length <= count - start else {
      throw .object(
        path: file.path, name: name,
        reason:
          "numbers \(start) to \(start.addingReportingOverflow(length).partialValue) of a list of \(count) were asked for"
      )
    }
    guard let memory = Handle(H5Screate_simple(1, [hsize_t(length)], nil), H5Sclose),
      let space = Handle(H5Dget_space(dataset.id), H5Sclose),
      H5Sselect_hyperslab(space.id, H5S_SELECT_SET, [hsize_t(start)], nil, [hsize_t(length)], nil) >= 0,
      read(dataset.id, memory.id, space.id) >= 0
    else { throw fail("it cannot be read; the file is damaged or incomplete") }
  }
}

private func writeSelected<Value: BitwiseCopyable>(
  _ dataset: hid_t, _ space: hid_t, _ type: hid_t, _ values: [Value]
) -> herr_t {
  guard let memory = Handle(H5Screate_simple(1, [hsize_t(values.count)], nil), H5Sclose) else { return -1 }
  return values.withUnsafeBufferPointer { H5Dwrite(dataset, type, memory.id, space, 0, $0.baseAddress) }
}
