// Math:    output[t] = Σ_p softmax_p(scale · q[t] · k[p]) · v[p] over positions p ≤ position[t] of t's sequence.
// Shapes:  as prefill.cu, whose items and spans these are; heads of 64 and 128; the kernels called options as there.
// Launch:  persistent blocks of two warpgroups with 64 columns each, of a warp that finds items and copies their positions,
//          and of three that write the next item's queries. Columns are the rows of the products: scores are queries ×
//          the keys of a span, both in swizzled shared memory, and a column's maxima and sums lie in four lanes. Weights
//          stay in registers as the operand that multiplies the values, which lie as they are cached, columns side by
//          side. The warpgroups take turns at issuing scores, so that one multiplies while the other weighs; a span is
//          folded while the next one's scores are on their way. Spans ascend, as everywhere: their order is in the bits.
// Bound:   products (docs/benchmarks/h200.md). Errors: as attention.cu.
// Checked: AttentionCases on the emulator: f64 reference, and the bits of prefill.cu's and attention.cu's kernels
// Source:  Shah et al., "FlashAttention-3" (2024); the order of sums is prefill.cu's

#include "cuda/hopper_items.cuh"

namespace prefill_hopper {

// MARK: A warpgroup

/// The turns of the warpgroups at issuing scores. Each passes on what the other then waits for; at the very first the first
/// group waits for nobody, and what the second passes on at the end it takes when all is done.
struct group_turns {
    uint32_t group;
    bool is_free;

    __device__ __forceinline__ void take() {
        if (!is_free) named_barrier(TURN_BARRIER + group, GROUPS * 128);
        is_free = false;
    }
    __device__ __forceinline__ void pass() { named_barrier_arrive(TURN_BARRIER + (group ^ 1), GROUPS * 128); }
    __device__ __forceinline__ void end() {
        if (group == 0) take();
    }
};

/// The ring as a warpgroup reads it.
struct piece_reader {
    uint8_t *ring;
    block_barriers *barriers;
    int piece_bytes;
    ring_place<PIECES> place;

    __device__ __forceinline__ uint8_t *wait() {
        barrier_wait(barriers->filled + place.index, place.parity, 0, 0, "positions");
        return ring + place.index * piece_bytes;
    }
    /// Once all of the warp's products with the piece are done.
    __device__ __forceinline__ void release() {
        if (lane_index() == 0) barrier_arrive(barriers->emptied + place.index);
        place.advance();
    }
};

/// What a thread knows of its two columns, rows lane / 4 and 8 further of its warp's sixteen, in a span; `sums` are of the
/// positions 2t and 2t + 1 of each eight.
struct column_span {
    float maximum[2];
    float sums[2][2];

    __device__ __forceinline__ void clear() {
#pragma unroll
        for (int row = 0; row < 2; row++) maximum[row] = -APUS_INFINITY, sums[row][0] = sums[row][1] = 0;
    }
    /// Adds up the lanes' parts, residues of positions modulo 8 that differ by 1, by 2 and by 4, as `finish_span` does.
    __device__ __forceinline__ void finish() {
#pragma unroll
        for (int row = 0; row < 2; row++) {
            float sum = sums[row][0] + sums[row][1];
            sum += shuffle_xor(sum, 1);
            sum += shuffle_xor(sum, 2);
            sums[row][0] = sum;
        }
    }
};

/// The same of all spans so far.
struct column_total {
    float maximum[2];
    float sum[2];

