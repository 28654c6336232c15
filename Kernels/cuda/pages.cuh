// Where things lie in a layer's key/value cache, and in the plan of a step's attention. In C, for the host as well as
// the kernels: whoever writes keys, reads them or sizes memory asks here.
//
// A cache is cut into groups of 16 tokens of one block and one head. A group holds head_dim / 16 fragments of 512
// bytes, each the A operand of one mma.m16n8k16 as the 32 lanes of a warp hold it, 16 bytes after 16 bytes: a product's
// operand is one load that a warp makes of adjacent memory, and no lane has to pass on what it has read. Codes of 8 bits
// have the same places: a load of 16 bytes is then a lane's share of two fragments, and the tokens' scales come behind.
//
// Where compute capability 9.0 multiplies, a group is head_dim / 64 panels instead: 16 tokens by 64 dimensions, rows of 128
// bytes swizzled as in tiles.h. Copied one below the other they are operands of wgmma, keys with their dimensions along k,
// values with their tokens; and a lane still reads from them what mma.m16n8k16 wants of it, in whole sectors.

#ifndef APUS_PAGES_CUH
#define APUS_PAGES_CUH

#include "include/CUDAKernels.h"
#include "tiles.h"

#ifdef __CUDACC__
#define APUS_INDEX __host__ __device__ __forceinline__ constexpr
#elif defined(__cplusplus)
#define APUS_INDEX constexpr
#else
#define APUS_INDEX static inline
#endif

enum {
    CUDA_GROUP_TOKENS = 16,
    /// Elements of a fragment, and of a lane's share of it.
    CUDA_FRAGMENT_ELEMENTS = 256,
    CUDA_LANE_ELEMENTS = 8,
    /// Of a panel: dimensions, a row of 128 bytes; elements; the fragments that it is in products.
    CUDA_PANEL_DIMENSIONS = 64,
    CUDA_PANEL_ELEMENTS = CUDA_GROUP_TOKENS * CUDA_PANEL_DIMENSIONS,
    CUDA_PANEL_FRAGMENTS = CUDA_PANEL_DIMENSIONS / 16,
};

// MARK: Cache

/// The group of a token of a block.
APUS_INDEX int32_t cuda_kv_group(int32_t block, int32_t offset, int32_t head, int32_t kv_heads, int32_t block_size) {
    return (block * kv_heads + head) * (block_size / CUDA_GROUP_TOKENS) + offset / CUDA_GROUP_TOKENS;
}

/// Whether groups are of codes of 8 bits, with scales.
APUS_INDEX bool cuda_kv_has_codes(int32_t type) { return type == CUDA_KV_E4M3 || type == CUDA_KV_INT8; }

/// The element of a dimension of a token within a group of panels, keys and values alike.
APUS_INDEX int32_t cuda_panel_element(int32_t token, int32_t dimension) {
    return dimension / CUDA_PANEL_DIMENSIONS * CUDA_PANEL_ELEMENTS
        + swizzled_place(token, dimension % CUDA_PANEL_DIMENSIONS * 2) / 2;
}

/// The element of a key's dimension within its group of fragments. Rows of the operand are tokens; lane 4g + t holds tokens g and
/// g + 8 and the dimensions 4t…4t + 3 of a fragment's 16, the first two as the low half of k. So a lane's share of a
/// query is four adjacent elements a fragment.
APUS_INDEX int32_t cuda_key_element(int32_t token, int32_t dimension) {
    int32_t lane = token % 8 * 4 + dimension % 16 / 4, half = dimension % 4 / 2;
    return dimension / 16 * CUDA_FRAGMENT_ELEMENTS + lane * CUDA_LANE_ELEMENTS + half * 4 + token / 8 * 2
        + dimension % 2;
}

/// The element of a value's dimension within its group of fragments. Rows of the operand are dimensions: lane 4g + t holds 2g and
/// 2g + 1 of a fragment's 16 (rows g and g + 8) and the tokens 2t, 2t + 1, 2t + 8 and 2t + 9. So the lane that holds a
/// column of the product holds pairs of adjacent dimensions.
APUS_INDEX int32_t cuda_value_element(int32_t token, int32_t dimension) {
    int32_t lane = dimension % 16 / 2 * 4 + token % 8 / 2, half = token / 8;
    return dimension / 16 * CUDA_FRAGMENT_ELEMENTS + lane * CUDA_LANE_ELEMENTS + half * 4 + dimension % 2 * 2
        + token % 2;
}

