// Math:    output[t] = Σ_p softmax_p(scale · q[t] · k[p]) · v[p] over positions p ≤ position[t] of t's sequence;
//          options, and caches of 8 bits, as in attention.cu.
// Shapes:  q [tokens, stride] f32, heads side by side; cache as in cuda/pages.cuh; output [tokens, heads, head_dim]
//          bf16. Here for sequences with several query rows; the others are attention.cu's.
// Launch:  A block takes tiles of 128 columns, (query row, head) pairs of one kv head, 16 to a warp (8 of large heads).
//          Positions come through shared memory, 64 at a time in two stages, as the fragments they are cached in: a
//          load of 16 bytes a lane is two products' operand. Spans are those of decode, folded in registers, or left to
//          combine where few rows look back far: then runs of four spans are items of their own. Codes of 8 bits come
//          to a place of their warp's own, which turns them into a stage's fragments once for all warps.
// Bound:   multiply-adds. Errors: as attention.cu.
// Checked: AttentionCases (f64 reference within the bound; bitwise over chunks, batch and kernels; NaN in unused slots)
// Source:  Dao, "FlashAttention-2" (2023)

#include "cuda/cached.cuh"
#include "cuda/device.cuh"
#include "cuda/pages.cuh"
#include "cuda/prefill.cuh"
#include "cuda/span.cuh"

// MARK: Stages

/// A tile of positions in shared memory: fragments of keys and of values, and the scales of codes, keys' and values'.
template <int type, int FRAGMENTS> struct tile_stage {
    static constexpr int group_elements = FRAGMENTS * CUDA_FRAGMENT_ELEMENTS;
    static constexpr int scale_elements = 2 * TILE_GROUPS * cuda_kv_scale_bytes(type) / 2;
    static constexpr int elements = 2 * TILE_GROUPS * group_elements + scale_elements;
    /// Of a warp's group before it is turned into fragments, behind both stages.
    static constexpr int code_bytes = type == CUDA_KV_BF16 ? 0 : cuda_kv_element_bytes(type, 16 * FRAGMENTS);

    static __device__ __forceinline__ float *scales(uint16_t *stage) {
        return reinterpret_cast<float *>(stage + 2 * TILE_GROUPS * group_elements);
    }
    static __device__ __forceinline__ uint8_t *codes(uint16_t *stages) {
        return reinterpret_cast<uint8_t *>(stages + 2 * elements) + warp_index() * code_bytes;
    }
};

/// The scales of a tile in shared memory.
struct stage_scales {
    const float *scales;

    __device__ __forceinline__ float of_row(int group, int half) const {
        return scales[group * CUDA_GROUP_TOKENS + half * 8 + lane_index() / 4];
    }
};

/// What a warp knows of its columns.
template <int FRAGMENTS, int TILES> struct prefill_columns {
    uint32_t query[TILES][FRAGMENTS][2];
    /// How many positions the lane's columns 2t and 2t + 1 of each tile see; 0 for columns that are none.
    int limits[TILES][2];
    /// The least and greatest of the warp's limits.
    int least;
    int greatest;
};

template <int FRAGMENTS, int TILES>
APUS_DEVICE void load_columns(
    const cuda_attend_arguments &a, const prefill_item &item, prefill_columns<FRAGMENTS, TILES> &columns) {
    const int group = a.batch.heads / a.batch.kv_heads;
    columns.least = item.context;
    columns.greatest = 0;
#pragma unroll
    for (int tile = 0; tile < TILES; tile++) {
        const int column = item.first_column + (warp_index() * TILES + tile) * 8 + lane_index() / 4;
        const int row = item.first_row + column / group, head = item.kv_head * group + column % group;
        const bool is_one = column < item.column_count;
        const float *const q = at<const float>(a.q, static_cast<int64_t>(row) * a.q_stride + head * a.batch.head_dim);
        load_query(is_one ? q : nullptr, a.scale, columns.query[tile]);
        const int limit = is_one ? min(item.context, at<const int32_t>(a.batch.positions)[row] + 1) : 0;
#pragma unroll
        for (int c = 0; c < 2; c++) {
            columns.limits[tile][c] = shuffle(limit, (lane_index() % 4 * 2 + c) * 4);
            columns.least = min(columns.least, columns.limits[tile][c]);
            columns.greatest = max(columns.greatest, columns.limits[tile][c]);
        }
    }
#pragma unroll
    for (int mask = 1; mask <= 2; mask *= 2) {
        columns.least = min(columns.least, shuffle_xor(columns.least, mask));
        columns.greatest = max(columns.greatest, shuffle_xor(columns.greatest, mask));
    }
}

