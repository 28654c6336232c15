// Cached keys and values as a lane reads them: its shares of fragments, 16 bytes of bf16 or 8 of codes that become bf16 in
// registers, and the scales of its tokens; or its part of a panel. Codes are exact in bf16, so that what is multiplied is
// what was stored.

#ifndef APUS_CACHED_CUH
#define APUS_CACHED_CUH

#include "cuda/bytes.cuh"
#include "cuda/pages.cuh"
#include "cuda/span.cuh"

/// A lane's share of a fragment.
template <int type> struct cached_share {
    uint2 words;
};
template <> struct cached_share<CUDA_KV_BF16> {
    uint4 words;
};
template <> struct cached_share<CUDA_KV_PANELS> {
    uint4 words;
};

/// As the operand of a product, scales aside. (Out of line for the emulator, whose loops would grow too long to unroll.)
#ifdef __CUDACC__
template <int type> APUS_DEVICE uint4 fragment_of(const cached_share<type> &share) {
#else
template <int type> __noinline__ uint4 fragment_of(const cached_share<type> &share) {
#endif
    const bool is_integer = type == CUDA_KV_INT8;
    const uint2 low = is_integer ? bytes_to_bf16(share.words.x) : e4m3_to_bf16(share.words.x);
    const uint2 high = is_integer ? bytes_to_bf16(share.words.y) : e4m3_to_bf16(share.words.y);
    return make_uint4(low.x, low.y, high.x, high.y);
}
template <> APUS_DEVICE uint4 fragment_of(const cached_share<CUDA_KV_BF16> &share) { return share.words; }

/// Reads a lane's shares of `count` fragments of a group, from the `first`-th on, which is even of codes. Where the group
/// is nowhere they are zeros.
template <int type, int count>
APUS_DEVICE void load_shares(
    const uint8_t *group, int first, bool is_somewhere, cached_share<type> (&shares)[count]) {
    if constexpr (type == CUDA_KV_BF16) {
        const uint8_t *const source = group + (first * 32 + lane_index()) * 16;
#pragma unroll
        for (int f = 0; f < count; f++) {
            shares[f].words = make_uint4(0, 0, 0, 0);
            if (is_somewhere) shares[f].words = load_streaming_16(source + f * 512);
        }
    } else {
        const uint8_t *const source = group + first / 2 * 512;
#pragma unroll
        for (int f = 0; f + 1 < count; f += 2) {
            uint4 words = make_uint4(0, 0, 0, 0);
            if (is_somewhere) words = load_streaming_16(source + f / 2 * 512 + lane_index() * 16);
            shares[f].words = make_uint2(words.x, words.y);
            shares[f + 1].words = make_uint2(words.z, words.w);
        }
        if constexpr (count % 2 != 0) {
            shares[count - 1].words = make_uint2(0, 0);
            if (is_somewhere) shares[count - 1].words = load_8(source + count / 2 * 512 + lane_index() * 8);
        }
    }
}

// MARK: Panels

/// What a lane reads of a panel to have its shares of four fragments. Of keys these are the shares. Of values they are the
/// lane's eight dimensions, from 8g on, of the tokens 2t, 2t + 1, 2t + 8 and 2t + 9.
using panel_part = cached_share<CUDA_KV_PANELS>[CUDA_PANEL_FRAGMENTS];

/// A lane has the dimensions 4t…4t + 3 of a fragment's sixteen, as of a query, of two tokens eight apart: k is in another
/// order than wgmma's, but the sixteen numbers of a product are the same.
APUS_DEVICE uint4 key_fragment(uint2 low, uint2 high) { return make_uint4(low.x, high.x, low.y, high.y); }

APUS_DEVICE uint32_t word_of(const uint4 &words, int i) {
    return i == 0 ? words.x : i == 1 ? words.y : i == 2 ? words.z : words.w;
}

/// The `i`-th fragment of a panel of values: its rows are dimensions, of which it takes two of the lane's eight.
APUS_DEVICE uint4 value_fragment(const panel_part &rows, int i) {
    const uint32_t first = word_of(rows[0].words, i), second = word_of(rows[1].words, i);
    const uint32_t third = word_of(rows[2].words, i), fourth = word_of(rows[3].words, i);
    return make_uint4(
        __byte_perm(first, second, 0x5410), __byte_perm(first, second, 0x7632), __byte_perm(third, fourth, 0x5410),
        __byte_perm(third, fourth, 0x7632));
}

/// Where the lane's part of a panel begins: of keys as its dimensions 0…15, of values as its first row. Pieces are exchanged
/// by exclusive or, so that the rest is found from there. (`recomputed`, or every piece would take a register of its own.)
APUS_DEVICE int key_place() { return recomputed(swizzled_place(lane_index() / 4, lane_index() % 4 * 8)); }
APUS_DEVICE int value_place() { return recomputed(swizzled_place(lane_index() % 4 * 2, lane_index() / 4 * 16)); }

/// The `i`-th row of values from there: the next has the other parity, those eight further the same exchange.
APUS_DEVICE int value_row(int place, int i) {
    return (place ^ i % 2 * 16) + (i % 2 + i / 2 * 8) * CUDA_SWIZZLED_ROW_BYTES;
}

/// Reads the lane's part of a panel; where the group is nowhere it is zeros. Lines of keys are read in four pieces, one
/// soon after the other.
APUS_DEVICE void load_panel(const uint8_t *panel, bool is_value, bool is_somewhere, panel_part &part) {
    const int place = is_value ? value_place() : key_place();
#pragma unroll
    for (int i = 0; i < CUDA_PANEL_FRAGMENTS; i++) {
        part[i].words = make_uint4(0, 0, 0, 0);
        if (!is_somewhere) continue;
        if (is_value) {
            part[i].words = load_streaming_16(panel + value_row(place, i));
        } else {
            const uint8_t *const row = panel + (place ^ 32 * i);
            part[i].words = key_fragment(load_streaming_8(row), load_streaming_8(row + 8 * CUDA_SWIZZLED_ROW_BYTES));
        }
    }
}

// MARK: Scales

/// The scales of the 64 positions of a tile: lane l has those of positions l and l + 32.
struct lane_scales {
    float scales[2];

    /// That of the position g + 8 · half of a group, for lane 4g + t.
    __device__ __forceinline__ float of_row(int group, int half) const {
        return shuffle(scales[group / 2], group % 2 * CUDA_GROUP_TOKENS + half * 8 + lane_index() / 4);
    }
};

/// Scores of codes become scores.
template <class Scales> APUS_DEVICE void scale_scores(float (&scores)[TILE_GROUPS][4], const Scales &scales) {
#pragma unroll
    for (int group = 0; group < TILE_GROUPS; group++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const float scale = scales.of_row(group, half);
            scores[group][2 * half] *= scale;
            scores[group][2 * half + 1] *= scale;
        }
    }
}

#endif
