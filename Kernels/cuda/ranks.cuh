// A token's place in the order of a row of logits, higher logit first and lower id among equals, as one integer. The
// best token of a row is the highest rank, in whatever order and company ranks are compared.

#ifndef APUS_RANKS_CUH
#define APUS_RANKS_CUH

#include "device.cuh"

enum {
    /// Bits of a rank that hold the token.
    RANK_TOKEN_BITS = 22,
    LAST_TOKEN = (1 << RANK_TOKEN_BITS) - 1,
};

APUS_DEVICE uint64_t rank_of(float logit, int token) {
    // −0 equals 0 and must rank with it.
    const uint32_t bits = logit == 0 ? 0 : __float_as_uint(logit);
    const uint32_t key = (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
    return static_cast<uint64_t>(key) << RANK_TOKEN_BITS | static_cast<uint32_t>(LAST_TOKEN - token);
}

/// No token of at least this logit ranks below.
APUS_DEVICE uint64_t lowest_rank(float logit) { return rank_of(logit, LAST_TOKEN); }

APUS_DEVICE int token_of(uint64_t rank) { return LAST_TOKEN - static_cast<int>(rank & LAST_TOKEN); }

APUS_DEVICE float logit_of(uint64_t rank) {
    const uint32_t key = static_cast<uint32_t>(rank >> RANK_TOKEN_BITS);
    return __uint_as_float((key & 0x80000000u) != 0 ? key ^ 0x80000000u : ~key);
}

/// Above every rank: what a NaN leaves, so that it shows.
constexpr uint64_t RANK_OF_NAN = ~static_cast<uint64_t>(0);

APUS_DEVICE uint64_t higher_rank(uint64_t a, uint64_t b) { return a > b ? a : b; }

// MARK: Of a product

/// Leaves the best of the sixteen rows of a tile for one token, of whose sums lane 4g + t has those of rows g and g + 8,
/// `first` and `second`; tokens are the same for lanes of the same t. `ranks` is [tokens, tiles].
APUS_DEVICE void write_best(
    cuda_address ranks, int rows, int tile, int token, int tokens, int lane, float first, float second) {
    const int row = 16 * tile + lane / 4, tiles = (rows + 15) / 16;
    const uint64_t one = first != first ? RANK_OF_NAN : rank_of(first, row);
    const uint64_t other = second != second ? RANK_OF_NAN : rank_of(second, row + 8);
    uint64_t best = row < rows ? one : 0;
    if (row + 8 < rows) best = higher_rank(best, other);
#pragma unroll
    for (int mask = 4; mask < 32; mask *= 2) best = higher_rank(best, shuffle_xor(best, mask));
    if (lane < 4 && token < tokens && tile < tiles) {
        at<uint64_t>(ranks, static_cast<int64_t>(token) * tiles)[tile] = best;
    }
}

#endif
