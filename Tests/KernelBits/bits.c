// Runs every kernel on fixed input, at sizes around the kernels' vectors and blocks, and prints a hash of the bits of each result. A
// processor computes right if its lines are those of another. run.sh compiles this for arm64 and compares it with this machine.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "CKernels.h"

typedef ress_real real;

static uint64_t state = 1;

// A multiple of 2^-12 in [−2, 2): exact in every format.
static real next(void) {
  state = state * 6364136223846793005ull + 1442695040888963407ull;
  return (real)((int64_t)(state >> 50) - 8192) / 4096;
}

static real *numbers(int64_t count) {
  real *x = malloc((size_t)(count + 64) * sizeof(real));
  for (int64_t i = 0; i < count + 64; i++) x[i] = next();
  return x;
}

static void *zeros(int64_t count, size_t size) { return calloc((size_t)count + 64, size); }

static uint64_t hash(uint64_t seed, const void *bytes, size_t count) {
  const unsigned char *b = bytes;
  for (size_t i = 0; i < count; i++) seed = (seed ^ b[i]) * 0x100000001B3ull;
  return seed;
}

static void report(const char *name, int64_t a, int64_t b, const real *x, int64_t count) {
  printf("%s %d %d %016llx\n", name, (int)a, (int)b,
         (unsigned long long)hash(0xCBF29CE484222325ull, x, (size_t)count * sizeof(real)));
}

static void products(int64_t m, int64_t n, int64_t k) {
  real *a = numbers(m * k), *b = numbers(k * n), *c = numbers(m * n);
  ress_gemm(m, n, k, a, k, 1, b, n, 1, c, n, 0, 1);
  report("multiply", m * 1000 + n, k, c, m * n);
  ress_gemm(m, n, k, a, k, 1, b, 1, k, c, n, 1, 1);
  report("multiply-transposed", m * 1000 + n, k, c, m * n);
  ress_gemm(m, n, k, a, 1, m, b, n, 1, c, n, 0, (real)0.3);
  report("transpose-multiply", m * 1000 + n, k, c, m * n);
  int64_t panel = ress_gemm_panel(), panels = (n + panel - 1) / panel;
  // Its size is the processor's, so it takes no number.
  real *packed = zeros(panels * panel * k, sizeof(real));
  ress_gemm_pack_transposed(n, k, b, k, 0, panels, packed);
  ress_gemm_packed(m, n, k, a, k, packed, c, n, 1);
  report("packed", m * 1000 + n, k, c, m * n);
  free(a), free(b), free(c), free(packed);
}

#ifndef RESS_DOUBLE
// Values whose products lie around the smallest normal number, or single precision's whole range of small ones.
static float *small_numbers(int64_t count, int range) {
  float *x = malloc((size_t)(count + 64) * sizeof(float));
  for (int64_t i = 0; i < count + 64; i++) {
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    uint32_t random = (uint32_t)(state >> 32), exponent = range == 0 ? 100 + random % 27 : range == 1 ? 56 + random % 16 : random % 64;
    random = (random & 0x807FFFFF) | exponent << 23;
    memcpy(x + i, &random, sizeof random);
  }
  return x;
}

// By each implementation that this processor has; its line tells if they differ.
static void rounded_products(int64_t m, int64_t n, int64_t k, int range) {
  float *a = small_numbers(m * k, range), *b = small_numbers(k * n, range), *old = small_numbers(m * n, 2);
  float *c = malloc((size_t)(m * n) * sizeof(float));
  int64_t panel = ress_gemm_panel(), panels = (n + panel - 1) / panel;
  uint32_t *packed = zeros(panels * panel * ((k + 1) / 2), sizeof(uint32_t));
  ress_bf16_pack(n, k, b, 1, k, 0, panels, packed);
  for (int way = 0; way < 4; way++) {
    uint64_t hashes[4] = {0};
    for (int kind = RESS_BF16_EXACT; kind <= RESS_BF16_DOTS; kind++) {
      if (!ress_bf16_use(kind)) continue;
      memcpy(c, old, (size_t)(m * n) * sizeof(float));
      if (way == 0) ress_bf16(m, n, k, a, k, 1, b, n, 1, c, n, 1);
      else if (way == 1) ress_bf16(m, n, k, a, k, 1, b, 1, k, c, n, 0);
      else if (way == 2) ress_bf16(m, n, k, a, 1, m, b, n, 1, c, n, 1);
      else ress_bf16_packed(m, n, k, a, k, packed, c, n, 1);
      hashes[kind] = hash(0xCBF29CE484222325ull, c, (size_t)(m * n) * sizeof(float));
      if (hashes[kind] != hashes[RESS_BF16_EXACT]) printf("implementation %d differs from the exact one\n", kind);
    }
    report("bf16", m * 1000 + n, k * 10 + way, c, m * n);
  }
  free(a), free(b), free(c), free(old), free(packed);
}
#endif

