// What the files of bf16 products share: bf16.c (their definition, packing, the loops over a product) and bf16_kernels.c (the
// implementations of a part of a product).
#pragma once
#include "gemm.h"

#define UNROLL _Pragma("clang loop unroll(full)")

// A pair of bf16 values, or the bits of one float.
typedef uint32_t __attribute__((may_alias)) word;

// The bits of x rounded to bf16, as a float.
INLINE word rounded(float x) {
  union { float f; uint32_t u; } bits = {x};
  uint32_t near = (bits.u + 0x7FFFu + ((bits.u >> 16) & 1)) & 0xFFFF0000u;
  uint32_t flushed = (near & 0x7F800000u) == 0 ? near & 0x80000000u : near;
  return (bits.u & 0x7FFFFFFFu) > 0x7F800000u ? (bits.u | 0x00400000u) & 0xFFFF0000u : flushed;
}

INLINE word paired(float even, float odd) { return rounded(even) >> 16 | rounded(odd); }

// A part of a product: at most a panel wide, and one block of k.
typedef struct {
  int64_t rows, pairs, columns;
  // The left factor in the form of the implementation: rows with a distance of a_row words, or tiles if a_row is 0.
  const word *a;
  int64_t a_row;
  const word *b;
  float *c;
  int64_t c_row;
  int adding;
  const word *ahead;
  // BLOCK rows of a panel of floats.
  word *widened;
} half_part;

typedef struct {
  const char *name;
  void (*multiply)(const half_part *);
  // Whether the left factor has words of pairs; otherwise words of single values, in the order of the chain.
  int has_pairs;
} implementation;

// The implementation of a kind, `RESS_BF16_EXACT`, `RESS_BF16_FUSED` or `RESS_BF16_DOTS`; NULL where this processor lacks it.
const implementation *ress_bf16_of_kind(int kind) __attribute__((visibility("hidden")));
