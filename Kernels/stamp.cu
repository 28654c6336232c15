// Math:    none: writes the stamp this fatbin was built with.
// Shapes:  output: one u64.
// Launch:  one thread.
// Bound:   nothing.
// Checked: CUDABackendTests (a library of another version is refused)
// Source:  none.

#include "cuda/device.cuh"

APUS_KERNEL(stamp, cuda_stamp_arguments, 1, 1) { *at<uint64_t>(a.output) = CUDA_KERNELS_STAMP; }
