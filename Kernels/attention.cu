// Math:    output[t] = Σ_p softmax_p(scale · q[t] · k[p]) · v[p] over positions p ≤ position[t] of t's sequence;
//          the kernels called options also have windows, soft caps and sinks (cuda/span.cuh), which cost registers, and
//          those for a cache of 8 bits have them too: codes are multiplied, scores and weights with the tokens' scales.
// Shapes:  q [tokens, stride] f32, heads side by side; cache as in cuda/pages.cuh; output [tokens, heads, head_dim]
//          bf16. Here for sequences with one query row (cuda/decode.cuh); the others are prefill.cu's.
// Launch:  plan: one block, once a step. decode: a warp per (kv head, up to 8 of its heads, span of 128 positions),
//          from global memory straight to registers: products are transposed, 16 positions (rows) by 8 heads (columns),
//          so that cached fragments are operands as they are. combine: a block per (row, head) folds the spans in
//          order. Prefill computes and folds the same spans with the same functions, so that a row's bits do not
//          depend on the kernel, the batch, or how its sequence was cut into steps.
// Bound:   bytes of keys and values.
//          Errors: |y − y*| ≤ Σ w η |v − y*| / (1 − Σ w η) + 2⁻⁸ |y*|, w being the weights, because these and the query
//          are rounded to bf16: η = 2⁻⁸ + 2^δ − 1 + 2⁻¹⁵, δ = 2⁻⁸ · log2 e · scale · Σ|q k|.
// Checked: AttentionCases (f64 reference within the bound; bitwise over chunks, batch and kernels; NaN in unused slots)
// Source:  Dao et al., "Flash-Decoding" (2023); fixed splits: He, "Defeating Nondeterminism in LLM Inference" (2025)

#include "cuda/decode.cuh"

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

/// What a sequence asks of a step.
struct sequence_demand {
    int rows;
    int spans;
    /// Prefill tiles, if the context is not cut.
    int tiles;
    /// Slots that a decode sequence, or a prefill sequence worth cutting, would fill.
    int decode_slots;
    int prefill_slots;
};

APUS_DEVICE sequence_demand demand_of(const cuda_attention_batch &batch, int s) {
    sequence_demand demand = {};
    if (s >= batch.sequence_count) return demand;
    demand.rows = at<const int32_t>(batch.query_starts)[s + 1] - at<const int32_t>(batch.query_starts)[s];
    demand.spans = cuda_spans(at<const int32_t>(batch.context_lengths)[s]);
    if (demand.rows == 1) {
        demand.decode_slots = demand.spans > 1 ? demand.spans : 0;
    } else if (demand.rows > 1) {
        const int columns = cuda_prefill_columns(batch.head_dim), group = batch.heads / batch.kv_heads;
        demand.tiles = (demand.rows * group + columns - 1) / columns;
        const bool is_cut = batch.cuts_prefill != 0 && demand.tiles * batch.kv_heads <= CUDA_MAX_CUT_TILES
            && demand.spans >= 2 * CUDA_RUN_SPANS;
        demand.prefill_slots = is_cut ? demand.rows * demand.spans : 0;
    }
    return demand;
}

APUS_KERNEL(attention_plan, cuda_attention_plan_arguments, 256, 1) {
    __shared__ int32_t warp_totals[8];
    const cuda_attention_batch &batch = a.batch;
    const int count = batch.sequence_count, threads = static_cast<int>(blockDim.x);
    int32_t *const units = at<int32_t>(batch.plan), *const tiles = units + cuda_plan_tiles(count);
    int32_t *const folds = units + cuda_plan_folds(count), *const slots = units + cuda_plan_slots(count);
    // The first slots are the sequences' own; then come those of decode sequences, then of others.
    int decode_slot = count, prefill_slot = count, more;
    for (int first = 0; first < count; first += threads) {
        block_prefix(demand_of(batch, first + static_cast<int>(threadIdx.x)).decode_slots, warp_totals, more);
        prefill_slot += more;
    }
    int unit = 0, tile = 0, fold_row = 0;
    for (int first = 0; first < count; first += threads) {
        const int s = first + static_cast<int>(threadIdx.x);
        const sequence_demand demand = demand_of(batch, s);
        const int own_decode = decode_slot + block_prefix(demand.decode_slots, warp_totals, more);
        decode_slot += more;
        const int own_prefill = prefill_slot + block_prefix(demand.prefill_slots, warp_totals, more);
        prefill_slot += more;
        const int slot = demand.rows == 1 ? own_decode : own_prefill;
        const int wanted = demand.decode_slots + demand.prefill_slots;
        const bool has_room = wanted > 0 && slot + wanted <= batch.partial_spans;

        const int own_units = demand.rows != 1 ? 0 : has_room ? demand.spans : 1;
        const int runs = has_room ? (demand.spans + CUDA_RUN_SPANS - 1) / CUDA_RUN_SPANS : 1;
        const int first_unit = unit + block_prefix(own_units, warp_totals, more);
        unit += more;
        const int first_tile = tile + block_prefix(demand.tiles * runs, warp_totals, more);
        tile += more;
        const int first_fold = fold_row + block_prefix(has_room ? demand.rows : 0, warp_totals, more);
        fold_row += more;
        if (s >= count) continue;
        units[s] = first_unit;
        tiles[s] = first_tile;
        folds[s] = first_fold;
        slots[s] = has_room ? slot : demand.decode_slots > 0 ? CUDA_SLOT_OWN : CUDA_SLOT_NONE;
    }
    if (threadIdx.x == 0) {
        units[count] = unit;
        tiles[count] = tile;
        folds[count] = fold_row;
    }
}

