// CRC-32C (Castagnoli): the checksum of data messages, link headers, and datasets in checkpoints.
#pragma once
#include <stddef.h>
#include <stdint.h>

/// The CRC-32C of the bytes that `crc` covers followed by `count` more; `crc` is 0 for the first piece. Pieces can
/// be chained: crc(ab) = ress_crc32c(ress_crc32c(0, a), b). Source: RFC 3720, appendix B.4 (test vectors).
uint32_t ress_crc32c(uint32_t crc, const void *bytes, size_t count);

/// The same with a table, one byte at a time: for machines without the instruction, and as the reference in tests.
uint32_t ress_crc32c_table(uint32_t crc, const void *bytes, size_t count);
