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

// One curve on any processor: the order of operations is part of each kernel's definition, so all versions of a kernel compute the
// same bits. Three rules keep it so.
// - The compiler fuses no multiplication and addition by itself. Where one rounding is wanted, `madd` asks for it. A processor
//   without the instruction calls the C library's fma, which is slow and right.
// - A sum runs over 16 lanes, element i into lane i mod 16, and `fold` adds the lanes in one order. Sixteen floats are one vector of
//   AVX-512, two of AVX2, four of NEON or SSE.
// - exp and log are the polynomials below; division and square root are exact to the last bit by IEEE 754.
#pragma STDC FP_CONTRACT OFF

typedef ress_real real;

// log x for a normal x > 0, with an error below 1 unit in the last place. x = 2^k · (1 + f) with √½ < 1 + f < √2, and
// log(1 + f) = f − f²/2 + s · (f²/2 + R(s²)) with s = f / (2 + f). Method and coefficients: FreeBSD's e_log.c.
INLINE double log_of(double x) {
  union { double d; uint64_t u; } bits = {x};
  // The bits of √½: mantissas from √2 on count for the next power of two.
  uint64_t shifted = bits.u - 0x3FE6A09E667F3BCDull;
  double k = (double)((int64_t)shifted >> 52);
  bits.u = (shifted & 0x000FFFFFFFFFFFFFull) + 0x3FE6A09E667F3BCDull;
  double f = bits.d - 1, s = f / (2 + f), z = s * s, w = z * z, half = 0.5 * f * f;
  double odd = w * (3.999999999940941908e-01 + w * (2.222219843214978396e-01 + w * 1.531383769920937332e-01));
  double even = z * (6.666666666666735130e-01 +
                     w * (2.857142874366239149e-01 + w * (1.818357216161805012e-01 + w * 1.479819860511658591e-01)));
  return k * 6.93147180369123816490e-01 - ((half - (s * (half + (odd + even)) + k * 1.90821492927058770002e-10)) - f);
}

// exp x with an error below 1 unit in the last place, for |x| < 700; beyond it stays at the ends' values. Method and
// coefficients: FreeBSD's e_exp.c. Adding 1.5 · 2^52 rounds x / ln 2 to an integer and leaves it in the low bits.
INLINE double exp_of(double x) {
  x = x < -700 ? -700 : x;
  x = x > 700 ? 700 : x;
  union { double d; uint64_t u; } shifted, power;
  shifted.d = x * 1.44269504088896338700 + 6755399441055744.0;
  double n = shifted.d - 6755399441055744.0;
  double high = x - n * 6.93147180369123816490e-01, low = n * 1.90821492927058770002e-10, r = high - low, t = r * r;
  double c = r - t * (1.66666666666666019037e-01 +
                      t * (-2.77777777770155933842e-03 +
                           t * (6.61375632143793436117e-05 +
                                t * (-1.65339022054652515390e-06 + t * 4.13813679705723846039e-08))));
  power.u = (shifted.u - 0x4338000000000000ull + 1023) << 52;
  return (1 - ((low - (r * c) / (2 - c)) - high)) * power.d;
}

INLINE real real_log(real x) { return (real)log_of((double)x); }
// log(1 + x) for 0 ≤ x ≤ 1. In double precision 1 + x loses at most 1e-16, which a float does not see.
INLINE real real_log1p(real x) { return (real)log_of(1 + (double)x); }
#define REAL_LOG real_log
#define REAL_LOG1P real_log1p

#ifdef RESS_DOUBLE
#define REAL_EXP exp_of
#define REAL_SQRT sqrt
#define REAL_LOWEST (-1.0e300)
INLINE real madd(real x, real y, real z) { return __builtin_fma(x, y, z); }
#else
#define REAL_SQRT sqrtf
#define REAL_LOWEST (-3.0e38f)
INLINE real madd(real x, real y, real z) { return __builtin_fmaf(x, y, z); }
// exp(x) with an error of at most 2 units in the last place, in plain arithmetic that the compiler can vectorise.
// It computes 2^n · e^r with n = round(x / ln 2). Adding 1.5 · 2^23 rounds to an integer and leaves n in the low
// bits. Coefficients: Cephes expf. Below −87 the result stays at 1.6e-38, which is still a normal number.
INLINE float REAL_EXP(float x) {
  x = x < -87.0f ? -87.0f : x;
  x = x > 88.0f ? 88.0f : x;
  union { float f; int32_t i; } shifted, power;
  shifted.f = madd(x, 1.44269504088896341f, 12582912.0f);
  float n = shifted.f - 12582912.0f;
  float r = madd(n, -0.693359375f, x);
  r = madd(n, 2.12194440e-4f, r);
  float p = madd(1.9875691500e-4f, r, 1.3981999507e-3f);
  p = madd(p, r, 8.3334519073e-3f);
  p = madd(p, r, 4.1665795894e-2f);
  p = madd(p, r, 1.6666665459e-1f);
  p = madd(p, r, 5.0000001201e-1f);
  p = madd(p * r, r, r) + 1.0f;
  power.i = (int32_t)((uint32_t)(shifted.i - 0x4B400000 + 127) << 23);
  return p * power.f;
}
#endif

