// SHA-256 of files and of memory, by OpenSSL.

import CCrypto
import Foundation

#if canImport(Glibc)
  import Glibc
#endif

package enum SHA256 {
  /// The sum of a file in lower-case hexadecimal, and the file's length.
  package static func ofFile(
    _ path: String, _ boundary: Boundary = .none
  ) throws(FolderError) -> (digest: String, byteCount: Int) {
    guard let descriptor = try boundary.openFile(path) else {
      throw .system(action: "read", path: path, reason: String(cString: strerror(ENOENT)), code: ENOENT)
    }
    defer { close(descriptor) }
    let sum = Running()
    var buffer = [UInt8](repeating: 0, count: 1 << 20)
    var total = 0
    while true {
      let count = read(descriptor, &buffer, buffer.count)
      if count < 0 && errno == EINTR { continue }
      guard count >= 0 else { throw Durable.fail("read", path) }
      if count == 0 { break }
      buffer.withUnsafeBytes { sum.add(UnsafeRawBufferPointer(rebasing: $0[..<count])) }
      total += count
    }
    return (sum.digest(), total)
  }

  /// The sum of bytes that are added piece by piece. OpenSSL uses the processor's SHA instructions where it has
  /// them.
  package final class Running {
    private let context: OpaquePointer

    package init() {
      guard let context = EVP_MD_CTX_new(), EVP_DigestInit_ex(context, EVP_sha256(), nil) == 1 else {
        preconditionFailure("OpenSSL offers no SHA-256")
      }
      self.context = context
    }

    deinit { EVP_MD_CTX_free(context) }

    package func add(_ bytes: UnsafeRawBufferPointer) {
      if bytes.count > 0 { EVP_DigestUpdate(context, bytes.baseAddress, bytes.count) }
    }

    /// The sum in lower-case hexadecimal. Nothing can be added afterwards.
    package func digest() -> String {
      var digest = [UInt8](repeating: 0, count: 32)
      EVP_DigestFinal_ex(context, &digest, nil)
      return hexadecimal(digest)
    }
  }

  /// The sum in lower-case hexadecimal.
  package static func of(_ bytes: [UInt8]) -> String {
    var digest = [UInt8](repeating: 0, count: 32)
    EVP_Digest(bytes, bytes.count, &digest, nil, EVP_sha256(), nil)
    return hexadecimal(digest)
  }

  static func hexadecimal(_ digest: [UInt8]) -> String {
    let digits = Array("0123456789abcdef".utf8)
    return String(decoding: digest.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }, as: UTF8.self)
  }
}
