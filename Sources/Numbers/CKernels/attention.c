// ASAM: attention of one head to the neighbours in the graph and to the memory slots.
//
// Order of operations. For each query: scores of the neighbours in the order of their indices, then of the slots;
// selection of the k largest with a fixed rule for ties; weights; and the weighted sum of values in the order of
// selection. `dot` and `dot4` sum over lanes, in the same way for every call of one length, so a row's bits do not
// depend on other rows or on threads.
#include "kernels.h"

// Whether position x is preferred to y among the k largest: larger scores first; of equal ones tokens before slots,
// later tokens before earlier ones, and earlier slots before later ones.
INLINE int before(const real *z, int32_t tokens, int32_t x, int32_t y) {
  if (z[x] != z[y]) return z[x] > z[y];
  if ((x < tokens) != (y < tokens)) return x < tokens;
  return x < tokens ? x > y : x < y;
}

// The threshold of sparsemax over the chosen positions (Michelot 1986): drops the positions whose score is not
// above τ = (Σ − 1)/n, until none is dropped. `chosen` is reduced to the support, in unchanged order. Returns the
// size of the support.
INLINE int32_t michelot(const real *restrict z, int32_t *restrict chosen, int32_t count, real *threshold) {
  for (;;) {
    real sum = 0;
    for (int32_t n = 0; n < count; n++) sum += z[chosen[n]];
    real tau = (sum - 1) / (real)count;
    int32_t left = 0;
    for (int32_t n = 0; n < count; n++) {
      int32_t p = chosen[n];
      if (z[p] > tau) chosen[left++] = p;
    }
    *threshold = tau;
    if (left == count || left == 0) return count;
    count = left;
  }
}

// Moves the first `kept` of `count` chosen positions, in the order of preference, to the front.
INLINE void put_first(const real *restrict z, int32_t tokens, int32_t kept, int32_t count, int32_t *restrict chosen) {
  for (int32_t place = 0; place < kept; place++) {
    int32_t best = place;
    for (int32_t other = place + 1; other < count; other++)
      if (before(z, tokens, chosen[other], chosen[best])) best = other;
    int32_t moved = chosen[place];
    chosen[place] = chosen[best];
    chosen[best] = moved;
  }
}

// The support of sparsemax over the k largest scores (arXiv 1602.02068). Only scores above max − 1 can be in it.
// Where the support of all scores has at most k members, it is also that of the k largest, and no sorting is
// needed. Otherwise `truncated` is incremented.
INLINE int32_t sparsemax(const real *restrict z, int32_t count, int32_t tokens, int32_t kept, int32_t *restrict chosen,
                         real *threshold, int64_t *truncated) {
  real largest = row_max(count, z);
  int32_t candidates = 0;
  for (int32_t p = 0; p < count; p++)
    if (z[p] > largest - 1) chosen[candidates++] = p;
  int32_t size = michelot(z, chosen, candidates, threshold);
  if (size <= kept) return size;
  ++*truncated;
  put_first(z, tokens, kept, size, chosen);
  return michelot(z, chosen, kept, threshold);
}

// Up to how many positions `take_best` ranks all of them.
enum { RANKED = 512 };

// The place of each position where scores may be equal. `padded` is a multiple of the lanes; the scores from `count` on are −∞.
KERNEL static void rank_with_ties(const real *restrict scores, int32_t count, int32_t padded, int32_t tokens,
                                  lane_integer *restrict places) {
  int32_t preference[RANKED];
  for (int32_t p = 0; p < padded; p++) preference[p] = p < tokens ? count + p : count - p;
  for (int32_t p = 0; p < count; p++) {
    int32_t place = 0;
    for (int32_t q = 0; q < padded; q++)
      place += (scores[q] > scores[p]) | ((scores[q] == scores[p]) & (preference[q] > preference[p]));
    places[p] = place;
  }
}

