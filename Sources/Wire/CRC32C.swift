// CRC-32C over bytes; the work is in CKernels.
import CKernels

/// CRC-32C of `bytes`, continuing from `crc` (0 to begin).
package func crc32c(_ bytes: UnsafeRawBufferPointer, continuing crc: UInt32 = 0) -> UInt32 {
  guard let start = bytes.baseAddress else { return crc }
  return ress_crc32c(crc, start, bytes.count)
}
