// The router of a mixture of experts: which experts each token is sent to, with which weights, and the gradients of
// these weights and of the two losses that act on the router; and the copies between a token's row and its places
// in the experts' batches.
//
// Two things are computed from the logits of a token. The choice and the weights u use the `active` best experts
// alone. The probabilities P are a softmax over all experts and serve the losses: the balance loss (arXiv
// 2101.03961), which rewards even use of the experts, and the z-loss (arXiv 2202.08906), z_scale · logsum², which
// keeps the logits small. `bias` takes part in the choice only, not in weights or gradients (arXiv 2408.15664).
#include "kernels.h"
#include <string.h>

// weights = softmax of the chosen experts' logits. The largest logit is subtracted first, so exp cannot overflow.
INLINE void softmax_of_chosen(int64_t active, const int32_t *top, const real *logits, real *weights) {
  real largest = logits[top[0]], sum = 0;
  for (int64_t slot = 1; slot < active; slot++) {
    real logit = logits[top[slot]];
    largest = logit > largest ? logit : largest;
  }
  for (int64_t slot = 0; slot < active; slot++) sum += weights[slot] = REAL_EXP(logits[top[slot]] - largest);
  for (int64_t slot = 0; slot < active; slot++) weights[slot] /= sum;
}

KERNEL void ress_router_forward(int64_t rows, int64_t experts, int64_t active, int64_t sigmoid_gates, const real *logits,
                                const real *bias, int32_t *top, real *weights, real *probabilities, real *logsums) {
  for (int64_t t = 0; t < rows; t++) {
    const real *restrict logits_E = logits + t * experts;
    int32_t *restrict top_e = top + t * active;
    real *restrict weights_e = weights + t * active, *restrict probabilities_E = probabilities + t * experts;
    // Repeated selection of the best expert that is not taken: `active` is small (2 to 8), so this beats sorting. The
    // comparison is strict, so the expert with the smaller index wins a tie.
    for (int64_t slot = 0; slot < active; slot++) {
      int32_t best = -1;
      for (int32_t j = 0; j < experts; j++) {
        int taken = 0;
        for (int64_t earlier = 0; earlier < slot; earlier++) taken |= top_e[earlier] == j;
        if (!taken && (best < 0 || logits_E[j] + bias[j] > logits_E[best] + bias[best])) best = j;
      }
      top_e[slot] = best;
    }
    if (sigmoid_gates) {
      for (int64_t slot = 0; slot < active; slot++) weights_e[slot] = sigmoid(logits_E[top_e[slot]]);
    } else {
      softmax_of_chosen(active, top_e, logits_E, weights_e);
    }
    real largest = row_max(experts, logits_E), sum = 0;
    for (int64_t j = 0; j < experts; j++) sum += probabilities_E[j] = REAL_EXP(logits_E[j] - largest);
    for (int64_t j = 0; j < experts; j++) probabilities_E[j] /= sum;
    logsums[t] = REAL_LOG(sum) + largest;
  }
}

// Three terms are added for each logit l_j:
//   balance loss: through the softmax, P_j · (b_j − Σ P b), where b is the gradient with respect to P;
//   z-loss: d(z · logsum²)/dl_j = 2 z · logsum · P_j;
//   weights of the chosen experts: σ' = u (1 − u) for sigmoid gates, otherwise u (du − Σ u du).
KERNEL void ress_router_backward(int64_t rows, int64_t experts, int64_t active, int64_t sigmoid_gates,
                                 const int32_t *top, const real *weights, const real *probabilities, const real *logsums,
                                 const real *dweights, real z_scale, const real *balance, real *dlogits) {
  for (int64_t t = 0; t < rows; t++) {
    const int32_t *restrict top_e = top + t * active;
    const real *restrict weights_e = weights + t * active, *restrict dweights_e = dweights + t * active;
    const real *restrict probabilities_E = probabilities + t * experts;
    real *restrict dlogits_E = dlogits + t * experts;
    real balanced = dot(experts, probabilities_E, balance);
    for (int64_t j = 0; j < experts; j++)
      dlogits_E[j] = probabilities_E[j] * (balance[j] - balanced + 2 * z_scale * logsums[t]);
    if (sigmoid_gates) {
      for (int64_t slot = 0; slot < active; slot++)
        dlogits_E[top_e[slot]] += weights_e[slot] * (1 - weights_e[slot]) * dweights_e[slot];
      continue;
    }
    real inner = dot(active, weights_e, dweights_e);
    for (int64_t slot = 0; slot < active; slot++)
      dlogits_E[top_e[slot]] += weights_e[slot] * (dweights_e[slot] - inner);
  }
}

// Copies each token's row to its place in the batch of each of its experts. `places` (T, e) has row indices of `out`.
KERNEL void ress_scatter_rows(int64_t rows, int64_t active, int64_t width, const real *x, const int32_t *places, real *out) {
  for (int64_t t = 0; t < rows; t++)
    for (int64_t slot = 0; slot < active; slot++)
      memcpy(out + places[t * active + slot] * width, x + t * width, (size_t)width * sizeof(real));
}

// The reverse: y[t] += Σ_slot weight · x[place], in the order of slots. Without weights, the plain sum.
KERNEL void ress_gather_rows(int64_t rows, int64_t active, int64_t width, const real *x, const int32_t *places,
                             const real *weights, real *y) {
  for (int64_t t = 0; t < rows; t++)
    for (int64_t slot = 0; slot < active; slot++)
      axpy(width, weights ? weights[t * active + slot] : 1, x + places[t * active + slot] * width, y + t * width);
}

KERNEL void ress_gather_rows_backward(int64_t rows, int64_t active, int64_t width, const real *x, const int32_t *places,
                                      const real *weights, const real *dy, real *dweights, real *dx) {
  for (int64_t t = 0; t < rows; t++) {
    const real *restrict dy_D = dy + t * width;
    for (int64_t slot = 0; slot < active; slot++) {
      int64_t at = t * active + slot;
      real *restrict dx_D = dx + places[at] * width;
      real weight = weights[at];
      dweights[at] = dot(width, dy_D, x + places[at] * width);
      for (int64_t i = 0; i < width; i++) dx_D[i] = weight * dy_D[i];
    }
  }
}
