// What stands between memory and the products of prefill_hopper.cu: finding a block's items, copying keys and values into
// its ring, and writing an item's queries while the one before it is multiplied.

#ifndef APUS_HOPPER_ITEMS_CUH
#define APUS_HOPPER_ITEMS_CUH

#include "hopper.cuh"
#include "prefill.cuh"

namespace prefill_hopper {

enum {
    GROUPS = 2,
    GROUP_COLUMNS = ATTENTION_HOPPER_COLUMNS,
    ITEM_COLUMNS = GROUPS * GROUP_COLUMNS,
    PIECES = ATTENTION_HOPPER_PIECES,
    SPAN_TOKENS = static_cast<int>(CUDA_SPAN_TOKENS),
    /// Items that are under way: one is multiplied while the queries of the next are written.
    SLOTS = 2,
    WRITER_THREADS = 3 * 32,
    /// Named barriers of the first warpgroup; the second's are one further.
    TURN_BARRIER = 1,
    GROUP_BARRIER = 3,
};

/// An item, and how many positions each of its columns sees.
struct item_slot {
    prefill_item item;
    int limits[ITEM_COLUMNS];
};

struct block_barriers {
    /// Of the ring's pieces.
    uint64_t filled[PIECES], emptied[PIECES];
    /// Of slots: there is an item; its queries are there; the warpgroups are done with it.
    uint64_t found[SLOTS], asked[SLOTS], answered[SLOTS];
};

/// Which of `count` places comes next, and the parity of its phase.
template <int count> struct ring_place {
    int index = 0;
    uint32_t parity = 0;

    __device__ __forceinline__ void advance() {
        index++;
        if (index < count) return;
        index = 0;
        parity ^= 1;
    }
};

/// What all of a block's threads share.
struct block_memory {
    uint8_t *queries;
    uint8_t *ring;
    item_slot *slots;
    block_barriers *barriers;
};

/// The row of the sequence and the head of a column; `is_one` where there is such a row.
struct column_place {
    bool is_one;
    int row, head;
};

APUS_DEVICE column_place place_of(const cuda_attention_batch &batch, const prefill_item &item, int column) {
    const int heads = batch.heads / batch.kv_heads, own = item.first_column + column;
    return {own < item.column_count, own / heads, item.kv_head * heads + own % heads};
}

// MARK: Copying

/// Groups of a span that are behind the windows of all columns: their blocks may be others' by now.
APUS_DEVICE int groups_behind(const prefill_item &item, int first_token) {
    return max(item.behind - first_token, 0) / CUDA_GROUP_TOKENS;
}

/// Starts copying the panels of a span's keys, or values, that are behind no window and before the item's limit: tile after tile of 64 dimensions, in
/// each the positions one below the other. A panel to a lane.
template <int FRAGMENTS>
APUS_DEVICE void copy_piece(
    const cuda_attend_arguments &a, const prefill_item &item, cuda_address cache, int first_token, uint8_t *piece,
    uint64_t *filled) {
    constexpr int panels = FRAGMENTS / CUDA_PANEL_FRAGMENTS, panel_bytes = CUDA_PANEL_ELEMENTS * 2;
    const int groups =
        min((item.limit - first_token + CUDA_GROUP_TOKENS - 1) / CUDA_GROUP_TOKENS, static_cast<int>(SPAN_GROUPS));
    const int behind = groups_behind(item, first_token);
    if (lane_index() == 0) barrier_arrive(filled, static_cast<uint32_t>((groups - behind) * panels * panel_bytes));
    warp_sync();
    const int own = lane_index() / panels, panel = lane_index() % panels;
    const int token = first_token + own * CUDA_GROUP_TOKENS;
    if (own < behind || own >= groups) return;
    const int size = a.cache.block_size;
    const int32_t *const table =
        at<const int32_t>(a.batch.block_tables, static_cast<int64_t>(item.sequence) * a.batch.blocks_per_sequence);
    const int64_t group = cuda_kv_group(table[token / size], token % size, item.kv_head, a.cache.kv_heads, size);
    copy_bytes(
        piece + panel * attention_hopper_tile_bytes() + own * panel_bytes,
        at<uint8_t>(cache, (group * panels + panel) * panel_bytes), panel_bytes, filled);
}

/// Finds the block's items and keeps the ring full.
template <int FRAGMENTS>
APUS_DEVICE void copy_items(const cuda_attend_arguments &a, int items, const block_memory &block) {
    block_barriers &barriers = *block.barriers;
    ring_place<PIECES> piece;
    ring_place<SLOTS> slot;
    int fills = 0, finds = 0;
    for (int index = static_cast<int>(blockIdx.x); index < items; index += static_cast<int>(gridDim.x), finds++) {
        const prefill_item item = find_item(a, ITEM_COLUMNS, index);
        if (finds >= SLOTS) barrier_wait(barriers.answered + slot.index, slot.parity ^ 1, 0, 0, "room for an item");
        if (lane_index() == 0) {
            block.slots[slot.index].item = item;
            barrier_arrive(barriers.found + slot.index);
        }
        slot.advance();
        for (int token = item.first_token; token < item.limit; token += SPAN_TOKENS) {
            for (int half = 0; half < 2; half++, fills++, piece.advance()) {
                if (fills >= PIECES) {
                    barrier_wait(barriers.emptied + piece.index, piece.parity ^ 1, 0, 0, "room for positions");
                }
                copy_piece<FRAGMENTS>(
                    a, item, half == 0 ? a.cache.keys : a.cache.values, token,
                    block.ring + piece.index * attention_hopper_piece_bytes(16 * FRAGMENTS),
                    barriers.filled + piece.index);
            }
        }
    }
}

// MARK: Queries

/// Writes an item's queries, scaled and rounded, as the operand of its scores, and how far its columns see. Columns that
/// are none see all, so that nobody masks for their sake; their queries are zeros.
template <int FRAGMENTS>
APUS_DEVICE void write_queries(const cuda_attend_arguments &a, item_slot &slot, uint8_t *queries) {
    constexpr int lanes = 4 * FRAGMENTS, columns = WRITER_THREADS / lanes;
    const prefill_item &item = slot.item;
    const int thread = static_cast<int>(threadIdx.x) - (GROUPS * 128 + 32), dimension = thread % lanes * 4;
    const float factor = a.scale * 1.44269504088896340736f;
    uint8_t *const tile = queries + dimension / 64 * CUDA_SWIZZLED_BYTES;
#pragma unroll 4
    for (int column = thread / lanes; column < ITEM_COLUMNS; column += columns) {
        const column_place own = place_of(a.batch, item, column);
        float4 x = make_float4(0, 0, 0, 0);
        if (own.is_one) {
            const int64_t row = item.first_row + own.row;
            x = *at<const float4>(a.q, (row * a.q_stride + own.head * a.batch.head_dim + dimension) / 4);
        }
        const int place = column / GROUP_COLUMNS * (attention_hopper_query_bytes(16 * FRAGMENTS) / GROUPS)
            + swizzled_place(column % GROUP_COLUMNS, dimension % 64 * 2);
        *reinterpret_cast<uint2 *>(tile + place) =
            make_uint2(pack_bf16(x.x * factor, x.y * factor), pack_bf16(x.z * factor, x.w * factor));
    }
    for (int column = thread; column < ITEM_COLUMNS; column += WRITER_THREADS) {
        const column_place own = place_of(a.batch, item, column);
        int limit = item.context;
        if (own.is_one) limit = min(limit, at<const int32_t>(a.batch.positions)[item.first_row + own.row] + 1);
        slot.limits[column] = limit;
    }
    operand_fence();
}

template <int FRAGMENTS>
APUS_DEVICE void write_items(const cuda_attend_arguments &a, int items, const block_memory &block) {
    ring_place<SLOTS> slot;
    for (int index = static_cast<int>(blockIdx.x); index < items; index += static_cast<int>(gridDim.x)) {
        barrier_wait(block.barriers->found + slot.index, slot.parity, 0, 0, "an item");
        write_queries<FRAGMENTS>(
            a, block.slots[slot.index], block.queries + slot.index * attention_hopper_query_bytes(16 * FRAGMENTS));
        barrier_arrive(block.barriers->asked + slot.index);
        slot.advance();
    }
}

}  // namespace prefill_hopper

#endif
