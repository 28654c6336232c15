// Launch shapes of the kernels that go over rows: embedding, gathering, norm, gate and adapters. A row's share of a block depends
// on its width only, so that its result does not depend on how many rows there are.

#include "CUDAKernels.h"
#include "rows.h"

static uint32_t blocks_for(int64_t count, int64_t per_block) {
    return (uint32_t)((count + per_block - 1) / per_block);
}

/// A block row of `per_block` columns at a time for each row.
static cuda_launch launch_over_columns(int32_t kernel, int32_t rows, int32_t columns, int32_t per_block) {
    return (cuda_launch){
        .kernel = kernel, .grid_x = (uint32_t)rows, .grid_y = blocks_for(columns, per_block), .grid_z = 1,
        .threads = ROW_THREADS,
    };
}

cuda_launch cuda_embed_launch(const cuda_embed_arguments *arguments) {
    return launch_over_columns(CUDA_KERNEL_embed, arguments->token_count, arguments->table.columns, ROW_THREADS);
}

cuda_launch cuda_gather_rows_launch(const cuda_gather_rows_arguments *arguments) {
    return launch_over_columns(
        CUDA_KERNEL_gather_rows, arguments->row_count, arguments->columns, 4 * ROW_THREADS);
}

cuda_launch cuda_rms_norm_launch(const cuda_rms_norm_arguments *arguments) {
    bool is_narrow = arguments->columns <= NARROW_COLUMNS;
    return (cuda_launch){
        .kernel = CUDA_KERNEL_rms_norm, .grid_x = blocks_for(arguments->row_count, is_narrow ? ROW_WARPS : 1),
        .grid_y = 1, .grid_z = 1, .threads = ROW_THREADS,
    };
}

cuda_launch cuda_norm_parts_launch(const cuda_norm_parts_arguments *arguments) {
    bool is_narrow = arguments->width <= NARROW_COLUMNS;
    int64_t count = (int64_t)arguments->row_count * arguments->parts;
    return (cuda_launch){
        .kernel = CUDA_KERNEL_norm_parts, .grid_x = blocks_for(count, is_narrow ? ROW_WARPS : 1), .grid_y = 1,
        .grid_z = 1, .threads = ROW_THREADS,
    };
}

cuda_launch cuda_quantize_rows_launch(const cuda_quantize_rows_arguments *arguments) {
    return (cuda_launch){
        .kernel = CUDA_KERNEL_quantize_rows, .grid_x = (uint32_t)arguments->row_count, .grid_y = 1, .grid_z = 1,
        .threads = ROW_THREADS,
    };
}

cuda_launch cuda_change_elements_launch(const cuda_change_elements_arguments *arguments) {
    return launch_over_columns(
        CUDA_KERNEL_change_elements, arguments->row_count, arguments->columns, ROW_THREADS);
}

cuda_launch cuda_gate_launch(const cuda_gate_arguments *arguments) {
    return launch_over_columns(CUDA_KERNEL_gate, arguments->token_count, arguments->ffn, 4 * ROW_THREADS);
}

cuda_launch cuda_add_low_rank_launch(const cuda_add_low_rank_arguments *arguments) {
    return launch_over_columns(
        CUDA_KERNEL_add_low_rank, arguments->token_count, arguments->width, LOW_RANK_COLUMNS);
}
