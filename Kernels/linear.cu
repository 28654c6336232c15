// Math:    output[t][r] (+)= Σ_k W[r][k] · x[t][k]. x is bf16 and W the exact sum of bf16 parts (times a scale per 32
//          columns, plus a minimum in q4_1), so that products are exact and only f32 additions round.
// Shapes:  x [tokens, columns], W packed (CUDAKernels.h), output [tokens, ≥ rows] f32.
// Launch:  to 64 tokens: a warp per tile of 16 rows and slice of K, tokens are the narrow side of the product. Beyond:
//          128 rows × 128 tokens a block. Both sum 8 slices of K from zero, then add the slices in order: same bits.
// Bound:   to 64 tokens bytes of W, beyond tensor instructions; fractions of both are recorded in docs/benchmarks.
// Checked: CUDALinearTests (f64 reference, every format; bitwise over batches, kernels and thread orders)
// Source:  weights in fragment order and bits of nibbles as mantissas: Marlin (arXiv 2408.11743); the rest is its own.
//
// Weights and activations travel through a ring of stages in shared memory, filled by asynchronous copies several units
// ahead, so that bytes in flight cost no registers. Both lie there in the order of the instruction's operands: a lane
// reads its 16 bytes next to its neighbour's, without bank conflicts and without a swizzle.

#include "cuda/device.cuh"
#include "cuda/weights.cuh"

