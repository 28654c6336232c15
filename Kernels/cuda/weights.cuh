// Packed weight matrices as kernels read them: where a weight and its scales lie (include/weights.h describes the layout),
// what a weight is worth, and how a lane's eight weights of a step become operands of `mma_bf16`. Every format is the
// exact sum of one, two or three bf16 parts (times a scale per block when quantized), so products are never rounded.

#ifndef APUS_WEIGHTS_CUH
#define APUS_WEIGHTS_CUH

#include "bytes.cuh"
#include "matrix_layout.h"
#include "tiles.h"

/// bf16 values that add up to a weight, scale aside.
APUS_LAYOUT int weight_parts(int format) { return format == CUDA_WEIGHT_F32 ? 3 : format == CUDA_WEIGHT_F16 ? 2 : 1; }

/// Whether a scale is of 16 columns, one step.
APUS_LAYOUT bool has_half_scales(int format) { return format == CUDA_WEIGHT_Q6_K; }

/// Groups of a tile.
APUS_DEVICE int groups_of(int units, int shift) { return (units + (1 << shift) - 1) >> shift; }

APUS_DEVICE int units_of(int columns) { return (columns + CUDA_UNIT_COLUMNS - 1) / CUDA_UNIT_COLUMNS; }

// MARK: Values

/// The weights 2i and 2i + 1 of a step's eight (E2M1), times two. Their three lower bits are a bf16 that is 2^−127 of that.
APUS_DEVICE uint32_t e2m1_to_bf16(uint32_t nibbles, int i) {
    const uint32_t sign = i < 3 ? nibbles << (12 - 4 * i) : nibbles;
    const uint32_t rest = i < 2 ? nibbles << (6 - 4 * i) : nibbles >> (4 * i - 6);
    return bf16x2_fma(and_or(rest, 0x01C001C0, sign & 0x80008000), 0x7F007F00, 0);
}

/// The weights 2i and 2i + 1 of a step's eight, OR-ed into 128.0, where a nibble adds itself. `more` are the higher bits.
APUS_DEVICE uint32_t nibbles_as_bf16(uint32_t nibbles, int i) { return and_or(nibbles >> 4 * i, 0x000F000F, 0x43004300); }

/// Those of q5_k, pair `p` of the unit, and of q6_k, pair `p` of the block: one and two bits more of each.
APUS_DEVICE uint32_t with_fifth_bit(uint32_t pair, uint32_t more, int p) {
    return and_or(p < 4 ? more << (4 - p) : more >> (p - 4), 0x00100010, pair);
}
APUS_DEVICE uint32_t with_two_bits(uint32_t pair, uint32_t more, int p) {
    return and_or(p < 2 ? more << (4 - 2 * p) : more >> (2 * p - 4), 0x00300030, pair);
}

/// Byte `index` of a word as a float, less `offset`.
APUS_DEVICE float byte_to_float(uint32_t word, int index, float offset) {
    return __uint_as_float(__byte_perm(word, 0x4B000000, 0x7440 | index)) - (8388608.0f + offset);
}

/// The next part of two weights, and what is left of them.
APUS_DEVICE uint32_t take_part(float &low, float &high) {
    const uint32_t low_bits = __float_as_uint(low), high_bits = __float_as_uint(high);
    low = low - __uint_as_float(low_bits & 0xFFFF0000u);
    high = high - __uint_as_float(high_bits & 0xFFFF0000u);
#ifdef __CUDACC__
    return __byte_perm(low_bits, high_bits, 0x7632);
#else
    return low_bits >> 16 | (high_bits & 0xFFFF0000u);
#endif
}

/// A lane's eight weights of a step of a f16 or f32 unit.
template <int format> APUS_DEVICE void decode_floats(const uint8_t *unit, int step, int lane, float (&weights)[8]) {
    if constexpr (format == CUDA_WEIGHT_F16) {
        const uint4 words = load_16(unit + 512 * step + 16 * lane);
        const uint32_t pairs[4] = {words.x, words.y, words.z, words.w};
#pragma unroll
        for (int i = 0; i < 4; i++) {
            weights[2 * i] = half_to_float(static_cast<uint16_t>(pairs[i]));
            weights[2 * i + 1] = half_to_float(static_cast<uint16_t>(pairs[i] >> 16));
        }
    } else {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const uint4 words = load_16(unit + 1024 * step + 512 * half + 16 * lane);
            weights[4 * half] = __uint_as_float(words.x), weights[4 * half + 1] = __uint_as_float(words.y);
            weights[4 * half + 2] = __uint_as_float(words.z), weights[4 * half + 3] = __uint_as_float(words.w);
        }
    }
}

