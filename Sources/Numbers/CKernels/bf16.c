// Matrix products of factors that are rounded to bf16, with sums in single precision. Their order of operations is part of
// their definition too, and it is that of the instruction vdpbf16ps (AVX512-BF16):
// - Both factors are rounded to bf16: to the nearest value, of two equally near ones to the one whose last bit is 0. What is
//   subnormal then counts as 0.
// - An element of the result is one chain over pairs of k, of two fused multiply-adds each, the odd value of the pair first:
//   sum = fma(a₀, b₀, fma(a₁, b₁, sum)). A last pair without a second value has zeros in its place.
// - The chain begins with the element's old value (`adding`) or with 0. A subnormal old value, or a subnormal result of a
//   fused multiply-add, counts as 0 with its sign; a result is subnormal if it is after rounding to 24 bits.
// - Which of the patterns of a NaN a result has is not defined.
//
// Three implementations compute the same bits (bf16_kernels.c):
// - `dot pairs`: the instruction itself. It has twice the speed of single precision on Zen 4 and Zen 5, and half of it on some
//   of Intel's processors.
// - `fused`: the kernels of gemm.c, which get the rounded values in the chain's order, while the processor flushes subnormal
//   values. x86-64 decides after rounding what is subnormal, as the instruction does. arm64 decides before rounding, which
//   differs for results just below the smallest normal number; so a part in which anything underflowed is computed again by
//   the third implementation.
// - `exact`: one element at a time, in C. For x86-64 without fused multiply-adds, and for tests.
//
// A packed right factor has the same form for all of them: panels as wide as a tile of gemm.c, in which a word holds a pair of
// one column, the even value in its low half.
#include "bf16.h"

#ifndef RESS_DOUBLE
#include <stdlib.h>
#include <string.h>
#include <time.h>

// --- packing -----------------------------------------------------------------------------------------------------

// A row's pairs: `to` gets (count + 1) / 2 words.
KERNEL static void pair_row(int64_t count, const float *restrict x, word *restrict to) {
  for (int64_t p = 0; p < count / 2; p++) to[p] = paired(x[2 * p], x[2 * p + 1]);
  if (count % 2) to[count / 2] = paired(x[count - 1], 0);
}

// A row's values in the order of the chain, each as a float: 2 · ((count + 1) / 2) words.
KERNEL static void order_row(int64_t count, const float *restrict x, word *restrict to) {
  for (int64_t p = 0; p < count / 2; p++) {
    word even = rounded(x[2 * p]), odd = rounded(x[2 * p + 1]);
    to[2 * p] = odd, to[2 * p + 1] = even;
  }
  if (count % 2) to[count - 1] = 0, to[count] = rounded(x[count - 1]);
}

// The pairs of two rows, column by column; `odd` is null for a row that lies beyond the last.
KERNEL static void pair_rows(int64_t count, const float *restrict even, const float *restrict odd, word *restrict to) {
  if (odd)
    for (int64_t i = 0; i < count; i++) to[i] = paired(even[i], odd[i]);
  else
    for (int64_t i = 0; i < count; i++) to[i] = paired(even[i], 0);
}

KERNEL static void round_row(int64_t count, const float *restrict x, word *restrict to) {
  for (int64_t i = 0; i < count; i++) to[i] = rounded(x[i]);
}

// Packs `columns` columns and `depth` rows of a right factor in panels, with zeros after the last column. Element (p, j) is at
// b[p * b_row + j * b_step].
static void pack_right(int64_t columns, int64_t depth, const float *b, int64_t b_row, int64_t b_step, word *to,
                       int64_t to_panel) {
  const int64_t panel = ress_gemm_chosen.panel, pairs = (depth + 1) / 2;
  word line[COLUMNS];
  if (b_step == 1) {
    for (int64_t first = 0; first < columns; first += COLUMNS) {
      const int64_t width = columns - first < COLUMNS ? columns - first : COLUMNS;
      for (int64_t p = 0; p < pairs; p++) {
        const float *even = b + 2 * p * b_row + first;
        pair_rows(width, even, 2 * p + 1 < depth ? even + b_row : NULL, line);
        word *out = to + first / panel * to_panel + p * panel;
        int64_t j = 0;
        for (; j + panel <= width; j += panel, out += to_panel) memcpy(out, line + j, (size_t)panel * sizeof(word));
        for (int64_t i = 0; j < width && i < panel; i++) out[i] = i < width - j ? line[j + i] : 0;
      }
    }
    return;
  }
  // b is transposed: a column is a row of its memory. Eight columns at a time, so that whole lines of a panel are written.
  word some[8][BLOCK / 2];
  for (int64_t j = 0; j < columns; j += panel, to += to_panel)
    for (int64_t p = 0; p < depth; p += BLOCK) {
      const int64_t deep = depth - p < BLOCK ? depth - p : BLOCK, count = (deep + 1) / 2;
      for (int64_t l = 0; l < panel; l += 8) {
        for (int64_t i = 0; i < 8; i++) {
          if (j + l + i < columns) pair_row(deep, b + (j + l + i) * b_step + p, some[i]);
          else memset(some[i], 0, sizeof some[i]);
        }
        word *out = to + p / 2 * panel + l;
        for (int64_t q = 0; q < count; q++, out += panel) UNROLL for (int i = 0; i < 8; i++) out[i] = some[i][q];
      }
    }
}

