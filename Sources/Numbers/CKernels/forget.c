// Forget gates (arXiv 2503.02130). A token and head has a term log σ(x · forget + bias) ≤ 0, and the score of two
// tokens is reduced by the terms of the tokens between them. How far back a head looks thus depends on content and
// not on positions.
#include "kernels.h"

// log σ(x) = − log(1 + e^−x), without overflow for either sign.
INLINE real log_sigmoid(real x) {
  real magnitude = x < 0 ? x : -x;
  return (x < 0 ? x : 0) - REAL_LOG1P(REAL_EXP(magnitude));
}

KERNEL void ress_forget_forward(int64_t rows, int64_t heads, const real *logits, const real *bias, real *terms) {
  for (int64_t t = 0; t < rows; t++)
    for (int64_t h = 0; h < heads; h++) terms[t * heads + h] = log_sigmoid(logits[t * heads + h] + bias[h]);
}

KERNEL void ress_forget_sum(int64_t visible, int64_t heads, int64_t head, const real *terms, real *decays) {
  real sum = 0;
  for (int64_t j = 0; j < visible; j++) decays[j] = sum += terms[j * heads + head];
}

KERNEL void ress_forget_backward(int64_t rows, int64_t heads, int64_t head, const real *terms, const real *ddecays,
                                 real *dlogits) {
  real sum = 0;
  for (int64_t t = rows - 1; t >= 0; t--) {
    sum += ddecays[t];
    dlogits[t * heads + head] = sum * (1 - REAL_EXP(terms[t * heads + head]));
  }
}