/// Takes 64 positions from `first_token`, keys and then values in `stage`, into the spans of a warp's columns.
template <int type, bool has_options, int FRAGMENTS, int TILES>
APUS_DEVICE void attend_tile(
    const cuda_attend_arguments &a, uint16_t *stage, int first_token, bool is_first,
    const prefill_columns<FRAGMENTS, TILES> &columns, softmax_state<FRAGMENTS> (&spans)[TILES]) {
    const uint16_t *const keys = stage + lane_index() * CUDA_LANE_ELEMENTS;
    const uint16_t *const values = keys + TILE_GROUPS * FRAGMENTS * CUDA_FRAGMENT_ELEMENTS;
    float scores[TILES][TILE_GROUPS][4] = {};
#pragma unroll
    for (int f = 0; f < FRAGMENTS; f++) {
#pragma unroll
        for (int group = 0; group < TILE_GROUPS; group++) {
            const uint4 fragment = load_16(keys + (group * FRAGMENTS + f) * CUDA_FRAGMENT_ELEMENTS);
#pragma unroll
            for (int tile = 0; tile < TILES; tile++) {
                multiply_fragment(scores[tile][group], fragment, columns.query[tile][f]);
            }
        }
    }
    uint32_t weights[TILES][TILE_GROUPS][2];
    const stage_scales key_scales = {tile_stage<type, FRAGMENTS>::scales(stage)};
    const stage_scales value_scales = {key_scales.scales + TILE_TOKENS};
#pragma unroll
    for (int tile = 0; tile < TILES; tile++) {
        const int lane_token = first_token + lane_index() / 4;
        if constexpr (type != CUDA_KV_BF16) scale_scores(scores[tile], key_scales);
        if (has_options && a.soft_cap > 0) cap_scores(scores[tile], a.soft_cap);
        if (has_options && a.window > 0) {
            const int (&limits)[2] = columns.limits[tile];
            mask_behind(scores[tile], limits[0] - a.window - lane_token, limits[1] - a.window - lane_token);
        }
        if (first_token + TILE_TOKENS > columns.least) {
            mask_scores(scores[tile], columns.limits[tile][0] - lane_token, columns.limits[tile][1] - lane_token);
        }
        if constexpr (type == CUDA_KV_BF16) weigh_tile(scores[tile], is_first, spans[tile], weights[tile], no_scales());
        else weigh_tile(scores[tile], is_first, spans[tile], weights[tile], value_scales);
    }
#pragma unroll
    for (int group = 0; group < TILE_GROUPS; group++) {
#pragma unroll
        for (int f = 0; f < FRAGMENTS; f++) {
            const uint4 fragment = load_16(values + (group * FRAGMENTS + f) * CUDA_FRAGMENT_ELEMENTS);
#pragma unroll
            for (int tile = 0; tile < TILES; tile++) {
                multiply_fragment(spans[tile].output[f], fragment, weights[tile][group]);
            }
        }
    }
}

/// Starts copying the 64 positions from `first_token`: each of eight warps a group's keys or values, to `stage`, or the
/// codes to the warp's own `codes`.
template <int type, int FRAGMENTS>
APUS_DEVICE void copy_tile(
    const cuda_attend_arguments &a, const prefill_item &item, int first_token, uint16_t *stage, uint8_t *codes) {
    using stage_of = tile_stage<type, FRAGMENTS>;
    constexpr int bytes = cuda_kv_element_bytes(type, 16 * FRAGMENTS);
    const int token = first_token + warp_index() % TILE_GROUPS * CUDA_GROUP_TOKENS, size = a.cache.block_size;
    const int32_t *const table =
        at<const int32_t>(a.batch.block_tables, static_cast<int64_t>(item.sequence) * a.batch.blocks_per_sequence);
    const bool is_valid = token < item.limit && token + CUDA_GROUP_TOKENS > item.behind;
    const int64_t group =
        is_valid ? cuda_kv_group(table[token / size], token % size, item.kv_head, a.cache.kv_heads, size) : 0;
    const cuda_address cache = warp_index() < TILE_GROUPS ? a.cache.keys : a.cache.values;
    const uint8_t *const source =
        at<const uint8_t>(cache, group * cuda_kv_group_bytes(type, 16 * FRAGMENTS)) + lane_index() * 16;
    uint8_t *const target = type == CUDA_KV_BF16
        ? reinterpret_cast<uint8_t *>(stage + warp_index() * stage_of::group_elements)
        : codes;
#pragma unroll
    for (int i = 0; i + 512 <= bytes; i += 512) copy_async_16(target + lane_index() * 16 + i, source + i, is_valid);
    if constexpr (type != CUDA_KV_BF16) {
        // Half a fragment of a warp's, and 16 scales.
        if (bytes % 512 != 0 && lane_index() < 16) {
            copy_async_16(target + lane_index() * 16 + bytes / 512 * 512, source + bytes / 512 * 512, is_valid);
        }
        float *const scales = stage_of::scales(stage) + warp_index() * CUDA_GROUP_TOKENS;
        if (lane_index() < 4) copy_async_16(scales + 4 * lane_index(), source + bytes, is_valid);
    }
    copy_async_commit();
}

