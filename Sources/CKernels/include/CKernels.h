// The loops that C vectorises better than Swift. Every function works on a range of rows that its caller chose,
// allocates nothing and calls no BLAS; threads call them on ranges that do not overlap, or on whole heads.
//
// Legend: T rows of the segment, D width, H heads, C head width, N neighbours kept a row (window + degree),
// M memory slots, k weights kept a query and head, E experts, e active experts, V vocabulary.
// `+=` marks outputs that are added to; all others are overwritten.
#pragma once
#include <stdint.h>
#include "crc32c.h"
#include "team.h"

#ifdef RESS_DOUBLE
typedef double ress_real;
#else
typedef float ress_real;
#endif

/// Name of the instruction set whose clones this process runs: "x86-64-v4", "x86-64-v3" or "baseline".
const char *ress_kernels_clone(void);

// --- gemm.c ----------------------------------------------------------------------------------------------------

/// Columns of a panel of this processor's products, 0 where it has no kernel and the others may not be called.
int64_t ress_gemm_panel(void);
/// Panels [panel_begin, panel_end) of bᵀ, b (n, k): panel q holds columns q · panel … as (k, panel), zeros behind the last column.
/// packed: ⌈n / panel⌉ · panel · k values.
void ress_gemm_pack_transposed(int64_t n, int64_t k, const ress_real *b, int64_t b_row, int64_t panel_begin,
                               int64_t panel_end, ress_real *packed);
/// c (m, n) = or += a (m, k) · the packed (k, n).
void ress_gemm_packed(int64_t m, int64_t n, int64_t k, const ress_real *a, int64_t a_row, const ress_real *packed,
                      ress_real *c, int64_t c_row, int adding);
/// c (m, n) = or += a · b (k, n), with a[i, p] at a + i · a_row + p · a_step. n is a multiple of the panel.
void ress_gemm(int64_t m, int64_t n, int64_t k, const ress_real *a, int64_t a_row, int64_t a_step, const ress_real *b,
               int64_t b_row, ress_real *c, int64_t c_row, int adding);

// --- elementwise.c ---------------------------------------------------------------------------------------------

/// y[t] = x[t] · rstd[t] · gain, rstd = 1/√(mean(x²) + ε). x (T, D), gain (D) → y (T, D), rstd (T). arXiv 1910.07467.
void ress_rmsnorm_forward(int64_t rows, int64_t width, const ress_real *x, const ress_real *gain, ress_real *y,
                          ress_real *rstd);
/// Gradient of `ress_rmsnorm_forward`: dx (T, D) +=, dgain (D) +=.
void ress_rmsnorm_backward(int64_t rows, int64_t width, const ress_real *x, const ress_real *gain,
                           const ress_real *rstd, const ress_real *dy, ress_real *dx, ress_real *dgain);

/// y += x
void ress_add(int64_t count, const ress_real *x, ress_real *y);
/// y += a · x
void ress_axpy(int64_t count, ress_real a, const ress_real *x, ress_real *y);
/// out = x + y, y (D) repeated over the rows of x (T, D).
void ress_add_row(int64_t rows, int64_t width, const ress_real *x, const ress_real *y, ress_real *out);
/// y (D) += the sum of the rows of x (T, D), first row first.
void ress_sum_rows(int64_t rows, int64_t width, const ress_real *x, ress_real *y);
ress_real ress_dot(int64_t count, const ress_real *x, const ress_real *y);
/// Sum of squares in double, in a fixed order of eight interleaved sums.
double ress_sum_of_squares(int64_t count, const ress_real *x);

/// x_out[i] = x[i] + Σ_τ taps[τ−1] ⊙ x[i−τ]; x points at row 0 and has `before` valid rows in front of it.
void ress_recency_forward(int64_t row_begin, int64_t row_end, int64_t width, int64_t taps, int64_t before,
                          const ress_real *x, const ress_real *weight, ress_real *out);
/// dx[i] = dout[i] + Σ_τ taps[τ−1] ⊙ dout[i+τ] for the rows of the segment (none before it).
void ress_recency_backward_input(int64_t row_begin, int64_t row_end, int64_t rows, int64_t width, int64_t taps,
                                 const ress_real *dout, const ress_real *weight, ress_real *dx);
/// dweight[τ−1] += Σ_i dout[i] ⊙ x[i−τ], over columns [column_begin, column_end).
void ress_recency_backward_weight(int64_t column_begin, int64_t column_end, int64_t rows, int64_t width, int64_t taps,
                                  int64_t before, const ress_real *x, const ress_real *dout, ress_real *dweight);

/// h = silu(gate) ⊙ up, with gate_up (N, 2f): gate in the first f columns. arXiv 2002.05202.
void ress_swiglu_forward(int64_t rows, int64_t width, const ress_real *gate_up, ress_real *h);
/// dgate_up from dh; also writes h again, which the weight gradient needs.
void ress_swiglu_backward(int64_t rows, int64_t width, const ress_real *gate_up, const ress_real *dh,
                          ress_real *dgate_up, ress_real *h);

