// Math:    output[t] = Σ_p softmax_p(scale · q[t] · k[p]) · v[p] over positions p ≤ position[t] of t's sequence.
// Shapes:  q [tokens, stride] f32, heads side by side; cache as in cuda/pages.cuh; output [tokens, heads, head_dim] bf16.
// Launch:  Products are transposed: 16 positions (rows) by 8 columns, the (query row, head) pairs of one kv head, so that
//          cached fragments are operands as they are. Decode: a warp per (sequence, head, span of 128 positions), straight
//          from global memory to registers; combine folds the spans. Prefill: eight warps of 16 columns share positions
//          through shared memory and fold in registers. Both compute and fold the same spans in the same order, so
//          that a row's bits do not depend on the kernel, the batch, or how its sequence was cut into steps.
// Bound:   decode: bytes of keys and values; prefill: multiply-adds.
//          |y − y*| ≤ Σ w η |v − y*| / (1 − Σ w η) + 2⁻⁸ |y*|, where w are the weights, η = 2⁻⁷ + 2^δ − 1 for q and the
//          weights rounded to bf16, and δ = 2⁻⁸ · log2 e · scale · Σ|q k| of the position.
// Checked: AttentionTests (CUDA, on the emulator: f64 reference within the bound; bitwise over chunks, batch and kernels)
// Source:  Dao et al., "Flash-Decoding" (2023); fixed splits: He, "Defeating Nondeterminism in LLM Inference" (2025)

#include "cuda/device.cuh"
#include "cuda/pages.cuh"
#include "cuda/span.cuh"

// MARK: Plan

/// The sum of the values of the threads before this one, and of all.
APUS_DEVICE int block_prefix(int value, int32_t *warp_totals, int &total) {
    int inclusive = value;
#pragma unroll
    for (int distance = 1; distance < 32; distance *= 2) {
        const int other = shuffle(inclusive, lane_index() - distance);
        if (lane_index() >= distance) inclusive += other;
    }
    if (lane_index() == 31) warp_totals[warp_index()] = inclusive;
    block_sync();
    int before = 0;
    total = 0;
    for (int warp = 0; warp < static_cast<int>(blockDim.x / 32); warp++) {
        if (warp < warp_index()) before += warp_totals[warp];
        total += warp_totals[warp];
    }
    block_sync();
    return before + inclusive - value;
}

APUS_KERNEL(attention_plan, cuda_attention_plan_arguments, 256, 1) {
    __shared__ int32_t warp_totals[8];
    const cuda_attention_batch &batch = a.batch;
    const int count = batch.sequence_count, columns = cuda_prefill_columns(batch.head_dim);
    const int group = batch.heads / batch.kv_heads;
    int32_t *const units = at<int32_t>(batch.plan);
    int32_t *const tiles = units + cuda_plan_tiles(count), *const slots = units + cuda_plan_slots(count);
    int used_slots = 0, used_units = 0, used_tiles = 0;
    for (int first = 0; first < count; first += static_cast<int>(blockDim.x)) {
        const int s = first + static_cast<int>(threadIdx.x);
        int rows = 0, spans = 0;
        if (s < count) {
            rows = at<const int32_t>(batch.query_starts)[s + 1] - at<const int32_t>(batch.query_starts)[s];
            spans = (at<const int32_t>(batch.context_lengths)[s] + CUDA_SPAN_TOKENS - 1) / CUDA_SPAN_TOKENS;
        }
        const int wanted = rows == 1 && spans > 1 ? spans : 0;
        int new_slots, new_units, new_tiles;
        const int slot = used_slots + block_prefix(wanted, warp_totals, new_slots);
        const bool has_room = wanted > 0 && count + slot + wanted <= batch.partial_spans;
        const int own_units = rows != 1 ? 0 : has_room ? spans : 1;
        const int own_tiles = rows > 1 ? (rows * group + columns - 1) / columns : 0;
        const int unit = used_units + block_prefix(own_units, warp_totals, new_units);
        const int tile = used_tiles + block_prefix(own_tiles, warp_totals, new_tiles);
        if (s < count) {
            units[s] = unit;
            tiles[s] = tile;
            slots[s] = has_room ? count + slot : wanted > 0 ? CUDA_SLOT_OWN : CUDA_SLOT_NONE;
        }
        used_slots += new_slots;
        used_units += new_units;
        used_tiles += new_tiles;
    }
    if (threadIdx.x == 0) {
        units[count] = used_units;
        tiles[count] = used_tiles;
    }
}

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

