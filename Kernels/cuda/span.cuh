// The softmax over a span of 128 positions, for eight columns (query row, head) of a warp, and how spans are folded
// into a total. Prefill, decode and combine all compute with these functions, so that a row's bits do not depend on
// which of them it went through. Scores are in units of log2: the query is scaled by scale · log2 e, then rounded.
//
// Lane 4g + t holds the columns 2t and 2t + 1 (index 0 and 1), of scores the tokens g and g + 8 of each group of 16, of
// outputs the dimensions 2g and 2g + 1 of each fragment's 16, or, of a panel (cuda/pages.cuh), of the eight from 8g on
// two for each of its four fragments. (prefill_hopper.cu has columns as rows; its sums are added in the same order.)

#ifndef APUS_SPAN_CUH
#define APUS_SPAN_CUH

#include "cuda/device.cuh"
#include "cuda/pages.cuh"

#include <type_traits>

enum {
    /// Positions whose scores a warp holds at a time, and their groups.
    TILE_TOKENS = 64,
    TILE_GROUPS = TILE_TOKENS / CUDA_GROUP_TOKENS,
    SPAN_GROUPS = static_cast<int>(CUDA_SPAN_TOKENS) / CUDA_GROUP_TOKENS,
    RUN_TOKENS = static_cast<int>(CUDA_SPAN_TOKENS) * CUDA_RUN_SPANS,
};

#define APUS_INFINITY __int_as_float(0x7F800000)

/// A softmax so far: maximum, Σ 2^(score − maximum), and that sum weighted with the values. `sum` is the lane's own
/// part until `finish_span`. Outputs are (2g; column 0), (2g; 1), (2g + 1; 0), (2g + 1; 1) of each fragment.
template <int FRAGMENTS> struct softmax_state {
    float output[FRAGMENTS][4];
    float maximum[2];
    float sum[2];

    __device__ __forceinline__ void clear() {
#pragma unroll
        for (int f = 0; f < FRAGMENTS; f++) {
#pragma unroll
            for (int i = 0; i < 4; i++) output[f][i] = 0;
        }
        maximum[0] = maximum[1] = -APUS_INFINITY;
        sum[0] = sum[1] = 0;
    }
};

/// Sets the scores of tokens at and beyond a column's limit to −∞. `remaining` counts from the lane's first token.
APUS_DEVICE void mask_scores(float (&scores)[TILE_GROUPS][4], int remaining_0, int remaining_1) {
#pragma unroll
    for (int group = 0; group < TILE_GROUPS; group++) {
        const int token = group * CUDA_GROUP_TOKENS;
        if (token >= remaining_0) scores[group][0] = -APUS_INFINITY;
        if (token >= remaining_1) scores[group][1] = -APUS_INFINITY;
        if (token + 8 >= remaining_0) scores[group][2] = -APUS_INFINITY;
        if (token + 8 >= remaining_1) scores[group][3] = -APUS_INFINITY;
    }
}

/// The scales of values that have none.
struct no_scales {};

