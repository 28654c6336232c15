// Math:    output[t] = Σ_p softmax_p(scale · q[t] · k[p]) · v[p] over positions p ≤ position[t] of t's sequence.
// Shapes:  as prefill.cu, whose items and spans these are; heads of 64 and 128, no options.
// Launch:  persistent blocks of a copying warp and two warpgroups with 64 columns each. Positions come 64 at a time as
//          the fragments they are cached in: a warp's 16 rows of wgmma, keys for the scores, values for the outputs.
//          Queries and softmax weights are the operand in swizzled shared memory. A warp has 16 of the 64 positions, so
//          maxima and sums of a column are put together in shared memory.
// Bound:   tensor instructions, then softmax. Errors: as attention.cu.
// Checked: AttentionCases on the emulator: f64 reference, and the bits of prefill.cu's and attention.cu's kernels
// Source:  Shah et al., "FlashAttention-3" (2024), for roles; operands and the order of sums are prefill.cu's

#include "cuda/hopper.cuh"
#include "cuda/prefill.cuh"

namespace prefill_hopper {

enum {
    GROUP_COLUMNS = 64,
    GROUPS = 2,
    /// Columns of which a lane holds scores and outputs: 8j + 2t and 8j + 2t + 1.
    LANE_COLUMNS = 16,
    STAGES = ATTENTION_HOPPER_STAGES,
    TOKENS = ATTENTION_HOPPER_TOKENS,
};

/// What the threads of a warpgroup tell each other of its columns.
struct column_exchange {
    /// Read again where it is needed, because the products take all registers.
    prefill_item item;
    int limits[GROUP_COLUMNS];
    float highest[4][GROUP_COLUMNS];
    float reference[GROUP_COLUMNS], factor[GROUP_COLUMNS];
    float old_factor[GROUP_COLUMNS], added_factor[GROUP_COLUMNS];
    float maximum[GROUP_COLUMNS], inverse[GROUP_COLUMNS];
};

struct stage_place {
    int stage = 0;
    uint32_t parity = 0;

