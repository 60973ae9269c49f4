// SHA-256 of files, by OpenSSL.

import CCrypto
import Foundation

#if canImport(Glibc)
  import Glibc
#endif

package enum SHA256 {
  /// Lower-case hexadecimal, and the file's length.
  package static func ofFile(_ path: String) throws(FolderError) -> (digest: String, byteCount: Int) {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else {
      throw Durable.fail("read", path)
    }
    defer { close(descriptor) }
    guard let context = EVP_MD_CTX_new(), EVP_DigestInit_ex(context, EVP_sha256(), nil) == 1 else {
      throw .system(action: "hash", path: path, reason: "OpenSSL offers no SHA-256")
    }
    defer { EVP_MD_CTX_free(context) }
    var buffer = [UInt8](repeating: 0, count: 1 << 20)
    var total = 0
    while true {
      let count = read(descriptor, &buffer, buffer.count)
      if count < 0 && errno == EINTR { continue }
      guard count >= 0 else { throw Durable.fail("read", path) }
      if count == 0 { break }
      EVP_DigestUpdate(context, buffer, count)
      total += count
    }
    var digest = [UInt8](repeating: 0, count: 32)
    EVP_DigestFinal_ex(context, &digest, nil)
    return (hexadecimal(digest), total)
  }

  /// Lower-case hexadecimal.
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
