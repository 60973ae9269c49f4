// Counts calls of the allocator in the program that is linked with it: its malloc, calloc, realloc and aligned
// forms replace the C library's, and call them.
#pragma once
#include <stdint.h>

/// Number of allocations since the program began, on all threads, and the number of bytes requested.
int64_t ress_allocation_count(void);
int64_t ress_allocation_bytes(void);
