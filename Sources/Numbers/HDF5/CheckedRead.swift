// Checks of an HDF5 file before its contents are read. A forged or damaged file is dangerous: HDF5 writes as many
// bytes as the file's own dataspace and type specify into a buffer whose size the caller chose, and it follows
// links and external storage to other files.
//
// Accepted is only what ress writes: hard links; contiguous, compact or chunked storage inside the file; no filter
// except the checksum; unsigned integers of 1 to 8 bytes, float32, and fixed-length strings; and datasets that are
// not larger than the file.

import CHDF5

#if canImport(Glibc)
  import Glibc
#endif

/// An open regular file, and a path of it that cannot be redirected to another file.
struct PlainFile: ~Copyable {
  private let descriptor: Int32
  /// The path to open it by.
  let place: String

  init(_ path: String, followsLinks: Bool, isAllowed: ((String) -> Bool)?, spoken: String) throws(HDF5Error) {
    // Without O_NONBLOCK, opening a named pipe would block until a process writes to it.
    let flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | (followsLinks ? 0 : O_NOFOLLOW)
    let descriptor = Glibc.open(path, flags)
    guard descriptor >= 0 else {
      let reason = errno == ELOOP && !followsLinks ? "it is a symbolic link" : String(cString: strerror(errno))
      throw .cannotOpen(path: spoken, reason: reason)
    }
    var about = stat()
    let isPlain = fstat(descriptor, &about) == 0 && about.st_mode & S_IFMT == S_IFREG
    var head = [UInt8](repeating: 0, count: 9)
    let isKnown = pread(descriptor, &head, head.count, 0) == head.count && PlainFile.isOurs(head)
    let byDescriptor = "/proc/self/fd/\(descriptor)"
    var real = [CChar](repeating: 0, count: Int(PATH_MAX))
    let length = max(0, readlink(byDescriptor, &real, real.count))
    let target = String(decoding: real.prefix(length).map { UInt8(bitPattern: $0) }, as: UTF8.self)
    let problem =
      !isPlain
      ? "it is not a regular file"
      : !isKnown
        ? "it is not an HDF5 file of version 1.10 or later, as ress writes them"
        : isAllowed.map { length > 0 && $0(target) } ?? true
          ? nil : "it lies outside of the folders that this run may use (\(target))"
    if let problem {
      close(descriptor)
      throw .cannotOpen(path: spoken, reason: problem)
    }
    self.descriptor = descriptor
    // Without /proc the name is used, unless the place of the file must be checked.
    place = length > 0 ? byDescriptor : path
  }

  deinit { close(descriptor) }

  /// Checks the signature, and that the superblock has version 2 or 3. Files of those versions have a checksum on
  /// every structure, so that damage is detected before it is followed. Older versions, which ress never wrote,
  /// have none.
  private static func isOurs(_ head: [UInt8]) -> Bool {
    head.prefix(8) == [0x89, 0x48, 0x44, 0x46, 0x0D, 0x0A, 0x1A, 0x0A] && (2...3).contains(head[8])
  }
}

extension HDF5File {
  /// Most dimensions of a dataset; ours have fewer, and HDF5 permits 32.
  private static let largestRank = 8
  /// Largest chunk in bytes, since a chunk is read as a whole. Ours have at most 512 KiB.
  private static let largestChunk = 64 << 20

  func refuse(_ name: String, _ reason: String) -> HDF5Error { .object(path: path, name: name, reason: reason) }

  /// Throws unless every group above `name` is in this file.
  func checkParents(_ name: String) throws(HDF5Error) {
    var prefix = ""
    for part in name.split(separator: "/").dropLast() {
      prefix += "/" + part
      try checkLink(prefix)
    }
  }

  private func checkLink(_ name: String) throws(HDF5Error) {
    guard H5Lexists(file.id, name, 0) > 0 else { throw fail(name, "there is no such object") }
    guard ress_h5_link_kind(file.id, name) == H5L_TYPE_HARD.rawValue else {
      throw refuse(name, "it is a link; only objects in the file itself are read")
    }
  }

