// Matrix products, whose order of operations is part of their definition, so that every processor computes the same
// bits: an element of the result is one chain of fused multiply-adds over k, in ascending order. The chain begins with
// the element's old value (`adding`) or with 0; `scale` multiplies its end. The bits of a row therefore depend on the
// row's values alone: not on the number of rows of a call, nor on the row's index, nor on the processor's vectors.
//
// While k runs through a block of BLOCK values, one tile of the result stays in registers: 12 × 32 with AVX-512 (32
// registers of 16 floats), 6 × 16 with AVX2 (16 registers of 8), 12 × 8 with NEON (32 registers of 4). On x86-64 without
// FMA the compiler calls the C library's fma for every product, which is slow and right. Between two blocks the tile
// lies in memory, as it was: the chain goes on.
//
// What limits a product is how its factors reach the first cache, so they are arranged for the tiles:
// - The right factor is read in panels, which are as wide as a tile. A weight is packed into panels once a step
//   (`ress_gemm_packed`), unless its products have so few rows that the rows are put into panels instead
//   (`ress_gemm_unpacked`). Another factor is copied, a block of k and up to COLUMNS columns at a time, into a buffer of
//   the thread that fits into the second cache.
// - A left factor that is transposed (the gradient of a weight: one factor has a row a token) is copied as well, HEIGHT
//   rows at a time, in tiles. Otherwise each step of k would touch a page of its own.
// - While a tile is computed, the next tile of the result and a share of the next panel are prefetched. Without that a
//   weight of 150 MB, which no cache holds, is read at the speed of one miss after the other.
#include "gemm.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define UNROLL _Pragma("clang loop unroll(full)")

