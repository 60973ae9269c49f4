// The attention of the baseline transformer: softmax over all visible keys, and rotary positions. The matrix
// products around them are in gemm.c.
#include "kernels.h"

// Number of tokens that a row sees.
INLINE int64_t visible_of(int64_t row, int64_t width, int64_t visible, int64_t growth) {
  int64_t count = visible + row * growth;
  return count < width ? count : width;
}

// Replaces the scores x of a row by z = scale · x − |F_i − F_j|, and returns 1. Without decays x is not changed,
// and the scale to be applied in the exponent is returned.
INLINE real decayed(const ress_visible_shape *shape, int64_t row, int64_t count, real *restrict x_S) {
  if (!shape->decays) return shape->scale;
  const real *restrict decays = shape->decays;
  int64_t before = shape->first + row + 1 < count ? shape->first + row + 1 : count;
  real own = decays[shape->first + row], scale = shape->scale;
  for (int64_t j = 0; j < before; j++) x_S[j] = scale * x_S[j] + (own - decays[j]);
  for (int64_t j = before; j < count; j++) x_S[j] = scale * x_S[j] + (decays[j] - own);
  return 1;
}

KERNEL void ress_visible_softmax(const ress_visible_shape *shape, int64_t rows, real *x, real *logsums) {
  int64_t width = shape->width;
  for (int64_t t = 0; t < rows; t++) {
    real *restrict x_S = x + t * shape->stride;
    int64_t count = visible_of(t, width, shape->visible, shape->growth);
    real scale = decayed(shape, t, count, x_S);
    real largest = row_max(count, x_S), sum = exp_row(count, scale, largest, x_S), inverse = 1 / sum;
    for (int64_t j = 0; j < count; j++) x_S[j] *= inverse;
    for (int64_t j = count; j < width; j++) x_S[j] = 0;
    logsums[t * shape->logsum_stride] = REAL_LOG(sum) + scale * largest;
  }
}

// For tokens [begin, end) on one side of a row, where sign · (own − F_j) is their decay: p and the gradient of z.
// Returns Σ sign · dz, the gradient of the row's own F; each token's F gets the negative of its share.
INLINE real decayed_backward(int64_t begin, int64_t end, real sign, real own, const real *restrict decays, real factor,
                             real logsum, real inner, real *restrict x_S, real *restrict dp_S, real *restrict ddecays) {
  for (int64_t j = begin; j < end; j++) {
    real p = weight_of(factor * x_S[j] + sign * (own - decays[j]) - logsum), dz = p * (dp_S[j] - inner);
    x_S[j] = p;
    dp_S[j] = dz;
    ddecays[j] -= sign * dz;
  }
  real sum = total(end - begin, dp_S + begin);
  for (int64_t j = begin; j < end; j++) dp_S[j] *= factor;
  return sign * sum;
}

KERNEL void ress_visible_softmax_backward(const ress_visible_shape *shape, int64_t rows, const real *logsums,
                                          const real *delta, real *x, real *dp, real *ddecays) {
  int64_t width = shape->width;
  real factor = shape->scale;
  for (int64_t t = 0; t < rows; t++) {
    real *restrict x_S = x + t * shape->stride, *restrict dp_S = dp + t * shape->stride;
    int64_t count = visible_of(t, width, shape->visible, shape->growth);
    real logsum = logsums[t * shape->logsum_stride], inner = delta[t * shape->logsum_stride];
    if (shape->decays) {
      int64_t self = shape->first + t, before = self + 1 < count ? self + 1 : count;
      real own = shape->decays[self];
      real change = decayed_backward(0, before, 1, own, shape->decays, factor, logsum, inner, x_S, dp_S, ddecays);
      change += decayed_backward(before, count, -1, own, shape->decays, factor, logsum, inner, x_S, dp_S, ddecays);
      ddecays[self] += change;
    } else {
      for (int64_t j = 0; j < count; j++) {
        real p = weight_of(factor * x_S[j] - logsum);
        x_S[j] = p;
        dp_S[j] = factor * p * (dp_S[j] - inner);
      }
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