    __device__ void advance() {
        stage++;
        if (stage < STAGES) return;
        stage = 0;
        parity ^= 1;
    }
};

// MARK: Copying

/// Starts copying the 64 positions from `first_token` as far as the item's limit: a group's keys or values at a time.
template <int FRAGMENTS>
APUS_DEVICE void copy_stage(
    const cuda_attend_arguments &a, const prefill_item &item, int first_token, uint8_t *stage, uint64_t *filled) {
    constexpr int group_bytes = FRAGMENTS * CUDA_FRAGMENT_ELEMENTS * 2;
    const int size = a.cache.block_size;
    const int32_t *const table =
        at<const int32_t>(a.batch.block_tables, static_cast<int64_t>(item.sequence) * a.batch.blocks_per_sequence);
    const int groups =
        min((item.limit - first_token + CUDA_GROUP_TOKENS - 1) / CUDA_GROUP_TOKENS, static_cast<int>(TILE_GROUPS));
    barrier_arrive(filled, static_cast<uint32_t>(2 * groups * group_bytes));
    for (int i = 0; i < groups; i++) {
        const int token = first_token + i * CUDA_GROUP_TOKENS;
        const int64_t group = cuda_kv_group(table[token / size], token % size, item.kv_head, a.cache.kv_heads, size);
        copy_bytes(stage + i * group_bytes, at<uint8_t>(a.cache.keys, group * group_bytes), group_bytes, filled);
        copy_bytes(
            stage + (TILE_GROUPS + i) * group_bytes, at<uint8_t>(a.cache.values, group * group_bytes), group_bytes,
            filled);
    }
}

template <int FRAGMENTS>
APUS_DEVICE void fill_ring(
    const cuda_attend_arguments &a, int items, uint8_t *ring, uint64_t *filled, uint64_t *emptied) {
    constexpr int stage_bytes = attention_hopper_stage_bytes(16 * FRAGMENTS);
    stage_place place;
    int fills = 0;
    for (int index = static_cast<int>(blockIdx.x); index < items; index += static_cast<int>(gridDim.x)) {
        const prefill_item item = find_item(a, GROUPS * GROUP_COLUMNS, index);
        if (lane_index() != 0) continue;
        for (int token = item.first_token; token < item.limit; token += TOKENS, fills++, place.advance()) {
            if (fills >= STAGES) barrier_wait(emptied + place.stage, place.parity ^ 1, 0, 0, "room for positions");
            copy_stage<FRAGMENTS>(a, item, token, ring + place.stage * stage_bytes, filled + place.stage);
        }
    }
}

// MARK: Columns

/// The row and the head of a column of the group; `is_one` where there is such a row.
struct column_place {
    bool is_one;
    int row, head;
};

APUS_DEVICE column_place place_of(const cuda_attention_batch &batch, const prefill_item &item, int column) {
    const int heads = batch.heads / batch.kv_heads;
    const int own = item.first_column + warp_index() / 4 * GROUP_COLUMNS + column;
    return {own < item.column_count, own / heads, item.kv_head * heads + own % heads};
}

/// Writes a group's queries as the operand of its scores, in the order of the dimensions of a key's fragment, and how
/// far each column sees.
template <int FRAGMENTS>
APUS_DEVICE void load_queries(
    const cuda_attend_arguments &a, const prefill_item &item, uint8_t *queries, column_exchange &exchange) {
    const int thread = static_cast<int>(threadIdx.x) % 128, column = thread / 2;
    const column_place own = place_of(a.batch, item, column);
    const int row = item.first_row + own.row;
    const float *const q = at<const float>(a.q, static_cast<int64_t>(row) * a.q_stride + own.head * a.batch.head_dim);
    const float factor = a.scale * 1.44269504088896340736f;
#pragma unroll 4
    for (int i = 0; i < 2 * FRAGMENTS; i++) {
        const int dimension = 8 * i + thread % 2 * 4;
        float4 x = make_float4(0, 0, 0, 0);
        if (own.is_one) x = *reinterpret_cast<const float4 *>(q + dimension);
        // Lane t of a fragment's row has four dimensions, two in the lower half of k and two in the upper.
        uint8_t *const tile = queries + dimension / 64 * CUDA_SWIZZLED_BYTES;
        const int byte = (dimension % 64 / 16 * 16 + dimension % 16 / 2) * 2;
        *reinterpret_cast<uint32_t *>(tile + swizzled_place(column, byte)) = pack_bf16(x.x * factor, x.y * factor);
        *reinterpret_cast<uint32_t *>(tile + swizzled_place(column, byte + 16)) =
            pack_bf16(x.z * factor, x.w * factor);
    }
    if (thread % 2 == 0) {
        exchange.limits[column] = own.is_one ? min(item.context, at<const int32_t>(a.batch.positions)[row] + 1) : 0;
    }
    operand_fence();
}

APUS_DEVICE void group_sync() { named_barrier(1 + static_cast<uint32_t>(warp_index()) / 4, 128); }

// MARK: A tile of positions

/// Scores of a warp's 16 positions by the group's columns: (g; 8j + 2t), (g; 8j + 2t + 1), (g + 8; …), (g + 8; …).
template <int FRAGMENTS>
APUS_DEVICE void score(const uint8_t *keys, uint64_t queries, float (&scores)[32]) {
    uint32_t fragments[FRAGMENTS][4];
    const uint8_t *const own = keys + (warp_index() % 4 * FRAGMENTS * 32 + lane_index()) * 16;
#pragma unroll
    for (int f = 0; f < FRAGMENTS; f++) {
        const uint4 words = load_16(own + f * 512);
        fragments[f][0] = words.x, fragments[f][1] = words.y, fragments[f][2] = words.z, fragments[f][3] = words.w;
    }
#pragma unroll
    for (int i = 0; i < 32; i++) scores[i] = 0;
    wgmma_fence();
#pragma unroll
    for (int f = 0; f < FRAGMENTS; f++) {
        wgmma_fragments(scores, fragments[f], queries + f / 4 * (CUDA_SWIZZLED_BYTES >> 4) + f % 4 * 2);
    }
    wgmma_commit();
    wgmma_wait<0>(scores);
}

/// Scores of positions that a column does not see become −∞.
APUS_DEVICE void mask(const column_exchange &exchange, int first_token, float (&scores)[32]) {
    const int token = first_token + warp_index() % 4 * 16 + lane_index() / 4;
#pragma unroll
    for (int i = 0; i < 32; i++) {
        const int column = i / 4 * 8 + lane_index() % 4 * 2 + i % 2;
        if (token + i % 4 / 2 * 8 >= exchange.limits[column]) scores[i] = -APUS_INFINITY;
    }
}

/// Leaves what scores are to be taken against, and what the span so far is to be multiplied with; `maximum` is that of
/// the span of the thread's own column.
APUS_DEVICE void find_references(column_exchange &exchange, const float (&scores)[32], float &maximum) {
#pragma unroll
    for (int i = 0; i < LANE_COLUMNS; i++) {
        float highest = fmaxf(scores[i / 2 * 4 + i % 2], scores[i / 2 * 4 + i % 2 + 2]);
        highest = fmaxf(highest, shuffle_xor(highest, 4));
        highest = fmaxf(highest, shuffle_xor(highest, 8));
        highest = fmaxf(highest, shuffle_xor(highest, 16));
        if (lane_index() < 4) exchange.highest[warp_index() % 4][i / 2 * 8 + lane_index() * 2 + i % 2] = highest;
    }
    group_sync();
    const int column = static_cast<int>(threadIdx.x) % 128;
    if (column < GROUP_COLUMNS) {
        float highest = exchange.highest[0][column];
        for (int warp = 1; warp < 4; warp++) highest = fmaxf(highest, exchange.highest[warp][column]);
        const float found = fmaxf(maximum, highest), reference = found == -APUS_INFINITY ? 0 : found;
        exchange.reference[column] = reference;
        exchange.factor[column] = exp2_approx(maximum - reference);
        maximum = found;
    }
    group_sync();
}

/// Writes the weights, rounded to bf16, as the operand of the outputs: columns by positions.
APUS_DEVICE void weigh(const column_exchange &exchange, const float (&scores)[32], uint8_t *weights) {
    const int thread = recomputed(static_cast<int>(threadIdx.x)), lane = thread % 32;
#pragma unroll
    for (int j = 0; j < 8; j++) {
        const float2 reference = *reinterpret_cast<const float2 *>(exchange.reference + 8 * j + lane % 4 * 2);
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const uint32_t pair = transpose_8x8(pack_bf16(
                exp2_approx(scores[4 * j + 2 * half] - reference.x),
                exp2_approx(scores[4 * j + 2 * half + 1] - reference.y)));
            const int position = thread / 32 % 4 * 16 + half * 8 + lane % 4 * 2;
            *reinterpret_cast<uint32_t *>(weights + swizzled_place(8 * j + lane / 4, 2 * position)) = pair;
        }
    }
    operand_fence();
    group_sync();
}

