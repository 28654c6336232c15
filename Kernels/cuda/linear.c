// Which kernel of linear.cu a product takes, and its launch.

#include "CUDAKernels.h"
#include "matrix_layout.h"

static int64_t divide_up(int64_t count, int64_t size) { return (count + size - 1) / size; }

cuda_launch cuda_ended_linear_launch(const cuda_ended_linear_arguments *arguments) {
    return cuda_linear_launch(&arguments->product);
}

cuda_launch cuda_linear_launch(const cuda_linear_arguments *arguments) {
    const int format = arguments->matrix.format, tokens = arguments->token_count;
    const uint32_t tiles = (uint32_t)divide_up(arguments->matrix.rows, CUDA_TILE_ROWS);
    // The list of kernels has five for each format, in the formats' order.
    const int32_t first = CUDA_KERNEL_linear_bf16_8 + 5 * format;
    const int variant = tokens <= 8 ? 0 : tokens <= 16 ? 1 : tokens <= 32 ? 2 : 3, most = 8 << variant;
    const bool is_small = linear_is_small(format, most, arguments->shared_limit);
    if (tokens > 64 || (is_small && !linear_has_small(format, most))) {
        const bool is_large_small = linear_large_is_small(format, arguments->shared_limit);
        return (cuda_launch){
            .kernel = first + 4,
            .grid_x = (uint32_t)divide_up(tokens, LINEAR_LARGE_TOKENS),
            .grid_y = (uint32_t)divide_up(tiles, LINEAR_LARGE_TILES),
            .grid_z = 1,
            .threads = LINEAR_THREADS,
            .shared_bytes = (uint32_t)linear_large_shared_bytes(format, is_large_small),
        };
    }
    return (cuda_launch){
        .kernel = first + variant,
        .grid_x = (uint32_t)divide_up(tiles, linear_row_tiles(most)),
        .grid_y = 1,
        .grid_z = 1,
        .threads = LINEAR_THREADS,
        .shared_bytes = (uint32_t)linear_shared_bytes(format, most, is_small),
    };
}
