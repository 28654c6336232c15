// Launch shapes of collectives.cu. Those that wait for other ranks have so few blocks that all of them are on the device
// at once, whatever the message.

#include "collectives.h"

static uint32_t divide_up(int64_t count, int64_t size) { return (uint32_t)((count + size - 1) / size); }

cuda_launch cuda_add_ranks_launch(const cuda_add_ranks_arguments *arguments) {
    return (cuda_launch){
        .kernel = CUDA_KERNEL_add_ranks, .grid_x = divide_up(arguments->count, 4 * COLLECTIVE_THREADS), .grid_y = 1,
        .grid_z = 1, .threads = COLLECTIVE_THREADS,
    };
}

cuda_launch cuda_join_ranks_launch(const cuda_join_ranks_arguments *arguments) {
    return (cuda_launch){
        .kernel = CUDA_KERNEL_join_ranks, .grid_x = (uint32_t)arguments->rows,
        .grid_y = divide_up(arguments->columns, COLLECTIVE_THREADS), .grid_z = (uint32_t)arguments->ranks,
        .threads = COLLECTIVE_THREADS,
    };
}

uint64_t cuda_signal_bytes(void) { return sizeof(collective_signals); }

static cuda_launch launch_of(int32_t kernel, int64_t count) {
    return (cuda_launch){
        .kernel = kernel, .grid_x = (uint32_t)collective_blocks(count), .grid_y = 1, .grid_z = 1,
        .threads = COLLECTIVE_THREADS,
    };
}

cuda_launch cuda_all_reduce_launch(const cuda_all_reduce_arguments *arguments) {
    return launch_of(CUDA_KERNEL_all_reduce, arguments->count);
}

int32_t cuda_all_reduce_norm_fits(int64_t rows, int64_t columns, int32_t ranks) {
    return rows <= CUDA_COLLECTIVE_BLOCKS && columns % 4 == 0 && collective_is_whole(rows * columns, ranks);
}

cuda_launch cuda_all_reduce_norm_launch(const cuda_all_reduce_norm_arguments *arguments) {
    return (cuda_launch){
        .kernel = CUDA_KERNEL_all_reduce_norm, .grid_x = (uint32_t)arguments->rows, .grid_y = 1, .grid_z = 1,
        .threads = COLLECTIVE_THREADS,
    };
}

cuda_launch cuda_all_gather_launch(const cuda_all_gather_arguments *arguments) {
    return launch_of(CUDA_KERNEL_all_gather, (int64_t)arguments->rows * arguments->columns);
}
