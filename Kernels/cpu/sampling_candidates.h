// The candidates of a draw: a thread's memory for them, ranking, keeping the best, drawing one. Plain C, the same for all
// instruction sets; included by sampling.c. Private.
//
// Nothing here looks at a whole row where a list or the sums of its blocks will do, and only the bucket of a histogram in
// which a filter's limit falls is sorted.

#ifndef SAMPLING_CANDIDATES_H
#define SAMPLING_CANDIDATES_H

#include "kernels.h"

enum { BUCKETS = 1024, MAXIMUM_BLOCK = 64, SUM_BLOCK = 1024 };
/// e⁻⁹⁶ is 0 in `exp16`, so that every token of positive weight falls into a bucket before the last.
#define BUCKETS_PER_NAT (BUCKETS / 96.0f)

/// One thread's memory: weights [vocab], candidates and ranked [vocab], histograms [BUCKETS], and one number for each
/// block of a row.
typedef struct {
    float *weights;
    /// [vocab] The row with its adjustments; NULL when no row has any.
    float *adjusted;
    int32_t *candidates;
    int32_t *ranked;
    double *sums;
    float *maxima;
    double *masses;
    int64_t *counts;
} sampling_workspace;

static int64_t sampling_bytes(int64_t vocab, bool adjusts) {
    return round_up(vocab * 4, 64) * (adjusts ? 4 : 3) + BUCKETS * 16 + round_up((vocab / SUM_BLOCK + 1) * 8, 64)
        + round_up((vocab / MAXIMUM_BLOCK + 1) * 4, 64);
}

static sampling_workspace sampling_workspace_at(uint8_t *base, int64_t vocab, bool adjusts) {
    int64_t row = round_up(vocab * 4, 64);
    sampling_workspace w;
    w.adjusted = adjusts ? (float *)base : NULL;
    if (adjusts) base += row;
    w.weights = (float *)base;
    w.candidates = (int32_t *)(base + row);
    w.ranked = (int32_t *)(base + 2 * row);
    w.masses = (double *)(base + 3 * row);
    w.counts = (int64_t *)(w.masses + BUCKETS);
    w.sums = (double *)(w.counts + BUCKETS);
    w.maxima = (float *)((uint8_t *)w.sums + round_up((vocab / SUM_BLOCK + 1) * 8, 64));
    return w;
}

/// Whether token `a` ranks below token `b`: a lower logit, or an equal one and a higher id.
static inline bool ranks_below(const float *logits, int32_t a, int32_t b) {
    return logits[a] < logits[b] || (logits[a] == logits[b] && a > b);
}

static void sift_down(const float *logits, int32_t *heap, int64_t root, int64_t count) {
    for (;;) {
        int64_t child = 2 * root + 1;
        if (child >= count) return;
        if (child + 1 < count && ranks_below(logits, heap[child + 1], heap[child])) child += 1;
        if (!ranks_below(logits, heap[child], heap[root])) return;
        int32_t swap = heap[root];
        heap[root] = heap[child];
        heap[child] = swap;
        root = child;
    }
}

/// Sorts token ids, the most likely first.
static void rank(const float *logits, int32_t *tokens, int64_t count) {
    for (int64_t root = count / 2 - 1; root >= 0; root--) sift_down(logits, tokens, root, count);
    for (int64_t end = count - 1; end > 0; end--) {
        int32_t swap = tokens[0];
        tokens[0] = tokens[end];
        tokens[end] = swap;
        sift_down(logits, tokens, 0, end);
    }
}

static inline int64_t bucket_of(float logit, float highest, float inverse_temperature) {
    float distance = (highest - logit) * inverse_temperature * BUCKETS_PER_NAT;
    return distance < (float)(BUCKETS - 1) ? (int64_t)distance : BUCKETS - 1;
}