// MARK: Decode

/// Computes a span for the columns of `query`, which all see the first `limit` positions of the sequence. Fragments are
/// read a piece ahead of their products; the compiler goes as much further as registers allow.
template <int FRAGMENTS>
APUS_DEVICE void attend_span(
    const cuda_attend_arguments &a, const int32_t *table, int head, int first_token, int limit,
    const uint32_t (&query)[FRAGMENTS][2], softmax_state<FRAGMENTS> &span) {
    constexpr int piece = FRAGMENTS % 4 == 0 ? 4 : FRAGMENTS, parts = FRAGMENTS / piece;
    constexpr int half = TILE_GROUPS * parts, pieces = 2 * half;
    // Lane i knows where the span's i-th group is; −1 is nowhere.
    const int token = first_token + lane_index() * CUDA_GROUP_TOKENS;
    int place = -1;
    if (lane_index() < SPAN_GROUPS && token < limit) {
        const int size = a.cache.block_size;
        place = cuda_kv_group(table[token / size], token % size, head, a.cache.kv_heads, size);
    }
    uint4 fragments[2][piece];
    const auto load = [&](int tile, int i, uint4 (&target)[piece]) {
        const int group = shuffle(place, tile * TILE_GROUPS + i % half / parts);
        const uint16_t *source = at<const uint16_t>(
            i < half ? a.cache.keys : a.cache.values, static_cast<int64_t>(group) * (FRAGMENTS * CUDA_FRAGMENT_ELEMENTS));
        source += i % parts * (piece * CUDA_FRAGMENT_ELEMENTS) + lane_index() * CUDA_LANE_ELEMENTS;
#pragma unroll
        for (int f = 0; f < piece; f++) {
            target[f] = make_uint4(0, 0, 0, 0);
            if (group >= 0) target[f] = load_streaming_16(source + f * CUDA_FRAGMENT_ELEMENTS);
        }
    };
    span.clear();
    load(0, 0, fragments[0]);
#pragma unroll 1
    for (int tile = 0; tile < 2 && first_token + tile * TILE_TOKENS < limit; tile++) {
        const int tile_limit = limit - first_token - tile * TILE_TOKENS;
        float scores[TILE_GROUPS][4] = {};
        uint32_t weights[TILE_GROUPS][2];
#pragma unroll
        for (int i = 0; i < pieces; i++) {
            // Behind the last piece comes the next tile's first, which after the last tile is nowhere.
            load(tile + (i + 1) / pieces, (i + 1) % pieces, fragments[(i + 1) % 2]);
            const int group = i % half / parts, part = i % parts * piece;
            if (i == half) {
                if (tile_limit < TILE_TOKENS) {
                    const int remaining = tile_limit - lane_index() / 4;
                    mask_scores(scores, remaining, remaining);
                }
                weigh_tile(scores, tile == 0, span, weights);
            }
            const int group_limit = tile_limit - group * CUDA_GROUP_TOKENS;
#pragma unroll
            for (int f = 0; f < piece; f++) {
                uint4 fragment = fragments[i % 2][f];
                if (i < half) {
                    multiply_fragment(scores[group], fragment, query[part + f]);
                } else {
                    if (group_limit < CUDA_GROUP_TOKENS) fragment = cut_values(fragment, group_limit);
                    multiply_fragment(span.output[part + f], fragment, weights[group]);
                }
            }
        }
    }
    finish_span(span);
}

