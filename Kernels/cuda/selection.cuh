// Choosing the best tokens of a row without sorting it. A token's place in the order (higher logit first, lower id among
// equals) is one integer, its rank, so that a set of best tokens is "all ranks from a floor up", and a floor is found by
// narrowing a range of ranks with histograms. Counts and masses are integers: no order of additions matters.

#ifndef APUS_SELECTION_CUH
#define APUS_SELECTION_CUH

#include "exponential.cuh"
#include "ranks.cuh"
#include "rows.h"

enum {
    BIN_BITS = 10,
    BINS = 1 << BIN_BITS,
    /// Candidates that are listed in shared memory; when there are more, passes go over the row.
    LIST_CAPACITY = 4096,
};

/// A block's shared memory.
struct selection_workspace {
    uint64_t list[LIST_CAPACITY];
    uint32_t counts[BINS];
    uint32_t masses_low[BINS];
    uint32_t masses_high[BINS];
    uint64_t of_warps[SAMPLE_THREADS / 32];
    uint64_t ahead;
    uint32_t listed;
    int32_t bin;
    int32_t is_done;
};

// MARK: Tokens

/// A row of logits and the tokens of it that may be chosen.
struct token_row {
    const float *logits;
    /// Layout as in `cuda_sampling_row`; null when all may.
    const uint32_t *mask;
    int32_t vocab;
    bool is_aligned;
};

/// The logit, or −∞ where the mask does not allow the token.
APUS_DEVICE float masked(const token_row &row, int token, float logit) {
    // A NaN stays one, so that it is seen.
    const bool is_masked = row.mask != nullptr && (row.mask[token / 32] >> token % 32 & 1) == 0;
    return is_masked && logit == logit ? -__int_as_float(0x7F800000) : logit;
}

/// The logits of four adjacent tokens; −∞ stands past the row's end.
APUS_DEVICE void load_logits(const token_row &row, int first, bool is_aligned, float (&logits)[4]) {
    if (is_aligned) {
        const uint4 bits = first < row.vocab ? load_16(row.logits + first) : make_uint4(0, 0, 0, 0);
        logits[0] = __uint_as_float(bits.x);
        logits[1] = __uint_as_float(bits.y);
        logits[2] = __uint_as_float(bits.z);
        logits[3] = __uint_as_float(bits.w);
        return;
    }
#pragma unroll
    for (int i = 0; i < 4; i++) logits[i] = first + i < row.vocab ? row.logits[first + i] : -__int_as_float(0x7F800000);
}

/// Calls visit(first, logits) for this thread's groups of four adjacent tokens. The loads of `depth` groups are on their
/// way at once: a single block has to hide what memory takes.
template <int depth, class Visit> APUS_DEVICE void for_each_four(const token_row &row, Visit visit) {
    const int stride = 4 * blockDim.x;
    for (int start = 4 * threadIdx.x; start < row.vocab; start += depth * stride) {
        float logits[depth][4];
        if (row.is_aligned) {
#pragma unroll
            for (int i = 0; i < depth; i++) load_logits(row, start + i * stride, true, logits[i]);
        } else {
#pragma unroll
            for (int i = 0; i < depth; i++) load_logits(row, start + i * stride, false, logits[i]);
        }
#pragma unroll
        for (int i = 0; i < depth; i++) {
            const int first = start + i * stride;
            if (first >= row.vocab) return;
            if (row.mask != nullptr) {
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    if (first + j < row.vocab) logits[i][j] = masked(row, first + j, logits[i][j]);
                }
            }
            visit(first, logits[i]);
        }
    }
}

/// Calls visit(rank) for this thread's share of the candidates of at least `floor`: of the `listed` ones, or of the row's
/// when `listed` is negative.
template <int depth, class Visit>
APUS_DEVICE void for_each_candidate(
    const token_row &row, const selection_workspace &w, int listed, uint64_t floor, Visit visit) {
    if (listed >= 0) {
        for (int i = threadIdx.x; i < listed; i += blockDim.x) if (w.list[i] >= floor) visit(w.list[i]);
        return;
    }
    for_each_four<depth>(row, [&](int first, const float (&logits)[4]) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const uint64_t rank = rank_of(logits[i], first + i);
            if (rank >= floor && first + i < row.vocab) visit(rank);
        }
    });
}

// MARK: Over a block

/// The values of all threads combined, in every thread. Combining has to be associative and commutative.
template <class Combine>
APUS_DEVICE uint64_t reduce(uint64_t value, selection_workspace &w, Combine combine) {
#pragma unroll
    for (int mask = 16; mask > 0; mask /= 2) value = combine(value, shuffle_xor(value, mask));
    block_sync();
    if (lane_index() == 0) w.of_warps[warp_index()] = value;
    block_sync();
    const int warps = blockDim.x / 32;
    value = w.of_warps[lane_index() % warps];
    for (int mask = warps / 2; mask > 0; mask /= 2) value = combine(value, shuffle_xor(value, mask));
    return value;
}

APUS_DEVICE uint64_t block_max(uint64_t value, selection_workspace &w) {
    return reduce(value, w, [](uint64_t a, uint64_t b) { return a > b ? a : b; });
}

APUS_DEVICE uint64_t block_min(uint64_t value, selection_workspace &w) {
    return reduce(value, w, [](uint64_t a, uint64_t b) { return a < b ? a : b; });
}

