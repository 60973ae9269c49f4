// Norms, gates, softmax, cross-entropy and AdamW, each forward function followed by its backward function.
// CKernels.h has their formulas.
//
// Order of operations: a row's result depends only on that row (and on the parameters), so it is the same for any
// split of the rows among threads or workers. Sums over rows (`ress_sum_rows`, the norm's dgain, the taps'
// dweight) are in the order of rows; callers that split rows give each tile its own partial sum and add these in
// order (`TilePartials`). Sums within a row may be reordered where REORDER_SUMS is marked, in the same way each
// time.
#include "kernels.h"

const char *ress_kernels_clone(void) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("x86-64-v4")) return "x86-64-v4";
  if (__builtin_cpu_supports("x86-64-v3")) return "x86-64-v3";
#endif
  return "baseline";
}

KERNEL void ress_rmsnorm_forward(int64_t rows, int64_t width, const real *x, const real *gain, real *y, real *rstd) {
  for (int64_t t = 0; t < rows; t++) {
    const real *restrict x_D = x + t * width;
    real *restrict y_D = y + t * width;
    real scale = 1 / REAL_SQRT(dot(width, x_D, x_D) / (real)width + (real)1e-5);
    rstd[t] = scale;
    for (int64_t i = 0; i < width; i++) y_D[i] = x_D[i] * scale * gain[i];
  }
}

// Σ (x ⊙ y) ⊙ z, in lanes of fused multiply-adds with z.
INLINE real dot3(int64_t count, const real *restrict x, const real *restrict y, const real *restrict z) {
  lanes sums = {0};
  int64_t i = 0;
  for (; i + LANES <= count; i += LANES)
    sums = __builtin_elementwise_fma(*(const lanes *)(x + i) * *(const lanes *)(y + i), *(const lanes *)(z + i), sums);
  for (int64_t l = 0; i + l < count; l++) sums[l] = madd(x[i + l] * y[i + l], z[i + l], sums[l]);
  return fold(&sums);
}

// With n = x · rstd: dx = rstd · (g ⊙ dy − n · mean(g ⊙ dy ⊙ n)), dgain = Σ_t dy ⊙ n.
KERNEL void ress_rmsnorm_backward(int64_t rows, int64_t width, const real *x, const real *gain, const real *rstd,
                                  const real *dy, real *dx, real *dgain) {
  for (int64_t t = 0; t < rows; t++) {
    const real *restrict x_D = x + t * width, *restrict dy_D = dy + t * width;
    real *restrict dx_D = dx + t * width;
    real scale = rstd[t], inner = dot3(width, dy_D, gain, x_D);
    real pull = inner * scale * scale * scale / (real)width;
    for (int64_t i = 0; i < width; i++) {
      dx_D[i] += scale * gain[i] * dy_D[i] - pull * x_D[i];
      dgain[i] += dy_D[i] * x_D[i] * scale;
    }
  }
}

KERNEL void ress_add(int64_t count, const real *restrict x, real *restrict y) {
  for (int64_t i = 0; i < count; i++) y[i] += x[i];
}

KERNEL void ress_axpy(int64_t count, real a, const real *x, real *y) { axpy(count, a, x, y); }

KERNEL void ress_add_row(int64_t rows, int64_t width, const real *x, const real *y, real *out) {
  for (int64_t t = 0; t < rows; t++)
    for (int64_t i = 0; i < width; i++) out[t * width + i] = x[t * width + i] + y[i];
}

KERNEL void ress_sum_rows(int64_t rows, int64_t width, const real *restrict x, real *restrict y) {
  for (int64_t t = 0; t < rows; t++)
    for (int64_t i = 0; i < width; i++) y[i] += x[t * width + i];
}

KERNEL real ress_dot(int64_t count, const real *x, const real *y) { return dot(count, x, y); }

// The eight sums are written out, so that the loop is vectorised without REORDER_SUMS: value i always belongs to
// sum i mod 8, whatever the width of the vectors. In double, because the squares of a large model's gradient span
// more than a float's precision.
KERNEL double ress_sum_of_squares(int64_t count, const real *restrict x) {
  double sums[8] = {0};
  int64_t whole = count & ~(int64_t)7;
  for (int64_t i = 0; i < whole; i += 8)
    for (int lane = 0; lane < 8; lane++) sums[lane] += (double)x[i + lane] * (double)x[i + lane];
  for (int64_t i = whole; i < count; i++) sums[i & 7] += (double)x[i] * (double)x[i];
  return ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
}