/// A lane's operands of a step of a f16 or f32 unit, in the order of their products.
template <int format>
APUS_DEVICE void decode_parts(const uint8_t *unit, int step, int lane, uint32_t (&fragments)[weight_parts(format)][4]) {
    float weights[8];
    decode_floats<format>(unit, step, lane, weights);
#pragma unroll
    for (int part = 0; part < weight_parts(format); part++) {
#pragma unroll
        for (int i = 0; i < 4; i++) fragments[part][i] = take_part(weights[2 * i], weights[2 * i + 1]);
    }
}

// MARK: Scales

/// Of a block of 32 columns, for the rows g and g + 8.
struct row_pair_scales {
    float scale[2], minimum[2];
    /// Of the block's second half, where scales are of 16 columns.
    float second[2];
    /// What codes are less, as pairs of bf16.
    uint32_t zero[2];
};

/// `scales` are the unit's and `group` its group's, in shared or global memory; `g` is the row pair.
template <int format>
APUS_DEVICE row_pair_scales read_scales(const uint8_t *scales, const uint8_t *group, int block, int g) {
    row_pair_scales result = {{1, 1}, {0, 0}, {0, 0}, {0, 0}};
    if constexpr (format == CUDA_WEIGHT_Q4_1) {
        const uint2 words = load_8(scales + g * 16 + 8 * block);
        result.minimum[0] = half_to_float(static_cast<uint16_t>(words.y));
        result.minimum[1] = half_to_float(static_cast<uint16_t>(words.y >> 16));
        result.scale[0] = half_to_float(static_cast<uint16_t>(words.x));
        result.scale[1] = half_to_float(static_cast<uint16_t>(words.x >> 16));
    } else if constexpr (format == CUDA_WEIGHT_Q8_0 || format == CUDA_WEIGHT_Q4_0) {
        const uint32_t word = *reinterpret_cast<const uint32_t *>(scales + g * 8 + 4 * block);
        result.scale[0] = half_to_float(static_cast<uint16_t>(word));
        result.scale[1] = half_to_float(static_cast<uint16_t>(word >> 16));
    } else if constexpr (format == CUDA_WEIGHT_Q4_K || format == CUDA_WEIGHT_Q5_K) {
        const uint32_t own = *reinterpret_cast<const uint32_t *>(scales + g * 8 + 4 * block);
        const uint2 words = load_8(group + 8 * g);
        // Products of 11 and 6 bits: exact.
        result.scale[0] = half_to_float(static_cast<uint16_t>(words.x)) * byte_to_float(own, 0, 0);
        result.scale[1] = half_to_float(static_cast<uint16_t>(words.x >> 16)) * byte_to_float(own, 1, 0);
        result.minimum[0] = -half_to_float(static_cast<uint16_t>(words.y)) * byte_to_float(own, 2, 0);
        result.minimum[1] = -half_to_float(static_cast<uint16_t>(words.y >> 16)) * byte_to_float(own, 3, 0);
    } else if constexpr (format == CUDA_WEIGHT_Q6_K) {
        const uint32_t own = *reinterpret_cast<const uint32_t *>(scales + g * 8 + 4 * block);
        const uint32_t word = *reinterpret_cast<const uint32_t *>(group + 4 * g);
        const float low = half_to_float(static_cast<uint16_t>(word));
        const float high = half_to_float(static_cast<uint16_t>(word >> 16));
        result.scale[0] = low * byte_to_float(own, 0, 128), result.second[0] = low * byte_to_float(own, 1, 128);
        result.scale[1] = high * byte_to_float(own, 2, 128), result.second[1] = high * byte_to_float(own, 3, 128);
    } else if constexpr (format == CUDA_WEIGHT_MXFP4) {
        // 2^(e − 128); codes are decoded to twice what they mean.
        const uint32_t word = *reinterpret_cast<const uint16_t *>(scales + g * 4 + 2 * block);
        const uint32_t low = word & 0xFF, high = word >> 8;
        result.scale[0] = __uint_as_float(low < 2 ? 0x200000u << low : (low - 1) << 23);
        result.scale[1] = __uint_as_float(high < 2 ? 0x200000u << high : (high - 1) << 23);
    } else if constexpr (format == CUDA_WEIGHT_INT4) {
        const uint2 words = load_8(group + g * 16 + 8 * block);
        result.scale[0] = half_to_float(static_cast<uint16_t>(words.x));
        result.scale[1] = half_to_float(static_cast<uint16_t>(words.x >> 16));
        result.zero[0] = __byte_perm(words.y, 0, 0x1010), result.zero[1] = __byte_perm(words.y, 0, 0x3232);
    } else if constexpr (format == CUDA_WEIGHT_INT8 || format == CUDA_WEIGHT_E4M3) {
        const uint2 words = load_8(group + g * 16 + 8 * block);
        result.scale[0] = __uint_as_float(words.x), result.scale[1] = __uint_as_float(words.y);
        if constexpr (format == CUDA_WEIGHT_INT8) {
            const uint32_t word = *reinterpret_cast<const uint32_t *>(group + 128 + g * 8 + 4 * block);
            result.zero[0] = __byte_perm(word, 0, 0x1010), result.zero[1] = __byte_perm(word, 0, 0x3232);
        }
    }
    return result;
}

