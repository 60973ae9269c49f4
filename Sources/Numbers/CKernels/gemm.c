// Matrix products, whose order of operations is part of their definition, so that every processor computes the same bits: an element of
// the result is one chain of fused multiply-adds over k, in ascending order. The chain begins with the element's old value (`adding`) or
// with 0; `scale` multiplies its end. The bits of a row therefore depend on the row's values alone: not on the number of rows of a call,
// nor on the row's index, nor on the processor's vectors.
//
// While k runs through a block of BLOCK values, one tile of the result stays in registers: 12 × 32 with AVX-512 (32 registers of 16
// floats), 6 × 16 with AVX2 (16 registers of 8), 12 × 8 with NEON (32 registers of 4). On x86-64 without FMA the compiler calls the C
// library's fma for every product, which is slow and right. Between two blocks the tile lies in memory, as it was: the chain goes on.
//
// The kernels read the right factor in panels, which are as wide as a tile. A weight is packed into panels once a step. Another factor is
// read where it lies, or copied into a buffer of the thread, a block at a time.
#include "kernels.h"
#include <string.h>

#define UNROLL _Pragma("clang loop unroll(full)")
// Values of k for which a tile stays in registers. A block of a panel fits into the first cache: 32 KiB with AVX-512.
enum { BLOCK = 256, WIDEST_PANEL = 32 };