/// Where partial results lie: outputs [slot, head, head_dim], then (maximum, sum) [slot, head].
APUS_DEVICE float *partial_output(const cuda_attend_arguments &a, int64_t slot, int head) {
    return at<float>(a.partial, (slot * a.batch.heads + head) * a.batch.head_dim);
}
APUS_DEVICE float2 *partial_sums(const cuda_attend_arguments &a, int64_t slot, int head) {
    const int64_t outputs = static_cast<int64_t>(a.batch.partial_spans) * a.batch.heads * a.batch.head_dim;
    return reinterpret_cast<float2 *>(at<float>(a.partial, outputs)) + slot * a.batch.heads + head;
}

/// Writes the first `columns` columns of a state to consecutive heads of a slot, or reads them.
template <bool is_store, int FRAGMENTS>
APUS_DEVICE void move_partial(
    const cuda_attend_arguments &a, int64_t slot, int head, int columns, softmax_state<FRAGMENTS> &state) {
#pragma unroll
    for (int c = 0; c < 2; c++) {
        const int column = lane_index() % 4 * 2 + c;
        if (column >= columns) continue;
        float2 &sums = *partial_sums(a, slot, head + column);
        if (!is_store) {
            state.maximum[c] = sums.x;
            state.sum[c] = sums.y;
        } else if (lane_index() < 4) {
            sums = make_float2(state.maximum[c], state.sum[c]);
        }
        float *const output = partial_output(a, slot, head + column) + lane_index() / 4 * 2;
#pragma unroll
        for (int f = 0; f < FRAGMENTS; f++) {
            float2 &pair = *reinterpret_cast<float2 *>(output + f * 16);
            if (is_store) {
                pair = make_float2(state.output[f][c], state.output[f][c + 2]);
            } else {
                state.output[f][c] = pair.x;
                state.output[f][c + 2] = pair.y;
            }
        }
    }
}

/// Writes the first `columns` columns of a total, normalized, to consecutive heads of a row.
template <int FRAGMENTS>
APUS_DEVICE void store_columns(
    const cuda_attend_arguments &a, int64_t row, int head, int columns, const softmax_state<FRAGMENTS> &total) {
#pragma unroll
    for (int c = 0; c < 2; c++) {
        const int column = lane_index() % 4 * 2 + c;
        if (column >= columns) continue;
        const int64_t place = row * a.batch.heads + head + column;
        store_output(total, c, at<uint16_t>(a.output, place * a.batch.head_dim));
    }
}

template <int FRAGMENTS> APUS_DEVICE void attend_decode(const cuda_attend_arguments &a) {
    const cuda_attention_batch &batch = a.batch;
    const int count = batch.sequence_count, group = batch.heads / batch.kv_heads;
    const int32_t *const units = at<const int32_t>(batch.plan);
    const int32_t *const slots = units + cuda_plan_slots(count);
    const int tiles = cuda_decode_tiles(batch.heads, batch.kv_heads), pairs = batch.kv_heads * tiles;
    // Every warp takes an equal run of items: (sequence, head, columns, span), spans next to each other.
    const int64_t items = static_cast<int64_t>(units[count]) * pairs, warps = gridDim.x * 4;
    const int64_t warp = blockIdx.x * 4 + static_cast<uint32_t>(warp_index());
    const int end = static_cast<int>(items * (warp + 1) / warps);
    for (int item = static_cast<int>(items * warp / warps); item < end; item++) {
        const int s = find_sequence(units, count, item / pairs);
        const int local = item - units[s] * pairs, own_units = units[s + 1] - units[s], slot = slots[s];
        const int head = local / own_units / tiles, first_column = local / own_units % tiles * 8;
        const int columns = min(8, group - first_column), first_head = head * group + first_column;
        const int row = at<const int32_t>(batch.query_starts)[s];
        const int limit =
            min(at<const int32_t>(batch.context_lengths)[s], at<const int32_t>(batch.positions)[row] + 1);
        const int spans = (limit + CUDA_SPAN_TOKENS - 1) / CUDA_SPAN_TOKENS;
        const int32_t *const table =
            at<const int32_t>(batch.block_tables, static_cast<int64_t>(s) * batch.blocks_per_sequence);

        uint32_t query[FRAGMENTS][2];
        const float *const q = at<const float>(a.q, static_cast<int64_t>(row) * a.q_stride)
            + (first_head + lane_index() / 4) * batch.head_dim;
        load_query(lane_index() / 4 < columns ? q : nullptr, a.scale, query);

        // A span of its own, or all of the sequence's with the total in memory: registers are for what is under way.
        const bool has_slots = slot >= 0;
        int index = has_slots ? local % own_units : 0;
        const int last = has_slots ? index : max(spans - 1, 0);
#pragma unroll 1
        for (bool is_first = true; index <= last; index++, is_first = false) {
            softmax_state<FRAGMENTS> span;
            attend_span(a, table, head, index * CUDA_SPAN_TOKENS, limit, query, span);
            if (has_slots) {
                move_partial<true>(a, slot + index, first_head, columns, span);
                continue;
            }
            softmax_state<FRAGMENTS> total;
            total.clear();
            if (!is_first) move_partial<false>(a, s, first_head, columns, total);
            warp_sync();
            fold_span(total, span);
            if (index < last) move_partial<true>(a, s, first_head, columns, total);
            else store_columns(a, row, first_head, columns, total);
            warp_sync();
        }
    }
}