/// Keeps, of `count` candidates in order of id, the best `keep_count`, or the best that bring the mass to
/// `keep_mass`. Returns how many are left; they stay in order of id.
static int64_t keep_best(
    const float *logits, int64_t count, float highest, float inverse_temperature, int64_t keep_count, double keep_mass,
    const sampling_workspace *w) {
    memset(w->masses, 0, BUCKETS * sizeof(double));
    memset(w->counts, 0, BUCKETS * sizeof(int64_t));
    for (int64_t i = 0; i < count; i++) {
        int64_t bucket = bucket_of(logits[w->candidates[i]], highest, inverse_temperature);
        w->masses[bucket] += w->weights[w->candidates[i]];
        w->counts[bucket] += 1;
    }
    // The bucket in which the limit falls.
    int64_t boundary = 0, kept = 0, left = 0, ranked = 0;
    double mass = 0;
    while (boundary < BUCKETS && kept + w->counts[boundary] < keep_count && mass + w->masses[boundary] < keep_mass) {
        kept += w->counts[boundary];
        mass += w->masses[boundary];
        boundary += 1;
    }
    for (int64_t i = 0; i < count; i++) {
        if (bucket_of(logits[w->candidates[i]], highest, inverse_temperature) != boundary) continue;
        w->ranked[ranked++] = w->candidates[i];
    }
    rank(logits, w->ranked, ranked);
    int32_t last = -1;
    for (int64_t i = 0; i < ranked && kept < keep_count && mass < keep_mass; i++) {
        last = w->ranked[i];
        kept += 1;
        mass += w->weights[last];
    }
    for (int64_t i = 0; i < count; i++) {
        int32_t token = w->candidates[i];
        int64_t bucket = bucket_of(logits[token], highest, inverse_temperature);
        bool is_kept = bucket < boundary || (bucket == boundary && last >= 0 && !ranks_below(logits, token, last));
        if (is_kept) w->candidates[left++] = token;
    }
    return left;
}

/// The `k`-th largest of `count` values, which are reordered: a heap of the k largest, the least of them first.
static float kth_largest(float *values, int64_t count, int64_t k) {
    for (int64_t i = 0; i < count; i++) {
        float value = values[i];
        int64_t at;
        if (i < k) {
            for (at = i; at > 0 && values[(at - 1) / 2] > value; at = (at - 1) / 2) values[at] = values[(at - 1) / 2];
        } else {
            if (!(value > values[0])) continue;
            for (at = 0; 2 * at + 1 < k;) {
                int64_t child = 2 * at + 1;
                if (child + 1 < k && values[child + 1] < values[child]) child += 1;
                if (!(values[child] < value)) break;
                values[at] = values[child];
                at = child;
            }
        }
        values[at] = value;
    }
    return values[0];
}

/// The candidate at which the cumulative weight passes `point` × total.
static int32_t draw_candidate(const sampling_workspace *w, int64_t count, double point) {
    double total = 0, sum = 0;
    for (int64_t i = 0; i < count; i++) total += w->weights[w->candidates[i]];
    for (int64_t i = 0; i < count; i++) {
        sum += w->weights[w->candidates[i]];
        if (sum > point * total) return w->candidates[i];
    }
    return w->candidates[count - 1];
}

/// The same over all tokens of a row, whose blocks' sums are known.
static int32_t draw_token(const sampling_workspace *w, int64_t vocab, double total, double point) {
    double target = point * total, sum = 0;
    int64_t from = 0;
    for (int64_t block = 0; from + SUM_BLOCK < vocab && sum + w->sums[block] <= target; block++, from += SUM_BLOCK) {
        sum += w->sums[block];
    }
    int64_t last = -1;
    for (int64_t i = from; i < vocab; i++) {
        if (w->weights[i] == 0) continue;
        last = i;
        sum += w->weights[i];
        if (sum > target) return (int32_t)i;
    }
    // Rounding carried the target past the end: the last token that can be drawn.
    for (int64_t i = from; last < 0 && i > 0; i--) if (w->weights[i - 1] != 0) last = i - 1;
    return (int32_t)last;
}

#endif