  /// Opens a dataset after checking that it and its storage are in this file.
  func openDataset(_ name: String) throws(HDF5Error) -> Handle {
    try checkParents(name)
    try checkLink(name)
    guard let dataset = Handle(H5Dopen2(file.id, name, 0), H5Dclose) else {
      throw fail(name, "there is no such dataset")
    }
    guard let properties = Handle(H5Dget_create_plist(dataset.id), H5Pclose) else {
      throw fail(name, "its storage properties cannot be read")
    }
    guard H5Pget_external_count(properties.id) == 0 else {
      throw refuse(name, "its numbers are stored in another file")
    }
    switch H5Pget_layout(properties.id) {
    case H5D_CONTIGUOUS, H5D_COMPACT: break
    case H5D_CHUNKED:
      var sizes = [hsize_t](repeating: 0, count: Int(H5S_MAX_RANK))
      let rank = H5Pget_chunk(properties.id, Int32(sizes.count), &sizes)
      guard let type = Handle(H5Dget_type(dataset.id), H5Tclose), rank > 0, rank <= Int32(HDF5File.largestRank),
        let count = HDF5File.product(sizes.prefix(Int(rank))), count > 0,
        HDF5File.product([hsize_t(count), hsize_t(H5Tget_size(type.id))]).map({ $0 <= HDF5File.largestChunk }) == true
      else { throw refuse(name, "its chunks are larger than \(HDF5File.largestChunk >> 20) MiB") }
    default: throw refuse(name, "it is a virtual dataset, made of other datasets")
    }
    guard ress_h5_has_only_checksums(properties.id) != 0 else {
      throw refuse(name, "it is stored with a filter other than the checksum (Fletcher-32)")
    }
    return dataset
  }

  /// The shape of a dataset, and its number of values, after checking that the file is large enough for them.
  func checkedExtent(_ dataset: borrowing Handle, _ name: String) throws(HDF5Error) -> (shape: [Int], count: Int) {
    guard let space = Handle(H5Dget_space(dataset.id), H5Sclose), let type = Handle(H5Dget_type(dataset.id), H5Tclose)
    else { throw fail(name, "it has no shape") }
    let rank = H5Sget_simple_extent_ndims(space.id)
    guard (0...HDF5File.largestRank).contains(Int(rank)), H5Sget_simple_extent_type(space.id) != H5S_NULL else {
      throw refuse(name, "it has no shape, or more than \(HDF5File.largestRank) dimensions")
    }
    var sizes = [hsize_t](repeating: 0, count: max(Int(rank), 1))
    guard H5Sget_simple_extent_dims(space.id, &sizes, nil) == rank else { throw fail(name, "it has no shape") }
    let shape = sizes.prefix(Int(rank))
    var fileSize: hsize_t = 0
    let stored = H5Dget_storage_size(dataset.id)
    guard let count = HDF5File.product(shape), shape.allSatisfy({ $0 <= hsize_t(Int32.max) << 16 }),
      let byteCount = HDF5File.product([hsize_t(count), hsize_t(H5Tget_size(type.id))]),
      H5Fget_filesize(file.id, &fileSize) >= 0, count == 0 || (hsize_t(byteCount) <= stored && stored <= fileSize)
    else { throw refuse(name, "the file is too small for its shape \(Array(shape))") }
    return (shape.map { Int($0) }, count)
  }

  /// The product of sizes; nil where it overflows.
  private static func product(_ sizes: some Sequence<hsize_t>) -> Int? {
    var product = 1
    for size in sizes {
      guard let size = Int(exactly: size) else { return nil }
      let (next, overflows) = product.multipliedReportingOverflow(by: size)
      guard !overflows else { return nil }
      product = next
    }
    return product
  }

  /// Throws unless an attribute has exactly one value.
  func checkSingle(_ attribute: borrowing Handle, _ name: String) throws(HDF5Error) {
    guard let space = Handle(H5Aget_space(attribute.id), H5Sclose), H5Sget_simple_extent_npoints(space.id) == 1 else {
      throw refuse(name, "the attribute does not hold one value")
    }
  }

  func readNumber(_ attribute: borrowing Handle, _ name: String) throws(HDF5Error) -> Int {
    try checkSingle(attribute, name)
    guard let type = Handle(H5Aget_type(attribute.id), H5Tclose), ress_h5_is_whole(type.id, 1) != 0 else {
      throw refuse(name, "the attribute is not a whole number")
    }
    var value: Int64 = 0
    guard H5Aread(attribute.id, ress_h5_int64(), &value) >= 0 else { throw fail(name, "the attribute cannot be read") }
    return Int(value)
  }
}