/// Clears the values at and beyond `limit` of a tile. A lane sees to what it has copied itself, so it need not wait for
/// the others.
template <int FRAGMENTS> APUS_DEVICE void clear_tail(int limit, uint16_t *stage) {
    const int group_limit = limit - warp_index() % TILE_GROUPS * CUDA_GROUP_TOKENS;
    if (warp_index() < TILE_GROUPS || group_limit >= CUDA_GROUP_TOKENS) return;
    const value_mask mask = mask_of_values(group_limit);
    uint16_t *const values =
        stage + warp_index() * FRAGMENTS * CUDA_FRAGMENT_ELEMENTS + lane_index() * CUDA_LANE_ELEMENTS;
#pragma unroll
    for (int f = 0; f < FRAGMENTS; f++) {
        uint16_t *const fragment = values + f * CUDA_FRAGMENT_ELEMENTS;
        store_16(fragment, keep_values(load_16(fragment), mask));
    }
}

/// Turns the codes that a warp has copied into its group's fragments of `stage`. Scales at and beyond `limit` become 0.
template <int type, int FRAGMENTS>
APUS_DEVICE void unpack_codes(const uint8_t *codes, int limit, uint16_t *stage) {
    using stage_of = tile_stage<type, FRAGMENTS>;
    uint16_t *const target = stage + warp_index() * stage_of::group_elements + lane_index() * CUDA_LANE_ELEMENTS;
    // Of a fragment that comes alone a lane's codes were copied by another.
    warp_sync();
#pragma unroll
    for (int f = 0; f < FRAGMENTS; f += 2) {
        const uint8_t *const source = codes + f / 2 * 512;
        cached_share<type> shares[2] = {};
        if (f + 1 < FRAGMENTS) {
            const uint4 words = load_16(source + lane_index() * 16);
            shares[0].words = make_uint2(words.x, words.y), shares[1].words = make_uint2(words.z, words.w);
        } else {
            shares[0].words = load_8(source + lane_index() * 8);
        }
        store_16(target + f * CUDA_FRAGMENT_ELEMENTS, fragment_of(shares[0]));
        if (f + 1 < FRAGMENTS) store_16(target + (f + 1) * CUDA_FRAGMENT_ELEMENTS, fragment_of(shares[1]));
    }
    const int token = warp_index() % TILE_GROUPS * CUDA_GROUP_TOKENS + lane_index();
    float *const scales = stage_of::scales(stage) + warp_index() * CUDA_GROUP_TOKENS;
    if (lane_index() < CUDA_GROUP_TOKENS && token >= limit) scales[lane_index()] = 0;
}

/// Calls body(tile, column 0 or 1 of it, row of the sequence, head) for the lane's columns.
template <int TILES, class Body>
APUS_DEVICE void for_each_column(const cuda_attention_batch &batch, const prefill_item &item, Body body) {
    const int group = batch.heads / batch.kv_heads;
#pragma unroll
    for (int i = 0; i < 2 * TILES; i++) {
        const int column = item.first_column + (warp_index() * TILES + i / 2) * 8 + lane_index() % 4 * 2 + i % 2;
        if (column >= item.column_count) continue;
        body(i / 2, i % 2, column / group, item.kv_head * group + column % group);
    }
}

