// Launch shapes of Kernels/rotary.cu, and the size of a layer's cache.

#include "CUDAKernels.h"
#include "pages.cuh"

cuda_launch cuda_rotate_launch(const cuda_rotate_arguments *arguments) {
    return (cuda_launch){
        .kernel = CUDA_KERNEL_rotate, .grid_x = (uint32_t)arguments->token_count,
        .grid_y = ((uint32_t)arguments->heads + 7) / 8, .grid_z = 1, .threads = 256,
    };
}

cuda_launch cuda_rotary_table_launch(const cuda_rotary_table_arguments *arguments) {
    return (cuda_launch){
        .kernel = CUDA_KERNEL_rotary_table, .grid_x = (uint32_t)arguments->token_count, .grid_y = 1, .grid_z = 1,
        .threads = 128,
    };
}

cuda_launch cuda_store_kv_launch(const cuda_store_kv_arguments *arguments) {
    const bool is_bytes = cuda_kv_has_codes(arguments->cache.type);
    uint32_t heads = (uint32_t)arguments->cache.kv_heads;
    uint32_t parts = is_bytes ? 2 * heads : heads * ((uint32_t)arguments->cache.head_dim / 16);
    return (cuda_launch){
        .kernel = is_bytes ? CUDA_KERNEL_store_kv_bytes : CUDA_KERNEL_store_kv,
        .grid_x = ((uint32_t)arguments->token_count + 7) / 8, .grid_y = (parts + 7) / 8, .grid_z = 1, .threads = 256,
    };
}

bool cuda_kv_takes_panels(int32_t head_dim) { return head_dim == 64 || head_dim == 128; }

uint64_t cuda_kv_bytes(int32_t type, int64_t blocks, int32_t block_size, int32_t kv_heads, int32_t head_dim) {
    uint64_t groups = (uint64_t)blocks * (uint64_t)kv_heads * (uint64_t)(block_size / CUDA_GROUP_TOKENS);
    return groups * (uint64_t)cuda_kv_group_bytes(type, head_dim);
}