static void elements(int64_t rows, int64_t width) {
  int64_t count = rows * width;
  real *x = numbers(count), *gain = numbers(width), *y = numbers(count), *rstd = numbers(rows), *dx = numbers(count);
  real *dgain = numbers(width), *wide = numbers(2 * count), *dwide = numbers(2 * count), *h = numbers(count);
  ress_rmsnorm_forward(rows, width, x, gain, y, rstd);
  report("rmsnorm", rows, width, y, count);
  ress_rmsnorm_backward(rows, width, x, gain, rstd, y, dx, dgain);
  report("rmsnorm-backward", rows, width, dx, count);
  report("rmsnorm-gain", rows, width, dgain, width);
  ress_axpy(count, (real)0.7, x, y);
  ress_add_row(rows, width, y, gain, h);
  ress_sum_rows(rows, width, h, dgain);
  report("sum-rows", rows, width, dgain, width);
  real dotted = ress_dot(count, x, y);
  report("dot", rows, width, &dotted, 1);
  double squares = ress_sum_of_squares(count, y);
  real rounded = (real)squares;
  report("squares", rows, width, &rounded, 1);
  ress_swiglu_forward(rows, width, wide, h);
  report("swiglu", rows, width, h, count);
  ress_swiglu_backward(rows, width, wide, y, dwide, h);
  report("swiglu-backward", rows, width, dwide, 2 * count);
  ress_softmax_rows(rows, width, width, (real)0.9, x);
  report("softmax", rows, width, x, count);
  ress_softmax_rows_backward(rows, width, width, (real)0.9, x, y);
  report("softmax-backward", rows, width, y, count);
  int32_t *targets = zeros(rows, sizeof(int32_t));
  for (int64_t t = 0; t < rows; t++) targets[t] = t % 5 == 4 ? -1 : (int32_t)(t % width);
  real loss = (real)ress_cross_entropy(rows, width, h, targets, (real)0.25);
  report("cross-entropy", rows, width, &loss, 1);
  report("cross-entropy-backward", rows, width, h, count);
  real *first = zeros(count, sizeof(real)), *second = zeros(count, sizeof(real));
  ress_adamw(count, dx, first, second, wide, (real)0.5, (real)0.01, (real)0.9, (real)0.99, (real)1e-8, (real)0.1, (real)0.1,
             (real)0.01);
  report("adamw", rows, width, dx, count);
  for (int two = 0; two < 2; two++) {
    ress_taps_shape shape = {width, 4, two, rows > 3 ? 2 : 0, rows > 3 ? rows - 2 : rows};
    const real *at = wide + shape.before * width;
    ress_taps_forward(&shape, 0, shape.rows, at, dwide, y);
    report("taps", rows, width + two, y, shape.rows * width);
    ress_taps_backward_input(&shape, 0, shape.rows, y, dwide, dx);
    report("taps-input", rows, width + two, dx, shape.rows * width);
    real *dweight = zeros(6 * width, sizeof(real));
    ress_taps_backward_weight(&shape, 0, width, at, y, dweight);
    report("taps-weight", rows, width + two, dweight, 6 * width);
    free(dweight);
  }
  free(x), free(gain), free(y), free(rstd), free(dx), free(dgain), free(wide), free(dwide), free(h), free(targets);
  free(first), free(second);
}