INLINE void store_in(int64_t tile, int64_t rows, int64_t steps, int64_t step, const word *line, word *to) {
  int64_t i = 0;
  for (to += step * tile; i + tile <= rows; i += tile, to += tile * steps) memcpy(to, line + i, (size_t)tile * sizeof(word));
  for (int64_t r = i; r < rows; r++) to[r - i] = line[r];
}

// Copies a line of `rows` words, which belongs to one step of k, in tiles as the kernels of gemm.c read them.
static void store_tiles(int64_t rows, int64_t steps, int64_t step, const word *line, word *to) {
  switch (ress_gemm_chosen.rows) {
    // Known numbers of rows, so that a copy is a few moves.
    case 12: store_in(12, rows, steps, step, line, to); break;
    case 6: store_in(6, rows, steps, step, line, to); break;
    default: store_in(ress_gemm_chosen.rows, rows, steps, step, line, to);
  }
}

// --- products ------------------------------------------------------------------------------------------------------

// The right factor is `packed`, or else at b.
static void product(const implementation *own, int64_t m, int64_t n, int64_t k, const float *a, int64_t a_row, int64_t a_step,
                    const word *packed, const float *b, int64_t b_row, int64_t b_step, float *c, int64_t c_row, int adding) {
  const int64_t panel = ress_gemm_chosen.panel, all_pairs = (k + 1) / 2;
  gemm_buffers *buffers = ress_gemm_buffers();
  word *left = (word *)buffers->left, *right = (word *)buffers->right, line[HEIGHT];
  const int in_tiles = a_row == 1 && a_step != 1;
  half_part x = {.c_row = c_row, .widened = right + COLUMNS * BLOCK / 2};
  for (int64_t first = 0; first < n; first += COLUMNS)
    for (int64_t p = 0; p == 0 || p < k; p += BLOCK) {
      const int64_t columns = n - first < COLUMNS ? n - first : COLUMNS, depth = k - p < BLOCK ? k - p : BLOCK;
      const int64_t pairs = (depth + 1) / 2, steps = own->has_pairs ? pairs : 2 * pairs;
      const int64_t b_panel = panel * (packed ? all_pairs : pairs);
      const word *panels = packed ? packed + first * all_pairs + p / 2 * panel : right;
      if (!packed) pack_right(columns, depth, b + p * b_row + first * b_step, b_row, b_step, right, b_panel);
      x.pairs = pairs, x.adding = adding || p > 0, x.a_row = in_tiles ? 0 : steps, x.a = left;
      for (int64_t i = 0; i < m; i += HEIGHT) {
        x.rows = m - i < HEIGHT ? m - i : HEIGHT;
        if (in_tiles)
          for (int64_t q = 0; q < pairs; q++) {
            const float *even = a + i + (p + 2 * q) * a_step, *odd = 2 * q + 1 < depth ? even + a_step : NULL;
            if (own->has_pairs) {
              pair_rows(x.rows, even, odd, line);
              store_tiles(x.rows, steps, q, line, left);
            } else {
              if (odd) round_row(x.rows, odd, line);
              else memset(line, 0, sizeof line);
              store_tiles(x.rows, steps, 2 * q, line, left);
              round_row(x.rows, even, line);
              store_tiles(x.rows, steps, 2 * q + 1, line, left);
            }
          }
        else
          for (int64_t r = 0; r < x.rows; r++)
            (own->has_pairs ? pair_row : order_row)(depth, a + (i + r) * a_row + p, left + r * steps);
        for (int64_t j = 0; j < columns; j += panel) {
          x.columns = columns - j < panel ? columns - j : panel;
          x.b = panels + j / panel * b_panel;
          x.ahead = x.b + b_panel;
          x.c = c + i * c_row + first + j;
          own->multiply(&x);
        }
      }
    }
}

// --- the choice ------------------------------------------------------------------------------------------------------

static _Atomic(const implementation *) chosen_here;

