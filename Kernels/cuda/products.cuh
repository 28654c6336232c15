// What both kinds of linear.cu's kernels are made of: streams that fill a stage of the ring, the products of a unit of
// weights and activations, and their sums. A stage holds both operands in the order of the instruction's: a lane reads
// its 16 bytes next to its neighbour's, without bank conflicts and without a swizzle.

#ifndef APUS_PRODUCTS_CUH
#define APUS_PRODUCTS_CUH

#include "device.cuh"
#include "endings.cuh"
#include "ranks.cuh"
#include "weights.cuh"

namespace linear {

// MARK: Filling a stage

/// Where a lane's share of a tile's next unit comes from; zeros beyond the matrix. Streams move on by addition:
/// computed anew from the unit's index, addresses would take as many instructions as the products.
template <int format> struct weight_stream {
    /// Whether a lane's pieces may lie in one of two distances.
    static constexpr bool has_distances = unit_scale_bytes(format) > 0 && unit_scale_bytes(format) != group_bytes(format);
    /// Pieces of 16 bytes of a unit's scales, and of them and its group.
    static constexpr int scale_pieces = unit_scale_bytes(format) / 16;
    static constexpr int pieces = scale_pieces + group_bytes(format) / 16;
    const uint8_t *weights, *scales;
    bool is_inside, has_scales;
    /// Where there are groups: the unit, and of this lane's piece how many bytes and 2^shift units apart they are.
    int unit, shift, distance;

    __device__ weight_stream(const cuda_matrix &matrix, int tile, int units, int lane) {
        is_inside = tile * CUDA_TILE_ROWS < matrix.rows;
        has_scales = lane < pieces;
        const int64_t first = static_cast<int64_t>(tile) * units;
        weights = at<const uint8_t>(matrix.data, first * unit_bytes(format) + 16 * lane);
        scales = at<const uint8_t>(matrix.scales, first * unit_scale_bytes(format) + 16 * lane);
        if constexpr (group_bytes(format) > 0) {
            const bool is_group = lane >= scale_pieces;
            unit = 0;
            if (has_distances) distance = is_group ? group_bytes(format) : unit_scale_bytes(format);
            shift = is_group ? matrix.group_shift : 0;
            const int64_t group = static_cast<int64_t>(tile) * groups_of(units, matrix.group_shift);
            if (is_group) {
                scales = at<const uint8_t>(matrix.groups, group * group_bytes(format) + 16 * (lane - scale_pieces));
            }
        }
    }

    /// `slot` is the lane's place: 16 bytes for each lane.
    __device__ void copy(uint8_t *slot) const {
#pragma unroll
        for (int i = 0; i + 512 <= unit_bytes(format); i += 512) copy_async_16(slot + i, weights + i, is_inside);
        if constexpr (unit_bytes(format) % 512 != 0) {
            constexpr int whole = unit_bytes(format) / 512 * 512;
            if (lane_index() < unit_bytes(format) % 512 / 16) copy_async_16(slot + whole, weights + whole, is_inside);
        }
        if (!is_quantized(format) || !has_scales) return;
        const int between = has_distances ? distance : group_bytes(format);
        const int64_t offset = group_bytes(format) > 0 ? static_cast<int64_t>(unit >> shift) * between : 0;
        copy_async_16(slot + unit_bytes(format), scales + offset, is_inside);
    }

    __device__ void advance(int units) {
        weights += static_cast<int64_t>(units) * unit_bytes(format);
        if constexpr (group_bytes(format) > 0) unit += units;
        else scales += static_cast<int64_t>(units) * unit_scale_bytes(format);
    }
};

/// Which rows of the input and of the output a block's tokens are: themselves,
struct rows_in_order {
    static constexpr bool are_adjacent = true;
    __device__ int of_input(int) const { return 0; }
    __device__ int of_output(int token) const { return token; }
};

/// or those of a list of routes. Where a token's input is stays in shared memory, in units of 16 bytes from x.
struct rows_of_routes {
    static constexpr bool are_adjacent = false;
    const int32_t *routes;
    const int32_t *inputs;
    __device__ int of_input(int token) const { return inputs[token]; }
    __device__ int of_output(int token) const { return routes[token]; }
};

/// Where a lane's share of the next unit's activations comes from: [token / 8][half unit][lane] 16 bytes, of which
/// `members` warps copy every `members`-th piece of 512. Zeros beyond the tokens and the columns.
template <int tokens, int members, class Rows> struct activation_stream {
    /// A warp alone takes both halves of a unit in turn; of several, each keeps to its half.
    static constexpr int tokens_a_step = members == 1 ? 8 : 4 * members;
    static constexpr int pieces = tokens / 4 / members;
    const uint16_t *first;
    int64_t token_step;
    const Rows &rows;
    int columns_left, tokens_left, first_token;

    __device__ activation_stream(
        const cuda_linear_arguments &a, const Rows &rows, int block_token, int member, int lane)
        : rows(rows) {
        const int token = block_token + member / 2 * 8 + lane / 4, column = member % 2 * 32 + lane % 4 * 8;
        columns_left = a.matrix.columns - column;
        tokens_left = a.token_count - token;
        first_token = token;
        const int64_t row = Rows::are_adjacent ? token : 0;
        first = at<const uint16_t>(a.x, row * a.x_stride + column);
        token_step = static_cast<int64_t>(a.x_stride) * tokens_a_step;
    }

    __device__ void copy(uint8_t *slot) const {
#pragma unroll
        for (int i = 0; i < pieces; i++) {
            const int half = members == 1 ? i % 2 * 32 : 0, step = members == 1 ? i / 2 : i;
            const bool is_inside = step * tokens_a_step < tokens_left && half < columns_left;
            int64_t offset = step * token_step;
            if (!Rows::are_adjacent) {
                offset = is_inside ? 8 * static_cast<int64_t>(rows.of_input(first_token + step * tokens_a_step)) : 0;
            }
            copy_async_16(slot + 512 * members * i, first + offset + half, is_inside);
        }
    }

    __device__ void advance(int units) {
        first += CUDA_UNIT_COLUMNS * units;
        columns_left -= CUDA_UNIT_COLUMNS * units;
    }
};

/// Waits for all but the newest copies of a ring: how many those are follows from its size.
template <int newest, int newest_of_small> APUS_DEVICE void wait_for_stage(bool is_small) {
    if (newest_of_small != newest && is_small) copy_async_wait<newest_of_small>();
    else copy_async_wait<newest>();
}

// MARK: Using a stage

/// A lane's sums of 32 columns of activations, for the tokens of the result's layout: a product with ones.
APUS_DEVICE float2 sum_activations(const uint32_t (&x_steps)[2][2]) {
    const uint32_t ones[4] = {0x3F803F80, 0x3F803F80, 0x3F803F80, 0x3F803F80};
    float sums[4] = {0, 0, 0, 0};
    mma_bf16(sums, ones, x_steps[0]);
    mma_bf16(sums, ones, x_steps[1]);
    return make_float2(sums[0], sums[1]);
}

/// Leaves the sums of a stage's activations behind them, [token / 8][half unit][8] f32, shared by `members` warps.
/// (Unrolled further, it takes the registers that the product's loads need.)
template <int tokens, int members> APUS_DEVICE void share_sums(uint8_t *activations, int member, int lane) {
#pragma unroll 2
    for (int i = 0; i < tokens / 4; i += members) {
        const uint4 x = load_16(activations + (i + member) * 512 + 16 * lane);
        const float2 sums = sum_activations({{x.x, x.y}, {x.z, x.w}});
        float2 *const place = reinterpret_cast<float2 *>(activations + linear_activation_bytes(tokens));
        if (lane < 4) place[4 * (i + member) + lane] = sums;
    }
}

/// A lane's activations of the two steps of a block of 32 columns: the eight adjacent ones, or four of each half.
template <int format>
APUS_DEVICE void read_activations(const uint8_t *activations, int lane, uint32_t (&x_steps)[2][2]) {
    if constexpr (has_half_scales(format)) {
        const uint8_t *const half = activations + 64 * (lane / 4) + 8 * (lane % 4);
        const uint2 first = load_8(half), second = load_8(half + 32);
        x_steps[0][0] = first.x, x_steps[0][1] = first.y, x_steps[1][0] = second.x, x_steps[1][1] = second.y;
    } else {
        const uint4 x = load_16(activations + 16 * lane);
        x_steps[0][0] = x.x, x_steps[0][1] = x.y, x_steps[1][0] = x.z, x_steps[1][1] = x.w;
    }
}

/// Adds the products of a block of 32 columns, formats of one part: two steps for each pair of tiles.
template <int format, int row_tiles, int token_tiles, bool has_shared_sums>
APUS_DEVICE void multiply_block(
    const uint8_t *tiles, const uint8_t *activations, const uint8_t *shared_sums, int block, int lane,
    float (&sums)[row_tiles][token_tiles][4]) {
    constexpr int tile_bytes = unit_stage_bytes(format);
    uint32_t weights[row_tiles][2][4];
    row_pair_scales scales[row_tiles];
#pragma unroll
    for (int r = 0; r < row_tiles; r++) {
        const uint8_t *const own = tiles + r * tile_bytes + unit_bytes(format);
        scales[r] = read_scales<format>(own, own + unit_scale_bytes(format), block, lane / 4);
        decode_block<format>(tiles + r * tile_bytes, block, lane, scales[r], weights[r]);
    }
#pragma unroll
    for (int j = 0; j < token_tiles; j++) {
        uint32_t x_steps[2][2];
        read_activations<format>(activations + (2 * j + block) * 512, lane, x_steps);
        float2 x_sums = make_float2(0, 0);
        if constexpr (has_minimum(format)) {
            const auto place = reinterpret_cast<const float2 *>(shared_sums) + 4 * (2 * j + block) + lane % 4;
            x_sums = has_shared_sums ? *place : sum_activations(x_steps);
        }
#pragma unroll
        for (int r = 0; r < row_tiles; r++) {
            if constexpr (!is_quantized(format)) {
                mma_bf16(sums[r][j], weights[r][0], x_steps[0]);
                mma_bf16(sums[r][j], weights[r][1], x_steps[1]);
                continue;
            }
            float block_sums[4] = {0, 0, 0, 0};
            mma_bf16(block_sums, weights[r][0], x_steps[0]);
            if constexpr (has_half_scales(format)) {
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    sums[r][j][i] = fmaf(scales[r].scale[i / 2], block_sums[i], sums[r][j][i]);
                    block_sums[i] = 0;
                }
            }
            mma_bf16(block_sums, weights[r][1], x_steps[1]);
#pragma unroll
            for (int i = 0; i < 4; i++) {
                float &sum = sums[r][j][i];
                sum = fmaf(has_half_scales(format) ? scales[r].second[i / 2] : scales[r].scale[i / 2], block_sums[i], sum);
                if (has_minimum(format)) sum = fmaf(scales[r].minimum[i / 2], i % 2 ? x_sums.y : x_sums.x, sum);
            }
        }
    }
}