APUS_DEVICE uint64_t block_sum(uint64_t value, selection_workspace &w) {
    return reduce(value, w, [](uint64_t a, uint64_t b) { return a + b; });
}

/// Lists the row's tokens of at least `floor`, in any order, and returns how many there are; −1 when they do not fit.
APUS_DEVICE int list_candidates(const token_row &row, selection_workspace &w, uint64_t floor) {
    block_sync();
    if (threadIdx.x == 0) w.listed = 0;
    block_sync();
    for_each_candidate<4>(row, w, -1, floor, [&](uint64_t rank) {
        const uint32_t place = atomicAdd(&w.listed, 1u);
        if (place < LIST_CAPACITY) w.list[place] = rank;
    });
    block_sync();
    return w.listed <= LIST_CAPACITY ? static_cast<int>(w.listed) : -1;
}

// MARK: Weights

/// p ∝ e^((logit − highest) / temperature), so that the best token weighs 1.
struct softmax_weights {
    float highest;
    float inverse_temperature;
};

APUS_DEVICE float weight_of(const softmax_weights &weights, float logit) {
    return exponential((logit - weights.highest) * weights.inverse_temperature);
}

/// The weight in units of 2⁻⁴⁴: a sum over 2¹⁹ tokens fits 64 bits.
APUS_DEVICE uint64_t mass_of(const softmax_weights &weights, uint64_t rank) {
    return static_cast<uint64_t>(weight_of(weights, logit_of(rank)) * 0x1p44f);
}

// MARK: The best tokens

/// Finds in the histogram, from the highest bin down, the bin in which the sum reaches `limit`, for all threads to read
/// in the workspace.
APUS_DEVICE void find_bin(selection_workspace &w, uint64_t limit, bool is_mass) {
    const auto measure = [&](int place) -> uint64_t {
        const int bin = BINS - 1 - place;
        return is_mass ? static_cast<uint64_t>(w.masses_high[bin]) << 32 | w.masses_low[bin] : w.counts[bin];
    };
    const int share = BINS / blockDim.x, first = share * threadIdx.x, lane = lane_index();
    uint64_t own = 0;
    for (int i = 0; i < share; i++) own += measure(first + i);
    uint64_t reached = own;
#pragma unroll
    for (int distance = 1; distance < 32; distance *= 2) {
        const uint64_t other = shuffle(reached, lane - distance);
        if (lane >= distance) reached += other;
    }
    if (lane == 31) w.of_warps[warp_index()] = reached;
    block_sync();
    uint64_t before = lane < warp_index() ? w.of_warps[lane] : 0;
#pragma unroll
    for (int mask = 16; mask > 0; mask /= 2) before += shuffle_xor(before, mask);
    reached += before;
    uint64_t ahead = reached - own;
    if (ahead < limit && limit <= reached) {
        int place = first;
        for (; ahead + measure(place) < limit; place++) ahead += measure(place);
        w.bin = BINS - 1 - place;
        w.ahead = ahead;
        w.is_done = ahead + measure(place) == limit || w.counts[BINS - 1 - place] == 1;
    }
    block_sync();
}

/// The floor of the fewest best candidates that are `limit` in number, or whose masses come to `limit`; `floor` itself
/// when all together do not reach it. No candidate ranks above `best`. Each round looks at the one bin of the last in
/// which the limit falls, so there are at most six.
APUS_DEVICE uint64_t floor_of_best(
    const token_row &row, selection_workspace &w, int listed, uint64_t floor, uint64_t best, uint64_t limit,
    const softmax_weights *weights) {
    for (;;) {
        const uint64_t span = best - floor;
        const uint32_t span_high = static_cast<uint32_t>(span >> 32), span_low = static_cast<uint32_t>(span);
        const int bits = span_high != 0 ? 64 - __clz(static_cast<int>(span_high)) : 32 - __clz(static_cast<int>(span_low));
        const int shift = bits > BIN_BITS ? bits - BIN_BITS : 0;
        block_sync();
        for (int bin = threadIdx.x; bin < BINS; bin += blockDim.x) {
            w.counts[bin] = 0;
            w.masses_low[bin] = 0;
            w.masses_high[bin] = 0;
        }
        if (threadIdx.x == 0) w.bin = -1;
        block_sync();
        for_each_candidate<1>(row, w, listed, floor, [&](uint64_t rank) {
            if (rank > best) return;
            const int bin = static_cast<int>((rank - floor) >> shift);
            atomicAdd(&w.counts[bin], 1u);
            if (weights == nullptr) return;
            // 64 bits as two 32-bit sums, the carry taken from the first: exact in any order.
            const uint64_t mass = mass_of(*weights, rank);
            const uint32_t low = static_cast<uint32_t>(mass);
            const uint32_t carry = atomicAdd(&w.masses_low[bin], low) + low < low ? 1 : 0;
            const uint32_t high = static_cast<uint32_t>(mass >> 32) + carry;
            if (high != 0) atomicAdd(&w.masses_high[bin], high);
        });
        block_sync();
        find_bin(w, limit, weights != nullptr);
        if (w.bin < 0) return floor;
        floor += static_cast<uint64_t>(w.bin) << shift;
        if (w.is_done != 0 || shift == 0) return floor;
        const uint64_t last = floor + (static_cast<uint64_t>(1) << shift) - 1;
        best = last < best ? last : best;
        limit -= w.ahead;
    }
}

#endif
