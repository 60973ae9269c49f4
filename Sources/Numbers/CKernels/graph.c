// SOES: the choice of each token's neighbours from the scores a·b/√r. The graph is stored as N indices per row,
// ascending.
//
// Order of operations: the choice is exact and has a fixed rule for ties (the more recent token), so it does not
// depend on which of the two algorithms below is used. Sums over neighbours are in ascending order of their
// indices, except the softmax's own, which runs over lanes. Sums over relations are in the order of rows, and of the
// pairs of a row.
#include "kernels.h"

// Whether x is less preferred than y: smaller scores; of equal scores, the earlier token.
INLINE int worse(const real *scores, int32_t x, int32_t y) {
  return scores[x] < scores[y] || (scores[x] == scores[y] && x < y);
}

// Restores the order of the heap (the least preferred on top) after the entry at `at` has changed.
INLINE void sift_down(const real *scores, int32_t *heap, int64_t count, int64_t at) {
  for (;;) {
    int64_t child = 2 * at + 1;
    if (child >= count) return;
    if (child + 1 < count && worse(scores, heap[child + 1], heap[child])) child++;
    if (!worse(scores, heap[child], heap[at])) return;
    int32_t moved = heap[at];
    heap[at] = heap[child];
    heap[child] = moved;
    at = child;
  }
}

// Offers scores[begin ..< end], from the most recent one backwards, to a heap of the best scores so far, whose
// worst is on top. An equal score does not replace one. Blocks of 16 that contain nothing better than the top are
// skipped.
INLINE void offer(const real *restrict scores, int64_t begin, int64_t end, int64_t degree, int32_t *restrict heap) {
  real bar = scores[heap[0]];
  int64_t j = end - 1;
  while (j >= begin) {
    while (j >= begin + 15) {
      real largest = scores[j];
      for (int i = 1; i < 16; i++) largest = scores[j - i] > largest ? scores[j - i] : largest;
      if (largest > bar) break;
      j -= 16;
    }
    int64_t stop = j >= begin + 15 ? j - 15 : begin;
    for (; j >= stop; j--) {
      if (scores[j] > bar) {
        heap[0] = (int32_t)j;
        sift_down(scores, heap, degree, 0);
        bar = scores[heap[0]];
      }
    }
  }
}

// Finds a bar that at least `degree` scores reach, and not many more. Score j is assigned to bin j mod `bins`. The
// maximum of each bin is a different score, so the degree-th largest of these maxima is such a bar. With bins ≥ 2 ·
// degree, about 1.4 · degree scores reach it.
INLINE real find_bar(const real *restrict scores, int64_t left, int64_t right, int64_t end, int64_t degree, int64_t bins,
                     real *restrict best) {
  for (int64_t l = 0; l < bins; l++) best[l] = REAL_LOWEST;
  int64_t begins[2] = {0, right}, ends[2] = {left, end};
  for (int range = 0; range < 2; range++) {
    int64_t j = begins[range];
    for (; j + bins <= ends[range]; j += bins)
      for (int64_t l = 0; l < bins; l++) best[l] = scores[j + l] > best[l] ? scores[j + l] : best[l];
    for (int64_t l = 0; j < ends[range]; j++, l++) best[l] = scores[j] > best[l] ? scores[j] : best[l];
  }
  real bar = REAL_LOWEST;
  for (int64_t i = 0; i < bins; i++) {
    if (best[i] <= bar) continue;
    int32_t reaching = 0;
    for (int64_t l = 0; l < bins; l++) reaching += best[l] >= best[i];
    if (reaching >= degree) bar = best[i];
  }
  return bar;
}

// Appends the indices of scores[begin ..< end] that reach the bar, ascending, to the `count` in `out`. Returns the
// new count, or −1 where more than `room` reach it.
INLINE int64_t collect(const real *restrict scores, int64_t begin, int64_t end, real bar, int64_t room,
                       int32_t *restrict out, int64_t count) {
  int64_t j = begin;
  for (; j + 16 <= end; j += 16) {
    real largest = scores[j];
    for (int i = 1; i < 16; i++) largest = scores[j + i] > largest ? scores[j + i] : largest;
    if (largest < bar) continue;
    if (count + 16 > room) return -1;
    for (int i = 0; i < 16; i++) {
      out[count] = (int32_t)(j + i);
      count += scores[j + i] >= bar;
    }
  }
  for (; j < end; j++) {
    if (scores[j] < bar) continue;
    if (count == room) return -1;
    out[count++] = (int32_t)j;
  }
  return count;
}

enum { MOST_BINS = 256, MOST_CANDIDATES = 3 * MOST_BINS };

