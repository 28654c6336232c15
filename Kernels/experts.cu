// Math:    output[t] += Σ_e p_e · (down_e · gate(gate_up_e · x[t] + b_e) + c_e) over the `used` experts of t's highest
//          logits, with p = softmax over all experts, or over those used. The gate's result is rounded to bf16.
// Shapes:  logits [tokens, experts] f32; x [tokens, hidden] bf16; output [tokens, hidden] f32.
// Launch:  route (a warp a token), group (a block an expert: routes sorted, cut into items), expert_linear (items × tiles
//          of rows; blocks without an item end at once), gate, expert_linear, combine. No grid depends on the routes.
// Bound:   bytes of the experts used for few tokens, tensor instructions for many.
// Checked: Conformance (f64 reference; bitwise over batches), fixtures of three models, in permuted thread orders too
// Source:  Shazeer et al., "Outrageously Large Neural Networks" (2017); products and their order of sums are linear.cu's.

#include "cuda/gates.cuh"
#include "cuda/linear.cuh"
#include "cuda/rows.cuh"
#include "cuda/rows.h"

namespace experts {

/// The higher of two logits and its expert; of equals the one that comes first.
APUS_DEVICE void keep_better(float &logit, int &expert, float other_logit, int other_expert) {
    const bool is_better =
        other_expert >= 0 && (expert < 0 || other_logit > logit || (other_logit == logit && other_expert < expert));
    logit = is_better ? other_logit : logit;
    expert = is_better ? other_expert : expert;
}

/// The best expert after `last`, in the whole warp; −1 when the others are NaN.
APUS_DEVICE int next_expert(const float *logits, int count, float last_logit, int last, float &best_logit) {
    int best = -1;
    best_logit = 0;
    for (int e = lane_index(); e < count; e += 32) {
        const float logit = logits[e];
        const bool is_after = last < 0 || logit < last_logit || (logit == last_logit && e > last);
        if (is_after && logit == logit) keep_better(best_logit, best, logit, e);
    }
#pragma unroll
    for (int mask = 16; mask > 0; mask /= 2) {
        const float logit = shuffle_xor(best_logit, mask);
        const int expert = shuffle_xor(best, mask);
        keep_better(best_logit, best, logit, expert);
    }
    return best;
}

/// Items of the experts before one: a run of `routes` of them, `others` of which have any.
APUS_DEVICE int items_before(int routes, int others, int item_routes) { return routes / item_routes + others; }

}  // namespace experts

APUS_KERNEL(route_experts, cuda_route_experts_arguments, ROW_THREADS, 4) {
    const int64_t token = static_cast<int64_t>(blockIdx.x) * ROW_WARPS + warp_index();
    if (token >= a.token_count) return;
    const float *logits = at<const float>(a.logits, token * a.expert_count);
    int32_t *chosen = at<int32_t>(a.experts, token * a.used);
    float *shares = at<float>(a.shares, token * a.used);
    float highest = 0, logit = 0, used_sum = 0;
    int last = -1;
    for (int i = 0; i < a.used; i++) {
        const float last_logit = logit;
        const int best = experts::next_expert(logits, a.expert_count, last_logit, last, logit);
        if (i == 0) highest = logit;
        // Without a number to choose by, an expert that exists says nothing that is one.
        const float share = best < 0 ? __uint_as_float(0x7FFFFFFF) : exponential(logit - highest);
        if (lane_index() == i % 32) chosen[i] = best < 0 ? i : best, shares[i] = share;
        used_sum = used_sum + share;
        last = best < 0 ? a.expert_count : best;
    }
    float all = 0;
    for (int e = lane_index(); e < a.expert_count; e += 32) all = all + exponential(logits[e] - highest);
    all = warp_sum(all);
    const float sum = a.is_normalized ? used_sum : all;
    for (int i = lane_index(); i < a.used; i += 32) shares[i] = shares[i] / sum;
}

