// The numeric loops that C vectorises better than Swift. Every function works on a range of rows chosen by its
// caller, allocates nothing and calls no library for products. Threads may call a function in parallel on ranges that do not
// overlap, or for different heads.
//
// Legend: T rows of the segment, D width, H heads, C head width, N neighbours kept per row (window + degree), M
// memory slots, k weights kept per query and head, E experts, e active experts, V vocabulary. `+=` marks outputs
// that are added to; all others are overwritten.
#pragma once
#include <stdint.h>
#include "team.h"

#ifdef RESS_DOUBLE
typedef double ress_real;
#else
typedef float ress_real;
#endif

/// Name of the instruction set that this process's kernels use: "x86-64-v4", "x86-64-v3" or "baseline".
const char *ress_kernels_clone(void);

// --- gemm.c ----------------------------------------------------------------------------------------------------

/// Columns of a panel in this processor's product kernel.
int64_t ress_gemm_panel(void);
/// Packs panels [panel_begin, panel_end) of bᵀ, b (n, k): panel q contains columns q · panel … as (k, panel), with
/// zeros after the last column. packed: ⌈n / panel⌉ · panel · k values.
void ress_gemm_pack_transposed(int64_t n, int64_t k, const ress_real *b, int64_t b_row, int64_t panel_begin,
                               int64_t panel_end, ress_real *packed);
/// c (m, n) = a (m, k) · packed (k, n), or += with `adding`.
void ress_gemm_packed(int64_t m, int64_t n, int64_t k, const ress_real *a, int64_t a_row, const ress_real *packed,
                      ress_real *c, int64_t c_row, int adding);
/// c (m, n) = a (m, k) · wᵀ, w (n, k), or += with `adding`. For few rows m and many columns n: w is read once, where it
/// lies. Nearly as fast as a product with the packed weight where w comes from memory or m fills whole panels.
void ress_gemm_unpacked(int64_t m, int64_t n, int64_t k, const ress_real *a, int64_t a_row, const ress_real *w,
                        int64_t w_row, ress_real *c, int64_t c_row, int adding);
/// c (m, n) = scale · a · b, or scale · (c + a · b) with `adding`; a[i, p] is at a + i · a_row + p · a_step, and b[p, j] at
/// b + p · b_row + j · b_step.
void ress_gemm(int64_t m, int64_t n, int64_t k, const ress_real *a, int64_t a_row, int64_t a_step, const ress_real *b,
               int64_t b_row, int64_t b_step, ress_real *c, int64_t c_row, int adding, ress_real scale);

#ifndef RESS_DOUBLE
// --- bf16.c: products of factors rounded to bf16 ------------------------------------------------------------------------

/// How the products are computed; all ways give the same bits. `FASTEST` is the choice of the program.
enum { RESS_BF16_FASTEST, RESS_BF16_EXACT, RESS_BF16_FUSED, RESS_BF16_DOTS };
/// Name of the implementation in use: "avx512-bf16", "fused" or "exact". The first call measures which one is the fastest.
const char *ress_bf16_implementation(void);
/// Uses one of the implementations from now on; returns 0, and changes nothing, where this processor lacks it.
int ress_bf16_use(int kind);
/// Packs panels [panel_begin, panel_end) of a right factor (k, n), whose element (p, j) is at b + p · b_row + j · b_step, one of
/// which is 1. A panel has `ress_gemm_panel` columns. packed: ⌈n / panel⌉ · panel · ⌈k / 2⌉ words.
void ress_bf16_pack(int64_t n, int64_t k, const float *b, int64_t b_row, int64_t b_step, int64_t panel_begin,
                    int64_t panel_end, uint32_t *packed);
/// c (m, n) = a (m, k) · packed (k, n), or += with `adding`.
void ress_bf16_packed(int64_t m, int64_t n, int64_t k, const float *a, int64_t a_row, const uint32_t *packed, float *c,
                      int64_t c_row, int adding);
