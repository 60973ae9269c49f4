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
// Three implementations compute the same bits:
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
#include "gemm.h"

#ifndef RESS_DOUBLE
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

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

// Pairs of a panel as floats, in the order of the chain.
KERNEL static void widen(int64_t count, int64_t panel, const word *restrict pairs, word *restrict to) {
  for (int64_t p = 0; p < count; p++, pairs += panel, to += 2 * panel)
    for (int64_t i = 0; i < panel; i++) to[i] = pairs[i] & 0xFFFF0000u, to[panel + i] = pairs[i] << 16;
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

// --- implementations -----------------------------------------------------------------------------------------------

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

// fma(a, b, sum) with a subnormal result as 0; a and b are bf16 values, and none of the three is subnormal. The product is
// exact in double precision, and near the smallest normal number the sum is as well or lies clearly on one side of the limit.
static float step(float a, float b, float sum) {
  const float result = __builtin_fmaf(a, b, sum);
  if (!(__builtin_fabsf(result) <= 0x1p-126f)) return result;
  return __builtin_fabs((double)a * b + sum) < 0x1p-126 - 0x1p-151 ? __builtin_copysignf(0, result) : result;
}

static void exact(const part *x) {
  const int64_t tile = ress_gemm_chosen.rows;
  for (int64_t i = 0; i < x->rows; i++)
    for (int64_t j = 0; j < x->columns; j++) {
      float sum = x->adding ? x->c[i * x->c_row + j] : 0;
      if (__builtin_fabsf(sum) < 0x1p-126f) sum = __builtin_copysignf(0, sum);
      const float *a = x->a_row ? x->a + i * x->a_row : x->a + i / tile * tile * x->depth + i % tile;
      const int64_t a_step = x->a_row ? x->a_step : tile;
      for (int64_t p = 0; p < x->depth; p++) sum = step(a[p * a_step], x->b[p * x->b_step + j], sum);
      x->c[i * x->c_row + j] = sum;
    }
}

// The part as gemm.c's kernels have it, with the panel widened.
static part single(const half_part *x) {
  const int64_t panel = ress_gemm_chosen.panel;
  widen(x->pairs, panel, x->b, x->widened);
  return (part){.rows = x->rows, .depth = 2 * x->pairs, .columns = x->columns, .a = (const float *)x->a, .a_row = x->a_row,
                .a_step = 1, .b = (const float *)x->widened, .b_step = panel, .c = x->c, .c_row = x->c_row,
                .adding = x->adding, .scale = 1, .ahead = (const float *)x->ahead};
}

static void multiply_exactly(const half_part *x) {
  part whole = single(x);
  exact(&whole);
}

#if defined(__x86_64__)
// Flushes subnormal inputs and results; returns what `restore_flush` takes. The empty assembly keeps the compiler from moving
// arithmetic across.
static unsigned begin_flush(void) {
  const unsigned before = _mm_getcsr();
  _mm_setcsr(before | 0x8040);
  __asm__ volatile("" ::: "memory");
  return before;
}

static void restore_flush(unsigned before) {
  __asm__ volatile("" ::: "memory");
  _mm_setcsr(before);
}

static void multiply_fused(const half_part *x) {
  part whole = single(x);
  const unsigned before = begin_flush();
  ress_gemm_chosen.multiply(&whole);
  restore_flush(before);
}

#define DOT __attribute__((target("avx512f,avx512bf16")))
enum { DOT_ROWS = 12, DOT_LANES = 16, DOT_PANEL = 2 * DOT_LANES };
typedef float dot_vector __attribute__((vector_size(64), aligned(4)));

INLINE DOT void dot_tile(int rows, int64_t pairs, const word *a, int64_t a_row, int64_t a_step, const word *b, float *c,
                         int64_t c_row, int adding, const word *ahead, int64_t stride) {
  __m512 sums[DOT_ROWS][2];
  UNROLL for (int i = 0; i < rows; i++) {
    sums[i][0] = adding ? _mm512_loadu_ps(c + i * c_row) : _mm512_setzero_ps();
    sums[i][1] = adding ? _mm512_loadu_ps(c + i * c_row + DOT_LANES) : _mm512_setzero_ps();
  }
  UNROLL for (int i = 0; i < rows; i++) {
    __builtin_prefetch(c + (rows + i) * c_row, 1);
    __builtin_prefetch(c + (rows + i) * c_row + DOT_LANES, 1);
  }
  for (int64_t p = 0; p < pairs; p++, a += a_step, b += DOT_PANEL, ahead += stride) {
    const __m512bh b0 = (__m512bh)_mm512_loadu_si512(b), b1 = (__m512bh)_mm512_loadu_si512(b + DOT_LANES);
    __builtin_prefetch(ahead);
    UNROLL for (int i = 0; i < rows; i++) {
      const __m512bh y = (__m512bh)_mm512_set1_epi32((int)a[i * a_row]);
      sums[i][0] = _mm512_dpbf16_ps(sums[i][0], y, b0);
      sums[i][1] = _mm512_dpbf16_ps(sums[i][1], y, b1);
    }
  }
  UNROLL for (int i = 0; i < rows; i++) {
    _mm512_storeu_ps(c + i * c_row, sums[i][0]);
    _mm512_storeu_ps(c + i * c_row + DOT_LANES, sums[i][1]);
  }
}

// Rows of the part from `row` on. The last panel of c may be narrow: then the tile is computed in `edge`.
INLINE DOT void dot_some(const half_part *x, int rows, int64_t row, const word *a, int64_t a_row, int64_t a_step,
                         const word *ahead, int64_t stride) {
  float edge[DOT_ROWS * DOT_PANEL], *c = x->c + row * x->c_row;
  const int whole = x->columns == DOT_PANEL;
  const size_t bytes = (size_t)x->columns * sizeof(float);
  for (int i = 0; !whole && x->adding && i < rows; i++) memcpy(edge + i * DOT_PANEL, c + i * x->c_row, bytes);
  dot_tile(rows, x->pairs, a, a_row, a_step, x->b, whole ? c : edge, whole ? x->c_row : DOT_PANEL, x->adding, ahead, stride);
  for (int i = 0; !whole && i < rows; i++) memcpy(c + i * x->c_row, edge + i * DOT_PANEL, bytes);
}

DOT static void multiply_dots(const half_part *x) {
  const int64_t tiles = (x->rows + DOT_ROWS - 1) / DOT_ROWS, stride = (DOT_PANEL + tiles - 1) / tiles;
  const int64_t a_row = x->a_row ? x->a_row : 1, a_step = x->a_row ? 1 : DOT_ROWS;
  const int64_t tile_step = DOT_ROWS * (x->a_row ? x->a_row : x->pairs);
  const word *a = x->a, *ahead = x->ahead;
  int64_t i = 0;
  for (; i + DOT_ROWS <= x->rows; i += DOT_ROWS, a += tile_step, ahead += stride * x->pairs)
    dot_some(x, DOT_ROWS, i, a, a_row, a_step, ahead, stride);
  for (; i + 4 <= x->rows; i += 4, a += 4 * a_row) dot_some(x, 4, i, a, a_row, a_step, ahead, stride);
  for (; i < x->rows; i++, a += a_row) dot_some(x, 1, i, a, a_row, a_step, ahead, stride);
}

static int has_dots(void) {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bf16");
}
static int has_fused(void) {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx512f") || (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"));
}
#elif defined(__aarch64__)
static void multiply_fused(const half_part *x) {
  part whole = single(x);
  // gemm.c's panel on arm64 has 8 columns.
  float before[HEIGHT * 8];
  for (int64_t i = 0; x->adding && i < x->rows; i++)
    memcpy(before + i * 8, x->c + i * x->c_row, (size_t)x->columns * sizeof(float));
  uint64_t control, status;
  __asm__ volatile("mrs %0, fpcr\n\tmrs %1, fpsr" : "=r"(control), "=r"(status)::"memory");
  __asm__ volatile("msr fpcr, %0\n\tmsr fpsr, %1" ::"r"(control | 1 << 24), "r"(status & ~(uint64_t)(1 << 3)) : "memory");
  ress_gemm_chosen.multiply(&whole);
  uint64_t after;
  __asm__ volatile("mrs %0, fpsr" : "=r"(after)::"memory");
  __asm__ volatile("msr fpcr, %0\n\tmsr fpsr, %1" ::"r"(control), "r"(status) : "memory");
  if (!(after & 1 << 3)) return;
  for (int64_t i = 0; x->adding && i < x->rows; i++)
    memcpy(x->c + i * x->c_row, before + i * 8, (size_t)x->columns * sizeof(float));
  exact(&whole);
}
static int has_fused(void) { return 1; }
#else
#define multiply_fused multiply_exactly
static int has_fused(void) { return 0; }
#endif

