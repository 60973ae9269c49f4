#pragma once
#include <lzma.h>

/// Several streams one after the other are read as one; a macro that Swift cannot see.
static inline uint32_t ress_lzma_concatenated(void) { return LZMA_CONCATENATED; }