/// c (m, n) = a · b, or += with `adding`; a[i, p] is at a + i · a_row + p · a_step, and b[p, j] at b + p · b_row + j · b_step. One
/// step of each factor is 1.
void ress_bf16(int64_t m, int64_t n, int64_t k, const float *a, int64_t a_row, int64_t a_step, const float *b, int64_t b_row,
               int64_t b_step, float *c, int64_t c_row, int adding);
/// Rounds to bf16 as the products do, and the upper half of each float's bits; and back.
void ress_bf16_encode(int64_t count, const float *x, uint16_t *to);
void ress_bf16_decode(int64_t count, const uint16_t *x, float *to);
#endif

// --- numbers.c -------------------------------------------------------------------------------------------------

/// Each to 1 or 2 units in the last place, with the same bits on every processor. |x| < 700 for exp; x > 0 for log.
double ress_exp(double x);
double ress_log(double x);
/// Of an angle of 2π · turns, |turns| < 2^50.
double ress_cosine_of_turns(double turns);
double ress_sine_of_turns(double turns);

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
/// out = x + y, where y (D) is added to every row of x (T, D).
void ress_add_row(int64_t rows, int64_t width, const ress_real *x, const ress_real *y, ress_real *out);
/// y (D) += the sum of the rows of x (T, D), in the order of rows.
void ress_sum_rows(int64_t rows, int64_t width, const ress_real *x, ress_real *y);
ress_real ress_dot(int64_t count, const ress_real *x, const ress_real *y);
/// Sum of squares in double, in a fixed order of eight interleaved sums.
double ress_sum_of_squares(int64_t count, const ress_real *x);

typedef struct {
  int64_t width;
  int64_t taps;       ///< w, including the row itself
  int64_t two_sided;  ///< whether a row also reads the w − 1 rows after it
  int64_t before;     ///< valid rows before row 0
  int64_t rows;       ///< rows of the segment; later ones are not read
} ress_taps_shape;

/// out[i] = x[i] + Σ_τ back[τ−1] ⊙ x[i−τ], and with two_sided + Σ_τ ahead[τ−1] ⊙ x[i+τ], τ = 1 … w − 1. x points at
/// row 0. weight: back (w − 1, D), then with two_sided ahead (w − 1, D).
void ress_taps_forward(const ress_taps_shape *shape, int64_t row_begin, int64_t row_end, const ress_real *x,
                       const ress_real *weight, ress_real *out);
/// The gradient of the segment's rows: dx, overwritten in [row_begin, row_end). Rows before the segment get no
/// gradient.
void ress_taps_backward_input(const ress_taps_shape *shape, int64_t row_begin, int64_t row_end, const ress_real *dout,
                              const ress_real *weight, ress_real *dx);
/// dweight += the gradient of the taps, over columns [column_begin, column_end).
void ress_taps_backward_weight(const ress_taps_shape *shape, int64_t column_begin, int64_t column_end,
                               const ress_real *x, const ress_real *dout, ress_real *dweight);

/// h = silu(gate) ⊙ up, with gate_up (N, 2f): gate in the first f columns. arXiv 2002.05202.
void ress_swiglu_forward(int64_t rows, int64_t width, const ress_real *gate_up, ress_real *h);
/// dgate_up from dh. h is computed again as well, because the gradient of the weight needs it.
void ress_swiglu_backward(int64_t rows, int64_t width, const ress_real *gate_up, const ress_real *dh,
                          ress_real *dgate_up, ress_real *h);

/// Softmax of `scale · x` over each row, in place.
void ress_softmax_rows(int64_t rows, int64_t width, int64_t stride, ress_real scale, ress_real *x);
/// dx = scale · p ⊙ (dp − Σ p dp), in place over dp.
void ress_softmax_rows_backward(int64_t rows, int64_t width, int64_t stride, ress_real scale, const ress_real *p,
                                ress_real *dp);