// out[i] = x[i] + Σ_τ back[τ−1] ⊙ x[i−τ] (+ Σ_τ ahead[τ−1] ⊙ x[i+τ]). In `weight`, the rows of `ahead` follow those
// of `back`.
KERNEL void ress_taps_forward(const ress_taps_shape *shape, int64_t row_begin, int64_t row_end, const real *x,
                              const real *weight, real *out) {
  int64_t width = shape->width, taps = shape->taps, before = shape->before, rows = shape->rows;
  const real *ahead = weight + (taps - 1) * width;
  for (int64_t i = row_begin; i < row_end; i++) {
    real *restrict out_D = out + i * width;
    for (int64_t c = 0; c < width; c++) out_D[c] = x[i * width + c];
    for (int64_t tap = 1; tap < taps && i - tap >= -before; tap++) {
      const real *restrict x_D = x + (i - tap) * width, *restrict weight_D = weight + (tap - 1) * width;
      for (int64_t c = 0; c < width; c++) out_D[c] = madd(weight_D[c], x_D[c], out_D[c]);
    }
    for (int64_t tap = 1; shape->two_sided && tap < taps && i + tap < rows; tap++) {
      const real *restrict x_D = x + (i + tap) * width, *restrict weight_D = ahead + (tap - 1) * width;
      for (int64_t c = 0; c < width; c++) out_D[c] = madd(weight_D[c], x_D[c], out_D[c]);
    }
  }
}

// The transpose of the forward function: row i was read by the later rows i + τ through `back`, and by the earlier
// rows i − τ through `ahead`. Rows before the segment are constants (their gradients end there), so neither loop
// reaches below row 0.
KERNEL void ress_taps_backward_input(const ress_taps_shape *shape, int64_t row_begin, int64_t row_end, const real *dout,
                                     const real *weight, real *dx) {
  int64_t width = shape->width, taps = shape->taps, rows = shape->rows;
  const real *ahead = weight + (taps - 1) * width;
  for (int64_t i = row_begin; i < row_end; i++) {
    real *restrict dx_D = dx + i * width;
    for (int64_t c = 0; c < width; c++) dx_D[c] = dout[i * width + c];
    for (int64_t tap = 1; tap < taps && i + tap < rows; tap++) {
      const real *restrict dout_D = dout + (i + tap) * width, *restrict weight_D = weight + (tap - 1) * width;
      for (int64_t c = 0; c < width; c++) dx_D[c] = madd(weight_D[c], dout_D[c], dx_D[c]);
    }
    for (int64_t tap = 1; shape->two_sided && tap < taps && i - tap >= 0; tap++) {
      const real *restrict dout_D = dout + (i - tap) * width, *restrict weight_D = ahead + (tap - 1) * width;
      for (int64_t c = 0; c < width; c++) dx_D[c] = madd(weight_D[c], dout_D[c], dx_D[c]);
    }
  }
}

// Split over columns and not over rows, so that each weight's sum over the rows stays in one thread, in order.
KERNEL void ress_taps_backward_weight(const ress_taps_shape *shape, int64_t column_begin, int64_t column_end, const real *x,
                                      const real *dout, real *dweight) {
  int64_t width = shape->width, taps = shape->taps, before = shape->before, rows = shape->rows;
  for (int64_t tap = 1; tap < taps; tap++) {
    real *restrict dweight_D = dweight + (tap - 1) * width;
    for (int64_t i = tap - before > 0 ? tap - before : 0; i < rows; i++) {
      const real *restrict x_D = x + (i - tap) * width, *restrict dout_D = dout + i * width;
      for (int64_t c = column_begin; c < column_end; c++) dweight_D[c] = madd(dout_D[c], x_D[c], dweight_D[c]);
    }
  }
  for (int64_t tap = 1; shape->two_sided && tap < taps; tap++) {
    real *restrict dweight_D = dweight + (taps - 1 + tap - 1) * width;
    for (int64_t i = 0; i + tap < rows; i++) {
      const real *restrict x_D = x + (i + tap) * width, *restrict dout_D = dout + i * width;
      for (int64_t c = column_begin; c < column_end; c++) dweight_D[c] = madd(dout_D[c], x_D[c], dweight_D[c]);
    }
  }
}

