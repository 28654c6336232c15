// e^x and log x in f32 from additions, multiplications and one division: the same bits on the device, in the emulator
// and under every compiler, which the mathematical libraries do not promise. Within 2 ulp (checked against f64).

#ifndef APUS_EXPONENTIAL_CUH
#define APUS_EXPONENTIAL_CUH

#include "device.cuh"

/// ln 2 as the sum of two floats.
#define APUS_LN2_HIGH 0x1.62e430p-1f
#define APUS_LN2_LOW (-0x1.05c610p-29f)

/// e^x; infinite for x > 88 and 0 for x < −87, so that no result is subnormal.
APUS_DEVICE float exponential(float x) {
    if (x < -87.0f) return 0;
    if (x > 88.0f) return __uint_as_float(0x7F800000);
    // A NaN is not more than 88: it becomes a number here, and stays NaN in whatever multiplies it.
    x = fminf(x, 88.0f);
    // Adding 1.5 · 2²³ rounds to an integer, n. What is left, r, is at most half of ln 2.
    const float n = fmaf(x, 0x1.715476p0f, 0x1.8p23f) - 0x1.8p23f;
    const float r = fmaf(n, -APUS_LN2_LOW, fmaf(n, -APUS_LN2_HIGH, x));
    float series = 1.0f / 5040;
    series = fmaf(series, r, 1.0f / 720);
    series = fmaf(series, r, 1.0f / 120);
    series = fmaf(series, r, 1.0f / 24);
    series = fmaf(series, r, 1.0f / 6);
    series = fmaf(series, r, 0.5f);
    series = fmaf(series * r, r, r) + 1.0f;
    return series * __uint_as_float(static_cast<uint32_t>(static_cast<int32_t>(n) + 127) << 23);
}

/// log(1 + f) for 1 + f between √½ and √2, precise for the smallest f too.
APUS_DEVICE float log_near_one(float f) {
    const float s = f / (2.0f + f), square = s * s;
    float series = 2.0f / 9;
    series = fmaf(series, square, 2.0f / 7);
    series = fmaf(series, square, 2.0f / 5);
    series = fmaf(series, square, 2.0f / 3);
    // 2 s = f − f s keeps f itself exact.
    return f - s * (f - series * square);
}

/// log x for positive x that is neither subnormal nor infinite.
APUS_DEVICE float logarithm(float x) {
    const uint32_t bits = __float_as_uint(x);
    // The exponent that leaves a mantissa between √½ and √2.
    const int32_t exponent = static_cast<int32_t>(bits - 0x3F3504F3u) >> 23;
    const float mantissa = __uint_as_float(bits - (static_cast<uint32_t>(exponent) << 23));
    const float n = static_cast<float>(exponent);
    return fmaf(n, APUS_LN2_HIGH, fmaf(n, APUS_LN2_LOW, log_near_one(mantissa - 1.0f)));
}

#endif
