// Included by all kernel files: the instruction sets that kernels are compiled for, and inline arithmetic.
#pragma once
#include "CKernels.h"
#include <math.h>
#include <stddef.h>

// A KERNEL function is compiled once per instruction set, and the dynamic loader selects one. The program thus runs
// on any x86-64 and uses the instructions that the processor has. On arm64 the baseline has vectors (NEON), so one
// version is enough.
#if defined(__x86_64__)
#define KERNEL __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#else
#define KERNEL
#endif
#define INLINE static inline __attribute__((always_inline))

// Permits the compiler to reorder sums in the enclosing block, and only there. Without it, a sum of floats is not
// vectorised. The order that the compiler chooses depends on the instruction set, which is why the fingerprint of
// workers contains it.
#define REORDER_SUMS _Pragma("clang fp reassociate(on)")

typedef ress_real real;

#ifdef RESS_DOUBLE
#define REAL_EXP exp
#define REAL_LOG log
#define REAL_LOG1P log1p
#define REAL_SQRT sqrt
#define REAL_LOWEST (-1.0e300)
#else
#define REAL_LOG logf
#define REAL_LOG1P log1pf
#define REAL_SQRT sqrtf
#define REAL_LOWEST (-3.0e38f)
// exp(x) with an error of at most 2 units in the last place, in plain arithmetic that the compiler can vectorise.
// It computes 2^n · e^r with n = round(x / ln 2). Adding 1.5 · 2^23 rounds to an integer and leaves n in the low
// bits. Coefficients: Cephes expf. Below −87 the result stays at 1e-38.
INLINE float REAL_EXP(float x) {
  x = x < -87.0f ? -87.0f : x;
  x = x > 88.0f ? 88.0f : x;
  union { float f; int32_t i; } shifted, power;
  shifted.f = x * 1.44269504088896341f + 12582912.0f;
  float n = shifted.f - 12582912.0f;
  float r = x - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  power.i = (int32_t)((uint32_t)(shifted.i - 0x4B400000 + 127) << 23);
  return p * power.f;
}
#endif

INLINE real sigmoid(real x) { return (real)1 / ((real)1 + REAL_EXP(-x)); }

INLINE real dot(ptrdiff_t count, const real *restrict x, const real *restrict y) {
  REORDER_SUMS
  real sum = 0;
  for (ptrdiff_t i = 0; i < count; i++) sum += x[i] * y[i];
  return sum;
}

INLINE void axpy(ptrdiff_t count, real a, const real *restrict x, real *restrict y) {
  for (ptrdiff_t i = 0; i < count; i++) y[i] += a * x[i];
}
