// Math:    output[t][r] (+)= Σ_k W[r][k] · x[t][k], W and x bf16, f32 sums.
// Shapes:  x [tokens, columns], W in swizzled tiles of 64 × 64 (cuda/tiles.h), output [tokens, ≥ rows] f32.
// Launch:  persistent blocks of one copying warp and one or two warpgroups that multiply 64 rows each by 8 to 192 tokens
//          with wgmma; weights are always the 64-row operand. Tiles too few for the device are cut into slices of K.
// Bound:   bytes of W up to some 150 tokens, then tensor instructions; predictions are in docs/benchmarks/h200.md.
// Checked: Conformance, on an emulated wgmma and copy engine: f64 reference, bits over batches and orders of threads
// Source:  persistent warp-specialised pipelines: CUTLASS, fast.cu; layouts and the order of sums are its own.
//
// The order of a row's sums does not depend on the number of tokens: k runs through a slice in one chain of products of
// 16, four slices are added in order, by one group's registers or by the last of four blocks to finish.

#include "cuda/hopper.cuh"

namespace linear_hopper {

#ifdef __CUDACC__
static_assert(alignof(cuda_linear_hopper_arguments) == 64 && sizeof(cuda_linear_hopper_arguments) == 256, "of a map");
#endif

// MARK: Work

/// A tile, or a slice of one.
struct work_item {
    int row_tile, token_tile;
    /// The tile's place among sums and arrivals, and the slices to take.
    int tile, first_slice, last_slice;
};

struct work_list {
    int units, row_tiles, token_tiles, items;
    bool is_split;

    template <int tokens> static __device__ work_list of(const cuda_linear_hopper_arguments &a) {
        work_list list;
        list.units = hopper_tiles(a.matrix.columns, CUDA_UNIT_COLUMNS);
        list.row_tiles = hopper_tiles(a.matrix.rows, hopper_consumers(tokens) * CUDA_SWIZZLED_ROWS);
        list.token_tiles = hopper_tiles(a.token_count, tokens);
        const int tiles = list.row_tiles * list.token_tiles;
        list.is_split = hopper_is_split(tokens, tiles, a.multiprocessors);
        list.items = list.is_split ? tiles * CUDA_HOPPER_SLICES : tiles;
        return list;
    }

    __device__ work_item item(int index) const {
        work_item result;
        result.tile = is_split ? index / CUDA_HOPPER_SLICES : index;
        const int place = hopper_tile(result.tile, row_tiles, token_tiles);
        result.row_tile = place / token_tiles;
        result.token_tile = place % token_tiles;
        result.first_slice = is_split ? index % CUDA_HOPPER_SLICES : 0;
        result.last_slice = is_split ? result.first_slice + 1 : CUDA_HOPPER_SLICES;
        return result;
    }
};

/// A place in the ring, and how often it has come round.
template <int stages> struct ring_place {
    int stage = 0;
    uint32_t parity = 0;

    __device__ void advance() {
        stage++;
        if (stage < stages) return;
        stage = 0;
        parity ^= 1;
    }
};

// MARK: Copying

/// A block's units, one after the other.
struct unit_walk {
    const work_list &list;
    int index, unit, last_unit;
    work_item item;

    __device__ unit_walk(const work_list &list) : list(list), index(static_cast<int>(blockIdx.x)), unit(0), last_unit(0) {
        enter();
    }

    __device__ bool is_over() const { return index >= list.items; }

    __device__ void advance() {
        if (++unit < last_unit) return;
        index += static_cast<int>(gridDim.x);
        enter();
    }

