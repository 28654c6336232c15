// Numbers of 8 bits: how four of them become pairs of bf16, as weights and cached keys and values are multiplied, and how a
// vector (a head of a key or value, a row of a product's input) becomes such numbers and a scale. The instructions that
// convert E4M3 are of compute capability 8.9 and later; these have the same bits everywhere.

#ifndef APUS_BYTES_CUH
#define APUS_BYTES_CUH

#include "device.cuh"

// MARK: Reading

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

/// Four bytes (E4M3) as two pairs of bf16. Their seven lower bits are a bf16 that is 2^−120 of what they mean.
APUS_DEVICE uint2 e4m3_to_bf16(uint32_t bytes) {
    const uint32_t spread[2] = {__byte_perm(bytes, 0, 0x1404), __byte_perm(bytes, 0, 0x3424)};
    uint32_t pair[2];
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const uint32_t small = and_or(spread[i] >> 4, 0x07F007F0, spread[i] & 0x80008000);
        // Plus −0, which keeps the sign of a zero.
        pair[i] = bf16x2_fma(small, 0x7B807B80, 0x80008000);
    }
    return make_uint2(pair[0], pair[1]);
}

// MARK: Writing

/// What elements are multiplied with to become codes, and codes to be elements again.
struct byte_scale {
    float factor, scale;
};

/// Where an element is infinite or NaN, so that it shows.
APUS_DEVICE byte_scale scale_of_nothing() { return {0, __uint_as_float(0x7FFFFFFF)}; }

/// Of a vector of signed bytes whose largest magnitude is `largest`, NaN where an element is: the CPU's.
APUS_DEVICE byte_scale scale_of_integers(float largest) {
    if (__float_as_uint(largest) >= 0x7F800000) return scale_of_nothing();
    return {largest >= 1e-30f ? 127.0f / largest : 0, largest / 127.0f};
}

/// Of one of E4M3, whose codes end at 448: the least power of two that suffices, so that only codes round. As precise as
/// any other, codes being floats themselves.
APUS_DEVICE byte_scale scale_of_e4m3(float largest) {
    const uint32_t bits = __float_as_uint(largest);
    if (bits >= 0x7F800000) return scale_of_nothing();
    // 448 is 1.75 · 2^8: a mantissa beyond 1.75 carries. Neither power is subnormal.
    const int exponent = max(static_cast<int>((bits + 0x1FFFFF) >> 23) - 8, 1);
    return {__uint_as_float(static_cast<uint32_t>(254 - exponent) << 23),
            __uint_as_float(static_cast<uint32_t>(exponent) << 23)};
}

/// The nearest whole number, ties to even, of −128…127.
APUS_DEVICE uint32_t float_to_byte(float value) {
    // The sum rounds to a whole number, which its low bits then are.
    return __float_as_uint(value + 12582912.0f) & 0xFF;
}

/// The nearest E4M3, ties to even, 448 where there is none so large.
APUS_DEVICE uint32_t float_to_e4m3(float value) {
    const uint32_t bits = __float_as_uint(value), magnitude = bits & 0x7FFFFFFF;
    // Codes below 2^−6 are multiples of 2^−9, as floats from 2^14 on are.
    const uint32_t small = __float_as_uint(__uint_as_float(magnitude) + 16384.0f) & 0xF;
    const uint32_t large = ((magnitude + 0x7FFFF + (magnitude >> 20 & 1)) >> 20) - (120 << 3);
    const uint32_t code = magnitude < 0x3C800000 ? small : min(large, static_cast<uint32_t>(0x7E));
    return code | (bits >> 24 & 0x80);
}

/// The largest magnitude of two bf16, as the bits of a f32. A NaN's are above all others.
APUS_DEVICE uint32_t largest_of_pair(uint32_t pair) { return max(pair << 16 & 0x7FFFFFFF, pair & 0x7FFF0000u); }

/// Four bf16 as E4M3.
APUS_DEVICE uint32_t bf16_to_e4m3(uint32_t first, uint32_t second, float factor) {
    return float_to_e4m3(bf16_low(first) * factor) | float_to_e4m3(bf16_high(first) * factor) << 8
        | float_to_e4m3(bf16_low(second) * factor) << 16 | float_to_e4m3(bf16_high(second) * factor) << 24;
}

#endif