// ROWS × 2 vectors of the result; the loops over them are unrolled, so that `sums` lives in registers.
#define DEFINE_GEMM(NAME, TARGET, BYTES, ROWS)                                                                         \
  typedef real NAME##_vector __attribute__((vector_size(BYTES), aligned(sizeof(real))));                               \
  enum { NAME##_lanes = BYTES / sizeof(real), NAME##_panel = 2 * NAME##_lanes };                                       \
  INLINE TARGET void NAME##_tile(int rows, int64_t k, const real *a, int64_t a_row, int64_t a_step, const real *b,     \
                                 int64_t b_step, real *c, int64_t c_row, int adding, real scale, int64_t columns) {                \
    NAME##_vector sums[ROWS][2];                                                                                       \
    if (adding && columns == NAME##_panel) {                                                                           \
      UNROLL for (int i = 0; i < rows; i++) {                                                                          \
        sums[i][0] = *(const NAME##_vector *)(c + i * c_row);                                                          \
        sums[i][1] = *(const NAME##_vector *)(c + i * c_row + NAME##_lanes);                                           \
      }                                                                                                                \
    } else {                                                                                                           \
      UNROLL for (int i = 0; i < rows; i++) {                                                                          \
        sums[i][0] = sums[i][1] = (NAME##_vector){0};                                                                  \
        __builtin_prefetch(c + i * c_row, 1);                                                                          \
      }                                                                                                                \
      for (int i = 0; adding && i < rows; i++) {                                                                       \
        real row[NAME##_panel] = {0};                                                                                  \
        memcpy(row, c + i * c_row, (size_t)columns * sizeof(real));                                                    \
        memcpy(sums[i], row, sizeof row);                                                                              \
      }                                                                                                                \
    }                                                                                                                  \
    for (int64_t p = 0; p < k; p++, a += a_step, b += b_step) {                                                        \
      NAME##_vector b0 = *(const NAME##_vector *)b, b1 = *(const NAME##_vector *)(b + NAME##_lanes);                   \
      UNROLL for (int i = 0; i < rows; i++) {                                                                          \
        NAME##_vector x = a[i * a_row] - (NAME##_vector){0};                                                           \
        sums[i][0] = __builtin_elementwise_fma(x, b0, sums[i][0]);                                                     \
        sums[i][1] = __builtin_elementwise_fma(x, b1, sums[i][1]);                                                     \
      }                                                                                                                \
    }                                                                                                                  \
    if (scale != 1) UNROLL for (int i = 0; i < rows; i++) sums[i][0] *= scale, sums[i][1] *= scale;                     \
    if (columns == NAME##_panel) {                                                                                     \
      UNROLL for (int i = 0; i < rows; i++) {                                                                          \
        *(NAME##_vector *)(c + i * c_row) = sums[i][0];                                                                \
        *(NAME##_vector *)(c + i * c_row + NAME##_lanes) = sums[i][1];                                                 \
      }                                                                                                                \
      return;                                                                                                          \
    }                                                                                                                  \
    for (int i = 0; i < rows; i++) memcpy(c + i * c_row, sums[i], (size_t)columns * sizeof(real));                     \
  }                                                                                                                    \
  TARGET static void NAME(int64_t m, int64_t k, const real *a, int64_t a_row, int64_t a_step, const real *b,           \
                          int64_t b_step, real *c, int64_t c_row, int adding, real scale, int64_t columns) {                       \
    int64_t i = 0;                                                                                                     \
    for (; i + ROWS <= m; i += ROWS)                                                                                   \
      NAME##_tile(ROWS, k, a + i * a_row, a_row, a_step, b, b_step, c + i * c_row, c_row, adding, scale, columns);            \
    for (; i + 4 <= m; i += 4)                                                                                         \
      NAME##_tile(4, k, a + i * a_row, a_row, a_step, b, b_step, c + i * c_row, c_row, adding, scale, columns);               \
    for (; i < m; i++)                                                                                                 \
      NAME##_tile(1, k, a + i * a_row, a_row, a_step, b, b_step, c + i * c_row, c_row, adding, scale, columns);               \
  }

// Rows of c, at most a panel wide, and one block of k.
typedef void gemm_kernel(int64_t, int64_t, const real *, int64_t, int64_t, const real *, int64_t, real *, int64_t, int,
                         real, int64_t);

#if defined(__x86_64__)
DEFINE_GEMM(gemm_512, __attribute__((target("avx512f"))), 64, 12)
DEFINE_GEMM(gemm_256, __attribute__((target("avx2,fma"))), 32, 6)
DEFINE_GEMM(gemm_128, , 16, 4)
static gemm_kernel *chosen;
static int64_t panel;

__attribute__((constructor)) static void choose(void) {
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f")) chosen = gemm_512, panel = gemm_512_panel;
  else if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) chosen = gemm_256, panel = gemm_256_panel;
  else chosen = gemm_128, panel = gemm_128_panel;
}
#else
DEFINE_GEMM(gemm_128, , 16, 12)
#define chosen gemm_128
#define panel gemm_128_panel
#endif

int64_t ress_gemm_panel(void) { return panel; }

void ress_gemm_pack_transposed(int64_t n, int64_t k, const real *b, int64_t b_row, int64_t panel_begin, int64_t panel_end,
                               real *packed) {
  for (int64_t q = panel_begin; q < panel_end; q++) {
    real *out = packed + q * panel * k;
    int64_t first = q * panel, columns = n - first < panel ? n - first : panel;
    // Eight rows of b at a time: their lines stay while k runs through them.
    for (int64_t l = 0; l < panel; l += 8)
      for (int64_t p = 0; p < k; p++)
        for (int64_t i = l; i < l + 8; i++) out[p * panel + i] = i < columns ? b[(first + i) * b_row + p] : 0;
  }
}

void ress_gemm_packed(int64_t m, int64_t n, int64_t k, const real *a, int64_t a_row, const real *packed, real *c,
                      int64_t c_row, int adding) {
  for (int64_t p = 0; p == 0 || p < k; p += BLOCK) {
    int64_t depth = k - p < BLOCK ? k - p : BLOCK;
    for (int64_t j = 0; j < n; j += panel)
      chosen(m, depth, a + p, a_row, 1, packed + j * k + p * panel, panel, c + j, c_row, adding || p > 0, 1,
             n - j < panel ? n - j : panel);
  }
}

// A block of a panel, with zeros after the last column.
static _Thread_local real scratch[BLOCK * WIDEST_PANEL];

void ress_gemm(int64_t m, int64_t n, int64_t k, const real *a, int64_t a_row, int64_t a_step, const real *b,
               int64_t b_row, int64_t b_step, real *c, int64_t c_row, int adding, real scale) {
  for (int64_t p = 0; p == 0 || p < k; p += BLOCK) {
    int64_t depth = k - p < BLOCK ? k - p : BLOCK;
    for (int64_t j = 0; j < n; j += panel) {
      int64_t columns = n - j < panel ? n - j : panel, step = b_row;
      const real *block = b + p * b_row + j * b_step;
      if (b_step != 1) {
        // b is transposed. Eight of its rows are read side by side, so that their lines stay in the cache while k runs.
        for (int64_t l = 0; l < panel; l += 8)
          for (int64_t q = 0; q < depth; q++)
            for (int64_t i = l; i < l + 8; i++) scratch[q * panel + i] = i < columns ? block[i * b_step + q * b_row] : 0;
        block = scratch, step = panel;
      } else if (columns < panel || (m >= 48 && b_row > panel)) {
        // The last panel may reach beyond b; and many rows pay for a copy that lies side by side.
        for (int64_t q = 0; q < depth; q++) {
          memcpy(scratch + q * panel, block + q * b_row, (size_t)columns * sizeof(real));
          for (int64_t i = columns; i < panel; i++) scratch[q * panel + i] = 0;
        }
        block = scratch, step = panel;
      }
      chosen(m, depth, a + p * a_step, a_row, a_step, block, step, c + j, c_row, adding || p > 0,
             p + depth == k ? scale : 1, columns);
    }
  }
}