#ifndef RESS_DOUBLE
// Up to how many positions `sort_all` sorts; it needs 16 bytes of stack for each.
enum { SORTED = 1 << 14 };

// Sorts all positions in the order of preference: a radix sort of the scores' bits, which leaves positions of equal scores
// in the order in which it finds them. Where hundreds of scores are kept of thousands, looking for the best one again and
// again would take nearly all of a model's time.
static void sort_all(const real *restrict z, int32_t count, int32_t tokens, int32_t *restrict chosen) {
  enum { DIGIT = 11, VALUES = 1 << DIGIT, DIGITS = 3 };
  uint32_t keys[2][SORTED];
  int32_t positions[2][SORTED];
  for (int32_t n = 0; n < count; n++) {
    int32_t p = positions[0][n] = n < tokens ? tokens - 1 - n : n;
    // Adding 0 makes −0 the same as 0. Larger scores have smaller keys.
    union { real value; uint32_t bits; } score = {z[p] + 0};
    keys[0][n] = score.bits >> 31 ? score.bits : ~(score.bits | 1u << 31);
  }
  for (int digit = 0; digit < DIGITS; digit++) {
    const int from = digit % 2, shift = digit * DIGIT;
    int32_t places[VALUES] = {0}, next = 0;
    for (int32_t n = 0; n < count; n++) places[keys[from][n] >> shift & (VALUES - 1)]++;
    for (int v = 0; v < VALUES; v++) {
      int32_t size = places[v];
      places[v] = next;
      next += size;
    }
    for (int32_t n = 0; n < count; n++) {
      int32_t place = places[keys[from][n] >> shift & (VALUES - 1)]++;
      keys[1 - from][place] = keys[from][n];
      positions[1 - from][place] = positions[from][n];
    }
  }
  for (int32_t n = 0; n < count; n++) chosen[n] = positions[DIGITS % 2][n];
}
#endif

// Selects the first `kept` of all positions in the order of preference, sorted.
//
// A position's place is the number of positions preferred to it. Counting them compares every pair, but in vectors
// and without a branch, which is several times faster than looking for one position after the other. Where no two
// scores are equal, larger scores are all that counts, and the places are the numbers below `count`, each once; any
// other sum of places shows a tie, or a score that is not a number, and then the full order is used.
INLINE int32_t take_best(const real *restrict z, int32_t count, int32_t tokens, int32_t kept, int32_t *restrict chosen) {
  int32_t size = count < kept ? count : kept;
#ifndef RESS_DOUBLE
  if (count > RANKED && count <= SORTED) {
    sort_all(z, count, tokens, chosen);
    return size;
  }
#endif
  if (count > RANKED) {
    for (int32_t p = 0; p < count; p++) chosen[p] = p;
    put_first(z, tokens, size, count, chosen);
    return size;
  }
  real scores[RANKED];
  lane_integer places[RANKED];
  int32_t padded = (count + LANES - 1) / LANES * LANES;
  for (int32_t p = 0; p < padded; p++) scores[p] = p < count ? z[p] : -(real)INFINITY;
  int64_t sum = 0;
  for (int32_t b = 0; b < padded; b += LANES) {
    lanes own = *(const lanes *)(scores + b);
    lane_integers larger = {0};
    // A comparison that holds is −1.
    for (int32_t q = 0; q < count; q++) larger -= scores[q] > own;
    *(lane_integers *)(places + b) = larger;
  }
  for (int32_t p = 0; p < count; p++) sum += places[p];
  // Scores that are not numbers can share a place, so every place gets a position first.
  for (int32_t s = 0; s < size; s++) chosen[s] = s;
  if (sum != (int64_t)count * (count - 1) / 2) rank_with_ties(scores, count, padded, tokens, places);
  for (int32_t p = 0; p < count; p++)
    if (places[p] < size) chosen[places[p]] = p;
  return size;
}