static const implementation of_exact = {"exact", multiply_exactly, 0}, of_fused = {"fused", multiply_fused, 0};
#if defined(__x86_64__)
static const implementation of_dots = {"avx512-bf16", multiply_dots, 1};
#endif

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

#if defined(__x86_64__)
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

// The instruction where it is the faster one and computes what its definition demands. The choice is a matter of speed alone,
// so it may fall differently each time.
static const implementation *measured(void) {
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
  const double fused = time_of(&of_fused, a, packed, c), dots = time_of(&of_dots, a, packed, d);
  const int is_right = memcmp(c, d, C * sizeof(float)) == 0;
  free(a), free(packed);
  return is_right && dots < fused ? &of_dots : &of_fused;
}
#endif

static const implementation *choose(void) {
#if defined(__x86_64__)
  if (has_dots()) return measured();
#endif
  return has_fused() ? &of_fused : &of_exact;
}

static const implementation *own_implementation(void) {
  const implementation *own = chosen_here;
  if (!own) chosen_here = own = choose();
  return own;
}

const char *ress_bf16_implementation(void) { return own_implementation()->name; }

int ress_bf16_use(int kind) {
  switch (kind) {
    case RESS_BF16_EXACT: chosen_here = &of_exact; return 1;
    case RESS_BF16_FUSED: if (has_fused()) chosen_here = &of_fused; return has_fused();
#if defined(__x86_64__)
    case RESS_BF16_DOTS: if (has_dots()) chosen_here = &of_dots; return has_dots();
#endif
    case RESS_BF16_FASTEST: chosen_here = NULL; return 1;
    default: return 0;
  }
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
