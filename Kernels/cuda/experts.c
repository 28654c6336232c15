// Launch shapes of experts.cu: they follow from counts of routes and experts, never from who was chosen.

#include "CUDAKernels.h"
#include "matrix_layout.h"
#include "rows.h"

static uint32_t divide_up(int64_t count, int64_t size) { return (uint32_t)((count + size - 1) / size); }

int32_t cuda_expert_item_routes(int32_t route_count, int32_t expert_count) {
    // Twice what an expert has on average: most experts are one item, and their weights are read once.
    const int64_t usual = 2 * (int64_t)divide_up(route_count, expert_count);
    return usual <= 8 ? 8 : usual <= 48 ? 32 : LINEAR_LARGE_TOKENS;
}

int32_t cuda_expert_item_count(int32_t route_count, int32_t expert_count) {
    const int32_t most = route_count < expert_count ? route_count : expert_count;
    return most + route_count / cuda_expert_item_routes(route_count, expert_count);
}

cuda_launch cuda_route_experts_launch(const cuda_route_experts_arguments *arguments) {
    return (cuda_launch){
        .kernel = CUDA_KERNEL_route_experts, .grid_x = divide_up(arguments->token_count, ROW_WARPS), .grid_y = 1,
        .grid_z = 1, .threads = ROW_THREADS,
    };
}

cuda_launch cuda_group_routes_launch(const cuda_group_routes_arguments *arguments) {
    return (cuda_launch){
        .kernel = CUDA_KERNEL_group_routes, .grid_x = (uint32_t)arguments->expert_count, .grid_y = 1, .grid_z = 1,
        .threads = ROW_THREADS,
    };
}

cuda_launch cuda_expert_linear_launch(const cuda_expert_linear_arguments *arguments) {
    const int format = arguments->format;
    const int32_t routes = cuda_expert_item_routes(arguments->route_count, arguments->expert_count);
    // The list of kernels has three for each format, in the formats' order.
    const int variant = routes == 8 ? 0 : routes == 32 ? 1 : 2;
    const bool is_large = variant == 2;
    const bool is_small = is_large ? linear_large_is_small(format, arguments->shared_limit)
                                   : linear_is_small(format, routes, arguments->shared_limit);
    const int tiles_of_block = is_large ? LINEAR_LARGE_TILES : linear_row_tiles(routes);
    const uint32_t tiles = divide_up(arguments->part_rows, CUDA_TILE_ROWS);
    return (cuda_launch){
        .kernel = CUDA_KERNEL_expert_linear_bf16_8 + 3 * format + variant,
        .grid_x = (uint32_t)cuda_expert_item_count(arguments->route_count, arguments->expert_count),
        .grid_y = (uint32_t)arguments->parts * divide_up(tiles, tiles_of_block),
        .grid_z = 1,
        .threads = LINEAR_THREADS,
        .shared_bytes = (uint32_t)(is_large ? linear_large_shared_bytes(format, is_small)
                                            : linear_shared_bytes(format, routes, is_small)),
    };
}

cuda_launch cuda_gate_experts_launch(const cuda_gate_experts_arguments *arguments) {
    return (cuda_launch){
        .kernel = CUDA_KERNEL_gate_experts, .grid_x = (uint32_t)arguments->route_count,
        .grid_y = divide_up(arguments->ffn, 4 * ROW_THREADS), .grid_z = 1, .threads = ROW_THREADS,
    };
}

cuda_launch cuda_combine_experts_launch(const cuda_combine_experts_arguments *arguments) {
    return (cuda_launch){
        .kernel = CUDA_KERNEL_combine_experts, .grid_x = (uint32_t)arguments->token_count,
        .grid_y = divide_up(arguments->hidden, ROW_THREADS), .grid_z = 1, .threads = ROW_THREADS,
    };
}
