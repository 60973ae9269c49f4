// Tensors in a file: float32 datasets of any shape, each with the CRC-32C of its values.

import CHDF5

extension HDF5File {
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

  /// The shape of a float32 dataset and its number of values.
  private func floatExtent(
    _ dataset: borrowing Handle, _ name: String
  ) throws(HDF5Error) -> (shape: [Int], count: Int) {
    let extent = try checkedExtent(dataset, name)
    guard let type = Handle(H5Dget_type(dataset.id), H5Tclose), H5Tequal(type.id, ress_h5_float32_file()) > 0 else {
      throw refuse(name, "its numbers are not 32-bit floats, little-endian")
    }
    return extent
  }

  /// Reads rows of a float32 dataset into a buffer of exactly their size.
  package func read(
    _ name: String, rows: Range<Int>, into values: UnsafeMutableBufferPointer<Float>
  ) throws(HDF5Error) {
    HDF5Lock.begin()
    defer { HDF5Lock.end() }
    let dataset = try openDataset(name)
    let shape = try floatExtent(dataset, name).shape
    guard let all = shape.first, 0 <= rows.lowerBound, rows.upperBound <= all,
      rows.count * shape.dropFirst().reduce(1, *) == values.count
    else { throw refuse(name, "rows \(rows) of a dataset with the shape \(shape) do not fit \(values.count) numbers") }
    guard values.count > 0 else { return }
    var start = [hsize_t](repeating: 0, count: shape.count), size = shape.map { hsize_t($0) }
    (start[0], size[0]) = (hsize_t(rows.lowerBound), hsize_t(rows.count))
    guard let memory = Handle(H5Screate_simple(Int32(shape.count), size, nil), H5Sclose),
      let space = Handle(H5Dget_space(dataset.id), H5Sclose),
      H5Sselect_hyperslab(space.id, H5S_SELECT_SET, start, nil, size, nil) >= 0,
      H5Dread(dataset.id, ress_h5_float32(), memory.id, space.id, 0, values.baseAddress) >= 0
    else { throw fail(name, "it cannot be read") }
  }

  /// Reads a whole float32 dataset into a buffer of exactly its size.
  package func read(_ name: String, into values: UnsafeMutableBufferPointer<Float>) throws(HDF5Error) {
    HDF5Lock.begin()
    defer { HDF5Lock.end() }
    let dataset = try openDataset(name)
    let extent = try floatExtent(dataset, name)
    guard extent.count == values.count else {
      throw refuse(name, "\(extent.count) numbers where \(values.count) are needed")
    }
    guard values.count > 0 else { return }
    guard H5Dread(dataset.id, ress_h5_float32(), 0, 0, 0, values.baseAddress) >= 0 else {
      throw fail(name, "it cannot be read")
    }
  }
}