/// Softmax of `scale · x` over each row in place.
void ress_softmax_rows(int64_t rows, int64_t width, int64_t stride, ress_real scale, ress_real *x);
/// dx = scale · p ⊙ (dp − Σ p dp), in place over dp.
void ress_softmax_rows_backward(int64_t rows, int64_t width, int64_t stride, ress_real scale, const ress_real *p,
                                ress_real *dp);

/// Cross-entropy of each row of logits (T, V) against targets (T); a negative target counts nothing. Returns the sum
/// of the losses in nats; where `gradient_scale` is not 0 the logits become gradient_scale · (softmax − one-hot).
double ress_cross_entropy(int64_t rows, int64_t classes, ress_real *logits, const int32_t *targets,
                          ress_real gradient_scale);

/// Decoupled weight decay and Adam with bias-corrected moments. arXiv 1711.05101.
void ress_adamw(int64_t count, ress_real *parameter, ress_real *first, ress_real *second, const ress_real *gradient,
                ress_real gradient_scale, ress_real rate, ress_real beta1, ress_real beta2, ress_real epsilon,
                ress_real decay, ress_real correction1, ress_real correction2);

// --- graph.c: SOES ---------------------------------------------------------------------------------------------

typedef struct {
  int64_t cached;    ///< visible tokens before the segment; token `cached + i` is row i itself
  int64_t visible;   ///< all tokens that a row may see: cached + rows; a causal row sees none behind itself
  int64_t causal;
  int64_t before, after;  ///< the window: this many tokens on each side, and the token itself
  int64_t degree;    ///< neighbours by score outside the window
  int64_t capacity;  ///< N, room for neighbours of a row
} ress_graph_shape;

/// The token graph of rows [row_begin, row_end): for each, its window and the `degree` largest scores outside it (ties to
/// the more recent), in ascending order. scores (rows of the range, stride) already divided by √r.
/// → neighbours (T, N), counts (T), weights A (T, N), structure log A + log |N_i| (T, N).
void ress_graph_forward(const ress_graph_shape *shape, int64_t row_begin, int64_t row_end, const ress_real *scores, int64_t score_stride,
                        int32_t *neighbours, int32_t *counts, ress_real *weights, ress_real *structure, int32_t *heap);

/// Σ_rows Σ_j (A − A')² over the union of the neighbourhoods of two steps.
double ress_graph_smooth(int64_t row_begin, int64_t row_end, int64_t capacity, const int32_t *neighbours,
                         const int32_t *counts, const ress_real *weights, const int32_t *other_neighbours,
                         const int32_t *other_counts, const ress_real *other_weights);

/// dweights[i, j] += scale · (A_ij − A'_ij), A' = 0 outside the other neighbourhood. (T, N)
void ress_graph_smooth_backward(int64_t row_begin, int64_t row_end, int64_t capacity, ress_real scale,
                                const int32_t *neighbours, const int32_t *counts, const ress_real *weights,
                                const int32_t *other_neighbours, const int32_t *other_counts,
                                const ress_real *other_weights, ress_real *dweights);

/// Gradient of the scores of the kept edges, from dlogits of attention (T, H, k) and dweights (T, N), then of the
/// queries: dscores (T, N), dqueries (T, r). `keys` (visible, r).
void ress_graph_backward(int64_t row_begin, int64_t row_end, int64_t capacity, int64_t rank, int64_t heads,
                         int64_t kept, ress_real scale, const ress_real *gain, const int32_t *neighbours,
                         const int32_t *counts, const ress_real *weights, const uint16_t *support,
                         const uint16_t *support_counts, const ress_real *dlogits, const ress_real *dweights,
                         const ress_real *keys, ress_real *dscores, ress_real *dqueries);

/// dkeys[j − cached] += scale · dscores_ij · queries_i for neighbours inside the segment; all rows, in order.
void ress_graph_backward_keys(int64_t rows, int64_t capacity, int64_t rank, int64_t cached, ress_real scale,
                              const int32_t *neighbours, const int32_t *counts, const ress_real *dscores,
                              const ress_real *queries, ress_real *dkeys);

// --- attention.c: ASAM -----------------------------------------------------------------------------------------

/// How scores become weights.
enum { RESS_SPARSEMAX = 0, RESS_ENTMAX15 = 1, RESS_SOFTMAX = 2 };

typedef struct {
  int64_t heads, head_width, width;
  int64_t kept;      ///< k
  int64_t capacity;  ///< N
  int64_t slots;     ///< M
  int64_t cached;    ///< visible tokens before the segment
  int64_t activation;
} ress_attention_shape;

