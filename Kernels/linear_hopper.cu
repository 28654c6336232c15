// Math:    output[t][r] (+)= Σ_k W[r][k] · x[t][k], W and x bf16, f32 sums; or both E4M3, of scales of rows and 128
//          columns and of tokens; or what cuda/endings.cuh makes of the sums.
// Shapes:  x [tokens, columns], W in swizzled tiles of 64 × 128 bytes (cuda/tiles.h), output [tokens, ≥ rows] f32.
// Launch:  persistent blocks of one copying warp and one or two warpgroups that multiply 64 rows each by 8 to 256 tokens
//          with wgmma; weights are always the 64-row operand. Tiles too few for the device are cut into slices of K. Of
//          more than 64 tokens, blocks come in pairs on 256 rows: each copies half of the tokens into both.
// Bound:   bytes of W up to some 150 tokens, then tensor instructions; predictions are in docs/benchmarks/h200.md.
// Checked: Conformance, on an emulated wgmma and copy engine: f64 reference, bits over batches and orders of threads
// Source:  persistent warp-specialised pipelines and multicast: CUTLASS, fast.cu; layouts and the order of sums are its own.
//
// The order of a row's sums does not depend on the number of tokens: k runs through a slice in one chain of products of
// 16 (of bytes: chains of four products of 32, added in f32), four slices are added in order, by one group or by the last
// of four blocks to finish. A group so has two sets of sums, and while the first slice of its next tile fills the one, the
// finished other leaves for memory.

#include "cuda/hopper_ring.cuh"
#include "cuda/hopper_tiles.cuh"

