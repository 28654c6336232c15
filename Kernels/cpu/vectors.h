// Vector types and the primitives that differ between instruction sets; included once for each (see each_isa.h).
//
// Kernels use 16 float lanes on every instruction set (the compiler splits them where registers are narrower), so a
// reduction has the same order everywhere. Contraction is off: a multiply-add rounds once only where `fma16` says so.

#ifndef VECTORS_H
#define VECTORS_H

#if defined(__x86_64__)
#include <immintrin.h>
#endif

// Vectors never cross a call that is not inlined, so the ABI of wide vectors does not matter.
#pragma clang diagnostic ignored "-Wpsabi"

#define NOINLINE __attribute__((noinline))
#define INLINE static inline __attribute__((always_inline))
/// Before a loop of constant count whose arrays are to live in registers.
#define UNROLL _Pragma("clang loop unroll(full)")
#define VECTOR(element, count) __attribute__((ext_vector_type(count), aligned(sizeof(element)), may_alias))

// Aligned to one element only: loads and stores through these types need no alignment.
typedef float f32x8 VECTOR(float, 8);
typedef float f32x16 VECTOR(float, 16);
typedef double f64x8 VECTOR(double, 8);
typedef int8_t s8x8 VECTOR(int8_t, 8);
typedef int8_t s8x16 VECTOR(int8_t, 16);
typedef uint8_t u8x32 VECTOR(uint8_t, 32);
typedef uint8_t u8x64 VECTOR(uint8_t, 64);
typedef int16_t s16x16 VECTOR(int16_t, 16);
typedef uint16_t u16x8 VECTOR(uint16_t, 8);
typedef uint16_t u16x16 VECTOR(uint16_t, 16);
typedef int32_t s32x8 VECTOR(int32_t, 8);
typedef int32_t s32x16 VECTOR(int32_t, 16);
typedef uint32_t u32x8 VECTOR(uint32_t, 8);
typedef uint32_t u32x16 VECTOR(uint32_t, 16);
typedef _Float16 f16x8 VECTOR(_Float16, 8);
typedef _Float16 f16x16 VECTOR(_Float16, 16);

#define JOIN2(name, isa) name##_##isa
#define JOIN(name, isa) JOIN2(name, isa)
/// The name of a function in the instruction set being compiled.
#define NAME(name) JOIN(name, ISA)

#define rows_f32 NAME(rows_f32)
#define rows_s32 NAME(rows_s32)
#define rows_u8 NAME(rows_u8)
#define rows_u16 NAME(rows_u16)
#define rows_dot NAME(rows_dot)
#define fma16 NAME(fma16)
#define fma_rows NAME(fma_rows)
#define exp16 NAME(exp16)
#define sum16 NAME(sum16)
#define max16 NAME(max16)
#define widen_bf16 NAME(widen_bf16)
#define widen_f16 NAME(widen_f16)
#define round_to_bf16 NAME(round_to_bf16)
#define load_rows_f16 NAME(load_rows_f16)
#define dot_step NAME(dot_step)
#define dot_finish NAME(dot_finish)
#define splat_word NAME(splat_word)

#endif

/// a · b + c.
INLINE f32x16 fma16(f32x16 a, f32x16 b, f32x16 c) {
#if ISA_FMA
    return __builtin_elementwise_fma(a, b, c);
#else
    return a * b + c;
#endif
}

INLINE float sum16(f32x16 x) {
    f32x8 a = x.lo + x.hi;
    float s0 = a[0] + a[4], s1 = a[1] + a[5], s2 = a[2] + a[6], s3 = a[3] + a[7];
    return (s0 + s2) + (s1 + s3);
}

INLINE float max16(f32x16 x) {
    f32x8 a = x.lo > x.hi ? x.lo : x.hi;
    float result = a[0];
    for (int i = 1; i < 8; i++) result = a[i] > result ? a[i] : result;
    return result;
}

/// eˣ within 2 units in the last place; 0 below −87.33, ∞ above 88.72, NaN for NaN.
INLINE f32x16 exp16(f32x16 x) {
    f32x16 clamped = x < -87.33f ? (f32x16)-87.33f : x;
    clamped = clamped > 89.0f ? (f32x16)89.0f : clamped;
    f32x16 shifted = clamped * 1.44269504088896341f + 12582912.0f;
    f32x16 whole = shifted - 12582912.0f;
    f32x16 r = fma16(whole, (f32x16)-0.693359375f, clamped);
    r = fma16(whole, (f32x16)2.12194440e-4f, r);
    f32x16 y = fma16((f32x16)1.9875691500e-4f, r, (f32x16)1.3981999507e-3f);
    y = fma16(y, r, (f32x16)8.3334519073e-3f);
    y = fma16(y, r, (f32x16)4.1665795894e-2f);
    y = fma16(y, r, (f32x16)1.6666665459e-1f);
    y = fma16(y, r, (f32x16)5.0000001201e-1f);
    y = fma16(y, r * r, r) + 1.0f;
#if ISA_NATIVE && ISA_ROWS == 16
    f32x16 scaled = (f32x16)_mm512_scalef_ps((__m512)y, (__m512)whole);
#else
    // 2ⁿ in two factors, because 2¹²⁸ is not a float.
    s32x16 n = (s32x16)shifted - 0x4B400000, half = n >> 1;
    f32x16 scaled = y * (f32x16)((half + 127) << 23) * (f32x16)((n - half + 127) << 23);
#endif
    return x < -87.33f ? (f32x16)0.0f : scaled;
}