/// Takes a tile's scores into the span's maximum and sum, rescales its outputs, and gives the weights, times the values'
/// scales if they have any, rounded to bf16, as B operands of the product with the values. Without scales the sum is of
/// the rounded weights, so that they add up to one. A tile that is masked entirely changes nothing, exactly.
template <class Scales, int FRAGMENTS>
APUS_DEVICE void weigh_tile(
    const float (&scores)[TILE_GROUPS][4], bool is_first, softmax_state<FRAGMENTS> &span,
    uint32_t (&weights)[TILE_GROUPS][2], const Scales &scales) {
    float reference[2], factor[2];
#pragma unroll
    for (int c = 0; c < 2; c++) {
        float highest = fmaxf(scores[0][c], scores[0][c + 2]);
#pragma unroll
        for (int group = 1; group < TILE_GROUPS; group++) {
            highest = fmaxf(highest, fmaxf(scores[group][c], scores[group][c + 2]));
        }
        highest = fmaxf(highest, shuffle_xor(highest, 4));
        highest = fmaxf(highest, shuffle_xor(highest, 8));
        highest = fmaxf(highest, shuffle_xor(highest, 16));
        const float maximum = fmaxf(span.maximum[c], highest);
        // −∞ − (−∞) is no number.
        reference[c] = maximum == -APUS_INFINITY ? 0 : maximum;
        factor[c] = exp2_approx(span.maximum[c] - reference[c]);
        span.maximum[c] = maximum;
    }
    if (!is_first) {
        span.sum[0] *= factor[0];
        span.sum[1] *= factor[1];
#pragma unroll
        for (int f = 0; f < FRAGMENTS; f++) {
#pragma unroll
            for (int i = 0; i < 4; i++) span.output[f][i] *= factor[i & 1];
        }
    }
#pragma unroll
    for (int group = 0; group < TILE_GROUPS; group++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const float own[2] = {
                exp2_approx(scores[group][2 * half] - reference[0]),
                exp2_approx(scores[group][2 * half + 1] - reference[1])};
            if constexpr (std::is_same<Scales, no_scales>::value) {
                const uint32_t pair = pack_bf16(own[0], own[1]);
                span.sum[0] += bf16_low(pair);
                span.sum[1] += bf16_high(pair);
                weights[group][half] = transpose_8x8(pair);
            } else {
                const float scale = scales.of_row(group, half);
                span.sum[0] += own[0];
                span.sum[1] += own[1];
                weights[group][half] = transpose_8x8(pack_bf16(own[0] * scale, own[1] * scale));
            }
        }
    }
}

/// Adds up the lanes' parts of the sums.
template <int FRAGMENTS> APUS_DEVICE void finish_span(softmax_state<FRAGMENTS> &span) {
#pragma unroll
    for (int c = 0; c < 2; c++) {
        span.sum[c] += shuffle_xor(span.sum[c], 4);
        span.sum[c] += shuffle_xor(span.sum[c], 8);
        span.sum[c] += shuffle_xor(span.sum[c], 16);
    }
}

// MARK: Folding

struct fold_factors {
    float old;
    float added;
};

/// What a total and a span are multiplied with to meet at their common maximum. The factor of a span that is masked
/// entirely is −0, which leaves every total as it is, be it −0.
APUS_DEVICE fold_factors factors_of_fold(float old, float added, float maximum) {
    const float reference = maximum == -APUS_INFINITY ? 0 : maximum;
    return {
        exp2_approx(old - reference),
        added == -APUS_INFINITY ? -0.0f : exp2_approx(added - reference),
    };
}

APUS_DEVICE float fold(float old, float added, fold_factors factors) {
    return fmaf(added, factors.added, old * factors.old);
}

template <int FRAGMENTS>
APUS_DEVICE void fold_span(softmax_state<FRAGMENTS> &total, const softmax_state<FRAGMENTS> &span) {
    fold_factors factors[2];
#pragma unroll
    for (int c = 0; c < 2; c++) {
        const float maximum = fmaxf(total.maximum[c], span.maximum[c]);
        factors[c] = factors_of_fold(total.maximum[c], span.maximum[c], maximum);
        total.maximum[c] = maximum;
        total.sum[c] = fold(total.sum[c], span.sum[c], factors[c]);
    }
#pragma unroll
    for (int f = 0; f < FRAGMENTS; f++) {
#pragma unroll
        for (int i = 0; i < 4; i++) total.output[f][i] = fold(total.output[f][i], span.output[f][i], factors[i & 1]);
    }
}

/// What outputs are multiplied with in the end. A row without context is 0.
APUS_DEVICE float inverse_of_sum(float sum) { return sum == 0 ? 0 : 1 / sum; }

// MARK: Options

/// The first position that a row looks back on that sees `limit` positions.
APUS_DEVICE int window_start(const cuda_attend_arguments &a, int limit) {
    return a.window > 0 ? max(limit - a.window, 0) : 0;
}