/// One head over rows [row_begin, row_end): scores over the graph and the memory slots, the k largest, the activation, and the
/// weighted sum of the values. queries, out (T, D); keys, values (visible, D); slot_keys, slot_values (M, D).
/// → support (T, H, k) positions with weight > 0 (p < count: neighbour p; else slot p − count), support_counts (T, H),
/// support_weights (T, H, k). scratch: 2 · (N + M) values, order: N + M integers. Returns the rows whose sparsemax over all scores
/// would have kept more than k; 0 for the other activations.
int64_t ress_attention_forward(const ress_attention_shape *shape, int64_t head, int64_t row_begin, int64_t row_end,
                            const ress_real *queries, const ress_real *keys, const ress_real *values,
                            const ress_real *slot_keys, const ress_real *slot_values, const int32_t *neighbours,
                            const int32_t *counts, const ress_real *structure, ress_real gain, ress_real memory_bias,
                            uint16_t *support, uint16_t *support_counts, ress_real *support_weights, ress_real *out,
                            ress_real *scratch, int32_t *order);

/// Gradient of one head over all rows. dqueries overwritten in the head's columns; dkeys, dvalues (T, D) and
/// dslot_keys, dslot_values (M, D) +=; dlogits (T, H, k); dgain, dmemory_bias +=.
void ress_attention_backward(const ress_attention_shape *shape, int64_t head, int64_t rows, const ress_real *queries,
                             const ress_real *keys, const ress_real *values, const ress_real *slot_keys,
                             const ress_real *slot_values, const int32_t *neighbours, const int32_t *counts,
                             const ress_real *structure, ress_real gain, const uint16_t *support,
                             const uint16_t *support_counts, const ress_real *support_weights, const ress_real *dout,
                             ress_real *dqueries, ress_real *dkeys, ress_real *dvalues, ress_real *dslot_keys,
                             ress_real *dslot_values, ress_real *dlogits, ress_real *dgain, ress_real *dmemory_bias);

// --- router.c --------------------------------------------------------------------------------------------------

/// Rows of logits (T, E): the `active` experts with the largest logit + bias (ties to the smaller index), u = softmax of
/// their logits, the full softmax and its log-sum. → top (T, e), weights (T, e), probabilities (T, E), logsums (T).
void ress_router_forward(int64_t rows, int64_t experts, int64_t active, const ress_real *logits, const ress_real *bias,
                         int32_t *top, ress_real *weights, ress_real *probabilities, ress_real *logsums);
/// dlogits (T, E) from dweights (T, e), the z-loss (z_scale · 2 · logsum · P) and the balance loss (balance (E): its
/// gradient with respect to each token's P).
void ress_router_backward(int64_t rows, int64_t experts, int64_t active, const int32_t *top, const ress_real *weights,
                          const ress_real *probabilities, const ress_real *logsums, const ress_real *dweights,
                          ress_real z_scale, const ress_real *balance, ress_real *dlogits);

/// out[places[t, slot]] = x[t]: rows into the order of their experts. x (T, D), places (T, e), out (T · e, D).
void ress_scatter_rows(int64_t rows, int64_t active, int64_t width, const ress_real *x, const int32_t *places,
                       ress_real *out);
/// y[t] += Σ_slot weights[t, slot] · x[places[t, slot]]; `weights` null counts as ones.
void ress_gather_rows(int64_t rows, int64_t active, int64_t width, const ress_real *x, const int32_t *places,
                      const ress_real *weights, ress_real *y);
/// Gradient of `ress_gather_rows`: dweights[t, slot] = dy[t] · x[place], dx[place] = weight · dy[t].
void ress_gather_rows_backward(int64_t rows, int64_t active, int64_t width, const ress_real *x, const int32_t *places,
                               const ress_real *weights, const ress_real *dy, ress_real *dweights, ress_real *dx);

// --- dense.c: the baseline's attention ---------------------------------------------------------------------------

/// Softmax of `scale · x` over the first min(width, visible + t · growth) entries of row t, 0 behind them; `logsums` gets each
/// row's logsumexp, `logsum_stride` apart. visible, growth: (first row's + 1, 1) is causal, (width, 0) sees all.
void ress_visible_softmax(int64_t rows, int64_t width, int64_t stride, int64_t visible, int64_t growth, ress_real scale,
                          ress_real *x, ress_real *logsums, int64_t logsum_stride);
/// From scores x and dp (T, S): p = exp(scale · x − logsum) replaces x, dx = scale · p ⊙ (dp − delta) replaces dp; 0 where
/// nothing is visible. delta[t] = Σ_j p_tj dp_tj, `logsum_stride` apart like the logsums.
void ress_visible_softmax_backward(int64_t rows, int64_t width, int64_t stride, int64_t visible, int64_t growth,
                                   ress_real scale, const ress_real *logsums, const ress_real *delta,
                                   int64_t logsum_stride, ress_real *x, ress_real *dp);
/// Turns components n and n + C/2 of every head by `table`'s angle of the row, C = 2 · half: cosines then sines, (T, 2, half).
/// `direction` −1 turns back, which is the gradient. arXiv 2104.09864.
void ress_rotate(int64_t rows, int64_t heads, int64_t half, const ress_real *table, ress_real direction, ress_real *x);