/// The column of the i-th of four sums that a lane has a part of: those of its warp's 16 columns.
APUS_DEVICE int sum_column(int i, int thread) {
    return thread / 32 % 4 * 16 + i / 2 * 8 + thread % 4 * 2 + i % 2;
}
APUS_DEVICE int sum_column(int i) { return sum_column(i, static_cast<int>(threadIdx.x)); }

/// Adds the rounded weights to the lane's parts of the sums: positions g and g + 8 of each 16, in prefill.cu's order.
APUS_DEVICE void sum_weights(
    const column_exchange &exchange, const uint8_t *weights, bool is_first, float (&sums)[4]) {
    const int thread = recomputed(static_cast<int>(threadIdx.x));
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int column = sum_column(i, thread);
        if (!is_first) sums[i] *= exchange.factor[column];
#pragma unroll
        for (int piece = 0; piece < 8; piece++) {
            const int place = swizzled_place(column, (8 * piece + thread % 32 / 4) * 2);
            sums[i] += bf16_to_float(*reinterpret_cast<const uint16_t *>(weights + place));
        }
    }
}

/// Multiplies the weights with the values and adds the products to the outputs: a warp has dimensions 2g and 2g + 1 of
/// fragment 4 · block + warp, by the group's columns. Positions at and beyond `limit` of the tile count as zeros.
template <int FRAGMENTS>
APUS_DEVICE void add_values(
    const uint8_t *values, uint64_t weights, int limit, float (&output)[FRAGMENTS / 4][32]) {
    constexpr int blocks = FRAGMENTS / 4;
    uint32_t fragments[TILE_GROUPS][blocks][4];
    const uint8_t *const own = values + (warp_index() % 4 * 32 + lane_index()) * 16;
#pragma unroll
    for (int group = 0; group < TILE_GROUPS; group++) {
        const value_mask mask = mask_of_values(limit - group * CUDA_GROUP_TOKENS);
#pragma unroll
        for (int block = 0; block < blocks; block++) {
            uint4 words = load_16(own + (group * FRAGMENTS + 4 * block) * 512);
            if (limit < TOKENS) words = keep_values(words, mask);
            uint32_t(&fragment)[4] = fragments[group][block];
            fragment[0] = words.x, fragment[1] = words.y, fragment[2] = words.z, fragment[3] = words.w;
        }
    }
    wgmma_fence();
#pragma unroll
    for (int group = 0; group < TILE_GROUPS; group++) {
#pragma unroll
        for (int block = 0; block < blocks; block++) {
            wgmma_fragments(output[block], fragments[group][block], weights + 2 * group);
        }
    }
    wgmma_commit();
#pragma unroll
    for (int block = 0; block < blocks; block++) wgmma_wait<0>(output[block]);
}