/// A lane's operands of the two steps of 32 columns of a format of one part. Here as above `unit` are a unit's bytes,
/// in shared or global memory.
template <int format>
APUS_DEVICE void decode_block(
    const uint8_t *unit, int block, int lane, [[maybe_unused]] const row_pair_scales &scales,
    uint32_t (&fragments)[2][4]) {
    static_assert(weight_parts(format) == 1, "formats of several parts are decoded step by step");
    if constexpr (format == CUDA_WEIGHT_BF16) {
#pragma unroll
        for (int s = 0; s < 2; s++) {
            const uint4 words = load_16(unit + 512 * (2 * block + s) + 16 * lane);
            fragments[s][0] = words.x, fragments[s][1] = words.y;
            fragments[s][2] = words.z, fragments[s][3] = words.w;
        }
    } else if constexpr (!has_nibbles(format)) {
        const uint4 four = load_16(unit + 512 * block + 16 * lane);
        const uint32_t words[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const uint2 pairs = format == CUDA_WEIGHT_E4M3 ? e4m3_to_bf16(words[i]) : bytes_to_bf16(words[i]);
            uint32_t *const fragment = fragments[i / 2] + i % 2 * 2;
            fragment[0] = format == CUDA_WEIGHT_INT8 ? bf16x2_sub(pairs.x, scales.zero[0]) : pairs.x;
            fragment[1] = format == CUDA_WEIGHT_INT8 ? bf16x2_sub(pairs.y, scales.zero[1]) : pairs.y;
        }
    } else {
        const uint2 two = load_8(unit + 16 * lane + 8 * block);
        const uint32_t words[2] = {two.x, two.y};
        uint32_t more = 0;
        if (format == CUDA_WEIGHT_Q5_K) more = *reinterpret_cast<const uint32_t *>(unit + 512 + 4 * lane);
        if (format == CUDA_WEIGHT_Q6_K) more = *reinterpret_cast<const uint32_t *>(unit + 512 + 8 * lane + 4 * block);
        if (format == CUDA_WEIGHT_Q5_K) more = more >> 8 * block;
#pragma unroll
        for (int i = 0; i < 8; i++) {
            uint32_t &pair = fragments[i / 4][i % 4];
            if (format == CUDA_WEIGHT_MXFP4) {
                pair = e2m1_to_bf16(words[i / 4], i % 4);
                continue;
            }
            pair = nibbles_as_bf16(words[i / 4], i % 4);
            if (format == CUDA_WEIGHT_Q5_K) pair = with_fifth_bit(pair, more, i);
            if (format == CUDA_WEIGHT_Q6_K) pair = with_two_bits(pair, more, i);
            const uint32_t zero = format == CUDA_WEIGHT_Q4_0 ? 0x43084308
                : format == CUDA_WEIGHT_Q6_K                 ? 0x43204320
                : format == CUDA_WEIGHT_INT4                 ? scales.zero[i % 2]
                                                             : 0x43004300;
            pair = bf16x2_sub(pair, zero);
        }
    }
}

// MARK: Single weights

/// Two neighbours of the eight weights that `lane` owns in a step of a plain unit.
template <int format> APUS_DEVICE float2 stored_pair(const uint8_t *unit, int step, int lane, int pair) {
    if constexpr (format == CUDA_WEIGHT_F32) {
        const auto weights = reinterpret_cast<const float2 *>(unit) + 128 * step + 64 * (pair / 2) + 2 * lane;
        return weights[pair % 2];
    } else {
        const uint32_t word = reinterpret_cast<const uint32_t *>(unit)[128 * step + 4 * lane + pair];
        if constexpr (format == CUDA_WEIGHT_BF16) return make_float2(bf16_low(word), bf16_high(word));
        return make_float2(
            half_to_float(static_cast<uint16_t>(word)), half_to_float(static_cast<uint16_t>(word >> 16)));
    }
}

/// The same of a quantized unit, times scale and plus minimum, both operations rounded.
template <int format>
APUS_DEVICE float2 quantized_pair(
    const uint8_t *unit, int step, int lane, int pair, const row_pair_scales &scales) {
    uint32_t fragments[2][4];
    decode_block<format>(unit, step / 2, lane, scales, fragments);
    uint32_t found = 0;
#pragma unroll
    for (int i = 0; i < 8; i++) {
        if (i == step % 2 * 4 + pair) found = fragments[i / 4][i % 4];
    }
    const int half = pair % 2;
    const float scale = has_half_scales(format) && step % 2 == 1 ? scales.second[half] : scales.scale[half];
    const float2 product = make_float2(bf16_low(found) * scale, bf16_high(found) * scale);
    if constexpr (!has_minimum(format)) return product;
    return make_float2(product.x + scales.minimum[half], product.y + scales.minimum[half]);
}

