// Launch shapes of sampling, one block a row: for choosing, its threads are a power of two that follows from the
// vocabulary alone.

#include "CUDAKernels.h"
#include "rows.h"

cuda_launch cuda_sample_launch(const cuda_sample_arguments *arguments) {
    uint32_t threads = SAMPLE_LEAST_THREADS;
    while (threads < SAMPLE_THREADS && (int64_t)threads * 4 < arguments->vocab) threads *= 2;
    return (cuda_launch){
        .kernel = CUDA_KERNEL_sample, .grid_x = (uint32_t)arguments->row_count, .grid_y = 1, .grid_z = 1,
        .threads = threads,
    };
}

cuda_launch cuda_sample_greedily_launch(const cuda_sample_greedily_arguments *arguments) {
    return (cuda_launch){
        .kernel = CUDA_KERNEL_sample_greedily, .grid_x = (uint32_t)arguments->row_count, .grid_y = 1, .grid_z = 1,
        .threads = ROW_THREADS,
    };
}

cuda_launch cuda_adjust_logits_launch(const cuda_adjust_logits_arguments *arguments) {
    return (cuda_launch){
        .kernel = CUDA_KERNEL_adjust_logits, .grid_x = (uint32_t)arguments->row_count, .grid_y = 1, .grid_z = 1,
        .threads = ADJUST_THREADS,
    };
}
