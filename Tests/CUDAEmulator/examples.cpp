// Kernels for the emulator's own tests: one for each thing that threads do together, some with a mistake that it has to
// show.

#include "../../Kernels/cuda/hopper.cuh"
#include "../../Kernels/cuda/pages.cuh"

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

// MARK: Compute capability 9.0

namespace {

/// Copies 64 boxes' worth: a [64 × 64 bf16] in bulk, already swizzled, and b by a map; multiplies; and stores the sums,
/// [thread 128][count]. Variants: 1 does not wait for the copies, 2 waits for the wrong phase, 3 announces no bytes, 4
/// announces too many, 5 reads the sums before they are there, 6 lacks the fence, 7 overwrites b meanwhile, 8 has a
/// descriptor without a swizzle, 9 copies by the map before it has waited, 10 never waits for the kernels in front.
template <int columns> APUS_DEVICE void multiply_example(const cuda_hopper_example_arguments &a) {
    DYNAMIC_SHARED(uint8_t, tiles);
    __shared__ uint64_t arrived;
    constexpr uint32_t bytes = CUDA_SWIZZLED_BYTES + columns * 128;
    if (a.variant != 9 && a.variant != 10) wait_for_dependencies();
    if (threadIdx.x == 0) {
        barrier_init(&arrived, 1);
        barrier_fence();
    }
    block_sync();
    if (threadIdx.x == 0) {
        barrier_arrive(&arrived, a.variant == 3 ? 0 : a.variant == 4 ? bytes + 16 : bytes);
        copy_bytes(tiles, at<uint8_t>(a.a), CUDA_SWIZZLED_BYTES, &arrived);
        if (a.variant != 10) copy_box(tiles + CUDA_SWIZZLED_BYTES, &a.b, a.column, a.row, &arrived);
        else copy_bytes(tiles + CUDA_SWIZZLED_BYTES, at<uint8_t>(a.a), columns * 128, &arrived);
    }
    if (a.variant != 1) barrier_wait(&arrived, a.variant == 2 ? 1 : 0, 0, 0, "the example's operands");
    float sums[columns / 2];
    for (float &sum : sums) sum = 1;
    uint64_t left = swizzled_operand(shared_address(tiles));
    const uint64_t right = swizzled_operand(shared_address(tiles + CUDA_SWIZZLED_BYTES));
    if (a.variant == 8) left &= ~(3ull << 62);
    if (a.variant != 6) wgmma_fence();
    for (int step = 0; step < 4; step++) wgmma(sums, left + 2 * step, right + 2 * step, true);
    wgmma_commit();
    float early[columns / 2];
    for (int i = 0; i < columns / 2; i++) early[i] = sums[i];
    if (a.variant == 7) tiles[CUDA_SWIZZLED_BYTES + threadIdx.x] ^= 0x80;
    wgmma_wait<0>(sums);
    for (int i = 0; i < columns / 2; i++) {
        at<float>(a.output, static_cast<int64_t>(threadIdx.x) * (columns / 2))[i] = a.variant == 5 ? early[i] : sums[i];
    }
}

/// Multiplies 64 × 16 bf16 at `a`, in registers, with what lies behind them: 16 × columns, swizzled, columns side by side.
/// Variant 1 overwrites the registers meanwhile, 2 takes the second 64 columns from elsewhere, 3 begins at an odd row.
template <int columns> APUS_DEVICE void multiply_columns_example(const cuda_hopper_example_arguments &a) {
    DYNAMIC_SHARED(uint8_t, tiles);
    __shared__ uint64_t arrived;
    constexpr uint32_t tile_bytes = 16 * 128, bytes = columns / 64 * tile_bytes;
    wait_for_dependencies();
    if (threadIdx.x == 0) {
        barrier_init(&arrived, 1);
        barrier_fence();
    }
    block_sync();
    if (threadIdx.x == 0) {
        barrier_arrive(&arrived, bytes);
        copy_bytes(tiles, at<uint8_t>(a.a, 64 * 16 * 2), bytes, &arrived);
    }
    barrier_wait(&arrived, 0, 0, 0, "the example's columns");
    uint32_t fragment[4];
    for (int i = 0; i < 4; i++) {
        const int row = warp_index() * 16 + lane_index() / 4 + i % 2 * 8, k = lane_index() % 4 * 2 + i / 2 * 8;
        fragment[i] = at<uint32_t>(a.a)[(row * 16 + k) / 2];
    }
    float sums[columns / 2];
    for (float &sum : sums) sum = 1;
    const uint64_t operand =
        swizzled_columns(shared_address(tiles) + (a.variant == 3 ? 128 : 0), a.variant == 2 ? 1024 : tile_bytes);
    wgmma_fence();
    wgmma_fragments(sums, fragment, operand, true);
    wgmma_commit();
    if (a.variant == 1) fragment[0] = 0;
    wgmma_wait<0>(sums);
    for (int i = 0; i < columns / 2; i++) at<float>(a.output, int64_t{threadIdx.x} * (columns / 2))[i] = sums[i];
}

/// Multiplies the 64 × 128 8-bit floats of `a` with its first eight rows, `row` times, and adds up. Variant 1 leaves the
/// adding to the instruction, which the others ask no further than one time.
APUS_DEVICE void chain_example(const cuda_hopper_example_arguments &a) {
    DYNAMIC_SHARED(uint8_t, tile);
    __shared__ uint64_t arrived;
    wait_for_dependencies();
    if (threadIdx.x == 0) {
        barrier_init(&arrived, 1);
        barrier_fence();
    }
    block_sync();
    if (threadIdx.x == 0) {
        barrier_arrive(&arrived, CUDA_SWIZZLED_BYTES);
        copy_bytes(tile, at<uint8_t>(a.a), CUDA_SWIZZLED_BYTES, &arrived);
    }
    barrier_wait(&arrived, 0, 0, 0, "the example's operand");
    float sums[4] = {}, products[4] = {};
    const uint64_t operand = swizzled_operand(shared_address(tile));
    for (int time = 0; time < a.row; time++) {
        wgmma_fence();
        for (int step = 0; step < 4; step++) {
            const bool adds = step > 0 || (a.variant == 1 && time > 0);
            wgmma_e4m3(products, operand + 2 * step, operand + 2 * step, adds);
        }
        wgmma_commit();
        wgmma_wait<0>(products);
        for (int i = 0; i < 4; i++) sums[i] = a.variant == 1 ? products[i] : sums[i] + products[i];
    }
    for (int i = 0; i < 4; i++) at<float>(a.output, 4 * threadIdx.x)[i] = sums[i];
}

/// A pair of blocks copies two boxes of 64 × 16, one after the other into the same place; each block copies half for both
/// and stores what it sees, output [block 2][box 2][16 × 64]. Variants: 1 does not wait for the other block to begin, 2
/// nor before it ends, 3 does not wait for room, 4 announces its own half only, 5 gives room back to itself only.
APUS_DEVICE void pair_example(const cuda_hopper_example_arguments &a) {
    DYNAMIC_SHARED(uint8_t, tile);
    __shared__ uint64_t filled, emptied;
    constexpr uint32_t bytes = 16 * 128;
    wait_for_dependencies();
    if (threadIdx.x == 0) {
        barrier_init(&filled, 1);
        barrier_init(&emptied, 8);
        barrier_fence();
    }
    if (a.variant == 1) block_sync();
    else pair_sync();
    const uint32_t rank = blockIdx.x % 2;
    for (uint32_t box = 0; box < 2; box++) {
        if (threadIdx.x == 0) {
            if (a.variant != 3) barrier_wait(&emptied, (box & 1) ^ 1, 0, 0, "room for the example's box");
            barrier_arrive(&filled, a.variant == 4 ? bytes / 2 : bytes);
            copy_box_to_pair(
                tile + rank * bytes / 2, &a.b, a.column, a.row + static_cast<int32_t>(16 * box + 8 * rank), &filled);
        }
        barrier_wait(&filled, box & 1, 0, 0, "the example's box");
        uint16_t *const seen = at<uint16_t>(a.output, (2 * rank + box) * 1024);
        for (uint32_t i = threadIdx.x; i < 1024; i += 128) {
            seen[i] = *reinterpret_cast<uint16_t *>(
                tile + swizzled_place(static_cast<int>(i / 64), static_cast<int>(i % 64 * 2)));
        }
        warp_sync();
        const uint32_t lane = static_cast<uint32_t>(lane_index());
        if (lane < 2 && (a.variant != 5 || lane == rank)) barrier_arrive_in(&emptied, lane);
    }
    if (a.variant != 2) pair_sync();
}

}  // namespace

