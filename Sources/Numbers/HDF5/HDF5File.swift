// The part of HDF5 that ress uses: files with groups, datasets of numbers, attributes, and external links.
//
// Every call holds the lock in HDF5Lock.swift, because Debian's HDF5 is not thread-safe. Files are written in the
// format of library version 1.10, so that Debian's h5ls and h5dump can read them. Equal contents give equal bytes,
// because no time stamps are written; the SHA-256 of a rewritten checkpoint file is therefore the same.

import CHDF5

/// An open file.
package final class HDF5File {
  package let path: String
  let file: Handle

  private init(path: String, file: consuming Handle) {
    self.path = path
    self.file = file
  }

  /// Access without HDF5's own locks. Nothing here depends on them: files of a checkpoint are not written again, and a
  /// folder's writer holds a lock of ours. They do harm: many shared file systems refuse them, and a process that
  /// another thread has just started keeps a copy of a lock until it has closed the descriptors that it inherited, so
  /// that a file that was closed cannot be opened for a moment ("Resource temporarily unavailable").
  private static func accessWithoutLocks() -> Handle? {
    guard let access = Handle(H5Pcreate(ress_h5_file_access()), H5Pclose),
      H5Pset_file_locking(access.id, false, true) >= 0
    else { return nil }
    return access
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
    guard let access = accessWithoutLocks(),
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
    guard let access = accessWithoutLocks(),
      let file = Handle(H5Fopen(plain.place, ress_h5_read_only(), access.id), H5Fclose)
    else {
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
  func createParents(_ name: String) throws(HDF5Error) {
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
}