// 1.5-entmax of sorted scores: p = max(z/2 − τ, 0)², where τ makes them add up to 1. It is exact: the support is
// the longest prefix whose own τ is below its last score. Peters, Niculae and Martins, arXiv 1905.05702, algorithm
// 2.
INLINE int32_t entmax15(const real *restrict z, const int32_t *restrict chosen, int32_t count, real *restrict weights) {
  real sum = 0, squares = 0, threshold = 0, top = z[chosen[0]] / 2;
  int32_t support = 0;
  for (int32_t n = 0; n < count; n++) {
    real half = z[chosen[n]] / 2 - top;
    sum += half;
    squares += half * half;
    real size = (real)(n + 1), mean = sum / size, spread = squares - sum * mean;
    real rest = (1 - spread) / size;
    real tau = mean - REAL_SQRT(rest > 0 ? rest : 0);
    if (tau > half) break;
    threshold = tau;
    support = n + 1;
  }
  for (int32_t n = 0; n < support; n++) {
    real root = z[chosen[n]] / 2 - top - threshold;
    weights[n] = root * root;
  }
  return support;
}

// Selects the positions that get a weight, and computes the weights. z has `count` scores, of which the first
// `tokens` are of tokens.
INLINE int32_t activate(int64_t activation, const real *restrict z, int32_t count, int32_t tokens, int32_t kept,
                        int32_t *restrict chosen, real *restrict weights, int64_t *truncated) {
  int32_t size;
  if (activation == RESS_SPARSEMAX) {
    real threshold;
    size = sparsemax(z, count, tokens, kept, chosen, &threshold, truncated);
    for (int32_t s = 0; s < size; s++) weights[s] = z[chosen[s]] - threshold;
    return size;
  }
  size = take_best(z, count, tokens, kept, chosen);
  if (activation == RESS_ENTMAX15) return entmax15(z, chosen, size, weights);
  real sum = 0;
  // The sum has a loop of its own, so that the exponentials are computed in vectors.
  for (int32_t s = 0; s < size; s++) weights[s] = weight_of(z[chosen[s]] - z[chosen[0]]);
  for (int32_t s = 0; s < size; s++) sum += weights[s];
  for (int32_t s = 0; s < size; s++) weights[s] /= sum;
  return size;
}

// Replaces the gradient of the weights, in `d`, by that of the scores: the Jacobian of each activation, on its
// support.
INLINE void activate_backward(int64_t activation, int32_t size, const real *restrict weights, real *restrict d) {
  real pull = 0, total = 0;
  if (activation == RESS_SPARSEMAX) {
    for (int32_t s = 0; s < size; s++) pull += d[s];
    for (int32_t s = 0; s < size; s++) d[s] -= pull / (real)size;
  } else if (activation == RESS_ENTMAX15) {
    for (int32_t s = 0; s < size; s++) {
      pull += REAL_SQRT(weights[s]) * d[s];
      total += REAL_SQRT(weights[s]);
    }
    for (int32_t s = 0; s < size; s++) d[s] = REAL_SQRT(weights[s]) * (d[s] - pull / total);
  } else {
    for (int32_t s = 0; s < size; s++) pull += weights[s] * d[s];
    for (int32_t s = 0; s < size; s++) d[s] = weights[s] * (d[s] - pull);
  }
}

// Four dot products with one query. The query's values are loaded once, and four independent sums hide the latency
// of additions.
INLINE void dot4(int64_t count, const real *restrict query, const real *restrict a, const real *restrict b,
                 const real *restrict c, const real *restrict d, real *restrict out) {
  lanes sum_a = {0}, sum_b = {0}, sum_c = {0}, sum_d = {0};
  int64_t i = 0;
  for (; i + LANES <= count; i += LANES) {
    lanes q = *(const lanes *)(query + i);
    sum_a = __builtin_elementwise_fma(q, *(const lanes *)(a + i), sum_a);
    sum_b = __builtin_elementwise_fma(q, *(const lanes *)(b + i), sum_b);
    sum_c = __builtin_elementwise_fma(q, *(const lanes *)(c + i), sum_c);
    sum_d = __builtin_elementwise_fma(q, *(const lanes *)(d + i), sum_d);
  }
  for (int64_t l = 0; i + l < count; l++) {
    sum_a[l] = madd(query[i + l], a[i + l], sum_a[l]);
    sum_b[l] = madd(query[i + l], b[i + l], sum_b[l]);
    sum_c[l] = madd(query[i + l], c[i + l], sum_c[l]);
    sum_d[l] = madd(query[i + l], d[i + l], sum_d[l]);
  }
  fold4(&sum_a, &sum_b, &sum_c, &sum_d, out);
}

