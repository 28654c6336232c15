// Rows of activations as 8-bit floats (E4M3) with a scale each, for products of 8-bit floats. A scale is a power of two,
// so that nothing is rounded but the codes: as precise as any other, codes being floats themselves.

#ifndef APUS_CODES_CUH
#define APUS_CODES_CUH

#include "device.cuh"

/// The largest magnitude of two bf16, as the bits of a f32. A NaN's are above all others.
APUS_DEVICE uint32_t largest_of_pair(uint32_t pair) { return max(pair << 16 & 0x7FFFFFFF, pair & 0x7FFF0000u); }

/// What a row's elements are multiplied with to become codes, and codes to be elements again.
struct row_scale {
    float factor, scale;
};

/// The least power of two with which the largest magnitude is at most 448. Not a number where one element is none, or
/// infinite.
APUS_DEVICE row_scale scale_of_row(uint32_t largest) {
    if (largest >= 0x7F800000u) return {0, __uint_as_float(0x7FFFFFFF)};
    // 448 is 1.75 · 2⁸: a mantissa beyond 1.75 carries. Neither power is subnormal.
    const int exponent = max(static_cast<int>((largest + 0x1FFFFF) >> 23) - 8, 1);
    return {__uint_as_float(static_cast<uint32_t>(254 - exponent) << 23),
            __uint_as_float(static_cast<uint32_t>(exponent) << 23)};
}

/// The nearest E4M3 of a magnitude up to 448, ties to even.
APUS_DEVICE uint32_t nearest_code(float value) {
    const uint32_t bits = __float_as_uint(value), magnitude = bits & 0x7FFFFFFF;
    // Codes below 2⁻⁶ are multiples of 2⁻⁹, as floats from 2¹⁴ on are.
    const uint32_t small = __float_as_uint(__uint_as_float(magnitude) + 16384.0f) & 0xF;
    const uint32_t large = ((magnitude + 0x7FFFF + (magnitude >> 20 & 1)) >> 20) - (120 << 3);
    return (magnitude < 0x3C800000 ? small : min(large, 0x7Eu)) | (bits >> 24 & 0x80);
}

/// The codes of four bf16.
APUS_DEVICE uint32_t codes_of_pairs(uint32_t first, uint32_t second, float factor) {
    return nearest_code(bf16_low(first) * factor) | nearest_code(bf16_high(first) * factor) << 8
        | nearest_code(bf16_low(second) * factor) << 16 | nearest_code(bf16_high(second) * factor) << 24;
}

#endif