/// Sets the scores of tokens behind a column's window to −∞. `behind` counts from the lane's first token.
APUS_DEVICE void mask_behind(float (&scores)[TILE_GROUPS][4], int behind_0, int behind_1) {
#pragma unroll
    for (int group = 0; group < TILE_GROUPS; group++) {
        const int token = group * CUDA_GROUP_TOKENS;
        if (token < behind_0) scores[group][0] = -APUS_INFINITY;
        if (token < behind_1) scores[group][1] = -APUS_INFINITY;
        if (token + 8 < behind_0) scores[group][2] = -APUS_INFINITY;
        if (token + 8 < behind_1) scores[group][3] = -APUS_INFINITY;
    }
}

/// score ← cap · tanh(score / cap), scores being in units of log2.
APUS_DEVICE void cap_scores(float *scores, int count, float cap) {
    const float scaled = cap * 1.44269504088896340736f, inverse = 1 / scaled;
#pragma unroll
    for (int i = 0; i < count; i++) {
        // tanh x = 1 − 2 / (e²ˣ + 1); the error is a millionth of the cap.
        const float power = exp2_approx(scores[i] * inverse * 2.88539008177792681472f);
        scores[i] = scaled - 2 * scaled / (power + 1);
    }
}
template <int count> APUS_DEVICE void cap_scores(float (&scores)[count][4], float cap) {
#pragma unroll
    for (int i = 0; i < count; i++) cap_scores(scores[i], 4, cap);
}

/// What outputs are multiplied with in the end when a head's sink takes its share of the weights.
APUS_DEVICE float inverse_with_sink(const cuda_attend_arguments &a, int head, float maximum, float sum) {
    if (a.sinks == 0) return inverse_of_sum(sum);
    const float sink = at<const float>(a.sinks)[head] * 1.44269504088896340736f, highest = fmaxf(maximum, sink);
    const float own = exp2_approx(maximum - highest);
    return own / fmaf(sum, own, exp2_approx(sink - highest));
}

// MARK: Work

/// The sequence s with starts[s] ≤ index < starts[s + 1]. A warp looks at 32 places at a time.
APUS_DEVICE int find_sequence(const int32_t *starts, int count, int index) {
    int low = 0, high = count;
    while (high - low > 1) {
        const int step = (high - low + 31) / 32, probe = low + lane_index() * step;
        const int below = __popc(ballot(probe < high && starts[min(probe, high - 1)] <= index));
        low += (below - 1) * step;
        high = min(high, low + step);
    }
    return low;
}

// MARK: Partial results

/// Outputs [slot, head, head_dim] lie first, then (maximum, sum) [slot, head]. A sequence's slots are [row, span].
APUS_DEVICE float *partial_output(const cuda_attend_arguments &a, int64_t slot, int head) {
    return at<float>(a.partial, (slot * a.batch.heads + head) * a.batch.head_dim);
}
APUS_DEVICE float2 *partial_sums(const cuda_attend_arguments &a, int64_t slot, int head) {
    const int64_t outputs = static_cast<int64_t>(a.batch.partial_spans) * a.batch.heads * a.batch.head_dim;
    return reinterpret_cast<float2 *>(at<float>(a.partial, outputs)) + slot * a.batch.heads + head;
}

/// The dimensions of a panel that a lane has a column of, and where they begin.
APUS_DEVICE int panel_dimension(int panel) { return panel * CUDA_PANEL_DIMENSIONS + lane_index() / 4 * 8; }

