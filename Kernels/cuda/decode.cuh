// Attention of sequences with one query row: a warp's spans of 128 positions, straight from the cache to registers. For
// attention.cu, which has a kernel for each head size and each form of the cache.

#ifndef APUS_DECODE_CUH
#define APUS_DECODE_CUH

#include "cuda/cached.cuh"
#include "cuda/device.cuh"
#include "cuda/pages.cuh"
#include "cuda/span.cuh"

/// Fragments that are read ahead of their products.
template <int type, int FRAGMENTS>
constexpr int piece_of_group = cuda_kv_has_codes(type) ? (FRAGMENTS == 16 ? 4 : FRAGMENTS)
    : FRAGMENTS == 16                                  ? 2
    : FRAGMENTS % 4 == 0                               ? 4
                                                       : FRAGMENTS;

/// Reads a lane's shares of a piece of a group, from the `first`-th fragment on.
template <int type, int piece>
APUS_DEVICE void load_piece(
    const uint8_t *group, int first, bool is_value, bool is_somewhere, cached_share<type> (&shares)[piece]) {
    if constexpr (type == CUDA_KV_PANELS) load_panel(group + first * CUDA_FRAGMENT_ELEMENTS * 2, is_value, is_somewhere, shares);
    else load_shares<type>(group, first, is_somewhere, shares);
}

/// A fragment of a piece that has been read.
template <int type, int piece>
APUS_DEVICE uint4 fragment_of_piece(const cached_share<type> (&shares)[piece], int f, bool is_value) {
    if constexpr (type == CUDA_KV_PANELS) return is_value ? value_fragment(shares, f) : shares[f].words;
    else return fragment_of(shares[f]);
}

/// Computes a span for the columns of `query`, which all see its first `seen` positions but for the first `hidden`, which
/// are behind the window. Fragments are read a piece ahead of their products; the compiler goes as much further as registers allow.
template <int type, bool has_options, int FRAGMENTS>
APUS_DEVICE void attend_span(
    const cuda_attend_arguments &a, const int32_t *table, int head, int first_token, int seen, const int &hidden,
    const uint32_t (&query)[FRAGMENTS][2], softmax_state<FRAGMENTS> &span) {
    constexpr int piece = piece_of_group<type, FRAGMENTS>, parts = FRAGMENTS / piece;
    constexpr int half = TILE_GROUPS * parts, pieces = 2 * half, group_bytes = cuda_kv_group_bytes(type, 16 * FRAGMENTS);
    // Lane i knows where the span's i-th group is; −1 is nowhere.
    const int inside = lane_index() * CUDA_GROUP_TOKENS;
    int place = -1;
    const bool is_behind = has_options && inside + CUDA_GROUP_TOKENS <= hidden;
    if (lane_index() < SPAN_GROUPS && inside < seen && !is_behind) {
        const int token = first_token + inside, size = a.cache.block_size;
        place = cuda_kv_group(table[token / size], token % size, head, a.cache.kv_heads, size);
    }
    cached_share<type> shares[2][piece];
    const auto load = [&](int tile, int i, cached_share<type> (&target)[piece]) {
        const int group = shuffle(place, tile * TILE_GROUPS + i % half / parts);
        const uint8_t *const source = at<const uint8_t>(
            i < half ? a.cache.keys : a.cache.values, static_cast<int64_t>(group) * group_bytes);
        load_piece<type>(source, i % parts * piece, i >= half, group >= 0, target);
    };
    const auto load_scales = [&](int tile, cuda_address cache) {
        lane_scales result = {{0, 0}};
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const int own = 32 * i + lane_index(), group = shuffle(place, tile * TILE_GROUPS + own / CUDA_GROUP_TOKENS);
            const float *const source =
                at<const float>(cache + cuda_kv_element_bytes(type, 16 * FRAGMENTS) + int64_t{group_bytes} * group);
            // What lies at and beyond the limit may be no number.
            const bool is_seen = group >= 0 && tile * TILE_TOKENS + own < seen;
            if (is_seen) result.scales[i] = source[own % CUDA_GROUP_TOKENS];
        }
        return result;
    };
    span.clear();
    load(0, 0, shares[0]);