    /// Goes on to the next item that has units: a slice of few columns may have none.
    __device__ void enter() {
        for (; index < list.items; index += static_cast<int>(gridDim.x)) {
            item = list.item(index);
            unit = hopper_slice_start(list.units, item.first_slice);
            last_unit = hopper_slice_start(list.units, item.last_slice);
            if (unit < last_unit) return;
        }
    }
};

/// Announces a unit's bytes and starts copying its weights.
template <int tokens>
APUS_DEVICE void copy_weights(
    const cuda_linear_hopper_arguments &a, const unit_walk &walk, uint8_t *stage, uint64_t *filled) {
    constexpr int consumers = hopper_consumers(tokens);
    const int first = walk.item.row_tile * consumers;
    // Of the last pair of tiles one may not exist; what the stage then holds is multiplied and not written.
    const int count = min(consumers, hopper_tiles(a.matrix.rows, CUDA_SWIZZLED_ROWS) - first);
    barrier_arrive(filled, static_cast<uint32_t>(count * CUDA_SWIZZLED_BYTES + tokens * CUDA_SWIZZLED_ROW_BYTES));
    for (int i = 0; i < count; i++) {
        const int64_t tile = static_cast<int64_t>(first + i) * walk.list.units + walk.unit;
        copy_bytes(
            stage + i * CUDA_SWIZZLED_BYTES, at<const uint8_t>(a.matrix.data, tile * CUDA_SWIZZLED_BYTES),
            CUDA_SWIZZLED_BYTES, filled, walk.list.token_tiles == 1);
    }
}

/// Keeps the ring full. Weights do not depend on the kernels in front: the first stages' are on their way before those
/// are done.
template <int tokens>
APUS_DEVICE void fill_ring(
    const cuda_linear_hopper_arguments &a, const work_list &list, uint8_t *ring, uint64_t *filled, uint64_t *emptied) {
    constexpr int stages = hopper_stages(tokens), stage_bytes = hopper_stage_bytes(tokens);
    int ahead = 0;
    for (unit_walk walk(list); ahead < stages && !walk.is_over(); walk.advance(), ahead++) {
        copy_weights<tokens>(a, walk, ring + ahead * stage_bytes, filled + ahead);
    }
    wait_for_dependencies();
    ring_place<stages> place;
    for (unit_walk walk(list); !walk.is_over(); walk.advance(), place.advance(), ahead--) {
        uint8_t *const stage = ring + place.stage * stage_bytes;
        if (ahead <= 0) {
            barrier_wait(emptied + place.stage, place.parity ^ 1, a.stuck, CUDA_STUCK_ROOM, "room in the ring");
            copy_weights<tokens>(a, walk, stage, filled + place.stage);
        }
        copy_box(
            stage + hopper_consumers(tokens) * CUDA_SWIZZLED_BYTES, &a.activations, walk.unit * CUDA_UNIT_COLUMNS,
            walk.item.token_tile * tokens, filled + place.stage);
    }
}

// MARK: Multiplying

template <int count> APUS_DEVICE void clear(float (&sums)[count]) {
#pragma unroll
    for (int i = 0; i < count; i++) sums[i] = 0;
}

/// The sums of a slice's units. One unit's products are under way while the next is waited for; its room is given back
/// when they are done.
template <int tokens>
APUS_DEVICE void multiply_slice(
    const cuda_linear_hopper_arguments &a, int units, uint32_t ring, const uint64_t *filled, uint64_t *emptied,
    ring_place<hopper_stages(tokens)> &place, float (&sums)[tokens / 2]) {
    constexpr int consumers = hopper_consumers(tokens), stage_bytes = hopper_stage_bytes(tokens);
    const uint32_t own = ring + static_cast<uint32_t>(warp_index() / 4 * CUDA_SWIZZLED_BYTES);
    const bool arrives = lane_index() == 0;
    int previous = 0;
    clear(sums);
#pragma unroll 1
    for (int unit = 0; unit < units; unit++) {
        barrier_wait(filled + place.stage, place.parity, a.stuck, CUDA_STUCK_OPERANDS, "operands");
        const uint32_t stage = static_cast<uint32_t>(place.stage * stage_bytes);
        const uint64_t weights = swizzled_operand(own + stage);
        const uint64_t activations = swizzled_operand(ring + stage + consumers * CUDA_SWIZZLED_BYTES);
        wgmma_fence();
#pragma unroll
        for (int step = 0; step < 4; step++) {
            wgmma(sums, weights + 2 * step, activations + 2 * step, true);
        }
        wgmma_commit();
        wgmma_wait<1>(sums);
        if (arrives && unit > 0) barrier_arrive(emptied + previous);
        previous = place.stage;
        place.advance();
    }
    wgmma_wait<0>(sums);
    if (arrives && units > 0) barrier_arrive(emptied + previous);
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

/// Stores (or adds) a tile's results: a sector of 8 rows for each token.
template <int tokens>
APUS_DEVICE void write(const cuda_linear_hopper_arguments &a, const work_item &item, const float (&total)[tokens / 2]) {
    const int first_row =
        item.row_tile * hopper_consumers(tokens) * CUDA_SWIZZLED_ROWS + 16 * warp_index() + lane_index() / 4;
    const int first_token = item.token_tile * tokens + lane_index() % 4 * 2;
#pragma unroll
    for (int i = 0; i < tokens / 2; i++) {
        const int row = first_row + i % 4 / 2 * 8, token = first_token + i / 4 * 8 + i % 2;
        if (row < a.matrix.rows && token < a.token_count) {
            float *const place = at<float>(a.output, static_cast<int64_t>(token) * a.output_stride + row);
            *place = a.accumulate ? *place + total[i] : total[i];
        }
    }
}

template <int tokens>
APUS_DEVICE void multiply_items(
    const cuda_linear_hopper_arguments &a, const work_list &list, const uint8_t *ring, const uint64_t *filled,
    uint64_t *emptied) {
    wait_for_dependencies();
    const uint32_t address = shared_address(ring);
    ring_place<hopper_stages(tokens)> place;
    float total[tokens / 2], sums[tokens / 2];
#pragma unroll 1
    for (int index = static_cast<int>(blockIdx.x); index < list.items; index += static_cast<int>(gridDim.x)) {
        const work_item item = list.item(index);
        clear(total);
#pragma unroll 1
        for (int slice = item.first_slice; slice < item.last_slice; slice++) {
            const int units = hopper_slice_start(list.units, slice + 1) - hopper_slice_start(list.units, slice);
            multiply_slice<tokens>(a, units, address, filled, emptied, place, sums);
#pragma unroll
            for (int i = 0; i < tokens / 2; i++) total[i] = total[i] + sums[i];
        }
        if (!list.is_split || add_slices<tokens>(a, item, total)) write<tokens>(a, item, total);
    }
}

template <int tokens> APUS_DEVICE void multiply(const cuda_linear_hopper_arguments &a) {
    constexpr int consumers = hopper_consumers(tokens), stages = hopper_stages(tokens);
    // Of a multiprocessor's 65,536 registers.
    static_assert(consumers == 1 || 128 * (consumers * 232 + 40) <= 65536, "more registers than there are");
    DYNAMIC_SHARED(uint8_t, ring);
    __shared__ uint64_t filled[stages], emptied[stages];
    release_dependents();
    if (threadIdx.x == 0) {
        for (int i = 0; i < stages; i++) {
            barrier_init(filled + i, 1);
            barrier_init(emptied + i, 4 * consumers);
        }
        barrier_fence();
    }
    block_sync();
    const work_list list = work_list::of<tokens>(a);
    // From one lane, so that the compiler sees that warps do not diverge.
    if (shuffle(warp_index(), 0) < 4 * consumers) {
        if constexpr (consumers > 1) take_registers<232>();
        multiply_items<tokens>(a, list, ring, filled, emptied);
    } else {
        if constexpr (consumers > 1) give_registers<40>();
        if (threadIdx.x == 128 * consumers) fill_ring<tokens>(a, list, ring, filled, emptied);
    }
}

}  // namespace linear_hopper

#define LINEAR_HOPPER(tokens) \
    APUS_HOPPER_KERNEL( \
        linear_hopper_##tokens, cuda_linear_hopper_arguments, hopper_threads(tokens), hopper_blocks(tokens), \
        linear_hopper::multiply<tokens>)

LINEAR_HOPPER(8)
LINEAR_HOPPER(16)
LINEAR_HOPPER(32)
LINEAR_HOPPER(64)
LINEAR_HOPPER(128)
LINEAR_HOPPER(192)

#undef LINEAR_HOPPER