/// Adds the products of a step, formats of several parts: a product for each part.
template <int format, int row_tiles, int token_tiles>
APUS_DEVICE void multiply_step(
    const uint8_t *tiles, const uint8_t *activations, int step, int lane, float (&sums)[row_tiles][token_tiles][4]) {
    uint32_t weights[row_tiles][weight_parts(format)][4];
#pragma unroll
    for (int r = 0; r < row_tiles; r++) decode_parts<format>(tiles + r * unit_bytes(format), step, lane, weights[r]);
#pragma unroll
    for (int j = 0; j < token_tiles; j++) {
        const uint2 words = load_8(activations + (2 * j + step / 2) * 512 + 16 * lane + 8 * (step % 2));
        const uint32_t x[2] = {words.x, words.y};
#pragma unroll
        for (int r = 0; r < row_tiles; r++) {
#pragma unroll
            for (int part = 0; part < weight_parts(format); part++) mma_bf16(sums[r][j], weights[r][part], x);
        }
    }
}

/// Adds the products of one unit of `row_tiles` tiles with `token_tiles` times 8 tokens to `sums`. The only place where
/// products are made: what it adds to a sum, and in which order, is the same for every shape.
template <int format, int row_tiles, int token_tiles, bool has_shared_sums>
APUS_DEVICE void multiply_unit(
    const uint8_t *tiles, const uint8_t *activations, const uint8_t *shared_sums, int lane,
    float (&sums)[row_tiles][token_tiles][4]) {
    // Unrolled, the loads of the next block start early, if there are registers for them beside the sums.
    constexpr bool has_room = token_tiles < 8 || (row_tiles > 1 && !is_quantized(format));
    if constexpr (weight_parts(format) == 1) {
#pragma unroll(has_room ? 2 : 1)
        for (int block = 0; block < 2; block++) {
            multiply_block<format, row_tiles, token_tiles, has_shared_sums>(
                tiles, activations, shared_sums, block, lane, sums);
        }
    } else {
#pragma unroll(has_room ? 4 : 1)
        for (int step = 0; step < 4; step++) {
            multiply_step<format, row_tiles, token_tiles>(tiles, activations, step, lane, sums);
        }
    }
}