namespace linear_hopper {

#ifdef __CUDACC__
static_assert(alignof(cuda_linear_hopper_arguments) == 64 && sizeof(cuda_linear_hopper_arguments) == 384, "of a map");
#endif

// MARK: Multiplying

template <int count> APUS_DEVICE void clear(float (&sums)[count]) {
#pragma unroll
    for (int i = 0; i < count; i++) sums[i] = 0;
}

/// The sums of a slice's units, bf16. One unit's products are under way while the next is waited for; its room is given
/// back when they are done. `meanwhile` is called once a unit, while its products are under way.
template <int tokens, class Meanwhile>
APUS_DEVICE void multiply_slice(
    const cuda_linear_hopper_arguments &a, int units, operand_ring<tokens> &ring, float (&sums)[tokens / 2],
    const Meanwhile &meanwhile) {
    int previous = 0;
    clear(sums);
#pragma unroll 1
    for (int unit = 0; unit < units; unit++) {
        uint64_t weights, activations;
        ring.wait(a, weights, activations);
        wgmma_fence();
#pragma unroll
        for (int step = 0; step < 4; step++) {
            wgmma(sums, weights + 2 * step, activations + 2 * step, true);
        }
        wgmma_commit();
        wgmma_wait<1>(sums);
        if (unit > 0) release<tokens>(ring, previous);
        previous = ring.place.stage;
        ring.place.advance();
        meanwhile();
    }
    wgmma_wait<0>(sums);
    if (units > 0) release<tokens>(ring, previous);
}

/// The same of 8-bit floats, whose products the device adds with 14 bits: no further than a unit's 128 columns, whose
/// sums are then scaled and added in f32. `scales` are of the thread's first row, for the slice's units from `first` on.
template <int tokens, class Meanwhile>
APUS_DEVICE void multiply_slice_of_bytes(
    const cuda_linear_hopper_arguments &a, int first, int units, const float *scales, operand_ring<tokens> &ring,
    float (&sums)[tokens / 2], const Meanwhile &meanwhile) {
    float products[tokens / 2];
    clear(products);
    clear(sums);
#pragma unroll 1
    for (int unit = 0; unit < units; unit++) {
        const float *const own = scales + ((first + unit) >> a.matrix.group_shift) * CUDA_SWIZZLED_ROWS;
        const float low = own[0], high = own[8];
        uint64_t weights, activations;
        ring.wait(a, weights, activations);
        wgmma_fence();
#pragma unroll
        for (int step = 0; step < 4; step++) {
            wgmma_e4m3(products, weights + 2 * step, activations + 2 * step, step > 0);
        }
        wgmma_commit();
        meanwhile();
        wgmma_wait<0>(products);
        release<tokens>(ring, ring.place.stage);
        ring.place.advance();
#pragma unroll
        for (int i = 0; i < tokens / 2; i++) sums[i] = fmaf(i % 4 < 2 ? low : high, products[i], sums[i]);
    }
}

/// Leaves a slice's sums to be added. True for the last of a tile's slices, in whose registers their total then is.
template <int tokens>
APUS_DEVICE bool add_slices(const cuda_linear_hopper_arguments &a, const work_item &item, float (&total)[tokens / 2]) {
    constexpr int threads = 128 * hopper_consumers(tokens), pieces = tokens / 8;
    __shared__ bool is_last;
    const int64_t slice_pieces = static_cast<int64_t>(threads) * pieces;
    float4 *const partial =
        at<float4>(a.partial) + static_cast<int64_t>(item.tile) * CUDA_HOPPER_SLICES * slice_pieces + threadIdx.x;
#pragma unroll
    for (int i = 0; i < pieces; i++) {
        partial[item.first_slice * slice_pieces + i * threads] =
            make_float4(total[4 * i], total[4 * i + 1], total[4 * i + 2], total[4 * i + 3]);
    }
    device_fence();
    named_barrier(1, threads);
    if (threadIdx.x == 0) {
        uint32_t *const arrivals = at<uint32_t>(a.arrivals, item.tile);
        is_last = atomicAdd(arrivals, 1u) == CUDA_HOPPER_SLICES - 1;
        // Ready for the next launch.
        if (is_last) *arrivals = 0;
        device_fence();
    }
    named_barrier(1, threads);
    if (!is_last) return false;
    clear(total);
#pragma unroll 1
    for (int slice = 0; slice < CUDA_HOPPER_SLICES; slice++) {
#pragma unroll
        for (int i = 0; i < pieces; i++) {
            const uint4 bits = load_coherent_16(partial + slice * slice_pieces + i * threads);
            const float sums[4] = {
                __uint_as_float(bits.x), __uint_as_float(bits.y), __uint_as_float(bits.z), __uint_as_float(bits.w)};
#pragma unroll
            for (int e = 0; e < 4; e++) total[4 * i + e] = total[4 * i + e] + sums[e];
        }
    }
    return true;
}

/// Ends a row tile: after the last of them rows are normalized, where that is asked for.
template <int tokens> APUS_DEVICE void normalize(const cuda_linear_hopper_arguments &a, const work_list &list) {
    __shared__ norm_memory memory;
    if (a.ending.normed == 0) return;
    const auto wait = [] { named_barrier(1, 128); };
    if (!is_last_arrival(a.ending.arrivals, list.row_tiles, memory, wait)) return;
    normalize_rows<4>(a.ending, a.output, a.matrix.rows, a.token_count, memory, wait);
}

// MARK: Items

/// The sums of one slice of an item, after those before it in the ring.
template <int format, int tokens, class Meanwhile>
APUS_DEVICE void multiply_slice_of(
    const cuda_linear_hopper_arguments &a, const work_list &list, const work_item &item, int slice,
    operand_ring<tokens> &ring, float (&sums)[tokens / 2], const Meanwhile &meanwhile) {
    const int first = hopper_slice_start(list.units, slice);
    const int units = hopper_slice_start(list.units, slice + 1) - first;
    if constexpr (format == CUDA_WEIGHT_E4M3) {
        const int groups = hopper_groups(list.units, a.matrix.group_shift);
        // Of the last tiles some may not exist.
        const int tile = min(
            item.row_tile * hopper_consumers(tokens) + warp_index() / 4,
            hopper_tiles(a.matrix.rows, CUDA_SWIZZLED_ROWS) - 1);
        const float *const scales = at<const float>(
            a.matrix.scales, static_cast<int64_t>(tile) * groups * CUDA_SWIZZLED_ROWS
                + warp_index() % 4 * 16 + lane_index() / 4);
        multiply_slice_of_bytes<tokens>(a, first, units, scales, ring, sums, meanwhile);
    } else {
        multiply_slice<tokens>(a, units, ring, sums, meanwhile);
    }
}

/// Up to 64 tokens. Two blocks of a multiprocessor take turns, so that a tile ends when it is done.
template <int format, int tokens>
APUS_DEVICE void multiply_items(
    const cuda_linear_hopper_arguments &a, const work_list &list, uint8_t *memory, operand_ring<tokens> &ring) {
    totals<tokens> total(memory);
    float sums[tokens / 2];
#pragma unroll 1
    for (int index = list.first(); index < list.items; index += list.stride()) {
        const work_item item = list.item(index);
#pragma unroll 1
        for (int slice = item.first_slice; slice < item.last_slice; slice++) {
            multiply_slice_of<format, tokens>(a, list, item, slice, ring, sums, [] {});
            total.add(sums, slice == item.first_slice);
        }
        if (list.is_split && !add_slices<tokens>(a, item, total.kept)) continue;
        ended_pieces<tokens, tokens / 8>{a, item.row_tile, item.token_tile, 0, 1}.template end<format>(total.kept);
        if constexpr (tokens == 8) normalize<tokens>(a, list);
    }
}

/// More than 64 tokens: one block of a multiprocessor, in which a tile leaves while the next one's first slice is
/// multiplied, evenly spread over its units.
template <int format, int tokens>
APUS_DEVICE void multiply_wide_items(
    const cuda_linear_hopper_arguments &a, const work_list &list, uint8_t *memory, operand_ring<tokens> &ring) {
    totals<tokens> total(memory);
    float sums[tokens / 2];
    leaving_tile<format, tokens> leaving;
    leaving.next = leaving.steps;
    const int steps_of_unit = hopper_tiles(leaving.steps, max(1, list.units / CUDA_HOPPER_SLICES));
#pragma unroll 1
    for (int index = list.first(); index < list.items; index += list.stride()) {
        const work_item item = list.item(index);
#pragma unroll 1
        for (int slice = item.first_slice; slice < item.last_slice; slice++) {
            multiply_slice_of<format, tokens>(
                a, list, item, slice, ring, sums, [&] { leaving.advance(a, total, steps_of_unit); });
            // Its place is needed now.
            leaving.advance(a, total, leaving.steps);
            total.add(sums, slice == item.first_slice);
        }
        if constexpr (hopper_parked(tokens) == 0) {
            if (list.is_split && !add_slices<tokens>(a, item, total.kept)) continue;
        }
        leaving.begin(item);
    }
    leaving.advance(a, total, leaving.steps);
}

template <int format, int tokens> APUS_DEVICE void multiply(const cuda_linear_hopper_arguments &a) {
    constexpr int consumers = hopper_consumers(tokens), stages = hopper_stages(tokens);
    constexpr bool is_pair = hopper_together(tokens) == 2;
    // Of a multiprocessor's 65,536 registers.
    constexpr int multiplying = tokens > 160 || format == CUDA_WEIGHT_E4M3 ? 240 : 232, copying = 504 - 2 * multiplying;
    static_assert(consumers == 1 || 128 * (consumers * multiplying + copying) <= 65536, "more registers than there are");
    DYNAMIC_SHARED(uint8_t, memory);
    __shared__ uint64_t filled[stages], emptied[stages];
    release_dependents();
    if (threadIdx.x == 0) {
        for (int i = 0; i < stages; i++) {
            barrier_init(filled + i, 1);
            barrier_init(emptied + i, 4 * consumers * hopper_together(tokens));
        }
        barrier_fence();
    }
    if constexpr (is_pair) pair_sync();
    else block_sync();
    const work_list list = work_list::of<format, tokens>(a);
    // From one lane, so that the compiler sees that warps do not diverge.
    if (shuffle(warp_index(), 0) < 4 * consumers) {
        if constexpr (consumers > 1) take_registers<multiplying>();
        wait_for_dependencies();
        operand_ring<tokens> ring = {shared_address(memory), filled, emptied, {}};
        if constexpr (consumers > 1) multiply_wide_items<format, tokens>(a, list, memory, ring);
        else multiply_items<format, tokens>(a, list, memory, ring);
    } else {
        if constexpr (consumers > 1) give_registers<copying>();
        if (threadIdx.x == 128 * consumers) fill_ring<tokens>(a, list, memory, filled, emptied);
    }
    if constexpr (is_pair) pair_sync();
}

}  // namespace linear_hopper