/// Cross-entropy of each row of logits (T, V) with targets (T); rows with a negative target are ignored. Returns
/// the sum of the losses in nats. Where `gradient_scale` is not 0, the logits are replaced by gradient_scale ·
/// (softmax − one-hot).
double ress_cross_entropy(int64_t rows, int64_t classes, ress_real *logits, const int32_t *targets,
                          ress_real gradient_scale);

/// Decoupled weight decay and Adam with bias-corrected moments. arXiv 1711.05101.
void ress_adamw(int64_t count, ress_real *parameter, ress_real *first, ress_real *second, const ress_real *gradient,
                ress_real gradient_scale, ress_real rate, ress_real beta1, ress_real beta2, ress_real epsilon,
                ress_real decay, ress_real correction1, ress_real correction2);

// --- graph.c: SOES ---------------------------------------------------------------------------------------------

typedef struct {
  int64_t cached;    ///< visible tokens before the segment; token `cached + i` is row i
  int64_t visible;   ///< all tokens that a row may see: cached + rows; a causal row sees none after itself
  int64_t causal;
  int64_t before, after;  ///< the window: this many tokens on each side, and the token itself
  int64_t degree;    ///< neighbours chosen by score, outside the window
  int64_t capacity;  ///< N, room for the neighbours of a row
} ress_graph_shape;

/// Relations between tokens that the input gives. Row i of the segment is related to the tokens of
/// pairs[starts[i] ..< starts[i + 1]]. A token that the row does not see is passed over.
typedef struct {
  const int32_t *starts;  ///< (T + 1)
  const int32_t *pairs;   ///< (token, kind), in each row ascending and all different; tokens are numbered from the sequence's first
  int64_t first;          ///< number of the first visible token in the sequence
  const ress_real *bias;  ///< by kind
} ress_relations;

/// scores[i, j] += bias[kind] for every pair of rows [row_begin, row_end). scores (rows of the range, stride).
void ress_relations_add(const ress_relations *relations, int64_t row_begin, int64_t row_end, int64_t visible,
                        ress_real *scores, int64_t stride);
/// dbias[kind] += dscores_ij of every pair whose token is a neighbour; rows [0, rows), in order. dscores (T, N).
void ress_relations_backward(const ress_relations *relations, int64_t rows, int64_t capacity, const int32_t *neighbours,
                             const int32_t *counts, const ress_real *dscores, ress_real *dbias);

/// The token graph of rows [row_begin, row_end): for each row, its window and `degree` tokens outside of it, in
/// ascending order: those with the largest scores (of equal scores, the more recent token), but related ones before
/// all others. scores (rows of the range, stride) are divided by √r already, and have the biases of relations in
/// them. → neighbours (T, N), counts (T), weights A (T, N), structure log A + log |N_i| (T, N). heap: scratch,
/// max(degree, 1). relations: null for none; otherwise pool and places are scratch, as many as a row sees tokens.
void ress_graph_forward(const ress_graph_shape *shape, const ress_relations *relations, int64_t row_begin, int64_t row_end,
                        const ress_real *scores, int64_t score_stride, int32_t *neighbours, int32_t *counts,
                        ress_real *weights, ress_real *structure, int32_t *heap, ress_real *pool, int32_t *places);

/// Σ_rows Σ_j (A − A')² over the union of the neighbourhoods at two steps.
double ress_graph_smooth(int64_t row_begin, int64_t row_end, int64_t capacity, const int32_t *neighbours,
                         const int32_t *counts, const ress_real *weights, const int32_t *other_neighbours,
                         const int32_t *other_counts, const ress_real *other_weights);

/// dweights[i, j] += scale · (A_ij − A'_ij), A' = 0 outside the other neighbourhood. (T, N)
void ress_graph_smooth_backward(int64_t row_begin, int64_t row_end, int64_t capacity, ress_real scale,
                                const int32_t *neighbours, const int32_t *counts, const ress_real *weights,
                                const int32_t *other_neighbours, const int32_t *other_counts,
                                const ress_real *other_weights, ress_real *dweights);