APUS_HOPPER_PAIR_KERNEL(example_pair, cuda_hopper_example_arguments, 128, 1, pair_example)
APUS_HOPPER_KERNEL(example_chain, cuda_hopper_example_arguments, 128, 1, chain_example)
APUS_HOPPER_KERNEL(example_columns_64, cuda_hopper_example_arguments, 128, 1, multiply_columns_example<64>)
APUS_HOPPER_KERNEL(example_columns_128, cuda_hopper_example_arguments, 128, 1, multiply_columns_example<128>)
APUS_HOPPER_KERNEL(example_wgmma_8, cuda_hopper_example_arguments, 128, 1, multiply_example<8>)
APUS_HOPPER_KERNEL(example_wgmma_16, cuda_hopper_example_arguments, 128, 1, multiply_example<16>)
APUS_HOPPER_KERNEL(example_wgmma_32, cuda_hopper_example_arguments, 128, 1, multiply_example<32>)
APUS_HOPPER_KERNEL(example_wgmma_64, cuda_hopper_example_arguments, 128, 1, multiply_example<64>)
APUS_HOPPER_KERNEL(example_wgmma_128, cuda_hopper_example_arguments, 128, 1, multiply_example<128>)
APUS_HOPPER_KERNEL(example_wgmma_160, cuda_hopper_example_arguments, 128, 1, multiply_example<160>)
APUS_HOPPER_KERNEL(example_wgmma_192, cuda_hopper_example_arguments, 128, 1, multiply_example<192>)
APUS_HOPPER_KERNEL(example_wgmma_224, cuda_hopper_example_arguments, 128, 1, multiply_example<224>)
APUS_HOPPER_KERNEL(example_wgmma_256, cuda_hopper_example_arguments, 128, 1, multiply_example<256>)

int32_t cuda_example_tile(int32_t index, int32_t row_tiles, int32_t token_tiles) {
    return hopper_tile(index, row_tiles, token_tiles);
}
int32_t cuda_example_slice_start(int32_t units, int32_t slice) { return hopper_slice_start(units, slice); }
uint64_t cuda_example_descriptor(uint32_t address) { return swizzled_operand(address); }
int32_t cuda_example_unit_cycles(int32_t tokens) { return hopper_unit_cycles(tokens); }
int32_t cuda_example_width(int32_t format, int32_t rows, int32_t columns, int32_t tokens, int32_t multiprocessors) {
    return hopper_tokens(hopper_variant(format, rows, columns, tokens, multiprocessors));
}
int32_t cuda_example_panel_element(int32_t token, int32_t dimension) { return cuda_panel_element(token, dimension); }
