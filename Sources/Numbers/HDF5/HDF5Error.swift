// The errors of HDF5, and the owner of its identifiers. Both read the library's error stack, which belongs to the
// thread that holds the lock.

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