#pragma unroll 1
    for (int tile = 0; tile < 2 && tile * TILE_TOKENS < seen; tile++) {
        const int tile_limit = seen - tile * TILE_TOKENS;
        float scores[TILE_GROUPS][4] = {};
        uint32_t weights[TILE_GROUPS][2];
        [[maybe_unused]] lane_scales key_scales, value_scales;
        if constexpr (cuda_kv_has_codes(type)) {
            key_scales = load_scales(tile, a.cache.keys);
            value_scales = load_scales(tile, a.cache.values);
        }
#pragma unroll
        for (int i = 0; i < pieces; i++) {
            // Behind the last piece comes the next tile's first, which after the last tile is nowhere.
            load(tile + (i + 1) / pieces, (i + 1) % pieces, shares[(i + 1) % 2]);
            const int group = i % half / parts, part = i % parts * piece;
            if (i == half) {
                if constexpr (cuda_kv_has_codes(type)) scale_scores(scores, key_scales);
                if (has_options && a.soft_cap > 0) cap_scores(scores, a.soft_cap);
                if (has_options && a.window > 0) {
                    const int behind = hidden - tile * TILE_TOKENS - lane_index() / 4;
                    mask_behind(scores, behind, behind);
                }
                if (tile_limit < TILE_TOKENS) {
                    const int remaining = tile_limit - lane_index() / 4;
                    mask_scores(scores, remaining, remaining);
                }
                if constexpr (cuda_kv_has_codes(type)) weigh_tile(scores, tile == 0, span, weights, value_scales);
                else weigh_tile(scores, tile == 0, span, weights, no_scales());
            }
            const value_mask mask = mask_of_values(tile_limit - group * CUDA_GROUP_TOKENS);
#pragma unroll
            for (int f = 0; f < piece; f++) {
                const uint4 fragment = fragment_of_piece(shares[i % 2], f, i >= half);
                if (i < half) multiply_fragment(scores[group], fragment, query[part + f]);
                // Codes are finite, whatever they are of.
                else if (cuda_kv_has_codes(type)) multiply_fragment(span.output[part + f], fragment, weights[group]);
                else multiply_fragment(span.output[part + f], keep_values(fragment, mask), weights[group]);
            }
        }
    }
    finish_span(span);
}

/// Writes the first `columns` columns of a state to consecutive heads of a slot, or reads them.
template <bool is_store, bool has_panels, int FRAGMENTS>
APUS_DEVICE void move_columns(
    const cuda_attend_arguments &a, int64_t slot, int head, int columns, softmax_state<FRAGMENTS> &state) {
#pragma unroll
    for (int c = 0; c < 2; c++) {
        const int column = lane_index() % 4 * 2 + c;
        if (column < columns) move_partial<is_store, has_panels>(a, slot, head + column, c, state);
    }
}

/// Writes the first `columns` columns of a total, normalized, to consecutive heads of a row.
template <bool has_options, bool has_panels, int FRAGMENTS>
APUS_DEVICE void store_columns(
    const cuda_attend_arguments &a, int64_t row, int head, int columns, const softmax_state<FRAGMENTS> &total) {
#pragma unroll
    for (int c = 0; c < 2; c++) {
        const int column = lane_index() % 4 * 2 + c;
        if (column >= columns) continue;
        const int64_t place = row * a.batch.heads + head + column;
        const float inverse = has_options ? inverse_with_sink(a, head + column, total.maximum[c], total.sum[c])
                                          : inverse_of_sum(total.sum[c]);
        store_output<has_panels>(total, c, inverse, at<uint16_t>(a.output, place * a.batch.head_dim));
    }
}

/// One of a warp's items: some spans of a sequence, for up to eight heads that share a kv head.
struct decode_item {
    /// Of the item, and how many there are.
    int index;
    int count;
    int sequence;
    int kv_head;
    int first_head;
    int columns;
    int row;
    int limit;
    /// Positions of the current span that are behind the window, if any.
    int hidden;
    /// As in the plan.
    int slot;
    int first_span;
    int last_span;
    /// The one that is computed.
    int span;

    __device__ __forceinline__ void advance() {
        span++;
        hidden -= CUDA_SPAN_TOKENS;
    }
};

/// Quotients are computed for every item, or they would be held in registers.
APUS_DEVICE int decode_item_count(const cuda_attention_batch &batch) {
    const int kv_heads = recomputed(batch.kv_heads), pairs = kv_heads * cuda_decode_tiles(batch.heads, kv_heads);
    return at<const int32_t>(batch.plan)[batch.sequence_count] * pairs;
}