// ROWS × 2 vectors of the result, or ROWS × 1 where half a panel is enough; the loops over them are unrolled, so that
// `sums` lives in registers.
#define DEFINE_GEMM(NAME, TARGET, BYTES, ROWS)                                                                         \
  typedef real NAME##_vector __attribute__((vector_size(BYTES), aligned(sizeof(real))));                               \
  enum { NAME##_lanes = BYTES / sizeof(real), NAME##_panel = 2 * NAME##_lanes, NAME##_rows = ROWS };                   \
                                                                                                                       \
  /* One tile, a panel or half a panel wide. Of the panel ahead it prefetches `stride` values with each step of k. */    \
  INLINE TARGET void NAME##_tile(int rows, int vectors, int64_t depth, const real *a, int64_t a_row, int64_t a_step,   \
                                 const real *b, int64_t b_step, real *c, int64_t c_row, int adding, real scale,        \
                                 const real *ahead, int64_t stride) {                                                  \
    NAME##_vector sums[ROWS][2];                                                                                       \
    UNROLL for (int i = 0; i < rows; i++) UNROLL for (int v = 0; v < vectors; v++)                                     \
      sums[i][v] = adding ? *(const NAME##_vector *)(c + i * c_row + v * NAME##_lanes) : (NAME##_vector){0};           \
    UNROLL for (int i = 0; i < rows; i++) UNROLL for (int v = 0; v < vectors; v++)                                     \
      __builtin_prefetch(c + (rows + i) * c_row + v * NAME##_lanes, 1);                                                \
    for (int64_t p = 0; p < depth; p++, a += a_step, b += b_step, ahead += stride) {                                   \
      NAME##_vector right[2];                                                                                          \
      UNROLL for (int v = 0; v < vectors; v++) right[v] = *(const NAME##_vector *)(b + v * NAME##_lanes);              \
      __builtin_prefetch(ahead);                                                                                       \
      UNROLL for (int i = 0; i < rows; i++) {                                                                          \
        NAME##_vector y = a[i * a_row] - (NAME##_vector){0};                                                           \
        UNROLL for (int v = 0; v < vectors; v++) sums[i][v] = __builtin_elementwise_fma(y, right[v], sums[i][v]);      \
      }                                                                                                                \
    }                                                                                                                  \
    UNROLL for (int i = 0; i < rows; i++) UNROLL for (int v = 0; v < vectors; v++) {                                   \
      if (scale != 1) sums[i][v] *= scale;                                                                             \
      *(NAME##_vector *)(c + i * c_row + v * NAME##_lanes) = sums[i][v];                                               \
    }                                                                                                                  \
  }                                                                                                                    \
                                                                                                                       \
  /* Rows of the part from `row` on. The last panel of c may be narrow: then the tile is computed in `edge`. */        \
  INLINE TARGET void NAME##_some(const part *x, int rows, int vectors, int64_t row, const real *a, int64_t a_row,      \
                                 int64_t a_step, const real *ahead, int64_t stride) {                                  \
    real edge[ROWS * NAME##_panel], *c = x->c + row * x->c_row;                                                        \
    const int whole = x->columns == vectors * NAME##_lanes;                                                            \
    const size_t bytes = (size_t)x->columns * sizeof(real);                                                            \
    for (int i = 0; !whole && x->adding && i < rows; i++) memcpy(edge + i * NAME##_panel, c + i * x->c_row, bytes);    \
    NAME##_tile(rows, vectors, x->depth, a, a_row, a_step, x->b, x->b_step, whole ? c : edge,                          \
                whole ? x->c_row : NAME##_panel, x->adding, x->scale, ahead, stride);                                  \
    for (int i = 0; !whole && i < rows; i++) memcpy(c + i * x->c_row, edge + i * NAME##_panel, bytes);                 \
  }                                                                                                                    \
                                                                                                                       \
  INLINE TARGET void NAME##_part(const part *x, int vectors) {                                                         \
    const int64_t tiles = (x->rows + ROWS - 1) / ROWS, stride = (NAME##_panel + tiles - 1) / tiles;                    \
    const real *ahead = x->ahead;                                                                                      \
    int64_t i = 0;                                                                                                     \
    for (; i + ROWS <= x->rows; i += ROWS, ahead += stride * x->depth) {                                               \
      if (x->a_row) NAME##_some(x, ROWS, vectors, i, x->a + i * x->a_row, x->a_row, x->a_step, ahead, stride);         \
      else NAME##_some(x, ROWS, vectors, i, x->a + i * x->depth, 1, ROWS, ahead, stride);                              \
    }                                                                                                                  \
    const int64_t a_row = x->a_row ? x->a_row : 1, a_step = x->a_row ? x->a_step : ROWS;                               \
    const real *a = x->a + i * (x->a_row ? x->a_row : x->depth);                                                       \
    for (; i + 4 <= x->rows; i += 4, a += 4 * a_row) NAME##_some(x, 4, vectors, i, a, a_row, a_step, ahead, stride);   \
    for (; i < x->rows; i++, a += a_row) NAME##_some(x, 1, vectors, i, a, a_row, a_step, ahead, stride);               \
  }                                                                                                                    \
                                                                                                                       \
  TARGET static void NAME(const part *x) {                                                                             \
    if (x->columns > NAME##_lanes) NAME##_part(x, 2);                                                                  \
    else NAME##_part(x, 1);                                                                                            \
  }                                                                                                                    \
                                                                                                                       \
  /* Copies a left factor that is transposed, element (i, p) at a[i + p * a_step], in tiles of ROWS. */                \
  TARGET static void NAME##_pack(int64_t rows, int64_t depth, const real *a, int64_t a_step, real *to) {               \
    int64_t i = 0;                                                                                                     \
    for (; i + ROWS <= rows; i += ROWS, to += ROWS * depth)                                                            \
      for (int64_t p = 0; p < depth; p++) memcpy(to + p * ROWS, a + i + p * a_step, ROWS * sizeof(real));              \
    for (int64_t p = 0; p < depth; p++)                                                                                \
      for (int64_t r = i; r < rows; r++) to[p * ROWS + r - i] = a[r + p * a_step];                                     \
  }                                                                                                                    \
                                                                                                                       \
  /* Copies rows of the right factor into panels, with zeros after the last column. */                                 \
  TARGET static void NAME##_copy(int64_t columns, int64_t depth, const real *b, int64_t b_row, real *to) {             \
    for (int64_t p = 0; p < depth; p++, b += b_row, to += NAME##_panel) {                                              \
      int64_t j = 0;                                                                                                   \
      for (; j + NAME##_panel <= columns; j += NAME##_panel) {                                                         \
        memcpy(to + j * depth, b + j, NAME##_panel * sizeof(real));                                                    \
        __builtin_prefetch(b + j + 6 * b_row);                                                                         \
        __builtin_prefetch(b + j + 6 * b_row + NAME##_lanes);                                                          \
      }                                                                                                                \
      for (int64_t i = 0; j < columns && i < NAME##_panel; i++) to[j * depth + i] = i < columns - j ? b[j + i] : 0;    \
    }                                                                                                                  \
  }

#define KERNEL_OF(NAME) (gemm_kernel){NAME, NAME##_pack, NAME##_copy, NAME##_panel, NAME##_rows}

#if defined(__x86_64__)
DEFINE_GEMM(gemm_512, __attribute__((target("avx512f"))), 64, 12)
DEFINE_GEMM(gemm_256, __attribute__((target("avx2,fma"))), 32, 6)
DEFINE_GEMM(gemm_128, , 16, 4)
#else
DEFINE_GEMM(gemm_128, , 16, 12)
#endif

gemm_kernel ress_gemm_chosen;
#define chosen ress_gemm_chosen
static pthread_key_t buffers_key;

__attribute__((constructor)) static void choose(void) {
  pthread_key_create(&buffers_key, free);
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f")) chosen = KERNEL_OF(gemm_512);
  else if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) chosen = KERNEL_OF(gemm_256);
  else chosen = KERNEL_OF(gemm_128);
#else
  chosen = KERNEL_OF(gemm_128);
#endif
}

static _Thread_local gemm_buffers *buffers_here;

gemm_buffers *ress_gemm_buffers(void) {
  if (!buffers_here) {
    if (!(buffers_here = aligned_alloc(64, sizeof(gemm_buffers)))) abort();
    pthread_setspecific(buffers_key, buffers_here);
  }
  return buffers_here;
}

int64_t ress_gemm_panel(void) { return chosen.panel; }

void ress_gemm_pack_transposed(int64_t n, int64_t k, const real *b, int64_t b_row, int64_t panel_begin, int64_t panel_end,
                               real *packed) {
  const int64_t panel = chosen.panel;
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
  const int64_t panel = chosen.panel;
  part x = {.rows = m, .a_row = a_row, .a_step = 1, .b_step = panel, .c_row = c_row, .scale = 1};
  // k runs inside: the result's columns stay in the cache, and the packed weight is read from its first value to its last.
  for (int64_t j = 0; j < n; j += panel)
    for (int64_t p = 0; p == 0 || p < k; p += BLOCK) {
      x.depth = k - p < BLOCK ? k - p : BLOCK;
      x.columns = n - j < panel ? n - j : panel;
      x.a = a + p, x.b = packed + j * k + p * panel, x.c = c + j;
      x.adding = adding || p > 0;
      x.ahead = x.b + x.depth * panel;
      chosen.multiply(&x);
    }
}

// Copies `columns` columns and `depth` rows of b into panels.
static void copy_right(int64_t columns, int64_t depth, const real *b, int64_t b_row, int64_t b_step, real *to) {
  const int64_t panel = chosen.panel;
  if (b_step == 1) {
    chosen.copy(columns, depth, b, b_row, to);
    return;
  }
  // b is transposed. Eight of its rows are read side by side, so that their lines stay in the cache while k runs.
  for (int64_t j = 0; j < columns; j += panel, to += panel * depth)
    for (int64_t l = 0; l < panel; l += 8)
      for (int64_t p = 0; p < depth; p++)
        for (int64_t i = l; i < l + 8; i++) to[p * panel + i] = j + i < columns ? b[(j + i) * b_step + p * b_row] : 0;
}

void ress_gemm(int64_t m, int64_t n, int64_t k, const real *a, int64_t a_row, int64_t a_step, const real *b,
               int64_t b_row, int64_t b_step, real *c, int64_t c_row, int adding, real scale) {
  const int64_t panel = chosen.panel;
  // Few rows do not pay for a copy of the right factor, nor for one of the left.
  const int in_place = b_step == 1 && n % panel == 0 && (m < 48 || b_row == panel);
  const int packs = a_row == 1 && a_step != 1 && m >= 24;
  gemm_buffers *own = in_place && !packs ? NULL : ress_gemm_buffers();
  part x = {.a_row = packs ? 0 : a_row, .a_step = a_step, .b_step = in_place ? b_row : panel, .c_row = c_row};
  // Where all rows use a panel one after the other, it is copied alone and stays in the first cache; but a long right
  // factor is read row by row, because its rows lie in many pages.
  const int64_t width = m > HEIGHT || packs || k > 4 * BLOCK ? COLUMNS : panel;
  for (int64_t first = 0; first < n; first += width)
    for (int64_t p = 0; p == 0 || p < k; p += BLOCK) {
      const int64_t columns = n - first < width ? n - first : width;
      const real *right = b + p * b_row + first * b_step;
      x.depth = k - p < BLOCK ? k - p : BLOCK;
      x.adding = adding || p > 0;
      x.scale = p + x.depth == k ? scale : 1;
      if (!in_place) copy_right(columns, x.depth, right, b_row, b_step, own->right);
      for (int64_t i = 0; i < m; i += HEIGHT) {
        x.rows = m - i < HEIGHT ? m - i : HEIGHT;
        x.a = packs ? own->left : a + i * a_row + p * a_step;
        if (packs) chosen.pack(x.rows, x.depth, a + i + p * a_step, a_step, own->left);
        for (int64_t j = 0; j < columns; j += panel) {
          x.columns = columns - j < panel ? columns - j : panel;
          x.b = in_place ? right + j : own->right + j * x.depth;
          x.ahead = in_place ? x.b : x.b + panel * x.depth;
          x.c = c + i * c_row + first + j;
          chosen.multiply(&x);
        }
      }
    }
}

// Rows of w that are computed together in `ress_gemm_unpacked`: a multiple of every kernel's rows.
enum { LINES = 48 };

// The product is computed as cᵀ = w aᵀ: w is the left factor, which is read where it lies, row after row, once. aᵀ is
// small; it is copied into panels, whole in k. The order of an element's operations is that of all products. The tiles
// of cᵀ lie in a buffer.
void ress_gemm_unpacked(int64_t m, int64_t n, int64_t k, const real *a, int64_t a_row, const real *w, int64_t w_row,
                        real *c, int64_t c_row, int adding) {
  const int64_t panel = chosen.panel;
  // Rows of a whose panels and tiles fit the buffers.
  int64_t most = (int64_t)COLUMNS * BLOCK / (k > 0 ? k : 1) / panel * panel;
  if (most > HEIGHT * BLOCK / LINES) most = HEIGHT * BLOCK / LINES;
  if (most == 0) {
    ress_gemm(m, n, k, a, a_row, 1, w, 1, w_row, c, c_row, adding, 1);
    return;
  }
  gemm_buffers *own = ress_gemm_buffers();
  for (int64_t first = 0; first < m; first += most) {
    const int64_t rows = m - first < most ? m - first : most;
    const int64_t wide = (rows + panel - 1) / panel * panel;
    for (int64_t p = 0; p < k; p += BLOCK)
      copy_right(rows, k - p < BLOCK ? k - p : BLOCK, a + first * a_row + p, 1, a_row, own->right + p * wide);
    for (int64_t i = 0; i < n; i += LINES) {
      const int64_t lines = n - i < LINES ? n - i : LINES;
      real *tile = own->left, *to = c + first * c_row + i;
      for (int64_t r = 0; adding && r < rows; r++)
        for (int64_t l = 0; l < lines; l++) tile[l * rows + r] = to[r * c_row + l];
      for (int64_t p = 0; p == 0 || p < k; p += BLOCK) {
        part x = {.rows = lines, .a_row = w_row, .a_step = 1, .b_step = panel, .c_row = rows, .scale = 1};
        x.depth = k - p < BLOCK ? k - p : BLOCK;
        x.a = w + i * w_row + p;
        x.adding = adding || p > 0;
        for (int64_t j = 0; j < rows; j += panel) {
          x.columns = rows - j < panel ? rows - j : panel;
          x.b = own->right + p * wide + j * x.depth;
          x.c = tile + j;
          // The next lines of w are prefetched with the first panel.
          x.ahead = j > 0 ? x.b + panel * x.depth : w + (i + LINES) * w_row + p * lines;
          chosen.multiply(&x);
        }
      }
      for (int64_t r = 0; r < rows; r++)
        for (int64_t l = 0; l < lines; l++) to[r * c_row + l] = tile[l * rows + r];
    }
  }
}
