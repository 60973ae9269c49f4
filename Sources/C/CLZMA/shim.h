// liblzma, for source files that are compressed with xz or lzma.
#pragma once
#include <lzma.h>

/// Reads several concatenated streams as one. It wraps a macro that Swift cannot import.
static inline uint32_t ress_lzma_concatenated(void) { return LZMA_CONCATENATED; }