// Rows that see all earlier ones: the graph, attention along it with each activation and with forget gates, and the way back.
static void attention(int64_t rows, int64_t cached, int64_t head_width, int64_t activation) {
  enum { HEADS = 2, SLOTS = 5, KEPT = 6, RANK = 7 };
  int64_t width = HEADS * head_width, all = cached + rows;
  ress_graph_shape graph = {cached, all, 1, 3, 0, 8, 12};
  int64_t capacity = graph.capacity;
  real *scores = numbers(rows * all), *queries = numbers(rows * width), *keys = numbers(all * width);
  real *values = numbers(all * width), *slot_keys = numbers(SLOTS * width), *slot_values = numbers(SLOTS * width);
  real *weights = zeros(rows * capacity, sizeof(real)), *structure = zeros(rows * capacity, sizeof(real));
  int32_t *neighbours = zeros(rows * capacity, sizeof(int32_t)), *counts = zeros(rows, sizeof(int32_t));
  int32_t *heap = zeros(all, sizeof(int32_t)), *order = zeros(capacity + SLOTS, sizeof(int32_t));
  // Every row is related to the first token in one way, and to itself in another.
  int32_t *starts = zeros(rows + 1, sizeof(int32_t)), *pairs = zeros(4 * rows, sizeof(int32_t)), *places = zeros(all, sizeof(int32_t));
  for (int64_t i = 0; i < rows; i++) {
    int32_t *pair = pairs + 4 * i;
    starts[i + 1] = 2 * (int32_t)(i + 1);
    pair[2] = (int32_t)(cached + i), pair[3] = 1;
  }
  real kinds[2] = {(real)1.7, (real)-0.3}, dkinds[2] = {0, 0}, *pool = zeros(all, sizeof(real)), *related = numbers(rows * all);
  ress_relations relations = {starts, pairs, 0, kinds};
  ress_relations_add(&relations, 0, rows, all, related, all);
  ress_graph_forward(&graph, &relations, 0, rows, related, all, neighbours, counts, weights, structure, heap, pool, places);
  report("graph-related", rows, cached, weights, rows * capacity);
  ress_relations_backward(&relations, rows, capacity, neighbours, counts, weights, dkinds);
  report("graph-kinds", rows, cached, dkinds, 2);
  free(starts), free(pairs), free(places), free(pool), free(related);
  ress_graph_forward(&graph, 0, 0, rows, scores, all, neighbours, counts, weights, structure, heap, 0, 0);
  report("graph", rows, cached, weights, rows * capacity);
  report("graph-structure", rows, cached, structure, rows * capacity);

  real *logits = numbers(all * HEADS), *terms = zeros(all * HEADS, sizeof(real)), *decays = zeros(all, sizeof(real));
  real bias[HEADS] = {1, 3};
  ress_forget_forward(all, HEADS, logits, bias, terms);
  report("forget", all, 0, terms, all * HEADS);
  ress_attention_shape shape = {HEADS, head_width, width, KEPT, capacity, SLOTS, cached, activation};
  uint16_t *support = zeros(rows * HEADS * KEPT, sizeof(uint16_t)), *sizes = zeros(rows * HEADS, sizeof(uint16_t));
  real *support_weights = zeros(rows * HEADS * KEPT, sizeof(real)), *out = zeros(rows * width, sizeof(real));
  real *scratch = zeros(2 * (capacity + SLOTS), sizeof(real)), *dlogits = zeros(rows * HEADS * KEPT, sizeof(real));
  real *dout = numbers(rows * width), *dqueries = zeros(rows * width, sizeof(real)), *dkeys = zeros(rows * width, sizeof(real));
  real *dvalues = zeros(rows * width, sizeof(real)), *dslots = zeros(2 * SLOTS * width, sizeof(real));
  real gains[3] = {0}, *ddecays = zeros(rows, sizeof(real));
  for (int64_t head = 0; head < HEADS; head++) {
    ress_forget_sum(all, HEADS, head, terms, decays);
    ress_attention_head own = {(real)1.25, (real)0.5, (real)0.125, head ? decays : NULL};
    ress_attention_forward(&shape, &own, head, 0, rows, queries, keys, values, slot_keys, slot_values, neighbours, counts,
                           structure, support, sizes, support_weights, out, scratch, order);
    ress_attention_backward(&shape, &own, head, rows, queries, keys, values, slot_keys, slot_values, neighbours, counts,
                            structure, support, sizes, support_weights, dout, dqueries, dkeys, dvalues, dslots,
                            dslots + SLOTS * width, dlogits, gains, gains + 1, gains + 2, head ? ddecays : NULL);
  }
  report("attention", activation, head_width, out, rows * width);
  report("attention-queries", activation, head_width, dqueries, rows * width);
  report("attention-keys", activation, head_width, dkeys, rows * width);
  report("attention-values", activation, head_width, dvalues, rows * width);
  report("attention-slots", activation, head_width, dslots, 2 * SLOTS * width);
  report("attention-scalars", activation, head_width, gains, 3);
  real *dterms = zeros(all * HEADS, sizeof(real));
  ress_forget_backward(rows, HEADS, 1, terms + cached * HEADS, ddecays, dterms);
  report("forget-backward", rows, activation, dterms, all * HEADS);

  real *dweights = numbers(rows * capacity), *dscores = zeros(rows * capacity, sizeof(real));
  real *graph_keys = numbers(all * RANK), *graph_queries = numbers(rows * RANK), *dgraph = zeros(rows * RANK, sizeof(real));
  real gain[HEADS] = {(real)0.5, (real)-0.25};
  ress_graph_backward(0, rows, capacity, RANK, HEADS, KEPT, (real)0.375, gain, neighbours, counts, weights, support, sizes,
                      dlogits, dweights, graph_keys, dscores, dgraph);
  report("graph-queries", rows, activation, dgraph, rows * RANK);
  ress_graph_backward_keys(rows, capacity, RANK, cached, (real)0.375, neighbours, counts, dscores, graph_queries, dgraph);
  report("graph-keys", rows, activation, dgraph, rows * RANK);
  real smooth = (real)ress_graph_smooth(0, rows, capacity, neighbours, counts, weights, neighbours, counts, dweights);
  report("graph-smooth", rows, activation, &smooth, 1);
}

