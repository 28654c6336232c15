// Rounding activations to 8 bits in blocks of 32; included by linear.c once for each instruction set. Private.
//
// 16 blocks at a time: two divisions serve all of them, and a block's largest magnitude and its sum are found for all 16
// by one tree of shuffles each. Integers in any order have the same sum, so nothing depends on who shares a tree.

#define reduce_each NAME(reduce_each)
#define quantize_blocks NAME(quantize_blocks)
#define quantize_rows NAME(quantize_rows)

/// Where block `b` of 16 goes in a tree whose lane b is to be its result.
#define TREE_PLACE(b) (4 * ((b) % 4) + (b) / 4)

/// Lane b: the largest, or the sum, of the lanes of the vector at TREE_PLACE(b).
INLINE s32x16 reduce_each(const s32x16 v[16], bool is_largest) {
#define PICK(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#define MEET(low, high) (is_largest ? ((low) > (high) ? (low) : (high)) : (low) + (high))
    s32x16 halves[8], quarters[4], eighths[2], low, high;
    UNROLL for (int i = 0; i < 8; i++) {
        low = PICK(v[2 * i], v[2 * i + 1], 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23);
        high = PICK(v[2 * i], v[2 * i + 1], 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
        halves[i] = MEET(low, high);
    }
    UNROLL for (int i = 0; i < 4; i++) {
        s32x16 a = halves[2 * i], b = halves[2 * i + 1];
        low = PICK(a, b, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27);
        high = PICK(a, b, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
        quarters[i] = MEET(low, high);
    }
    UNROLL for (int i = 0; i < 2; i++) {
        s32x16 a = quarters[2 * i], b = quarters[2 * i + 1];
        low = PICK(a, b, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29);
        high = PICK(a, b, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
        eighths[i] = MEET(low, high);
    }
    low = PICK(eighths[0], eighths[1], 0, 2, 16, 18, 4, 6, 20, 22, 8, 10, 24, 26, 12, 14, 28, 30);
    high = PICK(eighths[0], eighths[1], 1, 3, 17, 19, 5, 7, 21, 23, 9, 11, 25, 27, 13, 15, 29, 31);
    return MEET(low, high);
#undef PICK
#undef MEET
}

/// Rounds blocks side by side. A block that is not finite gets a NaN scale, so that it is not lost.
INLINE void quantize_blocks(const float *x, int64_t blocks, int8_t *q, block_scale *scales) {
    for (int64_t first = 0; first < blocks; first += 16) {
        int count = blocks - first < 16 ? (int)(blocks - first) : 16;
        s32x16 each[16];
        alignas(64) float inverses[16], block_scales[16], scaled_sums[16];
        alignas(64) int32_t sums[16], low_sums[16];
        if (count < 16) memset(each, 0, sizeof each);
        for (int b = 0; b < count; b++) {
            // As integers, magnitudes order like the floats they are, and NaN is the largest.
            s32x16 low = *(const s32x16 *)(x + 32 * b) & 0x7FFFFFFF;
            s32x16 high = *(const s32x16 *)(x + 32 * b + 16) & 0x7FFFFFFF;
            each[TREE_PLACE(b)] = low > high ? low : high;
        }
        s32x16 size = reduce_each(each, true);
        f32x16 largest = (f32x16)size;
        s32x16 is_small = largest < 0x1p-100f, is_special = size > 0x7F7FFFFF;
        f32x16 scale = is_special ? (f32x16)__builtin_nanf("") : largest / 127.0f;
        scale = is_small ? (f32x16)0.0f : scale;
        *(f32x16 *)inverses = is_small | is_special ? (f32x16)0.0f : 127.0f / largest;
        for (int b = 0; b < count; b++, x += 32, q += 32) {
            // Adding 1.5 · 2²³ rounds to the nearest integer, ties to even.
            s32x16 low = (s32x16)(*(const f32x16 *)x * inverses[b] + 12582912.0f) - 0x4B400000;
            s32x16 high = (s32x16)(*(const f32x16 *)(x + 16) * inverses[b] + 12582912.0f) - 0x4B400000;
            *(s8x16 *)q = __builtin_convertvector(low, s8x16);
            *(s8x16 *)(q + 16) = __builtin_convertvector(high, s8x16);
            // The first 16 are summed too, in the upper halves of the lanes; neither sum needs more than 13 bits.
            each[TREE_PLACE(b)] = low + high + (low << 16);
        }
        s32x16 both = reduce_each(each, false), sum = (s32x16)(both << 16) >> 16;
        *(s32x16 *)sums = sum;
        *(s32x16 *)low_sums = (both - sum) >> 16;
        *(f32x16 *)block_scales = scale;
        *(f32x16 *)scaled_sums = scale * __builtin_convertvector(sum, f32x16);
        for (int b = 0; b < count; b++, scales++) {
            *scales = (block_scale){ block_scales[b], scaled_sums[b], sums[b], low_sums[b] };
        }
    }
}

/// Rounds rows `begin` to `end`.
INLINE void quantize_rows(
    const float *x, int64_t x_stride, int64_t begin, int64_t end, const quantized_rows *rounded) {
    // Rows side by side are one long row, which leaves fewer trees half empty.
    int64_t rows = x_stride == rounded->columns ? end - begin : 1, blocks = rounded->columns / 32;
    for (int64_t t = begin; t < end; t += rows) {
        quantize_blocks(
            x + t * x_stride, rows * blocks, rounded->values + t * rounded->columns, rounded->scales + t * blocks);
    }
}

#undef TREE_PLACE