#define LINEAR_HOPPER(KERNEL, name, format, tokens) \
    namespace linear_hopper { \
    APUS_DEVICE void body_##name##_##tokens(const cuda_linear_hopper_arguments &a) { multiply<format, tokens>(a); } \
    } \
    KERNEL( \
        name##_##tokens, cuda_linear_hopper_arguments, hopper_threads(tokens), hopper_blocks(tokens), \
        linear_hopper::body_##name##_##tokens)

LINEAR_HOPPER(APUS_HOPPER_KERNEL, linear_hopper, CUDA_WEIGHT_BF16, 8)
LINEAR_HOPPER(APUS_HOPPER_KERNEL, linear_hopper, CUDA_WEIGHT_BF16, 16)
LINEAR_HOPPER(APUS_HOPPER_KERNEL, linear_hopper, CUDA_WEIGHT_BF16, 32)
LINEAR_HOPPER(APUS_HOPPER_KERNEL, linear_hopper, CUDA_WEIGHT_BF16, 64)
LINEAR_HOPPER(APUS_HOPPER_PAIR_KERNEL, linear_hopper, CUDA_WEIGHT_BF16, 128)
LINEAR_HOPPER(APUS_HOPPER_PAIR_KERNEL, linear_hopper, CUDA_WEIGHT_BF16, 160)
LINEAR_HOPPER(APUS_HOPPER_PAIR_KERNEL, linear_hopper, CUDA_WEIGHT_BF16, 192)
LINEAR_HOPPER(APUS_HOPPER_PAIR_KERNEL, linear_hopper, CUDA_WEIGHT_BF16, 224)
LINEAR_HOPPER(APUS_HOPPER_PAIR_KERNEL, linear_hopper, CUDA_WEIGHT_BF16, 256)
LINEAR_HOPPER(APUS_HOPPER_KERNEL, linear_hopper_e4m3, CUDA_WEIGHT_E4M3, 8)
LINEAR_HOPPER(APUS_HOPPER_KERNEL, linear_hopper_e4m3, CUDA_WEIGHT_E4M3, 16)
LINEAR_HOPPER(APUS_HOPPER_KERNEL, linear_hopper_e4m3, CUDA_WEIGHT_E4M3, 32)
LINEAR_HOPPER(APUS_HOPPER_KERNEL, linear_hopper_e4m3, CUDA_WEIGHT_E4M3, 64)
LINEAR_HOPPER(APUS_HOPPER_PAIR_KERNEL, linear_hopper_e4m3, CUDA_WEIGHT_E4M3, 128)

#undef LINEAR_HOPPER
