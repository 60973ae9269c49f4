// CRC-32C (Castagnoli), the checksum of every data-plane message and of every dataset in a checkpoint.
#pragma once
#include <stddef.h>
#include <stdint.h>

/// The CRC-32C of what `crc` covers followed by `count` bytes; `crc` is 0 for the first piece, so pieces chain:
/// crc(ab) = ress_crc32c(ress_crc32c(0, a), b). Source: RFC 3720, appendix B.4 (test vectors).
uint32_t ress_crc32c(uint32_t crc, const void *bytes, size_t count);

/// The same from a table, a byte at a time: what machines without the instruction use, and what the tests compare with.
uint32_t ress_crc32c_table(uint32_t crc, const void *bytes, size_t count);
