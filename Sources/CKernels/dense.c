// The baseline's attention: softmax over all visible keys, and rotary positions. The products around them are BLAS's.
#include "kernels.h"

INLINE int64_t visible_of(int64_t row, int64_t width, int64_t visible, int64_t growth) {
  int64_t count = visible + row * growth;
  return count < width ? count : width;
}

KERNEL void ress_visible_softmax(int64_t rows, int64_t width, int64_t stride, int64_t visible, int64_t growth, real scale,
                                 real *x, real *logsums, int64_t logsum_stride) {
  for (int64_t t = 0; t < rows; t++) {
    real *restrict x_S = x + t * stride;
    int64_t count = visible_of(t, width, visible, growth);
    real largest = x_S[0], sum = 0;
    for (int64_t j = 1; j < count; j++) largest = x_S[j] > largest ? x_S[j] : largest;
    {
      REORDER_SUMS
      for (int64_t j = 0; j < count; j++) {
        x_S[j] = REAL_EXP(scale * (x_S[j] - largest));
        sum += x_S[j];
      }
    }
    real inverse = 1 / sum;
    for (int64_t j = 0; j < count; j++) x_S[j] *= inverse;
    for (int64_t j = count; j < width; j++) x_S[j] = 0;
    logsums[t * logsum_stride] = REAL_LOG(sum) + scale * largest;
  }
}

KERNEL void ress_visible_softmax_backward(int64_t rows, int64_t width, int64_t stride, int64_t visible, int64_t growth,
                                          real scale, const real *logsums, const real *delta, int64_t logsum_stride,
                                          real *x, real *dp) {
  for (int64_t t = 0; t < rows; t++) {
    real *restrict x_S = x + t * stride, *restrict dp_S = dp + t * stride;
    int64_t count = visible_of(t, width, visible, growth);
    real logsum = logsums[t * logsum_stride], inner = delta[t * logsum_stride];
    for (int64_t j = 0; j < count; j++) {
      real p = REAL_EXP(scale * x_S[j] - logsum);
      x_S[j] = p;
      dp_S[j] = scale * p * (dp_S[j] - inner);
    }
    for (int64_t j = count; j < width; j++) x_S[j] = dp_S[j] = 0;
  }
}

KERNEL void ress_rotate(int64_t rows, int64_t heads, int64_t half, const real *table, real direction, real *x) {
  for (int64_t t = 0; t < rows; t++) {
    const real *restrict cosines = table + t * 2 * half, *restrict sines = cosines + half;
    for (int64_t h = 0; h < heads; h++) {
      real *restrict first = x + (t * heads + h) * 2 * half, *restrict second = first + half;
      for (int64_t n = 0; n < half; n++) {
        real a = first[n], b = second[n], s = direction * sines[n];
        first[n] = a * cosines[n] - b * s;
        second[n] = a * s + b * cosines[n];
      }
    }
  }
}
