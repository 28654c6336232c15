// Math:    output[t][r] (+)= Σ_k W[r][k] · x[t][k], W and x bf16, f32 sums; or both E4M3, of scales of rows and 128
//          columns and of tokens; or what cuda/endings.cuh makes of the sums.
// Shapes:  x [tokens, columns], W in swizzled tiles of 64 × 128 bytes (cuda/tiles.h), output [tokens, ≥ rows] f32.
// Launch:  persistent blocks of one copying warp and one or two warpgroups that multiply 64 rows each by 8 to 192 tokens
//          with wgmma; weights are always the 64-row operand. Tiles too few for the device are cut into slices of K.
// Bound:   bytes of W up to some 150 tokens, then tensor instructions; predictions are in docs/benchmarks/h200.md.
// Checked: Conformance, on an emulated wgmma and copy engine: f64 reference, bits over batches and orders of threads
// Source:  persistent warp-specialised pipelines: CUTLASS, fast.cu; layouts and the order of sums are its own.
//
// The order of a row's sums does not depend on the number of tokens: k runs through a slice in one chain of products of
// 16 (of bytes: chains of four products of 32, added in f32), four slices are added in order, by one group's registers
// or by the last of four blocks to finish.

#include "cuda/endings.cuh"
#include "cuda/hopper.cuh"
#include "cuda/ranks.cuh"

namespace linear_hopper {

#ifdef __CUDACC__
static_assert(alignof(cuda_linear_hopper_arguments) == 64 && sizeof(cuda_linear_hopper_arguments) == 384, "of a map");
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

