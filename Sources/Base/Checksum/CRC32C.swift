// CRC-32C (RFC 3720, appendix B.4) of a block of memory. The loop itself is C, in CChecksum, where it uses the
// processor's instruction for it.

import CChecksum

/// CRC-32C of `bytes`. To compute it in parts, pass the result of the part before as `crc`; 0 begins a new one.
package func crc32c(_ bytes: UnsafeRawBufferPointer, continuing crc: UInt32 = 0) -> UInt32 {
  guard let start = bytes.baseAddress else { return crc }
  return ress_crc32c(crc, start, bytes.count)
}
