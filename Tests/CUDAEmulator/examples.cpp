// Kernels for the emulator's own tests: one for each thing that threads do together, some with a mistake that it has to
// show.

#include "../../Kernels/cuda/device.cuh"

#include "CUDAEmulator.h"

/// Each warp multiplies fragments a [warp][lane][4] and b [warp][lane][2] into output [warp][lane][4].
APUS_KERNEL(example_product, cuda_example_arguments, 128, 1) {
    const int lane = 32 * (4 * static_cast<int>(blockIdx.x) + warp_index()) + lane_index();
    float d[4] = {0, 0, 0, 0};
    uint32_t left[4], right[2];
    for (int i = 0; i < 4; i++) left[i] = at<uint32_t>(a.a, 4 * lane)[i];
    for (int i = 0; i < 2; i++) right[i] = at<uint32_t>(a.b, 2 * lane)[i];
    mma_bf16(d, left, right);
    for (int i = 0; i < 4; i++) at<float>(a.output, 4 * lane)[i] = d[i];
}

/// Eight numbers a lane, of what its warp exchanges.
APUS_KERNEL(example_exchange, cuda_example_arguments, 64, 1) {
    const int lane = lane_index();
    const float value = at<float>(a.a)[threadIdx.x];
    float stepwise = value;
    for (int mask = 16; mask > 0; mask /= 2) stepwise += shuffle_xor(stepwise, mask);
    const uint32_t row = static_cast<uint32_t>(2 * lane);
    uint32_t *const output = at<uint32_t>(a.output, 8 * threadIdx.x);
    output[0] = transpose_8x8(row | (row + 1) << 16);
    output[1] = static_cast<uint32_t>(shuffle(10 * lane, 5));
    output[2] = static_cast<uint32_t>(shuffle_xor(static_cast<int64_t>(lane) << 32 | lane, 3) >> 32);
    output[3] = ballot(lane % 3 == 0);
    output[4] = __float_as_uint(warp_sum(value));
    output[5] = __float_as_uint(stepwise);
    output[6] = __float_as_uint(warp_max(value));
    output[7] = threadIdx.x;
}

/// The sum of 256 values. Variant 1 lacks the barrier between the warps' sums and theirs.
APUS_KERNEL(example_sum, cuda_example_arguments, 256, 1) {
    __shared__ float sums[8];
    const float sum = warp_sum(at<float>(a.a)[threadIdx.x]);
    if (lane_index() == 0) sums[warp_index()] = sum;
    if (a.variant != 1) block_sync();
    if (threadIdx.x != 0) return;
    float total = 0;
    for (int i = 0; i < 8; i++) total += sums[i];
    at<float>(a.output)[blockIdx.x] = total;
}

/// Copies 2 × 128 × 16 bytes by way of shared memory, the second half in a group of its own, but for the 16 zeros of
/// thread 7. Variant 1 does not wait for the second group, 2 for none, 3 does not commit the second, 4 lacks the
/// barrier.
APUS_KERNEL(example_copy, cuda_example_arguments, 128, 1) {
    DYNAMIC_SHARED(uint4, tile);
    const int thread = static_cast<int>(threadIdx.x), neighbour = (thread + 37) % 128;
    copy_async_16(tile + thread, at<uint4>(a.a, thread), true);
    copy_async_commit();
    copy_async_16(tile + 128 + thread, at<uint4>(a.a, 128 + thread), thread != 7);
    if (a.variant != 3) copy_async_commit();
    if (a.variant == 1) {
        copy_async_wait<1>();
    } else if (a.variant != 2) {
        copy_async_wait<0>();
    }
    if (a.variant != 4) block_sync();
    at<uint4>(a.output)[neighbour] = tile[neighbour];
    at<uint4>(a.output)[128 + neighbour] = tile[128 + neighbour];
}

/// Variant 1 reads 16 bytes at an address that is a multiple of 4, variant 2 copies from there.
APUS_KERNEL(example_align, cuda_example_arguments, 32, 1) {
    DYNAMIC_SHARED(uint4, tile);
    const float *const odd = at<float>(a.a, 1);
    if (a.variant == 1) tile[threadIdx.x] = load_16(odd);
    if (a.variant == 2) copy_async_16(tile + threadIdx.x, odd, true);
}

/// Variant 1: one thread is at the block's barrier while its warp waits for it. Variant 2: two collectives at once.
/// Variant 3: a lane has left. Variant 4: a thread of each warp does not come to the last barrier, which is allowed.
APUS_KERNEL(example_wait, cuda_example_arguments, 64, 1) {
    const bool is_odd_one = lane_index() == 3;
    if (a.variant == 1 && is_odd_one) block_sync();
    if (a.variant == 2 && is_odd_one) ballot(true);
    if (a.variant == 3 && is_odd_one) return;
    warp_sync();
    if (a.variant == 4 && is_odd_one) return;
    block_sync();
}

/// output[i] = 2 a[i], a thread each. Variant 1 writes one element further, 2 reads one before,
/// 3 goes past the shared memory.
APUS_KERNEL(example_double, cuda_example_arguments, 256, 1) {
    DYNAMIC_SHARED(float, doubled);
    const uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
    const float twice = 2 * at<float>(a.a)[a.variant == 2 ? static_cast<int64_t>(i) - 1 : i];
    if (a.variant == 3) doubled[threadIdx.x + 1] = twice;
    at<float>(a.output)[a.variant == 1 ? i + 1 : i] = twice;
}

/// The arithmetic whose rounding the device prescribes: output[i] = a[i] · b[i] + 2⁻¹³³ in bf16, both halves.
APUS_KERNEL(example_round, cuda_example_arguments, 32, 1) {
    const uint32_t smallest = 0x00010001;
    const uint32_t left = at<uint32_t>(a.a)[threadIdx.x], right = at<uint32_t>(a.b)[threadIdx.x];
    at<uint32_t>(a.output)[threadIdx.x] = bf16x2_fma(left, right, smallest);
}