/// The gradient of the scores of the graph's edges, dscores (T, N), from attention's dlogits (T, H, k) and from
/// dweights (T, N); and that of the queries, dqueries (T, r). `keys` (visible, r).
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

/// The functions that turn scores into weights.
enum { RESS_SPARSEMAX = 0, RESS_ENTMAX15 = 1, RESS_SOFTMAX = 2 };

typedef struct {
  int64_t heads, head_width, width;
  int64_t kept;      ///< k
  int64_t capacity;  ///< N
  int64_t slots;     ///< M
  int64_t cached;    ///< visible tokens before the segment
  int64_t activation;
} ress_attention_shape;

/// The terms of a head's scores.
typedef struct {
  ress_real temperature;     ///< τ, a factor of all scores; 1 for none
  ress_real gain;            ///< factor of log A + log |N|
  ress_real memory_bias;     ///< added to every slot's score
  const ress_real *decays;   ///< F, the running sum of log-forget terms over the visible tokens, or null; scores have −|F_i − F_j|
} ress_attention_head;

/// Attention of one head for rows [row_begin, row_end): scores of the graph's neighbours and the memory slots,
/// selection of the k largest, activation, and the weighted sum of the values. z_ij = τ (q_i · key_j / √C + gain ·
/// structure_ij) − |F_i − F_j| for tokens, τ (q_i · keyS_j / √C + memory_bias) for slots. queries, out (T, D);
/// keys, values (visible, D); slot_keys, slot_values (M, D). → support (T, H, k), the positions with weight > 0 (p
/// < count is neighbour p, otherwise slot p − count), support_counts (T, H), support_weights (T, H, k). scratch: 2
/// · (N + M) values; order: N + M integers. Returns the number of rows whose sparsemax over all scores has a
/// support larger than k; 0 for the other activations.
int64_t ress_attention_forward(const ress_attention_shape *shape, const ress_attention_head *terms, int64_t head,
                               int64_t row_begin, int64_t row_end, const ress_real *queries, const ress_real *keys,
                               const ress_real *values, const ress_real *slot_keys, const ress_real *slot_values,
                               const int32_t *neighbours, const int32_t *counts, const ress_real *structure,
                               uint16_t *support, uint16_t *support_counts, ress_real *support_weights, ress_real *out,
                               ress_real *scratch, int32_t *order);

/// The gradient of one head for all rows. dqueries is overwritten in the head's columns; dkeys, dvalues (T, D) and
/// dslot_keys, dslot_values (M, D) +=; dlogits (T, H, k) with respect to z / τ, for the graph's backward; dgain,
/// dmemory_bias, dtemperature (of log τ) and ddecays (of F, the segment's T rows; null without decays) +=.
void ress_attention_backward(const ress_attention_shape *shape, const ress_attention_head *terms, int64_t head,
                             int64_t rows, const ress_real *queries, const ress_real *keys, const ress_real *values,
                             const ress_real *slot_keys, const ress_real *slot_values, const int32_t *neighbours,
                             const int32_t *counts, const ress_real *structure, const uint16_t *support,
                             const uint16_t *support_counts, const ress_real *support_weights, const ress_real *dout,
                             ress_real *dqueries, ress_real *dkeys, ress_real *dvalues, ress_real *dslot_keys,
                             ress_real *dslot_values, ress_real *dlogits, ress_real *dgain, ress_real *dmemory_bias,
                             ress_real *dtemperature, ress_real *ddecays);

// --- forget.c: forget gates ------------------------------------------------------------------------------------

/// terms[t, h] = log σ(logits[t, h] + bias[h]). logits, terms (T, H); the two may be the same.
void ress_forget_forward(int64_t rows, int64_t heads, const ress_real *logits, const ress_real *bias, ress_real *terms);
/// decays[j] = Σ_{l ≤ j} terms[l, head] over `visible` rows of terms (visible, H), in the order of rows.
void ress_forget_sum(int64_t visible, int64_t heads, int64_t head, const ress_real *terms, ress_real *decays);
/// From ddecays (T) of a head, the gradient of its logits: dlogits (T, H), overwritten in column `head`. It is the
/// sum of ddecays over the row and later rows, times 1 − σ = 1 − e^term.
void ress_forget_backward(int64_t rows, int64_t heads, int64_t head, const ress_real *terms, const ress_real *ddecays,
                          ress_real *dlogits);