struct combined_span {
    fold_factors factors;
    float sum;
};

/// A block per (head, sequence), a thread per two dimensions. Folds the spans of sequences that have partial results.
APUS_KERNEL(attend_combine, cuda_attend_arguments, 128, 4) {
    __shared__ float maxima[4];
    __shared__ combined_span folds[128];
    const cuda_attention_batch &batch = a.batch;
    const int s = static_cast<int>(blockIdx.y), head = static_cast<int>(blockIdx.x);
    const int thread = static_cast<int>(threadIdx.x), dimension = thread * 2;
    const int32_t *const units = at<const int32_t>(batch.plan);
    const int slot = units[cuda_plan_slots(batch.sequence_count) + s], spans = units[s + 1] - units[s];
    if (slot < 0) return;
    float maximum = -APUS_INFINITY, sum = 0, output[2] = {0, 0};
    for (int first = 0; first < spans; first += 128) {
        // Maxima are exact in any order, so the factors of 128 folds are found at once.
        float2 own = make_float2(-APUS_INFINITY, 0);
        if (first + thread < spans) own = *partial_sums(a, slot + first + thread, head);
        float highest = own.x;
#pragma unroll
        for (int distance = 1; distance < 32; distance *= 2) {
            const float other = shuffle(highest, lane_index() - distance);
            if (lane_index() >= distance) highest = fmaxf(highest, other);
        }
        const float previous_lane = shuffle(highest, lane_index() - 1);
        if (lane_index() == 31) maxima[warp_index()] = highest;
        block_sync();
        float before = maximum;
        for (int warp = 0; warp < 4; warp++) {
            if (warp < warp_index()) before = fmaxf(before, maxima[warp]);
            maximum = fmaxf(maximum, maxima[warp]);
        }
        const float old = lane_index() == 0 ? before : fmaxf(before, previous_lane);
        folds[thread] = {factors_of_fold(old, own.x, fmaxf(old, own.x)), own.y};
        block_sync();
        const int here = min(spans - first, 128);
        if (dimension < batch.head_dim) {
            const int64_t stride = static_cast<int64_t>(batch.heads) * batch.head_dim;
            const float *const partial = partial_output(a, slot + first, head) + dimension;
#pragma unroll 16
            for (int i = 0; i < here; i++) {
                const float2 pair = *reinterpret_cast<const float2 *>(partial + i * stride);
                sum = fold(sum, folds[i].sum, folds[i].factors);
                output[0] = fold(output[0], pair.x, folds[i].factors);
                output[1] = fold(output[1], pair.y, folds[i].factors);
            }
        }
        block_sync();
    }
    if (dimension >= batch.head_dim) return;
    const int64_t row = at<const int32_t>(batch.query_starts)[s];
    const float inverse = inverse_of_sum(sum);
    *at<uint32_t>(a.output, ((row * batch.heads + head) * batch.head_dim + dimension) / 2) =
        pack_bf16(output[0] * inverse, output[1] * inverse);
}

