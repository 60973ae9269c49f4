// Matrix products in the model's shapes: some hundred rows times a weight. OpenBLAS packs both factors on every
// call, which costs 10 to 25 % at these sizes. Here a weight is packed once per step and the other factor is read
// in place, and a tile of the result stays in registers while k is traversed.
//
// Order of operations: every element of the result is a single chain of fused multiply-adds over k, in ascending
// order. The bits of a row therefore depend on its values alone, not on the number of rows in the call or the row's
// position among them.
//
// The size of a tile depends on the processor: 12 × 32 with 32 registers of 16 floats (AVX-512), 6 × 16 with 16
// registers of 8 floats (AVX2). Other processors have no kernel here and use OpenBLAS.
#include "kernels.h"
#include <string.h>

#if defined(__x86_64__)

// A tile has ROWS × 2 vectors of the result. The loops over them are fully unrolled, so that `sums` is kept in
// registers.
#define UNROLL _Pragma("clang loop unroll(full)")
#define DEFINE_GEMM(NAME, TARGET, BYTES, ROWS)                                                                         \
  typedef real NAME##_vector __attribute__((vector_size(BYTES), aligned(sizeof(real))));                               \
  enum { NAME##_lanes = BYTES / sizeof(real), NAME##_panel = 2 * NAME##_lanes };                                       \
  INLINE TARGET void NAME##_tile(int rows, int64_t k, const real *a, int64_t a_row, int64_t a_step, const real *b,     \
                                 int64_t b_step, real *c, int64_t c_row, int adding, int64_t columns) {                \
    NAME##_vector sums[ROWS][2];                                                                                       \
    UNROLL for (int i = 0; i < rows; i++) {                                                                            \
      sums[i][0] = sums[i][1] = (NAME##_vector){0};                                                                    \
      __builtin_prefetch(c + i * c_row, 1);                                                                            \
      __builtin_prefetch(c + i * c_row + NAME##_lanes, 1);                                                             \
    }                                                                                                                  \
    for (int64_t p = 0; p < k; p++, a += a_step, b += b_step) {                                                        \
      NAME##_vector b0 = *(const NAME##_vector *)b, b1 = *(const NAME##_vector *)(b + NAME##_lanes);                   \
      UNROLL for (int i = 0; i < rows; i++) {                                                                          \
        real x = a[i * a_row];                                                                                         \
        sums[i][0] += x * b0;                                                                                          \
        sums[i][1] += x * b1;                                                                                          \
      }                                                                                                                \
    }                                                                                                                  \
    if (columns == NAME##_panel) {                                                                                     \
      UNROLL for (int i = 0; i < rows; i++) {                                                                          \
        NAME##_vector *c0 = (NAME##_vector *)(c + i * c_row), *c1 = (NAME##_vector *)(c + i * c_row + NAME##_lanes);   \
        *c0 = adding ? *c0 + sums[i][0] : sums[i][0];                                                                  \
        *c1 = adding ? *c1 + sums[i][1] : sums[i][1];                                                                  \
      }                                                                                                                \
      return;                                                                                                          \
    }                                                                                                                  \
    for (int i = 0; i < rows; i++) {                                                                                   \
      real row[NAME##_panel];                                                                                          \
      memcpy(row, sums[i], sizeof row);                                                                                \
      for (int64_t j = 0; j < columns; j++) c[i * c_row + j] = adding ? c[i * c_row + j] + row[j] : row[j];            \
    }                                                                                                                  \
  }                                                                                                                    \
  TARGET static void NAME(int64_t m, int64_t n, int64_t k, const real *a, int64_t a_row, int64_t a_step,               \
                          const real *b, int64_t b_step, int64_t b_panel, real *c, int64_t c_row, int adding) {        \
    for (int64_t j = 0; j < n; j += NAME##_panel, b += b_panel) {                                                      \
      int64_t columns = n - j < NAME##_panel ? n - j : NAME##_panel, i = 0;                                            \
      for (; i + ROWS <= m; i += ROWS)                                                                                 \
        NAME##_tile(ROWS, k, a + i * a_row, a_row, a_step, b, b_step, c + i * c_row + j, c_row, adding, columns);      \
      for (; i + 4 <= m; i += 4)                                                                                       \
        NAME##_tile(4, k, a + i * a_row, a_row, a_step, b, b_step, c + i * c_row + j, c_row, adding, columns);         \
      for (; i < m; i++)                                                                                               \
        NAME##_tile(1, k, a + i * a_row, a_row, a_step, b, b_step, c + i * c_row + j, c_row, adding, columns);         \
    }                                                                                                                  \
  }

DEFINE_GEMM(gemm_512, __attribute__((target("avx512f"))), 64, 12)
DEFINE_GEMM(gemm_256, __attribute__((target("avx2,fma"))), 32, 6)

typedef void gemm_kernel(int64_t, int64_t, int64_t, const real *, int64_t, int64_t, const real *, int64_t, int64_t, real *,
                         int64_t, int);
static gemm_kernel *chosen;
static int64_t panel;

__attribute__((constructor)) static void choose(void) {
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f")) chosen = gemm_512, panel = gemm_512_panel;
  else if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) chosen = gemm_256, panel = gemm_256_panel;
}

int64_t ress_gemm_panel(void) { return panel; }

void ress_gemm_pack_transposed(int64_t n, int64_t k, const real *b, int64_t b_row, int64_t panel_begin, int64_t panel_end,
                               real *packed) {
  for (int64_t q = panel_begin; q < panel_end; q++) {
    real *out = packed + q * panel * k;
    int64_t first = q * panel, columns = n - first < panel ? n - first : panel;
    // Eight rows of b at a time, so that their cache lines are reused while k is traversed.
    for (int64_t l = 0; l < panel; l += 8)
      for (int64_t p = 0; p < k; p++)
        for (int64_t i = l; i < l + 8; i++) out[p * panel + i] = i < columns ? b[(first + i) * b_row + p] : 0;
  }
}

void ress_gemm_packed(int64_t m, int64_t n, int64_t k, const real *a, int64_t a_row, const real *packed, real *c,
                      int64_t c_row, int adding) {
  chosen(m, n, k, a, a_row, 1, packed, panel, panel * k, c, c_row, adding);
}

void ress_gemm(int64_t m, int64_t n, int64_t k, const real *a, int64_t a_row, int64_t a_step, const real *b,
               int64_t b_row, real *c, int64_t c_row, int adding) {
  chosen(m, n, k, a, a_row, a_step, b, b_row, panel, c, c_row, adding);
}

#else

int64_t ress_gemm_panel(void) { return 0; }
void ress_gemm_pack_transposed(int64_t n, int64_t k, const real *b, int64_t b_row, int64_t panel_begin, int64_t panel_end,
                               real *packed) { __builtin_trap(); }
void ress_gemm_packed(int64_t m, int64_t n, int64_t k, const real *a, int64_t a_row, const real *packed, real *c,
                      int64_t c_row, int adding) { __builtin_trap(); }
void ress_gemm(int64_t m, int64_t n, int64_t k, const real *a, int64_t a_row, int64_t a_step, const real *b,
               int64_t b_row, real *c, int64_t c_row, int adding) { __builtin_trap(); }

#endif