// The reduction of the score of query i and token j by the forget gates; both are counted from the first visible
// token. F decreases from token to token, so −|F_i − F_j| is F_i − F_j for a token before i, and F_j − F_i for one
// after it.
INLINE real decay(const real *decays, int64_t i, int64_t j) {
  return j <= i ? decays[i] - decays[j] : decays[j] - decays[i];
}

KERNEL int64_t ress_attention_forward(const ress_attention_shape *shape, const ress_attention_head *terms, int64_t head,
                                      int64_t row_begin, int64_t row_end, const real *queries, const real *keys,
                                      const real *values, const real *slot_keys, const real *slot_values,
                                      const int32_t *neighbours, const int32_t *counts, const real *structure,
                                      uint16_t *support, uint16_t *support_counts, real *support_weights, real *out,
                                      real *scratch, int32_t *order) {
  int64_t width = shape->width, head_width = shape->head_width, offset = head * head_width;
  int64_t capacity = shape->capacity, slots = shape->slots;
  real scale = 1 / REAL_SQRT((real)head_width), temperature = terms->temperature, gain = terms->gain;
  real memory_bias = terms->memory_bias;
  const real *decays = terms->decays;
  int64_t truncated = 0;
  for (int64_t i = row_begin; i < row_end; i++) {
    const real *restrict query = queries + i * width + offset;
    const int32_t *restrict neighbours_N = neighbours + i * capacity;
    const real *restrict structure_N = structure + i * capacity;
    int32_t count = counts[i];
    const real *keys_C = keys + offset, *slot_keys_C = slot_keys + offset;
    int32_t n = 0;
    for (; n + 4 <= count; n += 4)
      dot4(head_width, query, keys_C + neighbours_N[n] * width, keys_C + neighbours_N[n + 1] * width,
           keys_C + neighbours_N[n + 2] * width, keys_C + neighbours_N[n + 3] * width, scratch + n);
    for (; n < count; n++) scratch[n] = dot(head_width, query, keys_C + neighbours_N[n] * width);
    int64_t s = 0;
    for (; s + 4 <= slots; s += 4)
      dot4(head_width, query, slot_keys_C + s * width, slot_keys_C + (s + 1) * width, slot_keys_C + (s + 2) * width,
           slot_keys_C + (s + 3) * width, scratch + count + s);
    for (; s < slots; s++) scratch[count + s] = dot(head_width, query, slot_keys_C + s * width);
    for (n = 0; n < count; n++) scratch[n] = temperature * (scale * scratch[n] + gain * structure_N[n]);
    for (n = 0; decays && n < count; n++) scratch[n] += decay(decays, shape->cached + i, neighbours_N[n]);
    for (s = 0; s < slots; s++) scratch[count + s] = temperature * (scale * scratch[count + s] + memory_bias);

    real *restrict weights = scratch + capacity + slots;
    int64_t at = i * shape->heads + head;
    int32_t size = activate(shape->activation, scratch, count + (int32_t)slots, count, (int32_t)shape->kept, order, weights,
                            &truncated);
    support_counts[at] = (uint16_t)size;
    real *restrict out_C = out + i * width + offset;
    for (int64_t c = 0; c < head_width; c++) out_C[c] = 0;
    for (int32_t s = 0; s < size; s++) {
      int32_t p = order[s];
      real weight = weights[s];
      support[at * shape->kept + s] = (uint16_t)p;
      support_weights[at * shape->kept + s] = weight;
      const real *value = p < count ? values + neighbours_N[p] * width : slot_values + (p - count) * width;
      axpy(head_width, weight, value + offset, out_C);
    }
  }
  return truncated;
}