static void routed(int64_t rows, int64_t experts, int64_t sigmoid) {
  enum { ACTIVE = 3 };
  real *logits = numbers(rows * experts), *bias = numbers(experts), *weights = zeros(rows * ACTIVE, sizeof(real));
  real *probabilities = zeros(rows * experts, sizeof(real)), *logsums = zeros(rows, sizeof(real));
  int32_t *top = zeros(rows * ACTIVE, sizeof(int32_t));
  ress_router_forward(rows, experts, ACTIVE, sigmoid, logits, bias, top, weights, probabilities, logsums);
  report("router", rows, experts + sigmoid, weights, rows * ACTIVE);
  report("router-probabilities", rows, experts + sigmoid, probabilities, rows * experts);
  ress_router_backward(rows, experts, ACTIVE, sigmoid, top, weights, probabilities, logsums, numbers(rows * ACTIVE), (real)0.01,
                       bias, logits);
  report("router-backward", rows, experts + sigmoid, logits, rows * experts);
}

static void dense(int64_t rows, int64_t width, int forgets) {
  real *x = numbers(rows * width), *again = numbers(0), *dp = numbers(rows * width), *decays = zeros(width, sizeof(real));
  again = zeros(rows * width, sizeof(real));
  memcpy(again, x, (size_t)(rows * width) * sizeof(real));
  for (int64_t j = 1; j < width; j++) decays[j] = decays[j - 1] - (next() + 2) / 8;
  ress_visible_shape shape = {width, width, 1, 1, (real)0.4, 1, 0, forgets ? decays : NULL};
  real *logsums = zeros(rows, sizeof(real)), *delta = numbers(rows), *ddecays = zeros(width, sizeof(real));
  ress_visible_softmax(&shape, rows, x, logsums);
  report("visible-softmax", rows, width + forgets, x, rows * width);
  ress_visible_softmax_backward(&shape, rows, logsums, delta, again, dp, ddecays);
  report("visible-softmax-backward", rows, width + forgets, dp, rows * width);
  report("visible-decays", rows, width + forgets, ddecays, width);
  if (width % 4 == 0) {
    ress_rotate(rows, 2, width / 4, numbers(rows * width / 2), 1, x);
    report("rotate", rows, width, x, rows * width);
  }
}

int main(void) {
  static const int64_t edges[] = {1, 3, 15, 16, 17, 33, 70};
  enum { EDGES = sizeof edges / sizeof edges[0] };
  for (int i = 0; i < EDGES; i++)
    for (int j = 0; j < EDGES; j++) {
      products(edges[i], edges[j], 5), products(edges[i], edges[j], 300);
#ifndef RESS_DOUBLE
      for (int range = 0; range < 3; range++)
        rounded_products(edges[i], edges[j], 5, range), rounded_products(edges[i], edges[j], 300, range);
#endif
      elements(edges[i], edges[j]);
      if (edges[j] > 3) routed(edges[i], edges[j], 0), routed(edges[i], edges[j], 1);
      if (edges[j] >= edges[i]) dense(edges[i], edges[j], 0), dense(edges[i], edges[j], 1);
    }
  for (int64_t activation = RESS_SPARSEMAX; activation <= RESS_SOFTMAX; activation++)
    for (int j = 0; j < EDGES; j++) attention(40, j * 9, edges[j], activation);
  for (int i = -40; i <= 40; i++) {
    real x[4] = {(real)ress_exp(i * 0.7), (real)ress_log(i * i + 0.1), (real)ress_cosine_of_turns(i * 0.123),
                 (real)ress_sine_of_turns(i * 0.123)};
    report("functions", i, 0, x, 4);
  }
  return 0;
}