/// Writes a column of a state, or reads it.
template <bool is_store, bool has_panels, int FRAGMENTS>
APUS_DEVICE void move_partial(
    const cuda_attend_arguments &a, int64_t slot, int head, int column, softmax_state<FRAGMENTS> &state) {
    float2 &sums = *partial_sums(a, slot, head);
    if (!is_store) {
        state.maximum[column] = sums.x;
        state.sum[column] = sums.y;
    } else if (lane_index() < 4) {
        sums = make_float2(state.maximum[column], state.sum[column]);
    }
    float *const output = partial_output(a, slot, head);
#pragma unroll
    for (int f = 0; f < FRAGMENTS; f += has_panels ? 2 : 1) {
        if constexpr (has_panels) {
            const int dimension = panel_dimension(f / CUDA_PANEL_FRAGMENTS) + f % CUDA_PANEL_FRAGMENTS * 2;
            float(&low)[4] = state.output[f], (&high)[4] = state.output[f + 1];
            float4 &four = *reinterpret_cast<float4 *>(output + dimension);
            if (is_store) four = make_float4(low[column], low[column + 2], high[column], high[column + 2]);
            else low[column] = four.x, low[column + 2] = four.y, high[column] = four.z, high[column + 2] = four.w;
        } else {
            float2 &pair = *reinterpret_cast<float2 *>(output + f * 16 + lane_index() / 4 * 2);
            if (is_store) pair = make_float2(state.output[f][column], state.output[f][column + 2]);
            else state.output[f][column] = pair.x, state.output[f][column + 2] = pair.y;
        }
    }
}

// MARK: Products

APUS_DEVICE void multiply_fragment(float (&d)[4], const uint4 &fragment, const uint32_t (&b)[2]) {
    const uint32_t a[4] = {fragment.x, fragment.y, fragment.z, fragment.w};
    mma_bf16(d, a, b);
}

/// Which of a lane's tokens `token` and `token + 1` are below `limit`, as a mask of a pair.
APUS_DEVICE uint32_t pair_mask(int token, int limit) {
    return token >= limit ? 0 : token + 1 >= limit ? 0xFFFF : 0xFFFFFFFF;
}

/// What keeps of a fragment of values the tokens below `limit` of its group. What lies beyond may be a NaN, which not
/// even a weight of 0 makes go away.
struct value_mask {
    uint32_t low;
    uint32_t high;
};
APUS_DEVICE value_mask mask_of_values(int limit) {
    const int token = lane_index() % 4 * 2;
    return {pair_mask(token, limit), pair_mask(token + 8, limit)};
}
APUS_DEVICE uint4 keep_values(uint4 fragment, value_mask mask) {
    return make_uint4(fragment.x & mask.low, fragment.y & mask.low, fragment.z & mask.high, fragment.w & mask.high);
}

/// The lane's share of column g of a query, scaled, as B operands. `row` is 0 for a column that is none.
template <int FRAGMENTS>
APUS_DEVICE void load_query(const float *row, float scale, uint32_t (&query)[FRAGMENTS][2]) {
    const float factor = scale * 1.44269504088896340736f;
#pragma unroll
    for (int f = 0; f < FRAGMENTS; f++) {
        float4 x = make_float4(0, 0, 0, 0);
        if (row != nullptr) x = *reinterpret_cast<const float4 *>(row + f * 16 + lane_index() % 4 * 4);
        query[f][0] = pack_bf16(x.x * factor, x.y * factor);
        query[f][1] = pack_bf16(x.z * factor, x.w * factor);
    }
}

/// Writes a column of a total, multiplied by `inverse`, to its head of a row.
template <bool has_panels, int FRAGMENTS>
APUS_DEVICE void store_output(
    const softmax_state<FRAGMENTS> &total, int column, float inverse, uint16_t *row) {
    const auto pair_of = [&](int f) {
        return pack_bf16(total.output[f][column] * inverse, total.output[f][column + 2] * inverse);
    };
#pragma unroll
    for (int f = 0; f < FRAGMENTS; f += has_panels ? CUDA_PANEL_FRAGMENTS : 1) {
        if constexpr (has_panels) {
            store_16(
                row + panel_dimension(f / CUDA_PANEL_FRAGMENTS),
                make_uint4(pair_of(f), pair_of(f + 1), pair_of(f + 2), pair_of(f + 3)));
        } else {
            *reinterpret_cast<uint32_t *>(row + f * 16 + lane_index() / 4 * 2) = pair_of(f);
        }
    }
}

#endif
