// Counts calls of the allocator in the program that links it: its malloc, calloc, realloc and aligned forms stand before the C
// library's and hand over to it.
#pragma once
#include <stdint.h>

/// Calls that took memory since the program began, on all threads, and the bytes they asked for.
int64_t ress_allocation_count(void);
int64_t ress_allocation_bytes(void);
