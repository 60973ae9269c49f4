// Lists of whole numbers that grow: the tokens, documents and answers of a dataset.

import CHDF5

extension HDF5File {
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