// MARK: Spans

/// A group's state: outputs of a span and of all so far, the lane's parts of sums, and the maxima of a thread's column.
template <int BLOCKS> struct group_state {
    float output[BLOCKS][32], total[BLOCKS][32];
    float sums[4], total_sums[4];
    float maximum, total_maximum;

    __device__ __forceinline__ void clear_span() {
        maximum = -APUS_INFINITY;
#pragma unroll
        for (int i = 0; i < 4; i++) sums[i] = 0;
#pragma unroll
        for (int block = 0; block < BLOCKS; block++) {
#pragma unroll
            for (int i = 0; i < 32; i++) output[block][i] = 0;
        }
    }
    __device__ __forceinline__ void clear_total() {
        total_maximum = -APUS_INFINITY;
#pragma unroll
        for (int i = 0; i < 4; i++) total_sums[i] = 0;
#pragma unroll
        for (int block = 0; block < BLOCKS; block++) {
#pragma unroll
            for (int i = 0; i < 32; i++) total[block][i] = 0;
        }
    }
};

/// Calls body(index of the lane's sum or output, two floats of its column pair) with the columns' numbers.
APUS_DEVICE float2 of_columns(const float (&numbers)[GROUP_COLUMNS], int j) {
    return *reinterpret_cast<const float2 *>(numbers + 8 * j + lane_index() % 4 * 2);
}

/// Folds a span into the totals.
template <int BLOCKS> APUS_DEVICE void fold_spans(column_exchange &exchange, group_state<BLOCKS> &state) {
    const int column = static_cast<int>(threadIdx.x) % 128;
    if (column < GROUP_COLUMNS) {
        const float maximum = fmaxf(state.total_maximum, state.maximum);
        const fold_factors factors = factors_of_fold(state.total_maximum, state.maximum, maximum);
        exchange.old_factor[column] = factors.old;
        exchange.added_factor[column] = factors.added;
        state.total_maximum = maximum;
    }
    group_sync();
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const fold_factors factors = {exchange.old_factor[sum_column(i)], exchange.added_factor[sum_column(i)]};
        state.total_sums[i] = fold(state.total_sums[i], state.sums[i], factors);
    }
#pragma unroll
    for (int j = 0; j < 8; j++) {
        const float2 old = of_columns(exchange.old_factor, j), added = of_columns(exchange.added_factor, j);
#pragma unroll
        for (int block = 0; block < BLOCKS; block++) {
#pragma unroll
            for (int i = 4 * j; i < 4 * j + 4; i++) {
                const fold_factors factors = {i % 2 ? old.y : old.x, i % 2 ? added.y : added.x};
                state.total[block][i] = fold(state.total[block][i], state.output[block][i], factors);
            }
        }
    }
}

