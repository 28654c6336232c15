// Math:    rms_norm: output = x · w / √(mean(x²) + ε), a row at a time. norm_parts: the same of parts of rows (heads),
//          in place, or of a row that is added to the residual. quantize_rows: x as 8-bit floats and a power of two.
// Shapes:  x [rows, columns] f32; w [columns] f32; output [rows, columns] bf16, f32 where it is added to.
// Launch:  up to 512 columns a warp takes a row, eight rows a block; wider rows have a block of 256 threads each. A
//          thread adds the squares of its own columns; the order of additions depends on `columns` only.
// Bound:   bytes of x (read twice, the second time from the first cache) and output.
// Checked: in the emulator against f64, odd widths and unaligned rows included
// Source:  Zhang & Sennrich, "Root Mean Square Layer Normalization" (2019)

#include "cuda/norm.cuh"

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

    uint32_t largest = 0;
    for (int column = 4 * first; column < a.columns; column += 4 * stride) {
        const float4 four = load_four(x, column, a.columns, is_aligned);
        const float4 by = load_four(weight, column, a.columns, is_aligned);
        const float4 result = make_float4(
            four.x * scale * by.x, four.y * scale * by.y, four.z * scale * by.z, four.w * scale * by.w);
        store_four_bf16(output, result, column, a.columns, is_aligned);
        if (a.codes == 0) continue;
        const uint2 pairs = load_8(output + column);
        largest = max(largest, max(largest_of_pair(pairs.x), largest_of_pair(pairs.y)));
    }
    if (a.codes == 0) return;
    // Rows of codes are aligned.
    largest = warp_largest(largest);
    if (!is_narrow) {
        block_sync();
        if (lane_index() == 0) sums[warp_index()] = __uint_as_float(largest);
        block_sync();
        for (int warp = 0; warp < ROW_WARPS; warp++) largest = max(largest, __float_as_uint(sums[warp]));
    }
    const byte_scale codes_scale = scale_of_e4m3(__uint_as_float(largest));
    if (first == 0) at<float>(a.code_scales)[row] = codes_scale.scale;
    write_codes(output, at<uint8_t>(a.codes, row * a.columns), a.columns, first, stride, codes_scale);
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

/// A block takes a row; the second time its elements come from the first cache.
APUS_KERNEL(quantize_rows, cuda_quantize_rows_arguments, ROW_THREADS, 8) {
    __shared__ uint32_t maxima[ROW_WARPS];
    const uint16_t *const x = at<const uint16_t>(a.x, static_cast<int64_t>(blockIdx.x) * a.columns);
    uint8_t *const codes = at<uint8_t>(a.codes, static_cast<int64_t>(blockIdx.x) * a.columns);
    const int first = 8 * static_cast<int>(threadIdx.x);
    uint32_t largest = 0;
    for (int column = first; column < a.columns; column += 8 * ROW_THREADS) {
        const uint4 pairs = load_16(x + column);
        largest = max(largest, max(largest_of_pair(pairs.x), largest_of_pair(pairs.y)));
        largest = max(largest, max(largest_of_pair(pairs.z), largest_of_pair(pairs.w)));
    }
    largest = warp_largest(largest);
    if (lane_index() == 0) maxima[warp_index()] = largest;
    block_sync();
    for (int warp = 0; warp < ROW_WARPS; warp++) largest = max(largest, maxima[warp]);
    const byte_scale scale = scale_of_e4m3(__uint_as_float(largest));
    if (threadIdx.x == 0) at<float>(a.scales)[blockIdx.x] = scale.scale;
    for (int column = first; column < a.columns; column += 8 * ROW_THREADS) {
        const uint4 pairs = load_16(x + column);
        *reinterpret_cast<uint2 *>(codes + column) = make_uint2(
            bf16_to_e4m3(pairs.x, pairs.y, scale.factor), bf16_to_e4m3(pairs.z, pairs.w, scale.factor));
    }
}
