// What both kinds of linear.cu's kernels are made of: streams that fill a stage of the ring, the products of a unit of
// weights and activations, and their sums. A stage holds both operands in the order of the instruction's: a lane reads
// its 16 bytes next to its neighbour's, without bank conflicts and without a swizzle.

#ifndef APUS_PRODUCTS_CUH
#define APUS_PRODUCTS_CUH

#include "device.cuh"
#include "weights.cuh"

namespace linear {

// MARK: Filling a stage

/// Where a lane's share of a tile's next unit comes from; zeros beyond the matrix. Streams move on by addition:
/// computed anew from the unit's index, addresses would take as many instructions as the products.
template <int format> struct weight_stream {
    const uint8_t *weights, *scales;
    bool is_inside, has_scales;

    __device__ weight_stream(const cuda_matrix &matrix, int tile, int units, int lane) {
        is_inside = tile * CUDA_TILE_ROWS < matrix.rows;
        has_scales = lane < unit_scale_bytes(format) / 16;
        const int64_t first = static_cast<int64_t>(tile) * units;
        weights = at<const uint8_t>(matrix.data, first * unit_bytes(format) + 16 * lane);
        scales = at<const uint8_t>(matrix.scales, first * unit_scale_bytes(format) + 16 * lane);
    }

    /// `slot` is the lane's place: 16 bytes for each lane.
    __device__ void copy(uint8_t *slot) const {
#pragma unroll
        for (int i = 0; i < unit_bytes(format); i += 512) copy_async_16(slot + i, weights + i, is_inside);
        if (is_quantized(format) && has_scales) copy_async_16(slot + unit_bytes(format), scales, is_inside);
    }

    __device__ void advance(int units) {
        weights += static_cast<int64_t>(units) * unit_bytes(format);
        scales += static_cast<int64_t>(units) * unit_scale_bytes(format);
    }
};

/// Which rows of the input and of the output a block's tokens are: themselves,
struct rows_in_order {
    static constexpr bool are_adjacent = true;
    __device__ int of_input(int token) const { return token; }
    __device__ int of_output(int token) const { return token; }
};

/// or those of a list of routes, of which `divisor` share a row of the input.
struct rows_of_routes {
    static constexpr bool are_adjacent = false;
    const int32_t *routes;
    int divisor;
    __device__ int of_input(int token) const { return routes[token] / divisor; }
    __device__ int of_output(int token) const { return routes[token]; }
};

/// Where a lane's share of the next unit's activations comes from: [token / 8][half unit][lane] 16 bytes, of which
/// `members` warps copy every `members`-th piece of 512. Zeros beyond the tokens and the columns.
template <int tokens, int members, class Rows> struct activation_stream {
    /// A warp alone takes both halves of a unit in turn; of several, each keeps to its half.
    static constexpr int tokens_a_step = members == 1 ? 8 : 4 * members;
    static constexpr int pieces = tokens / 4 / members, steps = members == 1 ? pieces / 2 : pieces;
    const uint16_t *first;
    int64_t token_step;
    /// Of rows that are not adjacent, in units of 16 bytes from `first`.
    int offsets[Rows::are_adjacent ? 1 : steps];
    int columns_left, tokens_left;

    __device__ activation_stream(const cuda_linear_arguments &a, const Rows &rows, int block_token, int member, int lane) {
        const int token = block_token + member / 2 * 8 + lane / 4, column = member % 2 * 32 + lane % 4 * 8;
        columns_left = a.matrix.columns - column;
        tokens_left = a.token_count - token;
        if constexpr (Rows::are_adjacent) {
            first = at<const uint16_t>(a.x, static_cast<int64_t>(token) * a.x_stride + column);
            token_step = static_cast<int64_t>(a.x_stride) * tokens_a_step;
        } else {
            first = at<const uint16_t>(a.x, column);
#pragma unroll
            for (int i = 0; i < steps; i++) {
                const bool is_inside = i * tokens_a_step < tokens_left;
                offsets[i] = is_inside ? rows.of_input(token + i * tokens_a_step) * (a.x_stride / 8) : 0;
            }
        }
    }

    __device__ void copy(uint8_t *slot) const {
#pragma unroll
        for (int i = 0; i < pieces; i++) {
            const int half = members == 1 ? i % 2 * 32 : 0, step = members == 1 ? i / 2 : i;
            const bool is_inside = step * tokens_a_step < tokens_left && half < columns_left;
            const int64_t offset = Rows::are_adjacent ? step * token_step : static_cast<int64_t>(offsets[step]) * 8;
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

/// Scales and minima of the rows g and g + 8.
struct row_pair_scales {
    float scale[2], minimum[2];
};

template <int format> APUS_DEVICE row_pair_scales read_scales(const uint8_t *scales, int block, int lane) {
    row_pair_scales result = {{1, 1}, {0, 0}};
    if constexpr (format == CUDA_WEIGHT_Q4_1) {
        const uint2 words = load_8(scales + lane / 4 * 16 + 8 * block);
        result.minimum[0] = half_to_float(static_cast<uint16_t>(words.y));
        result.minimum[1] = half_to_float(static_cast<uint16_t>(words.y >> 16));
        result.scale[0] = half_to_float(static_cast<uint16_t>(words.x));
        result.scale[1] = half_to_float(static_cast<uint16_t>(words.x >> 16));
    } else if constexpr (is_quantized(format)) {
        const uint32_t word = *reinterpret_cast<const uint32_t *>(scales + lane / 4 * 8 + 4 * block);
        result.scale[0] = half_to_float(static_cast<uint16_t>(word));
        result.scale[1] = half_to_float(static_cast<uint16_t>(word >> 16));
    }
    return result;
}

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

/// Adds the products of a block of 32 columns, formats of one part: two steps for each pair of tiles.
template <int format, int row_tiles, int token_tiles, bool has_shared_sums>
APUS_DEVICE void multiply_block(
    const uint8_t *tiles, const uint8_t *activations, const uint8_t *shared_sums, int block, int lane,
    float (&sums)[row_tiles][token_tiles][4]) {
    constexpr int tile_bytes = unit_bytes(format) + unit_scale_bytes(format);
    uint32_t weights[row_tiles][2][4];
    row_pair_scales scales[row_tiles];
#pragma unroll
    for (int r = 0; r < row_tiles; r++) {
        decode_block<format>(tiles + r * tile_bytes, block, lane, weights[r]);
        scales[r] = read_scales<format>(tiles + r * tile_bytes + unit_bytes(format), block, lane);
    }
#pragma unroll
    for (int j = 0; j < token_tiles; j++) {
        const uint4 x = load_16(activations + (2 * j + block) * 512 + 16 * lane);
        const uint32_t x_steps[2][2] = {{x.x, x.y}, {x.z, x.w}};
        float2 x_sums = make_float2(0, 0);
        if constexpr (format == CUDA_WEIGHT_Q4_1) {
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
            mma_bf16(block_sums, weights[r][1], x_steps[1]);
#pragma unroll
            for (int i = 0; i < 4; i++) {
                float &sum = sums[r][j][i];
                sum = fmaf(scales[r].scale[i / 2], block_sums[i], sum);
                if (format == CUDA_WEIGHT_Q4_1) sum = fmaf(scales[r].minimum[i / 2], i % 2 ? x_sums.y : x_sums.x, sum);
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

/// Stores (or adds) a tile's results for `token_tiles` times 8 tokens: a sector of 8 rows for each token.
template <class Rows, int token_tiles>
APUS_DEVICE void write(
    const cuda_linear_arguments &a, const Rows &rows, int tile, int first_token, int lane,
    const float (&sums)[token_tiles][4]) {
#pragma unroll
    for (int j = 0; j < token_tiles; j++) {
#pragma unroll
        for (int e = 0; e < 4; e++) {
            const int row = CUDA_TILE_ROWS * tile + lane / 4 + e / 2 * 8;
            const int token = first_token + 8 * j + lane % 4 * 2 + e % 2;
            if (row < a.matrix.rows && token < a.token_count) {
                float *place =
                    at<float>(a.output, static_cast<int64_t>(rows.of_output(token)) * a.output_stride + row);
                *place = a.accumulate ? *place + sums[j][e] : sums[j][e];
            }
        }
    }
}

}  // namespace linear

#endif