/// Two neighbours of a row from an even `column` on.
template <int format> APUS_DEVICE float2 read_packed(const cuda_matrix &matrix, int row, int column) {
    const int units = units_of(matrix.columns), tile = row / CUDA_TILE_ROWS, place = column % 32;
    const int64_t unit = static_cast<int64_t>(tile) * units + column / 64;
    const uint8_t *bytes = at<const uint8_t>(matrix.data, unit * unit_bytes(format));
    const int block = column % 64 / 32, pair = place % 4 / 2 * 2 + row / 8 % 2;
    const int lane = 4 * (row % 8) + (has_half_scales(format) ? place % 16 / 4 : place / 8);
    const int step = 2 * block + (has_half_scales(format) ? place / 16 : place % 8 / 4);
    if constexpr (is_quantized(format)) {
        const int64_t group =
            static_cast<int64_t>(tile) * groups_of(units, matrix.group_shift) + (column / 64 >> matrix.group_shift);
        const row_pair_scales scales = read_scales<format>(
            at<const uint8_t>(matrix.scales, unit * unit_scale_bytes(format)),
            at<const uint8_t>(matrix.groups, group * group_bytes(format)), block, row % 8);
        return quantized_pair<format>(bytes, step, lane, pair, scales);
    } else {
        return stored_pair<format>(bytes, step, lane, pair);
    }
}

/// Two neighbours of a row of a bf16 matrix in swizzled tiles, from an even `column` on.
APUS_DEVICE float2 read_swizzled(const cuda_matrix &matrix, int row, int column) {
    const int64_t tile = static_cast<int64_t>(row / CUDA_SWIZZLED_ROWS) * units_of(matrix.columns);
    const int unit = column / CUDA_UNIT_COLUMNS, byte = column % CUDA_UNIT_COLUMNS * 2;
    const uint8_t *const start = at<const uint8_t>(matrix.data, (tile + unit) * CUDA_SWIZZLED_BYTES);
    const uint32_t word =
        *reinterpret_cast<const uint32_t *>(start + swizzled_place(row % CUDA_SWIZZLED_ROWS, byte));
    return make_float2(bf16_low(word), bf16_high(word));
}

APUS_DEVICE float2 read_packed_any(const cuda_matrix &matrix, int row, int column) {
    if (matrix.layout == CUDA_LAYOUT_SWIZZLED) return read_swizzled(matrix, row, column);
    switch (matrix.format) {
    case CUDA_WEIGHT_BF16: return read_packed<CUDA_WEIGHT_BF16>(matrix, row, column);
    case CUDA_WEIGHT_F16: return read_packed<CUDA_WEIGHT_F16>(matrix, row, column);
    case CUDA_WEIGHT_F32: return read_packed<CUDA_WEIGHT_F32>(matrix, row, column);
    case CUDA_WEIGHT_Q8_0: return read_packed<CUDA_WEIGHT_Q8_0>(matrix, row, column);
    case CUDA_WEIGHT_Q4_0: return read_packed<CUDA_WEIGHT_Q4_0>(matrix, row, column);
    case CUDA_WEIGHT_Q4_1: return read_packed<CUDA_WEIGHT_Q4_1>(matrix, row, column);
    case CUDA_WEIGHT_Q4_K: return read_packed<CUDA_WEIGHT_Q4_K>(matrix, row, column);
    case CUDA_WEIGHT_Q5_K: return read_packed<CUDA_WEIGHT_Q5_K>(matrix, row, column);
    case CUDA_WEIGHT_Q6_K: return read_packed<CUDA_WEIGHT_Q6_K>(matrix, row, column);
    case CUDA_WEIGHT_INT4: return read_packed<CUDA_WEIGHT_INT4>(matrix, row, column);
    case CUDA_WEIGHT_INT8: return read_packed<CUDA_WEIGHT_INT8>(matrix, row, column);
    case CUDA_WEIGHT_MXFP4: return read_packed<CUDA_WEIGHT_MXFP4>(matrix, row, column);
    case CUDA_WEIGHT_E4M3: return read_packed<CUDA_WEIGHT_E4M3>(matrix, row, column);
    }
    return make_float2(0, 0);
}

/// One weight.
APUS_DEVICE float packed_weight(const cuda_matrix &matrix, int row, int column) {
    const float2 pair = read_packed_any(matrix, row, column & ~1);
    return column & 1 ? pair.y : pair.x;
}

#endif