// exp(x) for the weights of a softmax, with x = z − max z ≤ 0. A weight below e^−64 (1.6e-28) of the largest one is 0. It changes no sum
// of single precision, but left as it is it and its products would be subnormal numbers, for each of which a processor takes some hundred
// cycles: with forget gates, whole rows of distant tokens have such weights.
INLINE real weight_of(real x) { return x < -64 ? 0 : REAL_EXP(x); }

// x, or 0 where |x| is below `least`: what decays from step to step does not end as a subnormal number.
INLINE real settled(real x, real least) { return (x < 0 ? -x : x) < least ? 0 : x; }

INLINE real sigmoid(real x) { return (real)1 / ((real)1 + REAL_EXP(-x)); }

enum { LANES = 16 };
typedef real lanes __attribute__((vector_size(LANES * sizeof(real)), aligned(sizeof(real))));
// What a comparison of lanes gives: −1 where it holds, and 0.
#ifdef RESS_DOUBLE
typedef int64_t lane_integer;
#else
typedef int32_t lane_integer;
#endif
typedef lane_integer lane_integers __attribute__((vector_size(LANES * sizeof(real)), aligned(sizeof(real))));
typedef real lanes8 __attribute__((vector_size(8 * sizeof(real)), aligned(sizeof(real))));
typedef real lanes4 __attribute__((vector_size(4 * sizeof(real)), aligned(sizeof(real))));

// The sum of 16 lanes: halves are added, lane l with lane l + 8, then l + 4, l + 2, l + 1.
INLINE real fold(const lanes *sums) {
  lanes8 eight = __builtin_shufflevector(*sums, *sums, 0, 1, 2, 3, 4, 5, 6, 7) +
                 __builtin_shufflevector(*sums, *sums, 8, 9, 10, 11, 12, 13, 14, 15);
  lanes4 four = __builtin_shufflevector(eight, eight, 0, 1, 2, 3) + __builtin_shufflevector(eight, eight, 4, 5, 6, 7);
  return (four[0] + four[2]) + (four[1] + four[3]);
}

// `fold` of four sums at once: the same additions, with the sums side by side in one vector.
INLINE void fold4(const lanes *a, const lanes *b, const lanes *c, const lanes *d, real *restrict out) {
#define PAIR(x, y, A, B)                                                                                               \
  __builtin_shufflevector(x, y, A, A + 1, A + 2, A + 3, A + 4, A + 5, A + 6, A + 7, B, B + 1, B + 2, B + 3, B + 4,      \
                          B + 5, B + 6, B + 7)
  lanes ab = PAIR(*a, *b, 0, 16) + PAIR(*a, *b, 8, 24), cd = PAIR(*c, *d, 0, 16) + PAIR(*c, *d, 8, 24);
#undef PAIR
  // Four lanes of each sum.
  lanes all = __builtin_shufflevector(ab, cd, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27) +
              __builtin_shufflevector(ab, cd, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
  all += __builtin_shufflevector(all, all, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
  all += __builtin_shufflevector(all, all, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14);
  out[0] = all[0], out[1] = all[4], out[2] = all[8], out[3] = all[12];
}

// Σ x, in lanes.
INLINE real total(ptrdiff_t count, const real *restrict x) {
  lanes sums = {0};
  ptrdiff_t i = 0;
  for (; i + LANES <= count; i += LANES) sums += *(const lanes *)(x + i);
  for (ptrdiff_t l = 0; i + l < count; l++) sums[l] += x[i + l];
  return fold(&sums);
}

// Σ x ⊙ y, in lanes of fused multiply-adds.
INLINE real dot(ptrdiff_t count, const real *restrict x, const real *restrict y) {
  lanes sums = {0};
  ptrdiff_t i = 0;
  for (; i + LANES <= count; i += LANES)
    sums = __builtin_elementwise_fma(*(const lanes *)(x + i), *(const lanes *)(y + i), sums);
  for (ptrdiff_t l = 0; i + l < count; l++) sums[l] = madd(x[i + l], y[i + l], sums[l]);
  return fold(&sums);
}

INLINE void axpy(ptrdiff_t count, real a, const real *restrict x, real *restrict y) {
  for (ptrdiff_t i = 0; i < count; i++) y[i] = madd(a, x[i], y[i]);
}

// The larger of each two lanes.
INLINE void keep_larger(lanes *largest, const lanes *x) {
  lane_integers is_larger = *x > *largest;
  *largest = (lanes)(((lane_integers)*x & is_larger) | ((lane_integers)*largest & ~is_larger));
}

// The largest of the values. It does not depend on the order of comparisons, which the compiler keeps nevertheless, because a NaN
// would. One value after the other takes the latency of a comparison each, twenty times as long as lanes take.
INLINE real row_max(ptrdiff_t count, const real *restrict x) {
  real largest = x[0];
  ptrdiff_t i = 0;
  if (count >= LANES) {
    lanes by_lane = *(const lanes *)x;
    for (i = LANES; i + LANES <= count; i += LANES) keep_larger(&by_lane, (const lanes *)(x + i));
    for (ptrdiff_t l = 0; l < LANES; l++) largest = by_lane[l] > largest ? by_lane[l] : largest;
  }
  for (; i < count; i++) largest = x[i] > largest ? x[i] : largest;
  return largest;
}

// x becomes the weight of scale · (x − largest); returns the sum.
INLINE real exp_row(ptrdiff_t count, real scale, real largest, real *restrict x) {
  for (ptrdiff_t i = 0; i < count; i++) x[i] = weight_of(scale * (x[i] - largest));
  return total(count, x);
}