/// The block of an expert counts the routes before its own, then lists its own, stably: 32 at a time by ballot.
APUS_KERNEL(group_routes, cuda_group_routes_arguments, ROW_THREADS, 4) {
    __shared__ uint32_t seen[CUDA_MAX_EXPERTS / 32];
    __shared__ int32_t counts[ROW_WARPS][2];
    const int expert = static_cast<int>(blockIdx.x), thread = static_cast<int>(threadIdx.x);
    const int32_t *const experts_of = at<const int32_t>(a.experts);
    const int words = (a.expert_count + 31) / 32;
    for (int i = thread; i < words; i += ROW_THREADS) seen[i] = 0;
    block_sync();
    // Each warp owns a run of routes; all lanes take every step.
    const int warp = warp_index(), steps = (a.route_count + 31) / 32;
    const int first_step = steps * warp / ROW_WARPS, last_step = steps * (warp + 1) / ROW_WARPS;
    int lower = 0, equal = 0;
    for (int step = first_step; step < last_step; step++) {
        const int route = 32 * step + lane_index();
        const int other = route < a.route_count ? experts_of[route] : a.expert_count;
        lower += __popc(ballot(other < expert));
        equal += __popc(ballot(other == expert));
        if (other < expert) atomicOr(&seen[other / 32], 1u << other % 32);
    }
    if (lane_index() == 0) counts[warp][0] = lower, counts[warp][1] = equal;
    block_sync();
    int before = 0, own = 0, place = 0, others = 0;
    for (int i = 0; i < ROW_WARPS; i++) {
        if (i < warp) place += counts[i][1];
        before += counts[i][0], own += counts[i][1];
    }
    for (int i = 0; i < words; i++) others += __popc(seen[i]);
    int32_t *const order = at<int32_t>(a.order, before);
    for (int step = first_step; step < last_step; step++) {
        const int route = 32 * step + lane_index();
        const bool is_own = route < a.route_count && experts_of[route] == expert;
        const uint32_t votes = ballot(is_own);
        if (is_own) order[place + __popc(votes & ((1u << lane_index()) - 1))] = route;
        place += __popc(votes);
    }
    // The last expert's block also says that the items after its own are none.
    const int first = experts::items_before(before, others, a.item_routes);
    const int end = expert == a.expert_count - 1
        ? a.item_count
        : experts::items_before(before + own, others + (own > 0), a.item_routes);
    for (int i = first + thread; i < end; i += ROW_THREADS) {
        const int start = (i - first) * a.item_routes, left = own - start;
        at<cuda_expert_item>(a.items)[i] = {
            left > 0 ? expert : -1, before + start, left < a.item_routes ? left : a.item_routes, 0};
    }
}

namespace experts {

/// What the block multiplies: its item, the part of the expert's matrices, and the first tile of rows in it. It lies in
/// shared memory: the products leave no registers for what is needed before and after them only.
struct block_work {
    cuda_linear_arguments product;
    linear::rows_of_routes rows;
    int first_tile;
    bool is_some;
    int32_t inputs[LINEAR_LARGE_TOKENS];
};

/// Every thread calls it.
template <int format>
APUS_DEVICE void find_work(const cuda_expert_linear_arguments &a, int tiles_of_block, block_work &work) {
    const int blocks_of_part =
        ((a.part_rows + CUDA_TILE_ROWS - 1) / CUDA_TILE_ROWS + tiles_of_block - 1) / tiles_of_block;
    const int part = static_cast<int>(blockIdx.y) / blocks_of_part, thread = static_cast<int>(threadIdx.x);
    const cuda_expert_item item = at<const cuda_expert_item>(a.items)[blockIdx.x];
    const int32_t *const routes = at<const int32_t>(a.order, item.first);
    if (thread == 0) {
        work.first_tile = (static_cast<int>(blockIdx.y) - part * blocks_of_part) * tiles_of_block;
        const int64_t expert = item.expert < 0 ? 0 : item.expert;
        const cuda_expert_matrix found = at<const cuda_expert_matrix>(a.matrices)[expert * a.parts + part];
        work.is_some = item.expert >= 0 && found.matrix.format == format &&
            work.first_tile * CUDA_TILE_ROWS < found.matrix.rows;
        work.rows = {routes, work.inputs};
        work.product.matrix = found.matrix;
        work.product.x = a.x;
        work.product.ranks = 0;
        work.product.output = a.output + 4 * static_cast<cuda_address>(found.first_row);
        work.product.token_count = item.count;
        work.product.x_stride = a.x_stride;
        work.product.output_stride = a.output_stride;
        work.product.accumulate = 0;
        work.product.shared_limit = a.shared_limit;
    }
    if (item.expert >= 0 && thread < item.count) {
        work.inputs[thread] = routes[thread] / a.routes_of_input_row * (a.x_stride / 8);
    }
    block_sync();
}

}  // namespace experts

