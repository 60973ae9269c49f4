// What the two kinds of matrix products share (gemm.c, bf16.c): the part of a product that a kernel computes at once, and
// the buffers of a thread.
#pragma once
#include "kernels.h"

// Values of k for which a tile stays in registers: a block of a panel fits into the first cache (32 KiB with AVX-512).
// HEIGHT is a multiple of every kernel's rows, COLUMNS of every kernel's panel.
enum { BLOCK = 256, HEIGHT = 192, COLUMNS = 768 };

// A part of a product: `rows` of the result, at most a panel wide, and one block of k.
typedef struct {
  int64_t rows, depth, columns;
  // Element (i, p) of the left factor is at a[i * a_row + p * a_step]; or, if a_row is 0, it is packed in tiles.
  const real *a;
  int64_t a_row, a_step;
  // Row p of the panel is at b + p * b_step.
  const real *b;
  int64_t b_step;
  real *c;
  int64_t c_row;
  int adding;
  real scale;
  // Where the panel lies that is read next; prefetched.
  const real *ahead;
} part;

typedef struct {
  void (*multiply)(const part *);
  void (*pack)(int64_t, int64_t, const real *, int64_t, real *);
  void (*copy)(int64_t, int64_t, const real *, int64_t, real *);
  int64_t panel, rows;
} gemm_kernel;

// The kernel for this processor.
extern gemm_kernel ress_gemm_chosen __attribute__((visibility("hidden")));

// The buffers of a thread, allocated at its first product that needs them and freed when it ends. They are not
// thread-local arrays, because those would lie in every thread's stack.
typedef struct {
  real right[COLUMNS * BLOCK], left[HEIGHT * BLOCK];
} gemm_buffers;
gemm_buffers *ress_gemm_buffers(void) __attribute__((visibility("hidden")));
