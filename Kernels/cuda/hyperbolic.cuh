// tanh x in f32 from additions, multiplications and divisions, as `exponential.cuh` has eˣ. Within 3 ulp.

#ifndef APUS_HYPERBOLIC_CUH
#define APUS_HYPERBOLIC_CUH

#include "exponential.cuh"

/// NaN for NaN. Small x by an odd polynomial (Cephes' tanhf), others by e²ˣ.
APUS_DEVICE float hyperbolic_tangent(float x) {
    const float size = fabsf(x);
    if (size < 0.625f) {
        const float square = x * x;
        float series = fmaf(-5.70498872745e-3f, square, 2.06390887954e-2f);
        series = fmaf(series, square, -5.37397155531e-2f);
        series = fmaf(series, square, 1.33314422036e-1f);
        series = fmaf(series, square, -3.33332819422e-1f);
        return fmaf(series * square, x, x);
    }
    const float large = 1.0f - 2.0f / (exponential(2.0f * size) + 1.0f);
    return x < 0 ? -large : x > 0 ? large : x;
}

#endif
