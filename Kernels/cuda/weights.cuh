// Packed weight matrices as kernels read them: where a weight and its scales lie (CUDAKernels.h describes the layout),
// what a weight is worth, and how a lane's eight weights of a step become operands of `mma_bf16`. Every format is the
// exact sum of one, two or three bf16 parts (times a scale per block when quantized), so products are never rounded.

#ifndef APUS_WEIGHTS_CUH
#define APUS_WEIGHTS_CUH

#include "device.cuh"
#include "matrix_layout.h"
#include "tiles.h"

/// bf16 values that add up to a weight, scale aside.
APUS_LAYOUT int weight_parts(int format) { return format == CUDA_WEIGHT_F32 ? 3 : format == CUDA_WEIGHT_F16 ? 2 : 1; }

APUS_DEVICE int units_of(int columns) { return (columns + CUDA_UNIT_COLUMNS - 1) / CUDA_UNIT_COLUMNS; }

// MARK: Values

/// (value & mask) | bits, one instruction: left alone, the compiler makes two of two constants.
APUS_DEVICE uint32_t and_or(uint32_t value, uint32_t mask, uint32_t bits) {
#ifdef __CUDACC__
    uint32_t result;
    asm("lop3.b32 %0, %1, %2, %3, 0xEA;" : "=r"(result) : "r"(value), "r"(mask), "r"(bits));
    return result;
#else
    return (value & mask) | bits;
#endif
}

/// Four signed bytes as two pairs of bf16. A byte is its low seven bits minus 128 if its high bit is set: both are
/// below 256, and OR-ing them into 128.0 gives 128 + low bits, and 128.0 or 256.0.
APUS_DEVICE uint2 bytes_to_bf16(uint32_t bytes) {
#ifdef __CUDACC__
    const uint32_t spread[2] = {__byte_perm(bytes, 0, 0x4140), __byte_perm(bytes, 0, 0x4342)};
#else
    const uint32_t spread[2] = {(bytes & 0xFF) | (bytes & 0xFF00) << 8, (bytes >> 16 & 0xFF) | (bytes >> 24) << 16};
#endif
    uint32_t pair[2];
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const uint32_t sign = and_or(spread[i], 0x00800080, 0x43004300);
        pair[i] = bf16x2_sub(and_or(spread[i], 0x007F007F, 0x43004300), sign);
    }
    return make_uint2(pair[0], pair[1]);
}

/// The weights 2i and 2i + 1 of a step's eight, minus the format's offset. A nibble OR-ed into 128.0 adds itself.
APUS_DEVICE uint32_t nibbles_to_bf16(uint32_t nibbles, int i, int format) {
    const uint32_t offset = format == CUDA_WEIGHT_Q4_0 ? 0x43084308 : 0x43004300;
    return bf16x2_sub(and_or(nibbles >> 4 * i, 0x000F000F, 0x43004300), offset);
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

/// A lane's operands of the two steps of 32 columns of a format of one part. Here as above `unit` are a unit's bytes,
/// in shared or global memory.
template <int format>
APUS_DEVICE void decode_block(const uint8_t *unit, int block, int lane, uint32_t (&fragments)[2][4]) {
    static_assert(weight_parts(format) == 1, "formats of several parts are decoded step by step");
    if constexpr (format == CUDA_WEIGHT_BF16) {
#pragma unroll
        for (int s = 0; s < 2; s++) {
            const uint4 words = load_16(unit + 512 * (2 * block + s) + 16 * lane);
            fragments[s][0] = words.x, fragments[s][1] = words.y;
            fragments[s][2] = words.z, fragments[s][3] = words.w;
        }
    } else if constexpr (format == CUDA_WEIGHT_Q8_0) {
        const uint4 words = load_16(unit + 512 * block + 16 * lane);
        const uint2 pairs[4] = {
            bytes_to_bf16(words.x), bytes_to_bf16(words.y), bytes_to_bf16(words.z), bytes_to_bf16(words.w)};
#pragma unroll
        for (int i = 0; i < 4; i++) {
            fragments[i / 2][i % 2 * 2] = pairs[i].x, fragments[i / 2][i % 2 * 2 + 1] = pairs[i].y;
        }
    } else {
        const uint2 words = load_8(unit + 16 * lane + 8 * block);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            fragments[0][i] = nibbles_to_bf16(words.x, i, format);
            fragments[1][i] = nibbles_to_bf16(words.y, i, format);
        }
    }
}

// MARK: Single weights