KERNEL void ress_swiglu_forward(int64_t rows, int64_t width, const real *gate_up, real *h) {
  for (int64_t t = 0; t < rows; t++) {
    const real *restrict gate = gate_up + t * 2 * width, *restrict up = gate + width;
    real *restrict h_F = h + t * width;
    for (int64_t i = 0; i < width; i++) h_F[i] = gate[i] * sigmoid(gate[i]) * up[i];
  }
}

// silu(x) = x σ(x), and silu' = σ + silu (1 − σ).
KERNEL void ress_swiglu_backward(int64_t rows, int64_t width, const real *gate_up, const real *dh, real *dgate_up,
                                 real *h) {
  for (int64_t t = 0; t < rows; t++) {
    const real *restrict gate = gate_up + t * 2 * width, *restrict up = gate + width, *restrict dh_F = dh + t * width;
    real *restrict dgate = dgate_up + t * 2 * width, *restrict dup = dgate + width, *restrict h_F = h + t * width;
    for (int64_t i = 0; i < width; i++) {
      real s = sigmoid(gate[i]), silu = gate[i] * s;
      h_F[i] = silu * up[i];
      dup[i] = dh_F[i] * silu;
      dgate[i] = dh_F[i] * up[i] * (s + silu * (1 - s));
    }
  }
}

KERNEL void ress_softmax_rows(int64_t rows, int64_t width, int64_t stride, real scale, real *x) {
  for (int64_t t = 0; t < rows; t++) {
    real *restrict x_D = x + t * stride;
    real inverse = 1 / exp_row(width, scale, row_max(width, x_D), x_D);
    for (int64_t i = 0; i < width; i++) x_D[i] *= inverse;
  }
}

// The Jacobian of softmax applied to dp: p_i (dp_i − Σ_j p_j dp_j).
KERNEL void ress_softmax_rows_backward(int64_t rows, int64_t width, int64_t stride, real scale, const real *p,
                                       real *dp) {
  for (int64_t t = 0; t < rows; t++) {
    const real *restrict p_D = p + t * stride;
    real *restrict dp_D = dp + t * stride;
    real inner = dot(width, p_D, dp_D);
    for (int64_t i = 0; i < width; i++) dp_D[i] = scale * p_D[i] * (dp_D[i] - inner);
  }
}

// Loss of a row: logsumexp(logits) − logit of the target. The exponentials that the loss needs are also the
// numerators of the gradient, so it is written over the logits, without a second matrix of (T, V).
KERNEL double ress_cross_entropy(int64_t rows, int64_t classes, real *logits, const int32_t *targets,
                                 real gradient_scale) {
  double sum_of_losses = 0;
  for (int64_t t = 0; t < rows; t++) {
    real *restrict logits_V = logits + t * classes;
    if (targets[t] < 0) {
      for (int64_t i = 0; i < classes; i++) logits_V[i] = 0;
      continue;
    }
    real largest = row_max(classes, logits_V), chosen = logits_V[targets[t]];
    real sum = exp_row(classes, 1, largest, logits_V);
    sum_of_losses += (double)(REAL_LOG(sum) + largest - chosen);
    if (gradient_scale == 0) continue;
    real share = gradient_scale / sum;
    for (int64_t i = 0; i < classes; i++) logits_V[i] *= share;
    logits_V[targets[t]] -= gradient_scale;
  }
  return sum_of_losses;
}

// The weight decay uses the parameter before the step, and does not pass through the moments.
//
// Moments of parameters whose gradient is 0 for hundreds of steps (rows of words that do not occur, experts that no token reaches) decay
// towards 0 and would stay subnormal numbers for ever, as would the squares of very small gradients. The bounds are so far below ε that
// no step changes: a gradient below 1e-10 ε is 0, and a first moment below 1e-22 ε, whose step would be 1e-22.
KERNEL void ress_adamw(int64_t count, real *restrict parameter, real *restrict first, real *restrict second,
                       const real *restrict gradient, real gradient_scale, real rate, real beta1, real beta2,
                       real epsilon, real decay, real correction1, real correction2) {
  real least = epsilon * (real)1e-10, least_first = epsilon * (real)1e-22, least_second = least * least;
  for (int64_t i = 0; i < count; i++) {
    real g = settled(gradient[i] * gradient_scale, least);
    first[i] = settled(beta1 * first[i] + (1 - beta1) * g, least_first);
    second[i] = settled(beta2 * second[i] + (1 - beta2) * g * g, least_second);
    real step = (first[i] / correction1) / (REAL_SQRT(second[i] / correction2) + epsilon);
    parameter[i] = parameter[i] - rate * decay * parameter[i] - rate * step;
  }
}