// --- router.c --------------------------------------------------------------------------------------------------

/// For rows of logits (T, E): the `active` experts with the largest logit + bias (of equal ones the smaller index);
/// their weights u, the softmax of their logits or, with `sigmoid_gates`, σ of each; the softmax over all experts
/// and its logsumexp. → top (T, e), weights (T, e), probabilities (T, E), logsums (T).
void ress_router_forward(int64_t rows, int64_t experts, int64_t active, int64_t sigmoid_gates, const ress_real *logits,
                         const ress_real *bias, int32_t *top, ress_real *weights, ress_real *probabilities, ress_real *logsums);
/// dlogits (T, E) from dweights (T, e), the z-loss (z_scale · 2 · logsum · P) and the balance loss (balance (E): its
/// gradient with respect to each token's P).
void ress_router_backward(int64_t rows, int64_t experts, int64_t active, int64_t sigmoid_gates, const int32_t *top,
                          const ress_real *weights, const ress_real *probabilities, const ress_real *logsums, const ress_real *dweights,
                          ress_real z_scale, const ress_real *balance, ress_real *dlogits);

/// out[places[t, slot]] = x[t]: brings rows into the order of their experts. x (T, D), places (T, e), out (T · e,
/// D).
void ress_scatter_rows(int64_t rows, int64_t active, int64_t width, const ress_real *x, const int32_t *places,
                       ress_real *out);
/// y[t] += Σ_slot weights[t, slot] · x[places[t, slot]]; without `weights` (null) the factors are 1.
void ress_gather_rows(int64_t rows, int64_t active, int64_t width, const ress_real *x, const int32_t *places,
                      const ress_real *weights, ress_real *y);
/// Gradient of `ress_gather_rows`: dweights[t, slot] = dy[t] · x[place], dx[place] = weight · dy[t].
void ress_gather_rows_backward(int64_t rows, int64_t active, int64_t width, const ress_real *x, const int32_t *places,
                               const ress_real *weights, const ress_real *dy, ress_real *dweights, ress_real *dx);

// --- dense.c: the baseline's attention ---------------------------------------------------------------------------

typedef struct {
  int64_t width, stride;
  int64_t visible, growth;    ///< row t sees min(width, visible + t · growth) tokens: (first row's + 1, 1) is causal, (width, 0) all
  ress_real scale;
  int64_t logsum_stride;
  int64_t first;              ///< token of row 0
  const ress_real *decays;    ///< F over the tokens, or null: z_tj = scale · x_tj − |F_t − F_j|
} ress_visible_shape;

/// Softmax of z over the visible entries of each row, and 0 after them. `logsums` gets each row's logsumexp,
/// logsum_stride apart.
void ress_visible_softmax(const ress_visible_shape *shape, int64_t rows, ress_real *x, ress_real *logsums);
/// From scores x and dp (T, S): p = exp(z − logsum) replaces x, and dx = scale · p ⊙ (dp − delta) replaces dp; both
/// are 0 where nothing is visible. delta[t] = Σ_j p_tj dp_tj, logsum_stride apart, as the logsums are. ddecays
/// (over tokens; null without decays) +=.
void ress_visible_softmax_backward(const ress_visible_shape *shape, int64_t rows, const ress_real *logsums,
                                   const ress_real *delta, ress_real *x, ress_real *dp, ress_real *ddecays);
/// Rotates components n and n + C/2 of every head by the row's angles in `table`, C = 2 · half: cosines, then
/// sines, (T, 2, half). `direction` −1 rotates back, which computes the gradient. arXiv 2104.09864.
void ress_rotate(int64_t rows, int64_t heads, int64_t half, const ress_real *table, ress_real direction, ress_real *x);
