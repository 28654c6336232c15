// Math:    rms_norm: output = x · w / √(mean(x²) + ε), a row at a time. norm_parts: the same of parts of rows (heads),
//          in place, or of a row that is added to the residual.
// Shapes:  x [rows, columns] f32; w [columns] f32; output [rows, columns] bf16, f32 where it is added to.
// Launch:  up to 512 columns a warp takes a row, eight rows a block; wider rows have a block of 256 threads each. A
//          thread adds the squares of its own columns; the order of additions depends on `columns` only.
// Bound:   bytes of x (read twice, the second time from the first cache) and output.
// Checked: in the emulator against f64, odd widths and unaligned rows included
// Source:  Zhang & Sennrich, "Root Mean Square Layer Normalization" (2019)

#include "cuda/rows.cuh"
#include "cuda/rows.h"

namespace {

/// Sum of squares of a thread's columns: every `stride`-th group of four, from `first` on.
APUS_DEVICE float sum_squares(const float *x, int columns, bool is_aligned, int first, int stride) {
    float sum = 0;
    for (int column = 4 * first; column < columns; column += 4 * stride) {
        const float4 four = load_four(x, column, columns, is_aligned);
        sum = fmaf(four.x, four.x, sum);
        sum = fmaf(four.y, four.y, sum);
        sum = fmaf(four.z, four.z, sum);
        sum = fmaf(four.w, four.w, sum);
    }
    return sum;
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
    return 1.0f / sqrtf(sum / static_cast<float>(columns) + epsilon);
}

}  // namespace

APUS_KERNEL(rms_norm, cuda_rms_norm_arguments, ROW_THREADS, 4) {
    const bool is_narrow = a.columns <= NARROW_COLUMNS;
    const int64_t row = is_narrow ? static_cast<int64_t>(blockIdx.x) * ROW_WARPS + warp_index() : blockIdx.x;
    // A whole warp leaves, and only where nothing waits for the block.
    if (row >= a.row_count) return;
    const int first = is_narrow ? lane_index() : static_cast<int>(threadIdx.x), stride = is_narrow ? 32 : ROW_THREADS;
    const float *x = at<const float>(a.x, row * a.columns), *weight = at<const float>(a.weight);
    uint16_t *output = at<uint16_t>(a.output, row * a.columns);
    const bool is_aligned = a.columns % 4 == 0 && a.x % 16 == 0 && a.weight % 16 == 0 && a.output % 8 == 0;

    __shared__ float sums[ROW_WARPS];
    const float scale = norm_scale(x, a.columns, a.epsilon, is_aligned, first, stride, sums);

    for (int column = 4 * first; column < a.columns; column += 4 * stride) {
        const float4 four = load_four(x, column, a.columns, is_aligned);
        const float4 by = load_four(weight, column, a.columns, is_aligned);
        const float4 result = make_float4(
            four.x * scale * by.x, four.y * scale * by.y, four.z * scale * by.z, four.w * scale * by.w);
        store_four_bf16(output, result, column, a.columns, is_aligned);
    }
}

/// A part is normalized in place, or added to the output's row.
APUS_KERNEL(norm_parts, cuda_norm_parts_arguments, ROW_THREADS, 4) {
    const bool is_narrow = a.width <= NARROW_COLUMNS;
    const int64_t index = is_narrow ? static_cast<int64_t>(blockIdx.x) * ROW_WARPS + warp_index() : blockIdx.x;
    if (index >= static_cast<int64_t>(a.row_count) * a.parts) return;
    const int first = is_narrow ? lane_index() : static_cast<int>(threadIdx.x), stride = is_narrow ? 32 : ROW_THREADS;
    const int64_t row = index / a.parts, part = index % a.parts;
    float *x = at<float>(a.x, row * a.x_stride + a.first + part * a.width);
    const float *weight = at<const float>(a.weight);
    __shared__ float sums[ROW_WARPS];
    const float scale = norm_scale(x, a.width, a.epsilon, false, first, stride, sums);
    float *output = a.output == 0 ? x : at<float>(a.output, row * a.width);
    for (int column = 4 * first; column < a.width; column += 4 * stride) {
        for (int i = column; i < column + 4 && i < a.width; i++) {
            const float value = x[i] * scale * weight[i];
            output[i] = a.output == 0 ? value : output[i] + value;
        }
    }
}