/// Leaves a span as a partial result.
template <int BLOCKS>
APUS_DEVICE void store_span(
    const cuda_attend_arguments &a, const prefill_item &item, int span, column_exchange &exchange,
    group_state<BLOCKS> &state) {
    const int thread = static_cast<int>(threadIdx.x) % 128;
    if (thread < GROUP_COLUMNS) exchange.maximum[thread] = state.maximum;
    group_sync();
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const column_place own = place_of(a.batch, item, sum_column(i));
        const int64_t slot = item.slot + static_cast<int64_t>(own.row) * item.spans + span;
        if (own.is_one && lane_index() < 4) {
            *partial_sums(a, slot, own.head) = make_float2(exchange.maximum[sum_column(i)], state.sums[i]);
        }
    }
#pragma unroll
    for (int i = 0; i < LANE_COLUMNS; i++) {
        const column_place own = place_of(a.batch, item, i / 2 * 8 + lane_index() % 4 * 2 + i % 2);
        if (!own.is_one) continue;
        const int64_t slot = item.slot + static_cast<int64_t>(own.row) * item.spans + span;
        float *const output = partial_output(a, slot, own.head) + warp_index() % 4 * 16 + lane_index() / 4 * 2;
#pragma unroll
        for (int block = 0; block < BLOCKS; block++) {
            *reinterpret_cast<float2 *>(output + block * 64) =
                make_float2(state.output[block][i / 2 * 4 + i % 2], state.output[block][i / 2 * 4 + i % 2 + 2]);
        }
    }
}

/// Divides by the sums and writes the columns' rows.
template <int BLOCKS>
APUS_DEVICE void store_totals(
    const cuda_attend_arguments &a, const prefill_item &item, column_exchange &exchange, group_state<BLOCKS> &state) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
        if (lane_index() < 4) exchange.inverse[sum_column(i)] = inverse_of_sum(state.total_sums[i]);
    }
    group_sync();
#pragma unroll
    for (int i = 0; i < LANE_COLUMNS; i++) {
        const int column = i / 2 * 8 + lane_index() % 4 * 2 + i % 2;
        const column_place own = place_of(a.batch, item, column);
        if (!own.is_one) continue;
        const float inverse = exchange.inverse[column];
        const int64_t place = static_cast<int64_t>(item.first_row + own.row) * a.batch.heads + own.head;
        uint16_t *const row =
            at<uint16_t>(a.output, place * a.batch.head_dim) + warp_index() % 4 * 16 + lane_index() / 4 * 2;
#pragma unroll
        for (int block = 0; block < BLOCKS; block++) {
            const float(&total)[32] = state.total[block];
            *reinterpret_cast<uint32_t *>(row + block * 64) =
                pack_bf16(total[i / 2 * 4 + i % 2] * inverse, total[i / 2 * 4 + i % 2 + 2] * inverse);
        }
    }
}

// MARK: Items