namespace linear {

// MARK: Filling a stage

/// Copies one unit of a tile, weights then scales; zeros beyond the matrix.
template <int format>
APUS_DEVICE void copy_weights(uint8_t *slot, const cuda_matrix &matrix, int tile, int unit, int units, int lane) {
    const bool is_inside = tile * CUDA_TILE_ROWS < matrix.rows;
    const int64_t index = is_inside ? static_cast<int64_t>(tile) * units + unit : 0;
    const uint8_t *weights = at<const uint8_t>(matrix.data, index * unit_bytes(format) + 16 * lane);
#pragma unroll
    for (int i = 0; i < unit_bytes(format) / 512; i++) {
        copy_async_16(slot + 512 * i + 16 * lane, weights + 512 * i, is_inside);
    }
    if constexpr (is_quantized(format)) {
        if (lane < unit_scale_bytes(format) / 16) {
            const uint8_t *scales = at<const uint8_t>(matrix.scales, index * unit_scale_bytes(format) + 16 * lane);
            copy_async_16(slot + unit_bytes(format) + 16 * lane, scales, is_inside);
        }
    }
}

/// Copies the activations of a unit, [token / 8][half unit][lane] 16 bytes; zeros beyond the tokens and the columns.
/// `members` warps share the work.
template <int tokens, int members>
APUS_DEVICE void copy_activations(
    uint8_t *slot, const cuda_linear_arguments &a, int first_token, int unit, int member, int lane) {
#pragma unroll
    for (int i = 0; i < tokens / 4; i += members) {
        const int piece = i + member, token = first_token + piece / 2 * 8 + lane / 4;
        const int column = CUDA_UNIT_COLUMNS * unit + piece % 2 * 32 + lane % 4 * 8;
        const bool is_inside = token < a.token_count && column < a.matrix.columns;
        const int64_t offset = is_inside ? static_cast<int64_t>(token) * a.x_stride + column : 0;
        copy_async_16(slot + 512 * piece + 16 * lane, at<const uint16_t>(a.x, offset), is_inside);
    }
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

/// A lane's products of 32 columns of one tile of rows with one of tokens, added to `sums` as the format demands.
template <int format>
APUS_DEVICE void multiply_block(
    const uint32_t (&weights)[2][weight_parts(format)][4], const row_pair_scales &scales, uint4 x,
    const float (&x_sums)[4], float (&sums)[4]) {
    const uint32_t steps[2][2] = {{x.x, x.y}, {x.z, x.w}};
    if constexpr (is_quantized(format)) {
        float block_sums[4] = {0, 0, 0, 0};
        mma_bf16(block_sums, weights[0][0], steps[0]);
        mma_bf16(block_sums, weights[1][0], steps[1]);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            sums[i] = fmaf(scales.scale[i / 2], block_sums[i], sums[i]);
            if (format == CUDA_WEIGHT_Q4_1) sums[i] = fmaf(scales.minimum[i / 2], x_sums[i], sums[i]);
        }
    } else {
#pragma unroll
        for (int s = 0; s < 2; s++) {
#pragma unroll
            for (int part = 0; part < weight_parts(format); part++) mma_bf16(sums, weights[s][part], steps[s]);
        }
    }
}

/// Adds the products of one unit of `row_tiles` tiles with `token_tiles` times 8 tokens to `sums`. The only place where
/// products are made: what it adds to a sum, and in which order, is the same for every shape.
template <int format, int row_tiles, int token_tiles>
APUS_DEVICE void multiply_unit(
    const uint8_t *tiles, const uint8_t *activations, int lane, float (&sums)[row_tiles][token_tiles][4]) {
    constexpr int tile_bytes = unit_bytes(format) + unit_scale_bytes(format);
#pragma unroll
    for (int block = 0; block < 2; block++) {
        uint32_t weights[row_tiles][2][weight_parts(format)][4];
        row_pair_scales scales[row_tiles];
#pragma unroll
        for (int r = 0; r < row_tiles; r++) {
            const uint8_t *tile = tiles + r * tile_bytes;
            decode_block<format>(tile, block, lane, weights[r]);
            scales[r] = read_scales<format>(tile + unit_bytes(format), block, lane);
        }
#pragma unroll
        for (int j = 0; j < token_tiles; j++) {
            const uint4 x = load_16(activations + (2 * j + block) * 512 + 16 * lane);
            float x_sums[4] = {0, 0, 0, 0};
            if constexpr (format == CUDA_WEIGHT_Q4_1) {
                const uint32_t ones[4] = {0x3F803F80, 0x3F803F80, 0x3F803F80, 0x3F803F80};
                mma_bf16(x_sums, ones, {x.x, x.y});
                mma_bf16(x_sums, ones, {x.z, x.w});
            }
#pragma unroll
            for (int r = 0; r < row_tiles; r++) multiply_block<format>(weights[r], scales[r], x, x_sums, sums[r][j]);
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
template <int token_tiles>
APUS_DEVICE void write(
    const cuda_linear_arguments &a, int tile, int first_token, int lane, const float (&sums)[token_tiles][4]) {
#pragma unroll
    for (int j = 0; j < token_tiles; j++) {
#pragma unroll
        for (int e = 0; e < 4; e++) {
            const int row = CUDA_TILE_ROWS * tile + lane / 4 + e / 2 * 8;
            const int token = first_token + 8 * j + lane % 4 * 2 + e % 2;
            if (row < a.matrix.rows && token < a.token_count) {
                float *place = at<float>(a.output, static_cast<int64_t>(token) * a.output_stride + row);
                *place = a.accumulate ? *place + sums[j][e] : sums[j][e];
            }
        }
    }
}

// MARK: Up to 64 tokens

/// A warp's walk over its units: round after round, a slice each. All warps take as many steps, some of them empty.
struct slice_walk {
    int units, steps, slices_at_once;
    int slice, step;

    __device__ int unit() const { return units * slice / CUDA_K_SLICES + step; }
    __device__ bool is_inside() const {
        return slice < CUDA_K_SLICES && unit() < units * (slice + 1) / CUDA_K_SLICES;
    }
    __device__ void advance() {
        if (++step < steps) return;
        step = 0;
        slice += slices_at_once;
    }
};

template <int format, int tokens> APUS_DEVICE void skinny(const cuda_linear_arguments &a) {
    constexpr int row_tiles = linear_row_tiles(tokens), slices_at_once = linear_slices_at_once(tokens);
    constexpr int stages = linear_stages(format, tokens), stage_bytes = linear_stage_bytes(format, tokens);
    constexpr int tile_bytes = unit_bytes(format) + unit_scale_bytes(format);
    constexpr int x_bytes = linear_activation_bytes(tokens), token_tiles = tokens / 8;
    static_assert(stages >= 2, "a stage is filled while another is used");
    DYNAMIC_SHARED(uint8_t, shared);
    const int lane = lane_index(), warp = warp_index();
    const int member = warp % row_tiles, part = warp / row_tiles;
    const int tile = static_cast<int>(blockIdx.x) * row_tiles + member, units = units_of(a.matrix.columns);
    const int steps = (units + CUDA_K_SLICES - 1) / CUDA_K_SLICES;
    uint8_t *const my_weights = shared + warp * tile_bytes;
    uint8_t *const my_activations = shared + LINEAR_WARPS * tile_bytes + part * x_bytes;

    slice_walk ahead = {units, steps, slices_at_once, part, 0};
    int fill = 0;
    const auto fill_next = [&] {
        if (ahead.is_inside()) {
            copy_weights<format>(my_weights + fill, a.matrix, tile, ahead.unit(), units, lane);
            copy_activations<tokens, row_tiles>(my_activations + fill, a, 0, ahead.unit(), member, lane);
        }
        copy_async_commit();
        ahead.advance();
        fill = fill + stage_bytes == stages * stage_bytes ? 0 : fill + stage_bytes;
    };
#pragma unroll 1
    for (int i = 0; i < stages - 1; i++) fill_next();

    float total[token_tiles][4], sums[1][token_tiles][4];
    clear(total);
    slice_walk walk = {units, steps, slices_at_once, part, 0};
    int use = 0;
#pragma unroll 1
    for (int round = 0; round < row_tiles; round++) {
        clear(sums[0]);
#pragma unroll 1
        for (int step = 0; step < steps; step++) {
            copy_async_wait<stages - 2>();
            // Of this step's stage all has arrived, and what `fill_next` overwrites has been read.
            if constexpr (row_tiles == 1) warp_sync();
            else block_sync();
            fill_next();
            if (walk.is_inside()) {
                multiply_unit<format, 1, token_tiles>(my_weights + use, my_activations + use, lane, sums);
            }
            walk.advance();
            use = use + stage_bytes == stages * stage_bytes ? 0 : use + stage_bytes;
        }
        // The warps of the round's first slice add all of them up. The next round's barriers come before its sums.
        float4 *const partial = reinterpret_cast<float4 *>(shared + stages * stage_bytes);
        constexpr int partials = row_tiles * token_tiles * 32;
        const int mine = member * token_tiles * 32 + lane;
        if (part > 0) {
#pragma unroll
            for (int j = 0; j < token_tiles; j++) {
                const float(&s)[4] = sums[0][j];
                partial[(part - 1) * partials + mine + 32 * j] = make_float4(s[0], s[1], s[2], s[3]);
            }
        }
        block_sync();
        if (part == 0) {
            add(total, sums[0]);
#pragma unroll 1
            for (int other = 0; other < slices_at_once - 1; other++) {
#pragma unroll
                for (int j = 0; j < token_tiles; j++) {
                    const float4 s = partial[other * partials + mine + 32 * j];
                    total[j][0] = total[j][0] + s.x, total[j][1] = total[j][1] + s.y;
                    total[j][2] = total[j][2] + s.z, total[j][3] = total[j][3] + s.w;
                }
            }
        }
    }
    if (part == 0) write(a, tile, 0, lane, total);
}

// MARK: More tokens

/// Eight warps as four pairs of row tiles times two halves of the tokens; every warp walks all of K.
template <int format> APUS_DEVICE void large(const cuda_linear_arguments &a) {
    constexpr int row_tiles = 2, token_tiles = LINEAR_LARGE_TOKENS / 16;
    constexpr int stages = linear_large_stages(format), stage_bytes = linear_large_stage_bytes(format);
    constexpr int tile_bytes = unit_bytes(format) + unit_scale_bytes(format);
    static_assert(stages >= 2, "a stage is filled while another is used");
    DYNAMIC_SHARED(uint8_t, shared);
    const int lane = lane_index(), warp = warp_index();
    const int first_tile = static_cast<int>(blockIdx.y) * LINEAR_LARGE_TILES, units = units_of(a.matrix.columns);
    const int block_token = static_cast<int>(blockIdx.x) * LINEAR_LARGE_TOKENS;
    const int my_tile = first_tile + warp / 2 * row_tiles, my_token = block_token + warp % 2 * (8 * token_tiles);
    const uint8_t *const my_weights = shared + warp / 2 * row_tiles * tile_bytes;
    const uint8_t *const my_activations = shared + LINEAR_LARGE_TILES * tile_bytes + warp % 2 * token_tiles * 1024;

    int ahead = 0, fill = 0;
    const auto fill_next = [&] {
        if (ahead < units) {
            copy_weights<format>(shared + fill + warp * tile_bytes, a.matrix, first_tile + warp, ahead, units, lane);
            copy_activations<LINEAR_LARGE_TOKENS, LINEAR_WARPS>(
                shared + fill + LINEAR_LARGE_TILES * tile_bytes, a, block_token, ahead, warp, lane);
        }
        copy_async_commit();
        ahead++;
        fill = fill + stage_bytes == stages * stage_bytes ? 0 : fill + stage_bytes;
    };
#pragma unroll 1
    for (int i = 0; i < stages - 1; i++) fill_next();

    float total[row_tiles][token_tiles][4], sums[row_tiles][token_tiles][4];
#pragma unroll
    for (int r = 0; r < row_tiles; r++) clear(total[r]);
    int unit = 0, use = 0;
#pragma unroll 1
    for (int slice = 1; slice <= CUDA_K_SLICES; slice++) {
#pragma unroll
        for (int r = 0; r < row_tiles; r++) clear(sums[r]);
#pragma unroll 1
        for (; unit < units * slice / CUDA_K_SLICES; unit++) {
            copy_async_wait<stages - 2>();
            block_sync();
            fill_next();
            multiply_unit<format, row_tiles, token_tiles>(my_weights + use, my_activations + use, lane, sums);
            use = use + stage_bytes == stages * stage_bytes ? 0 : use + stage_bytes;
        }
#pragma unroll
        for (int r = 0; r < row_tiles; r++) add(total[r], sums[r]);
    }
#pragma unroll
    for (int r = 0; r < row_tiles; r++) write(a, my_tile + r, my_token, lane, total[r]);
}

}  // namespace linear

#define LINEAR_SKINNY(name, format, tokens) \
    APUS_KERNEL(linear_##name##_##tokens, cuda_linear_arguments, LINEAR_THREADS, 2) { linear::skinny<format, tokens>(a); }
#define LINEAR_KERNELS(name, format) \
    LINEAR_SKINNY(name, format, 8) \
    LINEAR_SKINNY(name, format, 16) \
    LINEAR_SKINNY(name, format, 32) \
    LINEAR_SKINNY(name, format, 64) \
    APUS_KERNEL(linear_##name##_large, cuda_linear_arguments, LINEAR_THREADS, 1) { linear::large<format>(a); }

LINEAR_KERNELS(bf16, CUDA_WEIGHT_BF16)
LINEAR_KERNELS(f16, CUDA_WEIGHT_F16)
LINEAR_KERNELS(f32, CUDA_WEIGHT_F32)
LINEAR_KERNELS(q8_0, CUDA_WEIGHT_Q8_0)
LINEAR_KERNELS(q4_0, CUDA_WEIGHT_Q4_0)
LINEAR_KERNELS(q4_1, CUDA_WEIGHT_Q4_1)

#undef LINEAR_KERNELS
#undef LINEAR_SKINNY