KERNEL void ress_attention_backward(const ress_attention_shape *shape, const ress_attention_head *terms, int64_t head,
                                    int64_t rows, const real *queries, const real *keys, const real *values,
                                    const real *slot_keys, const real *slot_values, const int32_t *neighbours,
                                    const int32_t *counts, const real *structure, const uint16_t *support,
                                    const uint16_t *support_counts, const real *support_weights, const real *dout,
                                    real *dqueries, real *dkeys, real *dvalues, real *dslot_keys, real *dslot_values,
                                    real *dlogits, real *dgain, real *dmemory_bias, real *dtemperature, real *ddecays) {
  int64_t width = shape->width, head_width = shape->head_width, offset = head * head_width;
  int64_t capacity = shape->capacity, cached = shape->cached;
  real scale = 1 / REAL_SQRT((real)head_width), gain_sum = 0, bias_sum = 0, query_sum = 0;
  real temperature = terms->temperature;
  for (int64_t i = 0; i < rows; i++) {
    const real *restrict query = queries + i * width + offset, *restrict dout_C = dout + i * width + offset;
    const int32_t *restrict neighbours_N = neighbours + i * capacity;
    int64_t at = i * shape->heads + head;
    const uint16_t *restrict support_S = support + at * shape->kept;
    const real *restrict weights_S = support_weights + at * shape->kept;
    real *restrict dlogits_S = dlogits + at * shape->kept;
    int32_t count = counts[i], size = support_counts[at];

    for (int32_t s = 0; s < size; s++) {
      int32_t p = support_S[s];
      const real *value = (p < count ? values + neighbours_N[p] * width : slot_values + (p - count) * width) + offset;
      dlogits_S[s] = dot(head_width, dout_C, value);
      if (p >= count) axpy(head_width, weights_S[s], dout_C, dslot_values + (p - count) * width + offset);
      else if (neighbours_N[p] >= cached)
        axpy(head_width, weights_S[s], dout_C, dvalues + (neighbours_N[p] - cached) * width + offset);
    }
    activate_backward(shape->activation, size, weights_S, dlogits_S);
    real *restrict dquery = dqueries + i * width + offset;
    for (int64_t c = 0; c < head_width; c++) dquery[c] = 0;
    for (int32_t s = 0; s < size; s++) {
      int32_t p = support_S[s];
      if (ddecays && p < count) {
        int64_t self = cached + i, j = neighbours_N[p];
        real change = j <= self ? dlogits_S[s] : -dlogits_S[s];
        ddecays[i] += change;
        if (j >= cached) ddecays[j - cached] -= change;
      }
      // From here on dz is the gradient of z / τ, since z is linear in τ.
      real dz = dlogits_S[s] *= temperature;
      if (p >= count) {
        bias_sum += dz;
        axpy(head_width, scale * dz, slot_keys + (p - count) * width + offset, dquery);
        axpy(head_width, scale * dz, query, dslot_keys + (p - count) * width + offset);
      } else {
        int64_t j = neighbours_N[p];
        gain_sum += dz * structure[i * capacity + p];
        axpy(head_width, scale * dz, keys + j * width + offset, dquery);
        if (j >= cached) axpy(head_width, scale * dz, query, dkeys + (j - cached) * width + offset);
      }
    }
    // Σ_j dz q · key_j / √C, which the gradient of τ needs, equals the dot product of the query and its own
    // gradient.
    query_sum += dot(head_width, query, dquery);
  }
  *dgain += gain_sum;
  *dmemory_bias += bias_sum;
  *dtemperature += query_sum + terms->gain * gain_sum + terms->memory_bias * bias_sum;
}