template <int FRAGMENTS>
APUS_DEVICE void attend_items(
    const cuda_attend_arguments &a, int items, uint8_t *queries, uint8_t *weights, const uint8_t *ring,
    const uint64_t *filled, uint64_t *emptied, column_exchange &exchange) {
    constexpr int blocks = FRAGMENTS / 4, stage_bytes = attention_hopper_stage_bytes(16 * FRAGMENTS);
    const uint64_t query_operand = swizzled_operand(shared_address(queries));
    const uint64_t weight_operand = swizzled_operand(shared_address(weights));
    stage_place place;
    group_state<blocks> state;
#pragma unroll 1
    for (int index = static_cast<int>(blockIdx.x); index < items; index += static_cast<int>(gridDim.x)) {
        const prefill_item found = find_item(a, GROUPS * GROUP_COLUMNS, index);
        // Who is still at the item before reads what is written now.
        group_sync();
        if (threadIdx.x % 128 == 0) exchange.item = found;
        load_queries<FRAGMENTS>(a, found, queries, exchange);
        group_sync();
        const prefill_item &item = exchange.item;
        const bool is_cut = item.slot >= 0;
        // Positions do not fall from row to row; columns that are none see nothing and come last.
        const int least = exchange.limits[0], last = exchange.limits[GROUP_COLUMNS - 1];
        const bool is_full = last >= least;
        state.clear_total();
        state.clear_span();
#pragma unroll 1
        for (int token = item.first_token, parity = 0; token < item.limit; token += TOKENS, parity ^= 1) {
            barrier_wait(filled + place.stage, place.parity, 0, 0, "positions");
            const uint8_t *const keys = ring + place.stage * stage_bytes;
            float scores[32];
            score<FRAGMENTS>(keys, query_operand, scores);
            if (!is_full || token + TOKENS > least) mask(exchange, token, scores);
            find_references(exchange, scores, state.maximum);
            if (parity != 0) {
#pragma unroll
                for (int j = 0; j < 8; j++) {
                    const float2 factor = of_columns(exchange.factor, j);
#pragma unroll
                    for (int block = 0; block < blocks; block++) {
#pragma unroll
                        for (int i = 4 * j; i < 4 * j + 4; i++) state.output[block][i] *= i % 2 ? factor.y : factor.x;
                    }
                }
            }
            weigh(exchange, scores, weights);
            sum_weights(exchange, weights, parity == 0, state.sums);
            add_values<FRAGMENTS>(
                keys + stage_bytes / 2, weight_operand, min(item.limit - token, static_cast<int>(TOKENS)),
                state.output);
            // Every lane has read what it needs of the stage.
            warp_sync();
            if (lane_index() == 0) barrier_arrive(emptied + place.stage);
            place.advance();
            if (parity == 0 && token + TOKENS < item.limit) continue;
#pragma unroll
            for (int i = 0; i < 4; i++) {
                state.sums[i] += shuffle_xor(state.sums[i], 4);
                state.sums[i] += shuffle_xor(state.sums[i], 8);
                state.sums[i] += shuffle_xor(state.sums[i], 16);
            }
            if (is_cut) store_span<blocks>(a, item, token / CUDA_SPAN_TOKENS, exchange, state);
            else fold_spans<blocks>(exchange, state);
            state.clear_span();
        }
        if (!is_cut) store_totals<blocks>(a, item, exchange, state);
    }
}

template <int FRAGMENTS> APUS_DEVICE void attend(const cuda_attend_arguments &a) {
    DYNAMIC_SHARED(uint8_t, shared);
    __shared__ uint64_t filled[STAGES], emptied[STAGES];
    __shared__ column_exchange exchanges[GROUPS];
    constexpr int query_bytes = FRAGMENTS / 4 * CUDA_SWIZZLED_BYTES;
    uint8_t *const weights = shared + GROUPS * query_bytes, *const ring = weights + GROUPS * CUDA_SWIZZLED_BYTES;
    release_dependents();
    if (threadIdx.x == 0) {
        for (int i = 0; i < STAGES; i++) {
            barrier_init(filled + i, 1);
            barrier_init(emptied + i, 4 * GROUPS);
        }
        barrier_fence();
    }
    block_sync();
    wait_for_dependencies();
    const cuda_attention_batch &batch = a.batch;
    const int32_t *const tiles = at<const int32_t>(batch.plan) + cuda_plan_tiles(batch.sequence_count);
    const int items = tiles[batch.sequence_count] * batch.kv_heads;
    // From one lane, so that the compiler sees that warps do not diverge.
    const int warp = shuffle(warp_index(), 0);
    if (warp < 4 * GROUPS) {
        take_registers<232>();
        const int group = warp / 4;
        attend_items<FRAGMENTS>(
            a, items, shared + group * query_bytes, weights + group * CUDA_SWIZZLED_BYTES, ring, filled, emptied,
            exchanges[group]);
    } else {
        give_registers<40>();
        if (warp == 4 * GROUPS) fill_ring<FRAGMENTS>(a, items, ring, filled, emptied);
    }
}

}  // namespace prefill_hopper

APUS_HOPPER_KERNEL(
    attend_prefill_hopper_64, cuda_attend_arguments, ATTENTION_HOPPER_THREADS, 1, prefill_hopper::attend<4>)
APUS_HOPPER_KERNEL(
    attend_prefill_hopper_128, cuda_attend_arguments, ATTENTION_HOPPER_THREADS, 1, prefill_hopper::attend<8>)