/// Takes an item's positions. Spans are folded into totals, or left as partial results if the context is cut.
template <int type, int FRAGMENTS, int TILES, bool is_cut, bool has_options>
APUS_DEVICE void attend_item(const cuda_attend_arguments &a, const prefill_item &own, uint16_t *stages) {
    using stage_of = tile_stage<type, FRAGMENTS>;
    uint8_t *const codes = stage_of::codes(stages);
    if (own.first_token < own.limit) copy_tile<type, FRAGMENTS>(a, own, own.first_token, stages, codes);
    prefill_columns<FRAGMENTS, TILES> columns;
    load_columns(a, own, columns);
    softmax_state<FRAGMENTS> totals[TILES], spans[TILES];
#pragma unroll
    for (int i = 0; i < TILES; i++) totals[i].clear();
#pragma unroll 1
    for (int token = own.first_token, parity = 0; token < own.limit; token += TILE_TOKENS, parity ^= 1) {
        uint16_t *const stage = stages + parity * stage_of::elements;
        copy_async_wait<0>();
        if constexpr (type != CUDA_KV_BF16) unpack_codes<type, FRAGMENTS>(codes, own.context - token, stage);
        else if (token + TILE_TOKENS > own.context) clear_tail<FRAGMENTS>(own.context - token, stage);
        // The other stage is free once every warp is here.
        block_sync();
        if (token + TILE_TOKENS < own.limit) {
            copy_tile<type, FRAGMENTS>(a, own, token + TILE_TOKENS, stages + (parity ^ 1) * stage_of::elements, codes);
        }
        if (token >= columns.greatest) continue;
#pragma unroll
        for (int i = 0; i < TILES; i++) {
            if (parity == 0) spans[i].clear();
        }
        attend_tile<type, has_options>(a, stage, token, parity == 0, columns, spans);
        if (parity == 0 && token + TILE_TOKENS < columns.greatest) continue;
#pragma unroll
        for (int i = 0; i < TILES; i++) {
            finish_span(spans[i]);
            if (!is_cut) fold_span(totals[i], spans[i]);
        }
        if (is_cut) {
            for_each_column<TILES>(a.batch, own, [&](int tile, int c, int row, int head) {
                const int64_t slot = own.slot + static_cast<int64_t>(row) * own.spans + token / CUDA_SPAN_TOKENS;
                move_partial<true, false>(a, slot, head, c, spans[tile]);
            });
            warp_sync();
        }
    }
    block_sync();
    if (is_cut) return;
    for_each_column<TILES>(a.batch, own, [&](int tile, int c, int row, int head) {
        const int64_t place = static_cast<int64_t>(own.first_row + row) * a.batch.heads + head;
        const float maximum = totals[tile].maximum[c], sum = totals[tile].sum[c];
        const float inverse = has_options ? inverse_with_sink(a, head, maximum, sum) : inverse_of_sum(sum);
        store_output<false>(totals[tile], c, inverse, at<uint16_t>(a.output, place * a.batch.head_dim));
    });
}

template <int type, int FRAGMENTS, int TILES, bool has_options>
APUS_DEVICE void attend_prefill(const cuda_attend_arguments &a) {
    DYNAMIC_SHARED(uint16_t, stages);
    // In shared memory, and read again where needed, because the products take all registers.
    __shared__ prefill_item own;
    const int items = prefill_item_count(a.batch);
    for (int item = static_cast<int>(blockIdx.x); item < items; item += static_cast<int>(gridDim.x)) {
        if (warp_index() == 0) {
            const prefill_item found = find_item(a, 64 * TILES, item);
            if (lane_index() == 0) own = found;
        }
        block_sync();
        if (own.slot >= 0) attend_item<type, FRAGMENTS, TILES, true, has_options>(a, own, stages);
        else attend_item<type, FRAGMENTS, TILES, false, has_options>(a, own, stages);
        block_sync();
    }
}

// MARK: Head sizes

#define PREFILL(dimensions, tiles) \
    APUS_KERNEL(attend_prefill_##dimensions, cuda_attend_arguments, 256, 1) { \
        attend_prefill<CUDA_KV_BF16, dimensions / 16, tiles, false>(a); \
    } \
    APUS_KERNEL(attend_prefill_options_##dimensions, cuda_attend_arguments, 256, 1) { \
        attend_prefill<CUDA_KV_BF16, dimensions / 16, tiles, true>(a); \
    } \
    APUS_KERNEL(attend_prefill_e4m3_##dimensions, cuda_attend_arguments, 256, 1) { \
        attend_prefill<CUDA_KV_E4M3, dimensions / 16, tiles, true>(a); \
    } \
    APUS_KERNEL(attend_prefill_int8_##dimensions, cuda_attend_arguments, 256, 1) { \
        attend_prefill<CUDA_KV_INT8, dimensions / 16, tiles, true>(a); \
    }

PREFILL(64, 2)
PREFILL(80, 2)
PREFILL(96, 2)
PREFILL(128, 2)
PREFILL(256, 1)
