// What is rounded to 8 bits is rounded by its largest magnitude; included by kv_store.c and attention_int8.h once for
// each instruction set. Private.

#define largest_size NAME(largest_size)

/// The largest magnitude of `count` elements, a multiple of 8; NaN when one of them is.
INLINE float largest_size(const float *x, int64_t count) {
    f32x8 largest = 0.0f;
    for (int64_t d = 0; d < count; d += 8) {
        f32x8 value = *(const f32x8 *)(x + d), size = value < 0.0f ? -value : value;
        largest = ((size > largest) | (size != size)) ? size : largest;
    }
    float result = 0;
    for (int i = 0; i < 8; i++) result = largest[i] > result || largest[i] != largest[i] ? largest[i] : result;
    return result;
}