    __device__ __forceinline__ void clear() {
#pragma unroll
        for (int row = 0; row < 2; row++) maximum[row] = -APUS_INFINITY, sum[row] = 0;
    }
};

template <int count> APUS_DEVICE void clear(float (&numbers)[count]) {
#pragma unroll
    for (int i = 0; i < count; i++) numbers[i] = 0;
}

// MARK: A span

/// Starts the products of a group's queries with a span's keys: 64 columns by 128 positions.
template <int FRAGMENTS>
APUS_DEVICE void begin_scores(uint64_t queries, const uint8_t *keys, float (&scores)[64]) {
    const uint64_t operand = swizzled_operand(shared_address(keys));
    wgmma_fence();
#pragma unroll
    for (int f = 0; f < FRAGMENTS; f++) {
        wgmma(
            scores, queries + f / 4 * (CUDA_SWIZZLED_BYTES >> 4) + f % 4 * 2,
            operand + f / 4 * (attention_hopper_tile_bytes() >> 4) + f % 4 * 2, f > 0);
    }
    wgmma_commit();
}

/// What a thread's columns and its group's see of an item.
struct column_limits {
    /// Of the thread's columns.
    int own[2];
    /// The least of the group's, and none of the item's is greater than this.
    int least, greatest;
};

/// Caps scores, and those of positions that a column does not see become −∞. `first_token` is the tile's.
template <int tile, bool has_options>
APUS_DEVICE void adjust(
    const cuda_attend_arguments &a, const column_limits &limits, int first_token, float (&scores)[64]) {
    const int first = first_token + lane_index() % 4 * 2;
    if (has_options && a.soft_cap > 0) cap_scores(scores + 32 * tile, 32, a.soft_cap);
    if (has_options && a.window > 0 && first_token < limits.greatest - a.window) {
#pragma unroll
        for (int i = 0; i < 32; i++) {
            if (first + i / 4 * 8 + i % 2 < limits.own[i / 2 % 2] - a.window) scores[32 * tile + i] = -APUS_INFINITY;
        }
    }
    if (first_token + TILE_TOKENS <= limits.least) return;
#pragma unroll
    for (int i = 0; i < 32; i++) {
        if (first + i / 4 * 8 + i % 2 >= limits.own[i / 2 % 2]) scores[32 * tile + i] = -APUS_INFINITY;
    }
}

/// As `weigh_tile`: takes 64 of the scores into the span's maxima and sums and gives the weights as operands of the products
/// with the values. `factor` is what the span so far is to be multiplied with.
template <int tile>
APUS_DEVICE void weigh(
    const float (&scores)[64], column_span &span, float (&factor)[2], uint32_t (&weights)[TILE_GROUPS][4]) {
    float reference[2];
#pragma unroll
    for (int row = 0; row < 2; row++) {
        float highest = fmaxf(scores[32 * tile + 2 * row], scores[32 * tile + 2 * row + 1]);
#pragma unroll
        for (int i = 32 * tile + 4 + 2 * row; i < 32 * tile + 32; i += 4) {
            highest = fmaxf(highest, fmaxf(scores[i], scores[i + 1]));
        }
        highest = fmaxf(highest, shuffle_xor(highest, 1));
        highest = fmaxf(highest, shuffle_xor(highest, 2));
        const float maximum = fmaxf(span.maximum[row], highest);
        // −∞ − (−∞) is no number.
        reference[row] = maximum == -APUS_INFINITY ? 0 : maximum;
        factor[row] = exp2_approx(span.maximum[row] - reference[row]);
        span.maximum[row] = maximum;
        if (tile > 0) span.sums[row][0] *= factor[row], span.sums[row][1] *= factor[row];
    }
#pragma unroll
    for (int i = 0; i < 16; i++) {
        const int row = i % 2;
        const float *const own = scores + 32 * tile + 2 * i;
        const uint32_t pair =
            pack_bf16(exp2_approx(own[0] - reference[row]), exp2_approx(own[1] - reference[row]));
        span.sums[row][0] += bf16_low(pair);
        span.sums[row][1] += bf16_high(pair);
        weights[i / 4][i % 4] = pair;
    }
}

/// Zeros rows of a span's values that may hold anything, from `first` to `end`: not even a weight of 0 makes a NaN go away.
/// Both warpgroups do, so that neither waits for the other.
template <int FRAGMENTS> APUS_DEVICE void clear_rows(uint8_t *values, int first, int end, uint32_t group) {
    for (int i = static_cast<int>(threadIdx.x) % 128; i < (end - first) * 8; i += 128) {
#pragma unroll
        for (int tile = 0; tile < FRAGMENTS / 4; tile++) {
            uint8_t *const rows = values + tile * attention_hopper_tile_bytes() + first * CUDA_SWIZZLED_ROW_BYTES;
            store_16(rows + 16 * i, make_uint4(0, 0, 0, 0));
        }
    }
    operand_fence();
    named_barrier(GROUP_BARRIER + group, 128);
}

/// Starts the products of the weights of a tile of 64 positions with their values.
template <int tile, int count>
APUS_DEVICE void begin_values(
    const uint32_t (&weights)[TILE_GROUPS][4], const uint8_t *values, float (&output)[count]) {
    constexpr int group_bytes = static_cast<int>(CUDA_GROUP_TOKENS) * CUDA_SWIZZLED_ROW_BYTES;
    const uint64_t operand = swizzled_columns(shared_address(values), attention_hopper_tile_bytes());
    wgmma_fence();
#pragma unroll
    for (int i = 0; i < TILE_GROUPS; i++) {
        const int group = tile * TILE_GROUPS + i;
        wgmma_fragments(output, weights[i], operand + group * (group_bytes >> 4), group > 0);
    }
    wgmma_commit();
}

/// Folds a finished span into the total.
template <int count>
APUS_DEVICE void fold_columns(
    const column_span &span, const float (&output)[count], column_total &sums, float (&total)[count]) {
    fold_factors factors[2];
#pragma unroll
    for (int row = 0; row < 2; row++) {
        const float maximum = fmaxf(sums.maximum[row], span.maximum[row]);
        factors[row] = factors_of_fold(sums.maximum[row], span.maximum[row], maximum);
        sums.maximum[row] = maximum;
        sums.sum[row] = fold(sums.sum[row], span.sums[row][0], factors[row]);
    }
#pragma unroll
    for (int i = 0; i < count; i++) total[i] = fold(total[i], output[i], factors[i / 2 % 2]);
}

// MARK: Results

/// Calls body(0 or 1, place) for those of the thread's columns that are some.
template <class Body>
APUS_DEVICE void for_each_column(const cuda_attention_batch &batch, const prefill_item &item, Body body) {
    const int thread = recomputed(static_cast<int>(threadIdx.x)), first = thread / 32 * 16 + thread % 32 / 4;
#pragma unroll
    for (int row = 0; row < 2; row++) {
        const column_place own = place_of(batch, item, first + 8 * row);
        if (own.is_one) body(row, own);
    }
}

/// Leaves a finished span as a partial result.
template <int count>
APUS_DEVICE void store_span(
    const cuda_attend_arguments &a, const prefill_item &item, int index, const column_span &span,
    const float (&output)[count]) {
    for_each_column(a.batch, item, [&](int row, const column_place &own) {
        const int64_t slot = item.slot + static_cast<int64_t>(own.row) * item.spans + index;
        if (lane_index() % 4 == 0) {
            *partial_sums(a, slot, own.head) = make_float2(span.maximum[row], span.sums[row][0]);
        }
        float *const target = partial_output(a, slot, own.head) + lane_index() % 4 * 2;
#pragma unroll
        for (int i = 2 * row; i < count; i += 4) {
            *reinterpret_cast<float2 *>(target + i / 4 * 8) = make_float2(output[i], output[i + 1]);
        }
    });
}

/// Writes the totals, normalized.
template <bool has_options, int count>
APUS_DEVICE void store_totals(
    const cuda_attend_arguments &a, const prefill_item &item, const column_total &sums, const float (&total)[count]) {
    for_each_column(a.batch, item, [&](int row, const column_place &own) {
        const int64_t place = static_cast<int64_t>(item.first_row + own.row) * a.batch.heads + own.head;
        uint16_t *const target = at<uint16_t>(a.output, place * a.batch.head_dim) + lane_index() % 4 * 2;
        const float inverse = has_options ? inverse_with_sink(a, own.head, sums.maximum[row], sums.sum[row])
                                          : inverse_of_sum(sums.sum[row]);
#pragma unroll
        for (int i = 2 * row; i < count; i += 4) {
            *reinterpret_cast<uint32_t *>(target + i / 4 * 8) =
                pack_bf16(total[i] * inverse, total[i + 1] * inverse);
        }
    });
}

// MARK: Items

/// Takes an item's positions, span by span.
template <int FRAGMENTS, bool is_cut, bool has_options>
APUS_DEVICE void attend_item(
    const cuda_attend_arguments &a, const item_slot &slot, uint64_t queries, piece_reader &pieces, group_turns &turns) {
    const prefill_item &item = slot.item;
    const int column = warp_index() * 16 + lane_index() / 4;
    // Positions do not fall from row to row.
    const column_limits limits = {
        {slot.limits[column], slot.limits[column + 8]}, slot.limits[turns.group * GROUP_COLUMNS],
        slot.limits[ITEM_COLUMNS - 1]};
    float output[8 * FRAGMENTS], total[8 * FRAGMENTS], scores[64];
    column_span span;
    column_total sums;
    span.clear();
    sums.clear();
    clear(output);
    clear(total);
#pragma unroll 1
    for (int token = item.first_token; token < item.limit; token += SPAN_TOKENS) {
        // They are there: said again, because the compiler would wait for the scores before it reads them below.
        wgmma_wait<0>(output);
        const uint8_t *const keys = pieces.wait();
        turns.take();
        begin_scores<FRAGMENTS>(queries, keys, scores);
        turns.pass();
        // The span before; of the first, nothing.
        if (!is_cut) fold_columns(span, output, sums, total);
        wgmma_wait<0>(scores);
        pieces.release();

        float factor[2];
        uint32_t weights[2][TILE_GROUPS][4];
        span.clear();
        adjust<0, has_options>(a, limits, token, scores);
        weigh<0>(scores, span, factor, weights[0]);
        uint8_t *const values = pieces.wait();
        if (token + SPAN_TOKENS > item.limit) {
            clear_rows<FRAGMENTS>(values, item.limit - token, SPAN_TOKENS, turns.group);
        }
        if (has_options && token < item.behind) {
            clear_rows<FRAGMENTS>(values, 0, groups_behind(item, token) * CUDA_GROUP_TOKENS, turns.group);
        }
        begin_values<0>(weights[0], values, output);
        adjust<1, has_options>(a, limits, token + TILE_TOKENS, scores);
        weigh<1>(scores, span, factor, weights[1]);
        wgmma_wait<0>(output);
#pragma unroll
        for (int i = 0; i < 8 * FRAGMENTS; i++) output[i] *= factor[i / 2 % 2];
        begin_values<1>(weights[1], values, output);
        span.finish();
        wgmma_wait<0>(output);
        pieces.release();
        if (is_cut) store_span(a, item, token / SPAN_TOKENS, span, output);
    }
    if (is_cut) return;
    fold_columns(span, output, sums, total);
    store_totals<has_options>(a, item, sums, total);
}

template <int FRAGMENTS, bool has_options>
APUS_DEVICE void attend_items(const cuda_attend_arguments &a, int items, const block_memory &block, uint32_t group) {
    constexpr int query_bytes = attention_hopper_query_bytes(16 * FRAGMENTS);
    ring_place<SLOTS> slot;
    piece_reader pieces = {block.ring, block.barriers, attention_hopper_piece_bytes(16 * FRAGMENTS), {}};
    group_turns turns = {group, group == 0};
#pragma unroll 1
    for (int index = static_cast<int>(blockIdx.x); index < items; index += static_cast<int>(gridDim.x)) {
        barrier_wait(block.barriers->asked + slot.index, slot.parity, 0, 0, "queries");
        const item_slot &own = block.slots[slot.index];
        const uint64_t queries = swizzled_operand(
            shared_address(block.queries + slot.index * query_bytes + group * (query_bytes / GROUPS)));
        if (own.item.slot >= 0) attend_item<FRAGMENTS, true, has_options>(a, own, queries, pieces, turns);
        else attend_item<FRAGMENTS, false, has_options>(a, own, queries, pieces, turns);
        warp_sync();
        if (lane_index() == 0) barrier_arrive(block.barriers->answered + slot.index);
        slot.advance();
    }
    turns.end();
}

APUS_DEVICE void initialize(block_barriers &barriers) {
    for (int i = 0; i < PIECES; i++) {
        barrier_init(barriers.filled + i, 1);
        barrier_init(barriers.emptied + i, 4 * GROUPS);
    }
    for (int i = 0; i < SLOTS; i++) {
        barrier_init(barriers.found + i, 1);
        barrier_init(barriers.asked + i, WRITER_THREADS);
        barrier_init(barriers.answered + i, 4 * GROUPS);
    }
    barrier_fence();
}

template <int FRAGMENTS, bool has_options> APUS_DEVICE void attend(const cuda_attend_arguments &a) {
    DYNAMIC_SHARED(uint8_t, shared);
    __shared__ block_barriers barriers;
    __shared__ item_slot slots[SLOTS];
    const block_memory block = {
        shared, shared + SLOTS * attention_hopper_query_bytes(16 * FRAGMENTS), slots, &barriers};
    release_dependents();
    if (threadIdx.x == 0) initialize(barriers);
    block_sync();
    wait_for_dependencies();
    const int items = prefill_item_count(a.batch);
    // From one lane, so that the compiler sees that warps do not diverge.
    const int warp = shuffle(warp_index(), 0);
    if (warp < 4 * GROUPS) {
        take_registers<232>();
        attend_items<FRAGMENTS, has_options>(a, items, block, static_cast<uint32_t>(warp) / 4);
    } else {
        give_registers<40>();
        if (warp == 4 * GROUPS) copy_items<FRAGMENTS>(a, items, block);
        else write_items<FRAGMENTS>(a, items, block);
    }
}

}  // namespace prefill_hopper

#define PREFILL_HOPPER(dimensions) \
    APUS_HOPPER_KERNEL( \
        attend_prefill_hopper_##dimensions, cuda_attend_arguments, ATTENTION_HOPPER_THREADS, 1, \
        (prefill_hopper::attend<dimensions / 16, false>)) \
    APUS_HOPPER_KERNEL( \
        attend_prefill_hopper_options_##dimensions, cuda_attend_arguments, ATTENTION_HOPPER_THREADS, 1, \
        (prefill_hopper::attend<dimensions / 16, true>))

PREFILL_HOPPER(64)
PREFILL_HOPPER(128)
