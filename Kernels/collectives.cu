// Math:    x ← x₀ + x₁ + … over ranks, in their order, in f32, and the norm of its rows; or the ranks' rows side by side.
// Shapes:  x [count] f32; parts [rows, columns] f32, joined [rows, ranks × columns] f32.
// Launch:  ranks on one device: a thread takes 4 elements; ranks that meet: up to 64 blocks of 512, all there at once. Up
//          to 64 rows that are normalized too have a block each, and the order of additions that norm.cu has.
// Bound:   latency; bytes between devices: ranks − 1 messages where they are short, 2 · (1 − 1/ranks) where long.
// Checked: CollectiveTests: on the emulator, and by a thread of the host for each rank
// Source:  the meeting on arrival counters and staging halves is our own; for the two forms see Thakur et al., 2005.

#include "cuda/collectives.cuh"
#include "cuda/endings.cuh"

#ifndef __CUDACC__
namespace emulator {
/// Ends the launch: no other rank runs while this one does.
[[noreturn]] void waits_in_vain(int rank);
}  // namespace emulator
#endif

namespace {

/// Polls between two looks at the host's memory and the clock, both far away.
constexpr int patience_polls = 4096;

/// A block of the device.
struct device_block {
    APUS_DEVICE int index() const { return static_cast<int>(blockIdx.x); }
    APUS_DEVICE int count() const { return static_cast<int>(gridDim.x); }
    APUS_DEVICE int thread() const { return static_cast<int>(threadIdx.x); }
    APUS_DEVICE int threads() const { return static_cast<int>(blockDim.x); }
    APUS_DEVICE void sync() const { block_sync(); }

    /// Returns when a rank has come to `call`, or when the host has given the group up. A rank that does not come in
    /// time is named, and the kernel ends.
    APUS_DEVICE void wait(const uint32_t *arrival, uint32_t call, const cuda_peers &peers, int rank) const {
#ifdef __CUDACC__
        uint64_t start, now;
        asm volatile("mov.u64 %0, %globaltimer;" : "=l"(start));
        for (int polls = 1; !has_come(load_acquire_system(arrival), call); polls++) {
            if (polls % patience_polls != 0) continue;
            if (is_given_up(peers)) return;
            asm volatile("mov.u64 %0, %globaltimer;" : "=l"(now));
            if (static_cast<int64_t>(now - start) < peers.patience) continue;
            *at<volatile uint32_t>(peers.notice) = static_cast<uint32_t>(rank + 1);
            __threadfence_system();
            asm volatile("trap;");
        }
#else
        if (has_come(load_acquire_system(arrival), call) || is_given_up(peers)) return;
        *at<uint32_t>(peers.notice) = static_cast<uint32_t>(rank + 1);
        emulator::waits_in_vain(rank);
#endif
    }
};

}  // namespace

APUS_KERNEL(add_ranks, cuda_add_ranks_arguments, COLLECTIVE_THREADS, 2) {
    const int64_t i = 4 * (static_cast<int64_t>(blockIdx.x) * COLLECTIVE_THREADS + threadIdx.x);
    if (i >= a.count) return;
    const int count = static_cast<int>(a.count - i < 4 ? a.count - i : 4);
    const float4 sum = sum_of_ranks(a.ranks, count, [&](int rank) { return at<const float>(a.parts[rank], i); });
    for (int rank = 0; rank < a.ranks; rank++) store_floats(at<float>(a.parts[rank], i), sum, count);
}

APUS_KERNEL(join_ranks, cuda_join_ranks_arguments, COLLECTIVE_THREADS, 2) {
    const int64_t row = blockIdx.x;
    const int column = static_cast<int>(blockIdx.y * COLLECTIVE_THREADS + threadIdx.x);
    const int rank = static_cast<int>(blockIdx.z);
    if (column >= a.columns) return;
    at<float>(a.output, (row * a.ranks + rank) * a.columns)[column] =
        at<const float>(a.parts[rank], row * a.columns)[column];
}

APUS_KERNEL(all_reduce, cuda_all_reduce_arguments, COLLECTIVE_THREADS, 1) {
    device_block block;
    all_reduce(a, block);
}

APUS_KERNEL(all_reduce_norm, cuda_all_reduce_norm_arguments, COLLECTIVE_THREADS, 1) {
    __shared__ norm_memory memory;
    device_block block;
    all_reduce_rows(a.sum, a.columns, block, [&](int row) {
        const int64_t first = static_cast<int64_t>(row) * a.columns;
        cuda_ending own = a.ending;
        own.normed += 2 * first;
        if (own.codes != 0) {
            own.codes += first;
            own.code_scales += 4 * static_cast<int64_t>(row);
        }
        normalize_rows<COLLECTIVE_THREADS / 32>(
            own, a.sum.x + 4 * first, a.columns, 1, memory, [] { block_sync(); });
    });
}

APUS_KERNEL(all_gather, cuda_all_gather_arguments, COLLECTIVE_THREADS, 1) {
    device_block block;
    all_gather(a, block);
}