// MARK: Prefill

/// What a warp of a prefill block knows of its columns, the first of which is `first_column` of the sequence.
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
    const cuda_attend_arguments &a, int head, int first_row, int context, int first_column, int column_count,
    prefill_columns<FRAGMENTS, TILES> &columns) {
    const int group = a.batch.heads / a.batch.kv_heads;
    columns.least = context;
    columns.greatest = 0;
#pragma unroll
    for (int tile = 0; tile < TILES; tile++) {
        const int column = first_column + tile * 8 + lane_index() / 4;
        const int row = first_row + column / group, own_head = head * group + column % group;
        const bool is_one = column < column_count;
        const float *const q =
            at<const float>(a.q, static_cast<int64_t>(row) * a.q_stride + own_head * a.batch.head_dim);
        load_query(is_one ? q : nullptr, a.scale, columns.query[tile]);
        const int limit = is_one ? min(context, at<const int32_t>(a.batch.positions)[row] + 1) : 0;
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
template <int FRAGMENTS, int TILES>
APUS_DEVICE void attend_tile(
    const uint16_t *stage, int first_token, int context, bool is_first,
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
#pragma unroll
    for (int tile = 0; tile < TILES; tile++) {
        if (first_token + TILE_TOKENS > columns.least) {
            const int lane_token = first_token + lane_index() / 4;
            mask_scores(scores[tile], columns.limits[tile][0] - lane_token, columns.limits[tile][1] - lane_token);
        }
        weigh_tile(scores[tile], is_first, spans[tile], weights[tile]);
    }
#pragma unroll
    for (int group = 0; group < TILE_GROUPS; group++) {
        const int limit = context - first_token - group * CUDA_GROUP_TOKENS;
#pragma unroll
        for (int f = 0; f < FRAGMENTS; f++) {
            uint4 fragment = load_16(values + (group * FRAGMENTS + f) * CUDA_FRAGMENT_ELEMENTS);
            if (limit < CUDA_GROUP_TOKENS) fragment = cut_values(fragment, limit);
#pragma unroll
            for (int tile = 0; tile < TILES; tile++) {
                multiply_fragment(spans[tile].output[f], fragment, weights[tile][group]);
            }
        }
    }
}

/// Starts copying the 64 positions from `token` to `stage`: each of eight warps a group's keys or values.
template <int FRAGMENTS>
APUS_DEVICE void copy_tile(
    const cuda_attend_arguments &a, const int32_t *table, int head, int first_token, int limit, uint16_t *stage) {
    constexpr int elements = FRAGMENTS * CUDA_FRAGMENT_ELEMENTS;
    const int token = first_token + warp_index() % TILE_GROUPS * CUDA_GROUP_TOKENS, size = a.cache.block_size;
    const bool is_valid = token < limit;
    const int64_t group =
        is_valid ? cuda_kv_group(table[token / size], token % size, head, a.cache.kv_heads, size) : 0;
    const cuda_address cache = warp_index() < TILE_GROUPS ? a.cache.keys : a.cache.values;
    const uint16_t *const source = at<const uint16_t>(cache, group * elements) + lane_index() * CUDA_LANE_ELEMENTS;
    uint16_t *const target = stage + warp_index() * elements + lane_index() * CUDA_LANE_ELEMENTS;
#pragma unroll
    for (int f = 0; f < FRAGMENTS; f++) {
        copy_async_16(target + f * CUDA_FRAGMENT_ELEMENTS, source + f * CUDA_FRAGMENT_ELEMENTS, is_valid);
    }
    copy_async_commit();
}

template <int FRAGMENTS, int TILES> APUS_DEVICE void attend_prefill(const cuda_attend_arguments &a) {
    constexpr int stage_elements = 2 * TILE_GROUPS * FRAGMENTS * CUDA_FRAGMENT_ELEMENTS;
    DYNAMIC_SHARED(uint16_t, stages);
    const cuda_attention_batch &batch = a.batch;
    const int count = batch.sequence_count, group = batch.heads / batch.kv_heads;
    const int32_t *const tiles = at<const int32_t>(batch.plan) + cuda_plan_tiles(count);
    const int32_t *const starts = at<const int32_t>(batch.query_starts);
    const int items = tiles[count] * batch.kv_heads;
    for (int item = static_cast<int>(blockIdx.x); item < items; item += static_cast<int>(gridDim.x)) {
        // The last rows of a sequence, which look back furthest, first.
        const int tile = tiles[count] - 1 - item / batch.kv_heads, head = item % batch.kv_heads;
        const int s = find_sequence(tiles, count, tile);
        const int first_row = starts[s], column_count = (starts[s + 1] - first_row) * group;
        const int first_column = (tile - tiles[s]) * (64 * TILES);
        const int context = at<const int32_t>(batch.context_lengths)[s];
        const int last_row = first_row + (min(first_column + 64 * TILES, column_count) - 1) / group;
        const int limit = min(context, at<const int32_t>(batch.positions)[last_row] + 1);
        const int32_t *const table =
            at<const int32_t>(batch.block_tables, static_cast<int64_t>(s) * batch.blocks_per_sequence);
        if (limit > 0) copy_tile<FRAGMENTS>(a, table, head, 0, limit, stages);

        prefill_columns<FRAGMENTS, TILES> columns;
        const int own_column = first_column + warp_index() * (8 * TILES);
        load_columns(a, head, first_row, context, own_column, column_count, columns);
        softmax_state<FRAGMENTS> totals[TILES], spans[TILES];
#pragma unroll
        for (int i = 0; i < TILES; i++) totals[i].clear();
#pragma unroll 1
        for (int token = 0, parity = 0; token < limit; token += TILE_TOKENS, parity ^= 1) {
            // The stage of the tile before is free once every warp is here.
            copy_async_wait<0>();
            block_sync();
            if (token + TILE_TOKENS < limit) {
                copy_tile<FRAGMENTS>(
                    a, table, head, token + TILE_TOKENS, limit, stages + (parity ^ 1) * stage_elements);
            }
            if (token >= columns.greatest) continue;
            const bool is_last = parity == 1 || token + TILE_TOKENS >= columns.greatest;
#pragma unroll
            for (int i = 0; i < TILES; i++) {
                if (parity == 0) spans[i].clear();
            }
            attend_tile(stages + parity * stage_elements, token, context, parity == 0, columns, spans);
#pragma unroll
            for (int i = 0; i < TILES; i++) {
                if (!is_last) continue;
                finish_span(spans[i]);
                fold_span(totals[i], spans[i]);
            }
        }
#pragma unroll
        for (int i = 0; i < 2 * TILES; i++) {
            const int column = own_column + i / 2 * 8 + lane_index() % 4 * 2 + i % 2;
            if (column >= column_count) continue;
            const int64_t row = first_row + column / group, place = row * batch.heads + head * group + column % group;
            store_output(totals[i / 2], i % 2, at<uint16_t>(a.output, place * batch.head_dim));
        }
        block_sync();
    }
}

// MARK: Head sizes

#define ATTEND(dimensions, tiles, decode_blocks) \
    APUS_KERNEL(attend_decode_##dimensions, cuda_attend_arguments, 128, decode_blocks) { \
        attend_decode<dimensions / 16>(a); \
    } \
    APUS_KERNEL(attend_prefill_##dimensions, cuda_attend_arguments, 256, 1) { \
        attend_prefill<dimensions / 16, tiles>(a); \
    }

ATTEND(64, 2, 3)
ATTEND(80, 2, 3)
ATTEND(96, 2, 3)
ATTEND(128, 2, 3)
ATTEND(256, 1, 2)