#define EXPERT_LINEAR_SKINNY(name, format, tokens) \
    APUS_KERNEL( \
        expert_linear_##name##_##tokens, cuda_expert_linear_arguments, LINEAR_THREADS, linear_blocks(format, tokens)) { \
        __shared__ experts::block_work work; \
        experts::find_work<format>(a, linear_row_tiles(tokens), work); \
        if (work.is_some) linear::skinny<format, tokens>(work.product, nullptr, work.first_tile, work.rows); \
    }
#define EXPERT_LINEAR_KERNELS(name, format) \
    EXPERT_LINEAR_SKINNY(name, format, 8) \
    EXPERT_LINEAR_SKINNY(name, format, 32) \
    APUS_KERNEL(expert_linear_##name##_large, cuda_expert_linear_arguments, LINEAR_THREADS, 1) { \
        __shared__ experts::block_work work; \
        experts::find_work<format>(a, LINEAR_LARGE_TILES, work); \
        if (work.is_some) linear::large<format>(work.product, nullptr, work.first_tile, 0, work.rows); \
    }

EXPERT_LINEAR_KERNELS(bf16, CUDA_WEIGHT_BF16)
EXPERT_LINEAR_KERNELS(f16, CUDA_WEIGHT_F16)
EXPERT_LINEAR_KERNELS(f32, CUDA_WEIGHT_F32)
EXPERT_LINEAR_KERNELS(q8_0, CUDA_WEIGHT_Q8_0)
EXPERT_LINEAR_KERNELS(q4_0, CUDA_WEIGHT_Q4_0)
EXPERT_LINEAR_KERNELS(q4_1, CUDA_WEIGHT_Q4_1)
EXPERT_LINEAR_KERNELS(q4_k, CUDA_WEIGHT_Q4_K)
EXPERT_LINEAR_KERNELS(q5_k, CUDA_WEIGHT_Q5_K)
EXPERT_LINEAR_KERNELS(q6_k, CUDA_WEIGHT_Q6_K)
EXPERT_LINEAR_KERNELS(int4, CUDA_WEIGHT_INT4)
EXPERT_LINEAR_KERNELS(int8, CUDA_WEIGHT_INT8)
EXPERT_LINEAR_KERNELS(mxfp4, CUDA_WEIGHT_MXFP4)
EXPERT_LINEAR_KERNELS(e4m3, CUDA_WEIGHT_E4M3)

#undef EXPERT_LINEAR_KERNELS
#undef EXPERT_LINEAR_SKINNY

APUS_KERNEL(gate_experts, cuda_gate_experts_arguments, ROW_THREADS, 8) {
    const int column = 4 * static_cast<int>(blockIdx.y * ROW_THREADS + threadIdx.x);
    if (column >= a.ffn) return;
    const int64_t route = blockIdx.x, ffn = a.ffn;
    const float *gates = at<const float>(a.x, route * 2 * ffn), *values = gates + ffn;
    const int64_t expert = at<const int32_t>(a.experts)[route];
    const float *bias = a.bias == 0 ? nullptr : at<const float>(a.bias, expert * 2 * ffn);
    uint16_t *output = at<uint16_t>(a.output, route * ffn);
    for (int i = column; i < column + 4 && i < a.ffn; i++) {
        const float gate = bias == nullptr ? gates[i] : gates[i] + bias[i];
        const float value = bias == nullptr ? values[i] : values[i] + bias[ffn + i];
        output[i] = float_to_bf16(gated(gate, value, a.kind, a.limit));
    }
}

APUS_KERNEL(combine_experts, cuda_combine_experts_arguments, ROW_THREADS, 8) {
    const int column = static_cast<int>(blockIdx.y * ROW_THREADS + threadIdx.x);
    if (column >= a.hidden) return;
    const int64_t token = blockIdx.x;
    float sum = 0;
    for (int64_t route = token * a.used; route < (token + 1) * a.used; route++) {
        float value = at<const float>(a.results, route * a.hidden)[column];
        const int64_t expert = at<const int32_t>(a.experts)[route];
        if (a.bias != 0) value = value + at<const float>(a.bias, expert * a.hidden)[column];
        sum = fmaf(at<const float>(a.shares)[route], value, sum);
    }
    float *const output = at<float>(a.output, token * a.hidden) + column;
    *output = *output + sum;
}