APUS_DEVICE decode_item find_item(const cuda_attend_arguments &a, int item) {
    const cuda_attention_batch &batch = a.batch;
    const int32_t *const units = at<const int32_t>(batch.plan);
    const int kv_heads = recomputed(batch.kv_heads), group = batch.heads / kv_heads;
    const int tiles = cuda_decode_tiles(batch.heads, kv_heads), pairs = kv_heads * tiles;
    decode_item own;
    own.index = item;
    own.count = decode_item_count(batch);
    own.sequence = find_sequence(units, batch.sequence_count, item / pairs);
    const int start = units[own.sequence], count = units[own.sequence + 1] - start, local = item - start * pairs;
    const int pair = local / count, first_column = pair % tiles * 8;
    own.kv_head = pair / tiles;
    own.first_head = own.kv_head * group + first_column;
    own.columns = min(8, group - first_column);
    own.row = at<const int32_t>(batch.query_starts)[own.sequence];
    own.limit =
        min(at<const int32_t>(batch.context_lengths)[own.sequence], at<const int32_t>(batch.positions)[own.row] + 1);
    own.slot = units[cuda_plan_slots(batch.sequence_count) + own.sequence];
    // Spans behind the window are nobody's work: combine does not look at them.
    const int behind = window_start(a, own.limit), hidden = behind / static_cast<int>(CUDA_SPAN_TOKENS);
    own.first_span = own.slot >= 0 ? local % count : hidden;
    own.last_span = own.slot >= 0 ? own.first_span : max(cuda_spans(own.limit) - 1, hidden);
    if (own.first_span < hidden) own.last_span = -1;
    own.span = own.first_span;
    own.hidden = behind - own.span * CUDA_SPAN_TOKENS;
    return own;
}

/// Leaves a span as a partial result, or folds it into the total.
template <bool has_panels, bool has_options, int FRAGMENTS>
APUS_DEVICE void finish_item_span(
    const cuda_attend_arguments &a, const decode_item &own, softmax_state<FRAGMENTS> &span) {
    if (own.slot >= 0) {
        return move_columns<true, has_panels>(a, own.slot + own.span, own.first_head, own.columns, span);
    }
    softmax_state<FRAGMENTS> total;
    total.clear();
    if (own.span > (has_options ? own.first_span : 0)) {
        move_columns<false, has_panels>(a, own.sequence, own.first_head, own.columns, total);
    }
    warp_sync();
    fold_span(total, span);
    if (own.span < own.last_span) {
        move_columns<true, has_panels>(a, own.sequence, own.first_head, own.columns, total);
    } else {
        store_columns<has_options, has_panels>(a, own.row, own.first_head, own.columns, total);
    }
}

template <int type, int FRAGMENTS, bool has_options> APUS_DEVICE void attend_decode(const cuda_attend_arguments &a) {
    // In shared memory, and read again where needed, because the products take all registers.
    __shared__ decode_item items[4];
    const decode_item &own = items[warp_index()];
    constexpr bool panels = type == CUDA_KV_PANELS;
    const cuda_attention_batch &batch = a.batch;
    // Items are (sequence, kv head, eight heads, span). The first ones go to a warp of each block, not to all warps of
    // the first blocks, so that a small batch is spread over the multiprocessors.
    int item = warp_index() * static_cast<int>(gridDim.x) + static_cast<int>(blockIdx.x), count = decode_item_count(batch);
    for (; item < count; item = own.index + 4 * static_cast<int>(gridDim.x), count = own.count) {
        const decode_item found = find_item(a, item);
        warp_sync();
        if (lane_index() == 0) items[warp_index()] = found;
        warp_sync();
        uint32_t query[FRAGMENTS][2];
        const int column = recomputed(lane_index()) / 4;
        const float *const q = at<const float>(a.q, static_cast<int64_t>(own.row) * a.q_stride)
            + (own.first_head + column) * batch.head_dim;
        load_query(column < own.columns ? q : nullptr, a.scale, query);
        // A span of its own, or all of the sequence's with the total in memory.
#pragma unroll 1
        while (own.span <= own.last_span) {
            const int32_t *const table =
                at<const int32_t>(batch.block_tables, static_cast<int64_t>(own.sequence) * batch.blocks_per_sequence);
            softmax_state<FRAGMENTS> span;
            const int first_token = own.span * CUDA_SPAN_TOKENS;
            attend_span<type, has_options>(
                a, table, own.kv_head, first_token, own.limit - first_token, own.hidden, query, span);
            warp_sync();
            finish_item_span<panels, has_options>(a, own, span);
            warp_sync();
            if (lane_index() == 0) items[warp_index()].advance();
            warp_sync();
        }
    }
}

#endif