// Selects the `degree` best with a bar, in about three passes over the scores. Returns 0 where too many scores are
// equal for this method.
INLINE int64_t select_by_bar(const real *restrict scores, int64_t left, int64_t right, int64_t end, int64_t degree,
                             int32_t *restrict out) {
  real best[MOST_BINS], candidate_scores[MOST_CANDIDATES];
  int32_t candidates[MOST_CANDIDATES];
  int64_t bins = 32;
  while (bins < 2 * degree) bins *= 2;
  real bar = find_bar(scores, left, right, end, degree, bins, best);
  int64_t room = 2 * bins + 64 < MOST_CANDIDATES ? 2 * bins + 64 : MOST_CANDIDATES;
  int64_t count = collect(scores, 0, left, bar, room, candidates, 0);
  if (count >= 0) count = collect(scores, right, end, bar, room, candidates, count);
  if (count < degree) return 0;
  for (int64_t n = 0; n < count; n++) candidate_scores[n] = scores[candidates[n]];
  int64_t kept = 0;
  for (int64_t n = 0; n < count; n++) {
    // Number of preferred candidates: larger scores, and equal scores of later tokens.
    int32_t before = 0;
    for (int64_t m = 0; m < n; m++) before += candidate_scores[m] > candidate_scores[n];
    for (int64_t m = n + 1; m < count; m++) before += candidate_scores[m] >= candidate_scores[n];
    out[kept] = candidates[n];
    kept += before < degree;
    if (kept == degree) break;
  }
  return kept;
}

// Shell sort; gaps of 1, 4, 13, 40, 121 are enough for the degrees in use.
INLINE void sort_ascending(int32_t *values, int64_t count) {
  static const int64_t gaps[] = {121, 40, 13, 4, 1};
  for (int g = 0; g < 5; g++) {
    for (int64_t i = gaps[g]; i < count; i++) {
      int32_t moving = values[i];
      int64_t k = i;
      for (; k >= gaps[g] && values[k - gaps[g]] > moving; k -= gaps[g]) values[k] = values[k - gaps[g]];
      values[k] = moving;
    }
  }
}

// Selects the `degree` best of scores[0 ..< left] and scores[right ..< end], ascending by index. Returns their
// number.
INLINE int64_t select_best(const real *restrict scores, int64_t left, int64_t right, int64_t end, int64_t degree,
                           int32_t *restrict heap, int32_t *restrict out) {
  int64_t later = end - right, count = left + later;
  if (count <= degree) {
    for (int64_t j = 0; j < left; j++) out[j] = (int32_t)j;
    for (int64_t j = 0; j < later; j++) out[left + j] = (int32_t)(right + j);
    return count;
  }
  if (degree == 0) return 0;
  if (2 * degree <= MOST_BINS && count >= 4 * degree && select_by_bar(scores, left, right, end, degree, out)) return degree;
  // The heap begins with the most recent scores; the others are offered to it, the recent ones first.
  for (int64_t i = 0; i < degree; i++) heap[i] = (int32_t)(i < later ? end - 1 - i : left - 1 - (i - later));
  for (int64_t i = degree / 2 - 1; i >= 0; i--) sift_down(scores, heap, degree, i);
  if (later > degree) offer(scores, right, end - degree, degree, heap);
  offer(scores, 0, later > degree ? left : left - (degree - later), degree, heap);
  sort_ascending(heap, degree);
  for (int64_t i = 0; i < degree; i++) out[i] = heap[i];
  return degree;
}

// The same, with related tokens before all others: of the tokens outside of the window first the related ones, by
// score, and then the rest, by score. The candidates of either selection are copied to a pool, in ascending order, so
// that the rule for ties stays the same. `pool` and `places` have room for `end` values.
INLINE int64_t select_related(const ress_relations *relations, int64_t row, const real *restrict scores, int64_t left,
                              int64_t right, int64_t end, int64_t degree, int32_t *restrict heap, real *restrict pool,
                              int32_t *restrict places, int32_t *restrict out) {
  // If there is room for all, no token is preferred.
  if (left + end - right <= degree || degree == 0) return select_best(scores, left, right, end, degree, heap, out);
  const int32_t *pair = relations->pairs + 2 * relations->starts[row];
  const int32_t *pairs_end = relations->pairs + 2 * relations->starts[row + 1];
  int64_t related = 0;
  for (; pair < pairs_end; pair += 2) {
    int64_t j = pair[0] - relations->first;
    if (j < 0 || (j >= left && j < right)) continue;
    if (j >= end) break;
    // Two tokens may be related in several ways.
    if (related > 0 && places[related - 1] == j) continue;
    pool[related] = scores[j];
    places[related++] = (int32_t)j;
  }
  if (related == 0) return select_best(scores, left, right, end, degree, heap, out);
  int64_t taken = select_best(pool, related, related, related, degree, heap, out);
  for (int64_t n = 0; n < taken; n++) out[n] = places[out[n]];
  if (taken == degree) return taken;
  // All related tokens are in `out` now; the pool gets the others.
  int64_t others = 0, next = 0;
  for (int64_t j = 0; j < end; j++) {
    if (j == left) j = right;
    if (j >= end) break;
    if (next < taken && out[next] == j) {
      next++;
      continue;
    }
    pool[others] = scores[j];
    places[others++] = (int32_t)j;
  }
  int64_t added = select_best(pool, others, others, others, degree - taken, heap, out + taken);
  for (int64_t n = taken; n < taken + added; n++) out[n] = places[out[n]];
  sort_ascending(out, taken + added);
  return taken + added;
}