/// Two neighbours of the eight weights that `lane` owns in a step, without their scale.
template <int format> APUS_DEVICE float2 stored_pair(const uint8_t *unit, int step, int lane, int pair) {
    if constexpr (format == CUDA_WEIGHT_F32) {
        const auto weights = reinterpret_cast<const float2 *>(unit) + 128 * step + 64 * (pair / 2) + 2 * lane;
        return weights[pair % 2];
    } else if constexpr (format == CUDA_WEIGHT_Q8_0) {
        const auto weights = reinterpret_cast<const int8_t *>(unit) + 512 * (step / 2) + 16 * lane + 8 * (step % 2);
        return make_float2(weights[2 * pair], weights[2 * pair + 1]);
    } else if constexpr (is_quantized(format)) {
        const uint32_t nibbles = reinterpret_cast<const uint32_t *>(unit)[4 * lane + step] >> 4 * pair;
        const int offset = format == CUDA_WEIGHT_Q4_0 ? 8 : 0;
        return make_float2(
            static_cast<int>(nibbles & 15) - offset, static_cast<int>(nibbles >> 16 & 15) - offset);
    } else {
        const uint32_t word = reinterpret_cast<const uint32_t *>(unit)[128 * step + 4 * lane + pair];
        if constexpr (format == CUDA_WEIGHT_BF16) return make_float2(bf16_low(word), bf16_high(word));
        return make_float2(
            half_to_float(static_cast<uint16_t>(word)), half_to_float(static_cast<uint16_t>(word >> 16)));
    }
}

/// `count` (even) neighbours of a row from an even `column` on, none beyond the column's block of 32.
template <int format, int count>
APUS_DEVICE void read_packed(const cuda_matrix &matrix, int row, int column, float (&out)[count]) {
    const int64_t unit = static_cast<int64_t>(row / CUDA_TILE_ROWS) * units_of(matrix.columns) + column / 64;
    const uint8_t *bytes = at<const uint8_t>(matrix.data, unit * unit_bytes(format));
    float scale = 1, minimum = 0;
    const int half = row / 8 % 2;
    if constexpr (is_quantized(format)) {
        const int count_of_pair = unit_scale_bytes(format) / 32;
        const auto pair = at<const uint16_t>(matrix.scales, unit * (unit_scale_bytes(format) / 2)) +
            (row % 8 * 2 + column % 64 / 32) * count_of_pair;
        scale = half_to_float(pair[half]);
        if (format == CUDA_WEIGHT_Q4_1) minimum = half_to_float(pair[2 + half]);
    }
#pragma unroll
    for (int i = 0; i < count; i += 2) {
        const int place = column + i, lane = 4 * (row % 8) + place % 32 / 8, step = place % 64 / 32 * 2 + place % 8 / 4;
        const float2 pair = stored_pair<format>(bytes, step, lane, place % 4 / 2 * 2 + half);
        out[i] = pair.x, out[i + 1] = pair.y;
        if constexpr (is_quantized(format)) {
            out[i] = out[i] * scale + minimum;
            out[i + 1] = out[i + 1] * scale + minimum;
        }
    }
}

/// Adjacent weights of a row of a bf16 matrix in swizzled tiles.
template <int count>
APUS_DEVICE void read_swizzled(const cuda_matrix &matrix, int row, int column, float (&out)[count]) {
    const int64_t tile = static_cast<int64_t>(row / CUDA_SWIZZLED_ROWS) * units_of(matrix.columns);
#pragma unroll
    for (int i = 0; i < count; i++) {
        const int unit = (column + i) / CUDA_UNIT_COLUMNS, byte = (column + i) % CUDA_UNIT_COLUMNS * 2;
        const uint8_t *const start = at<const uint8_t>(matrix.data, (tile + unit) * CUDA_SWIZZLED_BYTES);
        out[i] = bf16_to_float(
            *reinterpret_cast<const uint16_t *>(start + swizzled_place(row % CUDA_SWIZZLED_ROWS, byte)));
    }
}

template <int count>
APUS_DEVICE void read_packed_any(const cuda_matrix &matrix, int row, int column, float (&out)[count]) {
    if (matrix.layout == CUDA_LAYOUT_SWIZZLED) return read_swizzled(matrix, row, column, out);
    switch (matrix.format) {
    case CUDA_WEIGHT_BF16: return read_packed<CUDA_WEIGHT_BF16>(matrix, row, column, out);
    case CUDA_WEIGHT_F16: return read_packed<CUDA_WEIGHT_F16>(matrix, row, column, out);
    case CUDA_WEIGHT_F32: return read_packed<CUDA_WEIGHT_F32>(matrix, row, column, out);
    case CUDA_WEIGHT_Q8_0: return read_packed<CUDA_WEIGHT_Q8_0>(matrix, row, column, out);
    case CUDA_WEIGHT_Q4_0: return read_packed<CUDA_WEIGHT_Q4_0>(matrix, row, column, out);
    case CUDA_WEIGHT_Q4_1: return read_packed<CUDA_WEIGHT_Q4_1>(matrix, row, column, out);
    }
}

/// One weight: d · q, or d · q + m with both operations rounded, when quantized.
APUS_DEVICE float packed_weight(const cuda_matrix &matrix, int row, int column) {
    float pair[2];
    read_packed_any(matrix, row, column & ~1, pair);
    return column & 1 ? pair[1] : pair[0];
}

/// The 32 weights of a row from column 32 · block on; columns of the padding read as the zeros (times scale) they are.
APUS_DEVICE void packed_row_32(const cuda_matrix &matrix, int row, int block, float (&out)[32]) {
    read_packed_any(matrix, row, 32 * block, out);
}

#endif
