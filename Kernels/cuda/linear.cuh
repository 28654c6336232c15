// The two ways to multiply a packed matrix with rows of activations, for linear.cu, whose rows lie one after the other, and
// for experts.cu, which takes the rows that its expert was chosen for. Weights and activations travel through a ring of
// stages in shared memory, filled by asynchronous copies several units ahead, so that bytes in flight cost no registers.
// A device with less shared memory gets rings of fewer stages.

#ifndef APUS_LINEAR_CUH
#define APUS_LINEAR_CUH

#include "device.cuh"
#include "products.cuh"

namespace linear {

// MARK: Up to 64 tokens

/// The first unit of a slice.
APUS_DEVICE int slice_start(int units, int slice) { return units * slice / CUDA_K_SLICES; }

/// A warp's way through its units: round after round, a slice each. All warps take `steps` a round, some of them empty.
struct slice_walk {
    int units, steps, slices_at_once;
    int slice, steps_left, units_left;

    /// Enters a slice, the one after the last being empty. Returns its first unit.
    __device__ int enter(int next) {
        slice = min(next, static_cast<int>(CUDA_K_SLICES));
        steps_left = steps;
        units_left = slice_start(units, min(slice + 1, static_cast<int>(CUDA_K_SLICES))) - slice_start(units, slice);
        return slice_start(units, slice);
    }
};

/// Adds the sums of a round's slices to the totals, in the slices' order. Each slice's warps own the totals of their
/// share of the tokens (the first ones, where there are fewer tiles of tokens than slices) and get the others' sums
/// of them through `partial`, [slices − 1][tile of rows][tile of tokens][lane].
template <int row_tiles, int token_tiles, int slices, int owned>
APUS_DEVICE void add_slices(
    float4 *partial, int part, int member, int lane, const float (&sums)[token_tiles][4], float (&total)[owned][4]) {
    constexpr int size = row_tiles * token_tiles * 32;
    const int mine = member * token_tiles * 32 + lane;
#pragma unroll
    for (int j = 0; j < token_tiles; j++) {
        const int owner = j / owned, slot = part < owner ? part : part - 1;
        if (owner == part) continue;
        partial[slot * size + mine + 32 * j] = make_float4(sums[j][0], sums[j][1], sums[j][2], sums[j][3]);
    }
    block_sync();
#pragma unroll 1
    for (int slice = 0; slice < slices; slice++) {
#pragma unroll
        for (int j = 0; j < token_tiles; j++) {
            if (j / owned != part) continue;
            const int slot = slice < part ? slice : slice - 1;
            float4 s = make_float4(sums[j][0], sums[j][1], sums[j][2], sums[j][3]);
            if (slice != part) s = partial[slot * size + mine + 32 * j];
            float(&t)[4] = total[j % owned];
            t[0] = t[0] + s.x, t[1] = t[1] + s.y, t[2] = t[2] + s.z, t[3] = t[3] + s.w;
        }
    }
}

/// Eight warps as tiles of rows times slices; the more tokens, the more tiles share a slice's activations.
/// `first_tile` is the block's.
template <int format, int tokens, class Rows>
APUS_DEVICE void skinny(
    const cuda_linear_arguments &a, const cuda_ending *ending, int first_tile, const Rows &rows) {
    constexpr int row_tiles = linear_row_tiles(tokens), slices_at_once = linear_slices_at_once(tokens);
    constexpr int stages = linear_stages(format, tokens, false), stage_bytes = linear_stage_bytes(format, tokens);
    constexpr int stages_of_small = linear_stages(format, tokens, linear_has_small(format, tokens));
    constexpr int tile_bytes = unit_stage_bytes(format);
    constexpr int x_bytes = linear_activation_bytes(tokens), token_tiles = tokens / 8;
    constexpr bool shares_sums = linear_shares_sums(format, tokens);
    static_assert(stages_of_small >= linear_least_stages(format, tokens), "too few to fill, use and sum");
    DYNAMIC_SHARED(uint8_t, shared);
    const bool is_small = stages_of_small != stages && linear_is_small(format, tokens, a.shared_limit);
    const int ring_bytes = (is_small ? stages_of_small : stages) * stage_bytes;
    const int lane = lane_index(), warp = warp_index();
    const int member = warp % row_tiles, part = warp / row_tiles;
    const int tile = first_tile + member, units = units_of(a.matrix.columns);
    const int steps = (units + CUDA_K_SLICES - 1) / CUDA_K_SLICES;
    uint8_t *const my_weights = shared + warp * tile_bytes;
    uint8_t *const my_activations =
        shared + LINEAR_WARPS * tile_bytes + part * (x_bytes + linear_sum_bytes(format, tokens));

    weight_stream<format> weights(a.matrix, tile, units, lane);
    activation_stream<tokens, row_tiles, Rows> activations(a, rows, 0, member, lane);
    slice_walk ahead = {units, steps, slices_at_once, 0, 0, 0};
    const auto skip = [&](int count) {
        weights.advance(count);
        activations.advance(count);
    };
    skip(ahead.enter(part));
    const auto fill = [&](int stage) {
        if (ahead.units_left > 0) {
            weights.copy(my_weights + stage + 16 * lane);
            activations.copy(my_activations + stage + 512 * member + 16 * lane);
        }
        copy_async_commit();
        skip(1);
        ahead.units_left--;
        if (row_tiles > 1 && --ahead.steps_left == 0) {
            const int passed = slice_start(units, ahead.slice) + steps;
            skip(ahead.enter(ahead.slice + slices_at_once) - passed);
        }
    };
#pragma unroll 1
    for (int i = 0; i < ring_bytes - stage_bytes; i += stage_bytes) fill(i);

    if constexpr (shares_sums) {
        wait_for_stage<stages - 2, stages_of_small - 2>(is_small);
        block_sync();
        share_sums<tokens, row_tiles>(my_activations, member, lane);
    }

    constexpr int owned = token_tiles > slices_at_once ? token_tiles / slices_at_once : 1;
    float total[owned][4], sums[1][token_tiles][4];
    clear(total);
    int stage = 0, previous = ring_bytes - stage_bytes;
#pragma unroll 1
    for (int round = 0; round < row_tiles; round++) {
        const int slice = round * slices_at_once + part;
        const int count = slice_start(units, slice + 1) - slice_start(units, slice);
        clear(sums[0]);
#pragma unroll 1
        for (int step = 0; step < steps; step++) {
            wait_for_stage<stages - 2 - shares_sums, stages_of_small - 2 - shares_sums>(is_small);
            // Now this step's stage has arrived, and everyone has read the previous one, which is filled anew.
            if constexpr (row_tiles == 1) warp_sync();
            else block_sync();
            fill(previous);
            const int next = stage + stage_bytes == ring_bytes ? 0 : stage + stage_bytes;
            if constexpr (shares_sums) share_sums<tokens, row_tiles>(my_activations + next, member, lane);
            if (step < count) {
                const uint8_t *x = my_activations + stage;
                multiply_unit<format, 1, token_tiles, shares_sums>(my_weights + stage, x, x + x_bytes, lane, sums);
            }
            previous = stage, stage = next;
        }
        // The next round's barriers come before its own partial sums.
        float4 *const partial = reinterpret_cast<float4 *>(shared + ring_bytes);
        add_slices<row_tiles, token_tiles, slices_at_once>(partial, part, member, lane, sums[0], total);
    }
    if (part * owned < token_tiles) write<true>(a, ending, rows, tile, part * owned * 8, lane, total);
    if constexpr (Rows::are_adjacent && tokens == 8) {
        if (ending->normed == 0) return;
        // Nobody reads the ring any more: all have waited for the last round's sums.
        norm_memory &memory = *reinterpret_cast<norm_memory *>(shared);
        const auto wait = [] { block_sync(); };
        if (!is_last_arrival(ending->arrivals, static_cast<int>(gridDim.x), memory, wait)) return;
        normalize_rows<LINEAR_WARPS>(*ending, a.output, a.matrix.rows, a.token_count, memory, wait);
    }
}

// MARK: More tokens

/// Eight warps as four pairs of row tiles times two halves of the tokens; every warp walks all of K. Where the results go
/// is found anew in the end (`first_tile` may lie in shared memory), because the products take all registers.
template <int format, class Rows>
APUS_DEVICE void large(
    const cuda_linear_arguments &a, const cuda_ending *ending, const int &first_tile, int block_token,
    const Rows &rows) {
    constexpr int row_tiles = 2, token_tiles = LINEAR_LARGE_TOKENS / 16;
    constexpr int stages = linear_large_stages(format, false), stage_bytes = linear_large_stage_bytes(format);
    constexpr int stages_of_small = linear_large_stages(format, true);
    constexpr int tile_bytes = unit_stage_bytes(format);
    constexpr int x_bytes = linear_activation_bytes(LINEAR_LARGE_TOKENS);
    constexpr bool shares_sums = linear_shares_sums(format, LINEAR_LARGE_TOKENS);
    static_assert(stages_of_small >= linear_least_stages(format, LINEAR_LARGE_TOKENS), "too few to fill, use and sum");
    DYNAMIC_SHARED(uint8_t, shared);
    const bool is_small = stages_of_small != stages && linear_large_is_small(format, a.shared_limit);
    const int ring_bytes = (is_small ? stages_of_small : stages) * stage_bytes;
    const int lane = lane_index(), warp = warp_index();
    const int units = units_of(a.matrix.columns);
    const uint8_t *const my_weights = shared + warp / 2 * row_tiles * tile_bytes;
    uint8_t *const activations_place = shared + LINEAR_LARGE_TILES * tile_bytes;
    const uint8_t *const my_activations = activations_place + warp % 2 * (x_bytes / 2);
    const uint8_t *const my_sums = activations_place + x_bytes + warp % 2 * (LINEAR_LARGE_TOKENS * 4);

    weight_stream<format> weights(a.matrix, first_tile + warp, units, lane);
    activation_stream<LINEAR_LARGE_TOKENS, LINEAR_WARPS, Rows> activations(a, rows, block_token, warp, lane);
    uint8_t *const weight_slot = shared + warp * tile_bytes + 16 * lane;
    uint8_t *const activation_slot = activations_place + 512 * warp + 16 * lane;
    int units_left = units;
    const auto fill = [&](int stage) {
        if (units_left > 0) {
            weights.copy(weight_slot + stage);
            activations.copy(activation_slot + stage);
        }
        copy_async_commit();
        weights.advance(1);
        activations.advance(1);
        units_left--;
    };
#pragma unroll 1
    for (int i = 0; i < ring_bytes - stage_bytes; i += stage_bytes) fill(i);

    if constexpr (shares_sums) {
        wait_for_stage<stages - 2, stages_of_small - 2>(is_small);
        block_sync();
        share_sums<LINEAR_LARGE_TOKENS, LINEAR_WARPS>(activations_place, warp, lane);
    }

    float total[row_tiles][token_tiles][4], sums[row_tiles][token_tiles][4];
#pragma unroll
    for (int r = 0; r < row_tiles; r++) clear(total[r]);
    int unit = 0, stage = 0, previous = ring_bytes - stage_bytes;
#pragma unroll 1
    for (int slice = 1; slice <= CUDA_K_SLICES; slice++) {
#pragma unroll
        for (int r = 0; r < row_tiles; r++) clear(sums[r]);
#pragma unroll 1
        for (; unit < slice_start(units, slice); unit++) {
            wait_for_stage<stages - 2 - shares_sums, stages_of_small - 2 - shares_sums>(is_small);
            block_sync();
            fill(previous);
            const int next = stage + stage_bytes == ring_bytes ? 0 : stage + stage_bytes;
            if constexpr (shares_sums) {
                share_sums<LINEAR_LARGE_TOKENS, LINEAR_WARPS>(activations_place + next, warp, lane);
            }
            multiply_unit<format, row_tiles, token_tiles, shares_sums>(
                my_weights + stage, my_activations + stage, my_sums + stage, lane, sums);
            previous = stage, stage = next;
        }
#pragma unroll
        for (int r = 0; r < row_tiles; r++) add(total[r], sums[r]);
    }
#pragma unroll
    for (int r = 0; r < row_tiles; r++) {
        const int own = recomputed(warp), token = block_token + own % 2 * (8 * token_tiles);
        write<false>(a, ending, rows, first_tile + own / 2 * row_tiles + r, token, lane, total[r]);
    }
}

}  // namespace linear

#endif