void ress_relations_add(const ress_relations *relations, int64_t row_begin, int64_t row_end, int64_t visible,
                        real *scores, int64_t stride) {
  for (int64_t i = row_begin; i < row_end; i++) {
    real *scores_J = scores + (i - row_begin) * stride;
    for (int64_t p = relations->starts[i]; p < relations->starts[i + 1]; p++) {
      int64_t j = relations->pairs[2 * p] - relations->first;
      if (j >= 0 && j < visible) scores_J[j] += relations->bias[relations->pairs[2 * p + 1]];
    }
  }
}

void ress_relations_backward(const ress_relations *relations, int64_t rows, int64_t capacity, const int32_t *neighbours,
                             const int32_t *counts, const real *dscores, real *dbias) {
  for (int64_t i = 0; i < rows; i++) {
    const int32_t *neighbours_N = neighbours + i * capacity;
    int32_t n = 0, count = counts[i];
    for (int64_t p = relations->starts[i]; p < relations->starts[i + 1]; p++) {
      int64_t j = relations->pairs[2 * p] - relations->first;
      while (n < count && neighbours_N[n] < j) n++;
      if (n < count && neighbours_N[n] == j) dbias[relations->pairs[2 * p + 1]] += dscores[i * capacity + n];
    }
  }
}

KERNEL void ress_graph_forward(const ress_graph_shape *shape, const ress_relations *relations, int64_t row_begin,
                               int64_t row_end, const real *scores, int64_t score_stride, int32_t *neighbours,
                               int32_t *counts, real *weights, real *structure, int32_t *heap, real *pool,
                               int32_t *places) {
  int64_t capacity = shape->capacity, cached = shape->cached;
  for (int64_t i = row_begin; i < row_end; i++) {
    const real *restrict scores_J = scores + (i - row_begin) * score_stride;
    int32_t *restrict neighbours_N = neighbours + i * capacity;
    real *restrict weights_N = weights + i * capacity, *restrict structure_N = structure + i * capacity;
    int64_t self = cached + i, visible = shape->causal ? self + 1 : shape->visible;
    int64_t left = self > shape->before ? self - shape->before : 0;
    int64_t right = self + shape->after + 1 < visible ? self + shape->after + 1 : visible;
    int64_t chosen = relations ? select_related(relations, i, scores_J, left, right, visible, shape->degree, heap, pool, places,
                                                neighbours_N)
                               : select_best(scores_J, left, right, visible, shape->degree, heap, neighbours_N);
    int64_t earlier = 0;
    // Insert the window between the chosen tokens before and after it.
    int64_t window = right - left;
    while (earlier < chosen && neighbours_N[earlier] < left) earlier++;
    for (int64_t n = chosen - 1; n >= earlier; n--) neighbours_N[n + window] = neighbours_N[n];
    for (int64_t n = 0; n < window; n++) neighbours_N[earlier + n] = (int32_t)(left + n);
    int64_t count = chosen + window;
    counts[i] = (int32_t)count;

    for (int64_t n = 0; n < count; n++) structure_N[n] = scores_J[neighbours_N[n]];
    real largest = row_max(count, structure_N);
    for (int64_t n = 0; n < count; n++) weights_N[n] = weight_of(structure_N[n] - largest);
    real sum = total(count, weights_N), inverse = 1 / sum, shift = REAL_LOG((real)count) - REAL_LOG(sum) - largest;
    for (int64_t n = 0; n < count; n++) {
      weights_N[n] *= inverse;
      structure_N[n] += shift;
    }
  }
}

