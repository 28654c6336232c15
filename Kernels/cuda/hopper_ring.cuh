// The pipeline of linear_hopper.cu: which tiles, or slices of them, a block takes; the warp that copies their operands into
// a ring of shared memory; and how those that multiply wait for a stage and give it back. Two blocks of a pair fill each
// other's rings, each with its half of the tokens.

#ifndef APUS_HOPPER_RING_CUH
#define APUS_HOPPER_RING_CUH

#include "hopper.cuh"

namespace linear_hopper {

// MARK: Work

/// A block's tile, or a slice of one.
struct work_item {
    /// The second of a pair may lie beyond the matrix: it is multiplied all the same, as a partner has to keep step.
    int row_tile, token_tile;
    /// The tile's place among sums and arrivals, and the slices to take.
    int tile, first_slice, last_slice;
};

struct work_list {
    int units, row_tiles, token_tiles, items;
    bool is_split;
    /// Blocks that work together on an item, and which of them this is.
    int together, rank;

    template <int format, int tokens> static __device__ work_list of(const cuda_linear_hopper_arguments &a) {
        work_list list;
        list.units = hopper_tiles(a.matrix.columns, hopper_unit_columns(format));
        list.row_tiles = hopper_tiles(a.matrix.rows, hopper_rows_together(tokens));
        list.token_tiles = hopper_tiles(a.token_count, tokens);
        const int tiles = list.row_tiles * list.token_tiles;
        list.is_split = hopper_is_split(tokens, tiles, a.multiprocessors);
        list.items = list.is_split ? tiles * CUDA_HOPPER_SLICES : tiles;
        list.together = hopper_together(tokens);
        list.rank = static_cast<int>(blockIdx.x) % list.together;
        return list;
    }

    /// The block's first item, and how far it is from one to the next.
    __device__ int first() const { return static_cast<int>(blockIdx.x) / together; }
    __device__ int stride() const { return static_cast<int>(gridDim.x) / together; }

    __device__ work_item item(int index) const {
        work_item result;
        const int tile = is_split ? index / CUDA_HOPPER_SLICES : index;
        const int place = hopper_tile(tile, row_tiles, token_tiles);
        result.row_tile = place / token_tiles * together + rank;
        result.token_tile = place % token_tiles;
        result.tile = tile * together + rank;
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

    __device__ unit_walk(const work_list &list) : list(list), index(list.first()), unit(0), last_unit(0) {
        enter();
    }

    __device__ bool is_over() const { return index >= list.items; }

    __device__ void advance() {
        if (++unit < last_unit) return;
        index += list.stride();
        enter();
    }

    /// Goes on to the next item that has units: a slice of few columns may have none.
    __device__ void enter() {
        for (; index < list.items; index += list.stride()) {
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
    // Of the last tiles some may not exist; what the stage then holds is multiplied and not written.
    const int count = max(0, min(consumers, hopper_tiles(a.matrix.rows, CUDA_SWIZZLED_ROWS) - first));
    barrier_arrive(filled, static_cast<uint32_t>(count * CUDA_SWIZZLED_BYTES + tokens * CUDA_SWIZZLED_ROW_BYTES));
    for (int i = 0; i < count; i++) {
        const int64_t tile = static_cast<int64_t>(first + i) * walk.list.units + walk.unit;
        copy_bytes(
            stage + i * CUDA_SWIZZLED_BYTES, at<const uint8_t>(a.matrix.data, tile * CUDA_SWIZZLED_BYTES),
            CUDA_SWIZZLED_BYTES, filled, walk.list.token_tiles == 1);
    }
}

/// Starts copying a unit's activations, or this block's half of them for both. The other block's room is known to be free,
/// for it counts its own where this block waits; that its barrier may not have been told of the bytes yet does no harm.
template <int tokens>
APUS_DEVICE void copy_activations(
    const cuda_linear_hopper_arguments &a, const unit_walk &walk, uint8_t *place, uint64_t *filled) {
    constexpr int rows = hopper_box_rows(tokens);
    const int first = walk.list.rank * rows;
    const int column = walk.unit * CUDA_UNIT_COLUMNS, row = walk.item.token_tile * tokens + first;
    uint8_t *const own = place + first * CUDA_SWIZZLED_ROW_BYTES;
    if constexpr (hopper_together(tokens) == 2) copy_box_to_pair(own, &a.activations, column, row, filled);
    else copy_box(own, &a.activations, column, row, filled);
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
        copy_activations<tokens>(
            a, walk, stage + hopper_consumers(tokens) * CUDA_SWIZZLED_BYTES, filled + place.stage);
    }
}

// MARK: Waiting

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

/// Gives a stage's room back, to the copying warps of all blocks that write there.
template <int tokens> APUS_DEVICE void release(const operand_ring<tokens> &ring, int stage) {
    if constexpr (hopper_together(tokens) == 2) {
        if (lane_index() < 2) barrier_arrive_in(ring.emptied + stage, static_cast<uint32_t>(lane_index()));
    } else {
        if (lane_index() == 0) barrier_arrive(ring.emptied + stage);
    }
}

}  // namespace linear_hopper

#endif
