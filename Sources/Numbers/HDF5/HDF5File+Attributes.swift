// Attributes of the root group: texts and whole numbers that describe a file.

import CHDF5

extension HDF5File {
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

  /// Whether the root group has an attribute of this name.
  package func hasAttribute(_ name: String) -> Bool {
    HDF5Lock.begin()
    defer { HDF5Lock.end() }
    return H5Aexists(file.id, name) > 0
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
}