// Both rows of neighbours are ascending, so one pass merges them; a token that only one has counts as weight 0 in
// the other.
KERNEL double ress_graph_smooth(int64_t row_begin, int64_t row_end, int64_t capacity, const int32_t *neighbours,
                                const int32_t *counts, const real *weights, const int32_t *other_neighbours,
                                const int32_t *other_counts, const real *other_weights) {
  double smoothness = 0;
  for (int64_t i = row_begin; i < row_end; i++) {
    const int32_t *x = neighbours + i * capacity, *y = other_neighbours + i * capacity;
    const real *a = weights + i * capacity, *b = other_weights + i * capacity;
    int32_t p = 0, q = 0, x_count = counts[i], y_count = other_counts[i];
    while (p < x_count || q < y_count) {
      real difference;
      if (q >= y_count || (p < x_count && x[p] < y[q])) difference = a[p++];
      else if (p >= x_count || y[q] < x[p]) difference = b[q++];
      else difference = a[p++] - b[q++];
      smoothness += (double)difference * (double)difference;
    }
  }
  return smoothness;
}

KERNEL void ress_graph_smooth_backward(int64_t row_begin, int64_t row_end, int64_t capacity, real scale,
                                       const int32_t *neighbours, const int32_t *counts, const real *weights,
                                       const int32_t *other_neighbours, const int32_t *other_counts,
                                       const real *other_weights, real *dweights) {
  for (int64_t i = row_begin; i < row_end; i++) {
    const int32_t *x = neighbours + i * capacity, *y = other_neighbours + i * capacity;
    const real *a = weights + i * capacity, *b = other_weights + i * capacity;
    real *da = dweights + i * capacity;
    int32_t q = 0, y_count = other_counts[i];
    for (int32_t p = 0; p < counts[i]; p++) {
      while (q < y_count && y[q] < x[p]) q++;
      da[p] += scale * (q < y_count && y[q] == x[p] ? a[p] - b[q] : a[p]);
    }
  }
}

// The structure term of attention is s = log A + log |N|, so d log A_ij = Σ_h gain_h dz_ijh. Through the softmax, d
// e = d log A − A Σ d log A; and for the smoothness loss d e += A ⊙ (dA − Σ A dA).
KERNEL void ress_graph_backward(int64_t row_begin, int64_t row_end, int64_t capacity, int64_t rank, int64_t heads,
                                int64_t kept, real scale, const real *gain, const int32_t *neighbours,
                                const int32_t *counts, const real *weights, const uint16_t *support,
                                const uint16_t *support_counts, const real *dlogits, const real *dweights,
                                const real *keys, real *dscores, real *dqueries) {
  for (int64_t i = row_begin; i < row_end; i++) {
    const int32_t *restrict neighbours_N = neighbours + i * capacity;
    const real *restrict weights_N = weights + i * capacity, *restrict dweights_N = dweights + i * capacity;
    real *restrict dscores_N = dscores + i * capacity, *restrict dqueries_R = dqueries + i * rank;
    int32_t count = counts[i];
    for (int32_t n = 0; n < count; n++) dscores_N[n] = 0;
    real dlog_sum = 0;
    for (int64_t h = 0; h < heads; h++) {
      int64_t at = i * heads + h;
      for (int64_t s = 0; s < support_counts[at]; s++) {
        int32_t n = support[at * kept + s];
        if (n >= count) continue;
        real dlog = gain[h] * dlogits[at * kept + s];
        dscores_N[n] += dlog;
        dlog_sum += dlog;
      }
    }
    real inner = dlog_sum + dot(count, weights_N, dweights_N);
    for (int64_t c = 0; c < rank; c++) dqueries_R[c] = 0;
    for (int32_t n = 0; n < count; n++) {
      dscores_N[n] += weights_N[n] * (dweights_N[n] - inner);
      axpy(rank, scale * dscores_N[n], keys + neighbours_N[n] * rank, dqueries_R);
    }
  }
}

// Not split over rows, since two rows may have the same neighbour: the sums of a key would then depend on the
// split. Keys of tokens before the segment get no gradient.
KERNEL void ress_graph_backward_keys(int64_t rows, int64_t capacity, int64_t rank, int64_t cached, real scale,
                                     const int32_t *neighbours, const int32_t *counts, const real *dscores,
                                     const real *queries, real *dkeys) {
  for (int64_t i = 0; i < rows; i++) {
    for (int32_t n = 0; n < counts[i]; n++) {
      int64_t j = neighbours[i * capacity + n] - cached;
      if (j >= 0) axpy(rank, scale * dscores[i * capacity + n], queries + i * rank, dkeys + j * rank);
    }
  }
}