    template <int format, int tokens> static __device__ work_list of(const cuda_linear_hopper_arguments &a) {
        work_list list;
        list.units = hopper_tiles(a.matrix.columns, hopper_unit_columns(format));
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

/// Where a warp's share of the ring is, and its place there.
template <int tokens> struct operand_ring {
    uint32_t start;
    const uint64_t *filled;
    uint64_t *emptied;
    ring_place<hopper_stages(tokens)> place;

    /// The stage to multiply, once it is there: descriptors of the own warpgroup's weights and of the activations.
    __device__ void wait(const cuda_linear_hopper_arguments &a, uint64_t &weights, uint64_t &activations) const {
        barrier_wait(filled + place.stage, place.parity, a.stuck, CUDA_STUCK_OPERANDS, "operands");
        const uint32_t stage = start + static_cast<uint32_t>(place.stage * hopper_stage_bytes(tokens));
        weights = swizzled_operand(stage + static_cast<uint32_t>(warp_index() / 4 * CUDA_SWIZZLED_BYTES));
        activations = swizzled_operand(stage + hopper_consumers(tokens) * CUDA_SWIZZLED_BYTES);
    }
};

/// The sums of a slice's units, bf16. One unit's products are under way while the next is waited for; its room is given
/// back when they are done.
template <int tokens>
APUS_DEVICE void multiply_slice(
    const cuda_linear_hopper_arguments &a, int units, operand_ring<tokens> &ring, float (&sums)[tokens / 2]) {
    const bool arrives = lane_index() == 0;
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
        if (arrives && unit > 0) barrier_arrive(ring.emptied + previous);
        previous = ring.place.stage;
        ring.place.advance();
    }
    wgmma_wait<0>(sums);
    if (arrives && units > 0) barrier_arrive(ring.emptied + previous);
}

/// The same of 8-bit floats, whose products the device adds with 14 bits: no further than a unit's 128 columns, whose
/// sums are then scaled and added in f32. `scales` are of the thread's first row, for the slice's units from `first` on.
template <int tokens>
APUS_DEVICE void multiply_slice_of_bytes(
    const cuda_linear_hopper_arguments &a, int first, int units, const float *scales, operand_ring<tokens> &ring,
    float (&sums)[tokens / 2]) {
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
        wgmma_wait<0>(products);
        if (lane_index() == 0) barrier_arrive(ring.emptied + ring.place.stage);
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

/// Leaves the best of each sixteen rows for each token.
template <int format, int tokens>
APUS_DEVICE void write_ranks(
    const cuda_linear_hopper_arguments &a, const work_item &item, const float (&total)[tokens / 2]) {
    const int tile = item.row_tile * hopper_consumers(tokens) * 4 + warp_index(), lane = lane_index();
    const int first_token = item.token_tile * tokens + lane % 4 * 2;
#pragma unroll
    for (int i = 0; i < tokens / 4; i++) {
        const int token = first_token + i / 2 * 8 + i % 2, index = i / 2 * 4 + i % 2;
        const bool is_scaled = format == CUDA_WEIGHT_E4M3 && token < a.token_count;
        const float scale = is_scaled ? at<const float>(a.input_scales)[token] : 1;
        const float first = is_scaled ? total[index] * scale : total[index];
        const float second = is_scaled ? total[index + 2] * scale : total[index + 2];
        write_best(a.ranks, a.matrix.rows, tile, token, a.token_count, lane, first, second);
    }
}

/// Ends a tile: a thread has two rows of sixteen, and a sector of 8 rows for each token.
template <int format, int tokens>
APUS_DEVICE void write(const cuda_linear_hopper_arguments &a, const work_item &item, const float (&total)[tokens / 2]) {
    if (a.ranks != 0) return write_ranks<format, tokens>(a, item, total);
    const int packed =
        item.row_tile * hopper_consumers(tokens) * CUDA_SWIZZLED_ROWS + 16 * warp_index() + lane_index() / 4;
    if (packed >= a.matrix.rows) return;
    const row_pair rows = rows_of(a.matrix, packed);
    const bool has_second = packed + 8 < a.matrix.rows;
    const int first_token = item.token_tile * tokens + lane_index() % 4 * 2;
#pragma unroll
    for (int i = 0; i < tokens / 4; i++) {
        const int token = first_token + i / 2 * 8 + i % 2, index = i / 2 * 4 + i % 2;
        if (token >= a.token_count) continue;
        float first = total[index], second = total[index + 2];
        if constexpr (format == CUDA_WEIGHT_E4M3) {
            const float scale = at<const float>(a.input_scales)[token];
            first = first * scale, second = second * scale;
        }
        end_pair<tokens <= CUDA_ENDING_HEADS_TOKENS>(
            a.ending, a.matrix, a.output, a.output_stride, a.accumulate != 0, rows, has_second, token, first, second);
    }
}

/// Ends a row tile: after the last of them rows are normalized, where that is asked for.
template <int tokens> APUS_DEVICE void normalize(const cuda_linear_hopper_arguments &a, const work_list &list) {
    __shared__ norm_memory memory;
    if (a.ending.normed == 0) return;
    const auto wait = [] { named_barrier(1, 128); };
    if (!is_last_arrival(a.ending.arrivals, list.row_tiles, memory, wait)) return;
    normalize_rows<4>(a.ending, a.output, a.matrix.rows, a.token_count, memory, wait);
}

template <int format, int tokens>
APUS_DEVICE void multiply_items(
    const cuda_linear_hopper_arguments &a, const work_list &list, const uint8_t *memory, const uint64_t *filled,
    uint64_t *emptied) {
    wait_for_dependencies();
    operand_ring<tokens> ring = {shared_address(memory), filled, emptied, {}};
    float total[tokens / 2], sums[tokens / 2];
#pragma unroll 1
    for (int index = static_cast<int>(blockIdx.x); index < list.items; index += static_cast<int>(gridDim.x)) {
        const work_item item = list.item(index);
        clear(total);
#pragma unroll 1
        for (int slice = item.first_slice; slice < item.last_slice; slice++) {
            const int first = hopper_slice_start(list.units, slice);
            const int units = hopper_slice_start(list.units, slice + 1) - first;
            if constexpr (format == CUDA_WEIGHT_E4M3) {
                const int groups = hopper_groups(list.units, a.matrix.group_shift);
                // Of the last pair of tiles one may not exist.
                const int tile = min(
                    item.row_tile * hopper_consumers(tokens) + warp_index() / 4,
                    hopper_tiles(a.matrix.rows, CUDA_SWIZZLED_ROWS) - 1);
                const float *const scales = at<const float>(
                    a.matrix.scales, static_cast<int64_t>(tile) * groups * CUDA_SWIZZLED_ROWS
                        + warp_index() % 4 * 16 + lane_index() / 4);
                multiply_slice_of_bytes<tokens>(a, first, units, scales, ring, sums);
            } else {
                multiply_slice<tokens>(a, units, ring, sums);
            }
#pragma unroll
            for (int i = 0; i < tokens / 2; i++) total[i] = total[i] + sums[i];
        }
        if (list.is_split && !add_slices<tokens>(a, item, total)) continue;
        write<format, tokens>(a, item, total);
        if constexpr (tokens == 8) normalize<tokens>(a, list);
    }
}

template <int format, int tokens> APUS_DEVICE void multiply(const cuda_linear_hopper_arguments &a) {
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
    const work_list list = work_list::of<format, tokens>(a);
    // From one lane, so that the compiler sees that warps do not diverge.
    if (shuffle(warp_index(), 0) < 4 * consumers) {
        if constexpr (consumers > 1) take_registers<232>();
        multiply_items<format, tokens>(a, list, ring, filled, emptied);
    } else {
        if constexpr (consumers > 1) give_registers<40>();
        if (threadIdx.x == 128 * consumers) fill_ring<tokens>(a, list, ring, filled, emptied);
    }
}

}  // namespace linear_hopper

#define LINEAR_HOPPER(name, format, tokens) \
    namespace linear_hopper { \
    APUS_DEVICE void body_##name##_##tokens(const cuda_linear_hopper_arguments &a) { multiply<format, tokens>(a); } \
    } \
    APUS_HOPPER_KERNEL( \
        name##_##tokens, cuda_linear_hopper_arguments, hopper_threads(tokens), hopper_blocks(tokens), \
        linear_hopper::body_##name##_##tokens)

LINEAR_HOPPER(linear_hopper, CUDA_WEIGHT_BF16, 8)
LINEAR_HOPPER(linear_hopper, CUDA_WEIGHT_BF16, 16)
LINEAR_HOPPER(linear_hopper, CUDA_WEIGHT_BF16, 32)
LINEAR_HOPPER(linear_hopper, CUDA_WEIGHT_BF16, 64)
LINEAR_HOPPER(linear_hopper, CUDA_WEIGHT_BF16, 128)
LINEAR_HOPPER(linear_hopper, CUDA_WEIGHT_BF16, 192)
LINEAR_HOPPER(linear_hopper_e4m3, CUDA_WEIGHT_E4M3, 8)
LINEAR_HOPPER(linear_hopper_e4m3, CUDA_WEIGHT_E4M3, 16)
LINEAR_HOPPER(linear_hopper_e4m3, CUDA_WEIGHT_E4M3, 32)
LINEAR_HOPPER(linear_hopper_e4m3, CUDA_WEIGHT_E4M3, 64)
LINEAR_HOPPER(linear_hopper_e4m3, CUDA_WEIGHT_E4M3, 128)

#undef LINEAR_HOPPER
