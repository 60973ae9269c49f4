// External links: the tensors of a checkpoint's model file lie in the files of its shards.

import CHDF5

extension HDF5File {
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
}
