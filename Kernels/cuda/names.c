// The kernels' names in a fatbin, by id, and the stamp of this version.

#include <stddef.h>

#include "CUDAKernels.h"

static const char *const names[CUDA_KERNEL_COUNT] = {
#define CUDA_KERNEL_NAME(name) "apus_" #name,
    CUDA_KERNEL_LIST(CUDA_KERNEL_NAME)
#undef CUDA_KERNEL_NAME
};

const char *cuda_kernel_name(int32_t kernel) {
    return kernel >= 0 && kernel < CUDA_KERNEL_COUNT ? names[kernel] : NULL;
}

uint64_t cuda_kernels_stamp(void) { return CUDA_KERNELS_STAMP; }