enum { PROBE_ROWS = 96, PROBE_COLUMNS = 128, PROBE_DEPTH = 256, PROBE_TRIES = 8 };

// Seconds of the fastest of some products.
static double time_of(const implementation *own, const float *a, const word *packed, float *c) {
  double best = 1e9;
  for (int i = 0; i < PROBE_TRIES; i++) {
    struct timespec begin, end;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    product(own, PROBE_ROWS, PROBE_COLUMNS, PROBE_DEPTH, a, PROBE_DEPTH, 1, packed, NULL, 0, 0, c, PROBE_COLUMNS, 0);
    clock_gettime(CLOCK_MONOTONIC, &end);
    const double seconds = (double)(end.tv_sec - begin.tv_sec) + 1e-9 * (double)(end.tv_nsec - begin.tv_nsec);
    best = seconds < best ? seconds : best;
  }
  return best;
}

// `dots` where it is faster than `fused` and computes what its definition demands, otherwise `fused`. The choice is a matter of
// speed alone, so it may fall differently each time.
static const implementation *faster(const implementation *dots, const implementation *fused) {
  enum { A = PROBE_ROWS * PROBE_DEPTH, B = PROBE_COLUMNS * PROBE_DEPTH, C = PROBE_ROWS * PROBE_COLUMNS };
  float *a = malloc((A + B + 2 * C) * sizeof(float)), *b = a + A, *c = b + B, *d = c + C;
  word *packed = malloc(B / 2 * sizeof(word));
  if (!a || !packed) abort();
  uint32_t state = 1;
  for (int64_t i = 0; i < A + B; i++) {
    state = state * 1664525u + 1013904223u;
    a[i] = (float)(int32_t)state * 0x1p-31f;
  }
  pack_right(PROBE_COLUMNS, PROBE_DEPTH, b, PROBE_COLUMNS, 1, packed, ress_gemm_chosen.panel * (PROBE_DEPTH / 2));
  const double fused_time = time_of(fused, a, packed, c), dots_time = time_of(dots, a, packed, d);
  const int is_right = memcmp(c, d, C * sizeof(float)) == 0;
  free(a), free(packed);
  return is_right && dots_time < fused_time ? dots : fused;
}

static const implementation *choose(void) {
  const implementation *dots = ress_bf16_of_kind(RESS_BF16_DOTS), *fused = ress_bf16_of_kind(RESS_BF16_FUSED);
  if (dots) return faster(dots, fused);
  return fused ? fused : ress_bf16_of_kind(RESS_BF16_EXACT);
}

static const implementation *own_implementation(void) {
  const implementation *own = chosen_here;
  if (!own) chosen_here = own = choose();
  return own;
}

const char *ress_bf16_implementation(void) { return own_implementation()->name; }

int ress_bf16_use(int kind) {
  const implementation *own = ress_bf16_of_kind(kind);
  if (!own && kind != RESS_BF16_FASTEST) return 0;
  chosen_here = own;  // NULL: measured at the next call
  return 1;
}

void ress_bf16_pack(int64_t n, int64_t k, const float *b, int64_t b_row, int64_t b_step, int64_t panel_begin,
                    int64_t panel_end, uint32_t *packed) {
  const int64_t panel = ress_gemm_chosen.panel, size = panel * ((k + 1) / 2), first = panel_begin * panel;
  const int64_t end = panel_end * panel < n ? panel_end * panel : n;
  pack_right(end - first, k, b + first * b_step, b_row, b_step, packed + panel_begin * size, size);
}

void ress_bf16_packed(int64_t m, int64_t n, int64_t k, const float *a, int64_t a_row, const uint32_t *packed, float *c,
                      int64_t c_row, int adding) {
  product(own_implementation(), m, n, k, a, a_row, 1, packed, NULL, 0, 0, c, c_row, adding);
}

void ress_bf16(int64_t m, int64_t n, int64_t k, const float *a, int64_t a_row, int64_t a_step, const float *b, int64_t b_row,
               int64_t b_step, float *c, int64_t c_row, int adding) {
  product(own_implementation(), m, n, k, a, a_row, a_step, NULL, b, b_row, b_step, c, c_row, adding);
}

// --- values as 2 bytes -------------------------------------------------------------------------------------------------

KERNEL void ress_bf16_encode(int64_t count, const float *x, uint16_t *to) {
  for (int64_t i = 0; i < count; i++) to[i] = (uint16_t)(rounded(x[i]) >> 16);
}

KERNEL void ress_bf16_decode(int64_t count, const uint16_t *x, float *to) {
  for (int64_t i = 0; i < count; i++) {
    union { uint32_t u; float f; } bits = {(uint32_t)x[i] << 16};
    to[i] = bits.f;
  }
}
#endif
