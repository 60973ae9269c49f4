// The three implementations of a part of a product with bf16 factors, which compute the same bits: one element at a time,
// fused multiply-adds, and the instruction vdpbf16ps. bf16.c has the definition that all of them follow.
#include "bf16.h"

#ifndef RESS_DOUBLE
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

// Pairs of a panel as floats, in the order of the chain.
KERNEL static void widen(int64_t count, int64_t panel, const word *restrict pairs, word *restrict to) {
  for (int64_t p = 0; p < count; p++, pairs += panel, to += 2 * panel)
    for (int64_t i = 0; i < panel; i++) to[i] = pairs[i] & 0xFFFF0000u, to[panel + i] = pairs[i] << 16;
}

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

static const implementation of_dots = {"avx512-bf16", multiply_dots, 1};

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

const implementation *ress_bf16_of_kind(int kind) {
  switch (kind) {
    case RESS_BF16_EXACT: return &of_exact;
    case RESS_BF16_FUSED: return has_fused() ? &of_fused : NULL;
#if defined(__x86_64__)
    case RESS_BF16_DOTS: return has_dots() ? &of_dots : NULL;
#endif
    default: return NULL;
  }
}
#endif
