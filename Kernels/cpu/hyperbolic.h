// The hyperbolic tangent of 16 floats; included once for each instruction set. Private.

#define tanh16 NAME(tanh16)

/// tanh x within 3 units in the last place; NaN for NaN. Small x by an odd polynomial (Cephes' tanhf), others by e²ˣ.
INLINE f32x16 tanh16(f32x16 x) {
    f32x16 square = x * x;
    f32x16 y = fma16((f32x16)-5.70498872745e-3f, square, (f32x16)2.06390887954e-2f);
    y = fma16(y, square, (f32x16)-5.37397155531e-2f);
    y = fma16(y, square, (f32x16)1.33314422036e-1f);
    y = fma16(y, square, (f32x16)-3.33332819422e-1f);
    f32x16 small = fma16(y * square, x, x);
    f32x16 size = (f32x16)((u32x16)x & 0x7FFFFFFF), capped = size > 20.0f ? (f32x16)20.0f : size;
    f32x16 large = 1.0f - 2.0f / (exp16(capped + capped) + 1.0f);
    f32x16 signed_large = (f32x16)((u32x16)large | ((u32x16)x & 0x80000000));
    f32x16 result = size < 0.625f ? small : signed_large;
    return x != x ? x : result;
}
