// What some models ask of attention beside causality: windows, a soft cap of the scores, sinks. Included by attention.c
// once for each instruction set; out of line, so that models without them pay for a comparison a chunk. Private.
//
// A row adds up its positions in the same order as everywhere else, whatever tile it is in, so its bits depend on its
// own window only. What lies behind a window is not even multiplied by 0: blocks there may belong to others.

#define find_starts NAME(find_starts)
#define cap_scores NAME(cap_scores)
#define weigh_row NAME(weigh_row)
#define attend_windows NAME(attend_windows)
#define add_sink NAME(add_sink)

/// Fills `starts`; rows from `to` on look back on nothing of the chunk, no row on what is behind `least`, and there is
/// one that sees nothing behind `most`.
static NOINLINE void find_starts(
    const attention_arguments *a, const attention_item *item, const workspace *w, int64_t chunk, int from, int *to,
    int *least, int *most) {
    int rows = *to;
    *to = from;
    for (int r = from; r < rows; r++) {
        int64_t start = window_start(a->batch, item->first_token + r / a->group) - chunk * CHUNK;
        w->starts[r] = (int32_t)(start < 0 ? 0 : start);
        if (start < CHUNK) *to = r + 1;
    }
    *least = w->starts[from];
    *most = w->starts[*to - 1];
}

/// score ← cap · tanh(score / cap). Scores may be in base 2.
static NOINLINE void cap_scores(const workspace *w, float cap, int from, int to, bool is_2) {
    const float scaled = is_2 ? cap * 1.44269504088896341f : cap;
    for (int r = from; r < to; r++) {
        for (int p = 0; p < w->limits[r]; p += 16) {
            f32x16 *score = (f32x16 *)(w->scores + r * CHUNK + p);
            *score = tanh16(*score / scaled) * scaled;
        }
    }
}

/// 16 (or 8) elements of a row's weighted values over its positions from `start` to `limit`. The weights lie where
/// `exponentiate` left them for what begins at `first`.
INLINE f32x16 weigh_row(
    const uint8_t *const *octets, int64_t offset, int64_t head_dim, int start, int limit, int first,
    const uint8_t *weights, bool is_half, bool is_bf16) {
    const int64_t pair_bytes = head_dim * (is_bf16 ? 4 : 8);
    f32x16 sums = 0.0f;
    for (int p = start / 2; 2 * p < limit; p++) {
        pair_lanes cached = load_value_pairs(octets[p / 4] + p % 4 * pair_bytes + offset, head_dim, is_half, is_bf16);
        if (2 * p < start) {
            cached.packed &= 0xFFFF0000;
            cached.even = 0.0f;
        }
        if (2 * p + 1 >= limit) {
            cached.packed &= 0xFFFF;
            cached.odd = 0.0f;
        }
        multiply_pairs(&sums, &cached, weights + (p - first / 2) * PAIR_BYTES(is_bf16), 0, 1, 1, is_bf16);
    }
    return sums;
}

/// Weights and weighted values of a chunk that lies partly behind some rows' windows, each row on its own.
static NOINLINE void attend_windows(
    const workspace *w, const uint8_t *const *octets, int64_t head_dim, int from, int to, bool is_bf16) {
    const s32x16 lanes = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 };
    for (int r = from; r < to; r++) {
        int start = w->starts[r], limit = w->limits[r], first = start / 16 * 16;
        float *scores = w->scores + r * CHUNK + first;
        f32x16 score = *(const f32x16 *)scores;
        *(f32x16 *)scores = lanes + first < start ? (f32x16)-__builtin_inff() : score;
        exponentiate(scores, limit - first, &w->chunk_maxima[r], &w->chunk_sums[r], is_bf16);
        const uint8_t *weights = (const uint8_t *)scores;
        for (int64_t d = 0; d < head_dim; d += 16) {
            float *target = w->chunk_values + r * head_dim + d;
            bool is_half = head_dim - d < 16;
            f32x16 sums = is_half ? weigh_row(octets, d * 4, head_dim, start, limit, first, weights, true, is_bf16)
                                  : weigh_row(octets, d * 4, head_dim, start, limit, first, weights, false, is_bf16);
            if (is_half) *(f32x8 *)target = sums.lo;
            else *(f32x16 *)target = sums;
        }
    }
}

/// Gives the row's sink its share: a part of one weight and no values.
static NOINLINE void add_sink(
    const attention_arguments *a, const attention_item *item, int r, float maximum, float *sum, float *values) {
    bool is_2 = is_base_2(a->layer);
    float sink = a->batch->sinks[item->kv_head * a->group + r % a->group];
    f32x16 highest = maximum, old, new;
    fold_factors(&highest, (f32x16)(is_2 ? sink * 1.44269504088896341f : sink), &old, &new, is_2);
    *sum = *sum * old[0] + new[0];
    for (int64_t d = 0; d < a->layer->head_dim; d++) values[d] *= old[0];
}