// MARK: Sums

template <int count> APUS_DEVICE void clear(float (&sums)[count][4]) {
#pragma unroll
    for (int i = 0; i < count; i++) sums[i][0] = sums[i][1] = sums[i][2] = sums[i][3] = 0;
}

template <int count> APUS_DEVICE void add(float (&total)[count][4], const float (&sums)[count][4]) {
#pragma unroll
    for (int i = 0; i < count; i++) {
#pragma unroll
        for (int e = 0; e < 4; e++) total[i][e] = total[i][e] + sums[i][e];
    }
}

/// Stores (or adds) a tile's results for `token_tiles` times 8 tokens, a sector of 8 rows for each token; or ends them,
/// where there is an ending; or leaves the best.
template <bool has_heads, class Rows, int token_tiles>
APUS_DEVICE void write(
    const cuda_linear_arguments &a, [[maybe_unused]] const cuda_ending *ending, const Rows &rows, int tile,
    int first_token, int lane, const float (&sums)[token_tiles][4]) {
    if (Rows::are_adjacent && a.ranks != 0) {
        const int own_tile = recomputed(tile), own = recomputed(lane);
#pragma unroll
        for (int i = 0; i < 2 * token_tiles; i++) {
            const int token = first_token + i / 2 * 8 + own % 4 * 2 + i % 2;
            const float (&pair)[4] = sums[i / 2];
            write_best(a.ranks, a.matrix.rows, own_tile, token, a.token_count, own, pair[i % 2], pair[i % 2 + 2]);
        }
        return;
    }
    const int packed = CUDA_TILE_ROWS * tile + lane / 4;
    if (packed >= a.matrix.rows) return;
    const row_pair pair = rows_of(a.matrix, packed);
    const bool has_second = packed + 8 < a.matrix.rows, adds = a.accumulate != 0;
#pragma unroll
    for (int i = 0; i < 2 * token_tiles; i++) {
        const int token = first_token + i / 2 * 8 + lane % 4 * 2 + i % 2;
        const float first = sums[i / 2][i % 2], second = sums[i / 2][i % 2 + 2];
        if (token >= a.token_count) continue;
        if constexpr (Rows::are_adjacent) {
            end_pair<has_heads>(
                *ending, a.matrix, a.output, a.output_stride, adds, pair, has_second, token, first, second);
        } else {
            float *const row = at<float>(a.output, static_cast<int64_t>(rows.of_output(token)) * a.output_stride);
            end_plain(row, pair.first, first, adds, nullptr);
            if (has_second) end_plain(row, pair.second, second, adds, nullptr);
        }
    }
}

}  // namespace linear

#endif