INLINE f32x16 widen_bf16(u16x16 x) {
    return (f32x16)(__builtin_convertvector(x, u32x16) << 16);
}

/// Rounds to the nearest bf16, ties to even; NaN stays NaN.
INLINE u16x16 round_to_bf16(f32x16 x) {
    u32x16 bits = (u32x16)x;
    u32x16 rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16;
    u32x16 result = (u32x16)(x != x ? (s32x16)((bits >> 16) | 0x40) : (s32x16)rounded);
    return __builtin_convertvector(result, u16x16);
}

INLINE f32x16 widen_f16(u16x16 x) {
#if ISA_NATIVE
    return __builtin_convertvector((f16x16)x, f32x16);
#else
    // Moves exponent and mantissa into place and corrects the bias by a product, which is exact for subnormals too.
    u32x16 wide = __builtin_convertvector(x, u32x16);
    f32x16 scaled = (f32x16)((wide & 0x7FFF) << 13) * 0x1p112f;
    u32x16 special = (u32x16)((wide & 0x7C00) == 0x7C00) & 0x7F800000;
    return (f32x16)((u32x16)scaled | special | (wide & 0x8000) << 16);
#endif
}

// One lane for each row of a row group. `rows_dot` accumulates 4 consecutive products in every lane's 32 bits.
#if ISA_ROWS == 8
typedef f32x8 rows_f32;
typedef s32x8 rows_s32;
typedef u8x32 rows_u8;
typedef u16x8 rows_u16;
#else
typedef f32x16 rows_f32;
typedef s32x16 rows_s32;
typedef u8x64 rows_u8;
typedef u16x16 rows_u16;
#endif
#if ISA_DOT == DOT_PAIRS
typedef s16x16 rows_dot;
#else
typedef s32x16 rows_dot;
#endif

INLINE rows_f32 fma_rows(rows_f32 a, rows_f32 b, rows_f32 c) {
#if ISA_FMA
    return __builtin_elementwise_fma(a, b, c);
#else
    return a * b + c;
#endif
}

/// The f16 numbers of a row group's rows.
INLINE rows_f32 load_rows_f16(const uint8_t *source) {
    rows_u16 bits = *(const rows_u16 *)source;
#if ISA_NATIVE && ISA_ROWS == 8
    return __builtin_convertvector((f16x8)bits, f32x8);
#elif ISA_ROWS == 8
    return widen_f16(__builtin_shufflevector(bits, bits, 0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7)).lo;
#else
    return widen_f16(bits);
#endif
}

/// Four consecutive s8 activations in every lane.
INLINE rows_dot splat_word(const int8_t *source) {
    int32_t word;
    memcpy(&word, source, sizeof word);
#if ISA_DOT == DOT_PAIRS
    return (s16x16)(s32x8)word;
#else
    return (s32x16)word;
#endif
}

#if ISA_DOT == DOT_PAIRS

/// Adds w[4i…4i+3] · x[4i…4i+3] to lane i as two 16-bit sums. w ≤ 15 and |x| ≤ 127, so that eight steps stay within
/// 8 · 2 · 15 · 127 = 30480 < 2¹⁵.
INLINE rows_dot dot_step(rows_dot sums, rows_u8 w, rows_dot x) {
#if ISA_NATIVE
    sums += (s16x16)_mm256_maddubs_epi16((__m256i)w, (__m256i)x);
    // Opaque to the compiler, which would otherwise turn a chain of sums into a tree and run out of registers.
    __asm__("" : "+x"(sums));
    return sums;
#else
    s16x16 words = (s16x16)w;
    return sums + (words & 0xFF) * (s16x16)((s16x16)(x << 8) >> 8) + (s16x16)((u16x16)words >> 8) * (x >> 8);
#endif
}

/// The lanes' 32-bit sums, times `factor`.
INLINE rows_s32 dot_finish(rows_dot sums, int16_t factor) {
#if ISA_NATIVE
    return (s32x8)_mm256_madd_epi16((__m256i)sums, _mm256_set1_epi16(factor));
#else
    s32x8 pairs = (s32x8)sums;
    return (((s32x8)(pairs << 16) >> 16) + (pairs >> 16)) * factor;
#endif
}

#else

/// Adds w[4i…4i+3] · x[4i…4i+3] to lane i (w unsigned, x signed).
INLINE rows_dot dot_step(rows_dot sums, rows_u8 w, rows_dot x) {
#if ISA_NATIVE
    return (s32x16)_mm512_dpbusd_epi32((__m512i)sums, (__m512i)w, (__m512i)x);
#else
    s32x16 words = (s32x16)w;
    sums += (words & 0xFF) * ((s32x16)(x << 24) >> 24);
    sums += (words >> 8 & 0xFF) * ((s32x16)(x << 16) >> 24);
    sums += (words >> 16 & 0xFF) * ((s32x16)(x << 8) >> 24);
    return sums + (words >> 24 & 0xFF) * (x >> 24);
#endif
}

#endif