// MARK: Combine

struct combined_span {
    fold_factors factors;
    float sum;
};

/// Folds the spans of a query row and head in order: the row's first slot is `slot`. A thread has two dimensions.
APUS_DEVICE void combine_row(
    const cuda_attend_arguments &a, int64_t row, int head, int64_t slot, int spans, float *maxima,
    combined_span *folds) {
    const int thread = static_cast<int>(threadIdx.x), dimension = thread * 2;
    const cuda_attention_batch &batch = a.batch;
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
    const float inverse = inverse_with_sink(a, head, maximum, sum);
    *at<uint32_t>(a.output, ((row * batch.heads + head) * batch.head_dim + dimension) / 2) =
        pack_bf16(output[0] * inverse, output[1] * inverse);
}

/// Blocks share the (query row, head) pairs that have partial results.
APUS_KERNEL(attend_combine, cuda_attend_arguments, 128, 6) {
    __shared__ float maxima[4];
    __shared__ combined_span spans[128];
    const cuda_attention_batch &batch = a.batch;
    const int count = batch.sequence_count;
    const int32_t *const folds = at<const int32_t>(batch.plan) + cuda_plan_folds(count);
    const int32_t *const slots = at<const int32_t>(batch.plan) + cuda_plan_slots(count);
    const int items = folds[count] * batch.heads;
    for (int item = static_cast<int>(blockIdx.x); item < items; item += static_cast<int>(gridDim.x)) {
        const int s = find_sequence(folds, count, item / batch.heads), own_row = item / batch.heads - folds[s];
        const int row = at<const int32_t>(batch.query_starts)[s] + own_row;
        const int context = at<const int32_t>(batch.context_lengths)[s];
        const int limit = min(context, at<const int32_t>(batch.positions)[row] + 1);
        const int behind = window_start(a, limit) / static_cast<int>(CUDA_SPAN_TOKENS);
        const int64_t slot = slots[s] + static_cast<int64_t>(own_row) * cuda_spans(context) + behind;
        combine_row(a, row, item % batch.heads, slot, cuda_spans(limit) - behind, maxima, spans);
    }
}

// MARK: Head sizes

#define DECODE(dimensions, blocks) \
    APUS_KERNEL(attend_decode_##dimensions, cuda_attend_arguments, 128, blocks) { \
        attend_decode<CUDA_KV_BF16, dimensions / 16, false>(a); \
    } \
    APUS_KERNEL(attend_decode_options_##dimensions, cuda_attend_arguments, 128, 2) { \
        attend_decode<CUDA_KV_BF16, dimensions / 16, true>(a); \
    } \
    APUS_KERNEL(attend_decode_e4m3_##dimensions, cuda_attend_arguments, 128, blocks) { \
        attend_decode<CUDA_KV_E4M3, dimensions / 16, true>(a); \
    } \
    APUS_KERNEL(attend_decode_int8_##dimensions, cuda_attend_arguments, 128, blocks) { \
        attend_decode<CUDA_KV_INT8, dimensions / 16, true>(a); \
    }

#define DECODE_PANELS(dimensions) \
    APUS_KERNEL(attend_decode_panels_##dimensions, cuda_attend_arguments, 128, 3) { \
        attend_decode<CUDA_KV_PANELS, dimensions / 16, false>(a); \
    } \
    APUS_KERNEL(attend_decode_panels_options_##dimensions, cuda_attend_arguments, 128, 2) { \
        attend_decode<CUDA_KV_PANELS, dimensions / 16, true>(a); \
    }

DECODE_PANELS(64)
DECODE_PANELS(128)
DECODE(64, 3)
DECODE(80, 3)
DECODE(96, 3)
DECODE(128, 3)
DECODE(256, 2)