/// The element of a dimension of a token within its group, whichever order that has.
APUS_INDEX int32_t cuda_kv_element(int32_t type, bool is_value, int32_t token, int32_t dimension) {
    if (type == CUDA_KV_PANELS) return cuda_panel_element(token, dimension);
    return is_value ? cuda_value_element(token, dimension) : cuda_key_element(token, dimension);
}

/// Bytes of a group: of its elements, and of the f32 scales of its 16 tokens behind codes of 8 bits.
APUS_INDEX int32_t cuda_kv_element_bytes(int32_t type, int32_t head_dim) {
    return CUDA_GROUP_TOKENS * head_dim * (cuda_kv_has_codes(type) ? 1 : 2);
}
APUS_INDEX int32_t cuda_kv_scale_bytes(int32_t type) { return cuda_kv_has_codes(type) ? CUDA_GROUP_TOKENS * 4 : 0; }
APUS_INDEX int32_t cuda_kv_group_bytes(int32_t type, int32_t head_dim) {
    return cuda_kv_element_bytes(type, head_dim) + cuda_kv_scale_bytes(type);
}

/// Where an element of a group of codes lies: a lane has 16 bytes of two fragments, 8 of one that comes alone at the end.
APUS_INDEX int32_t cuda_kv_code_place(int32_t element, int32_t head_dim) {
    int32_t fragment = element / CUDA_FRAGMENT_ELEMENTS, lane = element % CUDA_FRAGMENT_ELEMENTS / CUDA_LANE_ELEMENTS;
    int32_t is_alone = fragment % 2 == 0 && fragment + 1 == head_dim / 16;
    int32_t share = is_alone ? lane * CUDA_LANE_ELEMENTS : (2 * lane + fragment % 2) * CUDA_LANE_ELEMENTS;
    return fragment / 2 * 2 * CUDA_FRAGMENT_ELEMENTS + share + element % CUDA_LANE_ELEMENTS;
}

// MARK: Plan

/// A plan is four arrays of i32, one after the other, for `sequence_count` sequences:
///   units  [sequences + 1]  prefix sums of each sequence's decode units: a span, or all spans of a sequence that has
///                           no room for partial results, of all its heads
///   tiles  [sequences + 1]  prefix sums of each sequence's prefill tiles of `cuda_prefill_columns` columns, times runs
///                           of CUDA_RUN_SPANS spans if the sequence has slots
///   folds  [sequences + 1]  prefix sums of the query rows whose spans are partial results
///   slots  [sequences]      the first partial result of a sequence that has room, or one of these:
enum {
    /// The sequence has one span or none, or is folded in registers: no partial results.
    CUDA_SLOT_NONE = -1,
    /// A decode sequence's partial results found no room: a warp folds one span after the other, in the slot of the
    /// sequence's own index.
    CUDA_SLOT_OWN = -2,
};

APUS_INDEX int64_t cuda_plan_tiles(int64_t sequence_count) { return sequence_count + 1; }
APUS_INDEX int64_t cuda_plan_folds(int64_t sequence_count) { return 2 * (sequence_count + 1); }
APUS_INDEX int64_t cuda_plan_slots(int64_t sequence_count) { return 3 * (sequence_count + 1); }

enum {
    /// Spans of a run, when a prefill tile's context is cut; contexts are cut from two runs on, and only when the tiles
    /// of a sequence are so few that they would leave most of a device idle.
    CUDA_RUN_SPANS = 4,
    CUDA_MAX_CUT_TILES = 32,
};

/// Spans of so many positions.
APUS_INDEX int32_t cuda_spans(int32_t tokens) { return (tokens + CUDA_SPAN_TOKENS - 1) / CUDA_SPAN_TOKENS; }

/// Columns, (query row, head of the group) pairs, of a prefill tile: eight warps' 16, or 8 where the head is large.
APUS_INDEX int32_t cuda_prefill_columns(int32_t head_dim) { return head_dim > 128 ? 64 : 128; }

/// Tiles of 8 columns that the heads of a group make in decode.
APUS_INDEX int32_t cuda_decode_tiles(int32_t heads, int32_t kv_heads) { return (heads / kv_heads + 7) / 8; }

#endif
