// What a row is multiplied by when it is normalized. Sums of squares are added in an order that depends on the row's width
// only: that of 256 threads, or of 32 where it is narrow, however many threads there are.

#ifndef APUS_NORM_CUH
#define APUS_NORM_CUH

#include "bytes.cuh"
#include "rows.cuh"
#include "rows.h"

APUS_DEVICE float add_squares(float4 four, float sum) {
    sum = fmaf(four.x, four.x, sum);
    sum = fmaf(four.y, four.y, sum);
    sum = fmaf(four.z, four.z, sum);
    return fmaf(four.w, four.w, sum);
}

/// Sum of squares of a thread's columns: every `stride`-th group of four, from `first` on.
APUS_DEVICE float sum_squares(const float *x, int columns, bool is_aligned, int first, int stride) {
    float sum = 0;
    for (int column = 4 * first; column < columns; column += 4 * stride) {
        sum = add_squares(load_four(x, column, columns, is_aligned), sum);
    }
    return sum;
}

APUS_DEVICE float scale_of_squares(float sum, int columns, float epsilon) {
    return 1.0f / sqrtf(sum / static_cast<float>(columns) + epsilon);
}

/// What the columns of a row (or a part of one) are multiplied by, their weights apart. All of the block's threads come
/// here where the row is wide.
APUS_DEVICE float norm_scale(
    const float *x, int columns, float epsilon, bool is_aligned, int first, int stride, float *sums) {
    float sum = warp_sum(sum_squares(x, columns, is_aligned, first, stride));
    if (columns > NARROW_COLUMNS) {
        if (lane_index() == 0) sums[warp_index()] = sum;
        block_sync();
        sum = 0;
        for (int warp = 0; warp < ROW_WARPS; warp++) sum += sums[warp];
    }
    return scale_of_squares(sum, columns, epsilon);
}

/// The largest magnitude of a warp's, as bits.
APUS_DEVICE uint32_t warp_largest(uint32_t largest) {
#pragma unroll
    for (int mask = 16; mask > 0; mask /= 2) largest = max(largest, shuffle_xor(largest, mask));
    return largest;
}

/// The codes of a thread's columns, which it has written to `normed` itself: every `stride`-th group of four.
APUS_DEVICE void write_codes(
    const uint16_t *normed, uint8_t *codes, int columns, int first, int stride, byte_scale scale) {
    for (int column = 4 * first; column < columns; column += 4 * stride) {
        const uint2 pairs = load_8(normed + column);
        *reinterpret_cast<uint32_t *>(codes + column) = bf16_to_e4m3(pairs.x, pairs.y, scale.factor);
    }
}

APUS_DEVICE uint2 scaled_four(float4 four, float scale, float4 by) {
    return make_uint2(
        pack_bf16(four.x * scale * by.x, four.y * scale * by.y),
        pack_bf16(four.z * scale * by.z, four.w * scale * by.w));
}

#endif
