// Matrices as the tensor cores of compute capability 9.0 read them from shared memory, and a product with them cut into
// items. In C, for the host that packs and launches as well as for the kernels: tests on the host see the same numbers.
//
// A tile is 64 rows of 128 bytes whose 16-byte pieces are exchanged: piece p of row r lies at p ^ (r mod 8). Eight rows
// of one column then lie in different banks, and a copy engine or a packer pays for it once.

#ifndef APUS_TILES_H
#define APUS_TILES_H

#include "matrix_layout.h"

enum {
    /// Of a tile: rows, bytes of a row, bytes.
    CUDA_SWIZZLED_ROWS = CUDA_SWIZZLED_ROW_COUNT,
    CUDA_SWIZZLED_ROW_BYTES = 128,
    CUDA_SWIZZLED_BYTES = CUDA_SWIZZLED_ROWS * CUDA_SWIZZLED_ROW_BYTES,
    /// A row's units are cut into this many runs, each summed on its own; their sums are added in order. Four make 64
    /// rows' worth of work small enough to spread over a device.
    CUDA_HOPPER_SLICES = 4,
    /// The sizes of token tiles: 8, 16, 32, 64, and 128 to 256 by steps of 32.
    CUDA_HOPPER_VARIANTS = 9,
    /// Token tiles that neighbouring blocks share the rows of.
    HOPPER_STRIP = 8,
    /// What a multiprocessor gets of the second-level cache in a cycle, where all of them read (docs/benchmarks/h200.md).
    HOPPER_CACHE_BYTES = 42,
};

// MARK: Tiles

/// Where byte `byte` of row `row` of a tile lies in it.
APUS_LAYOUT int swizzled_place(int row, int byte) {
    return row * CUDA_SWIZZLED_ROW_BYTES + ((byte / 16) ^ (row % 8)) * 16 + byte % 16;
}

/// The descriptor of a tile at an address of shared memory, a multiple of 1024, as `wgmma` takes it: its address in
/// units of 16 bytes (bits 0–13), the distance of neighbours along k, which this swizzle does not use (16–29), the
/// distance of groups of eight rows, 1024 bytes (32–45), and the swizzle, 128 bytes (62–63). Sixteen bf16 further
/// along k is two more: the pieces are exchanged by the bits of the address itself.
APUS_LAYOUT uint64_t swizzled_operand(uint32_t address) {
    return (uint64_t)((address & 0x3FFFF) >> 4) | 1ull << 16 | 64ull << 32 | 1ull << 62;
}

/// The descriptor of an operand that has the numbers of a column of the product, not those of k, side by side: tiles whose
/// rows go along k, 64 columns each and `distance` bytes apart (bits 16–29); groups of eight along k are 1024 bytes apart.
/// Sixteen further along k is 2048 bytes more.
APUS_LAYOUT uint64_t swizzled_columns(uint32_t address, uint32_t distance) {
    return (uint64_t)((address & 0x3FFFF) >> 4) | (uint64_t)(distance >> 4) << 16 | 64ull << 32 | 1ull << 62;
}

/// Columns of 128 bytes of a row: a unit, four products of the instruction's k.
APUS_LAYOUT int hopper_unit_columns(int format) {
    return format == CUDA_WEIGHT_E4M3 ? 2 * CUDA_UNIT_COLUMNS : CUDA_UNIT_COLUMNS;
}

/// Runs of 2^shift units that share the scales of their rows.
APUS_LAYOUT int hopper_groups(int units, int shift) { return (units + (1 << shift) - 1) >> shift; }

// MARK: Variants

APUS_LAYOUT int hopper_tokens(int variant) { return variant < 4 ? 8 << variant : 128 + 32 * (variant - 4); }

/// Warpgroups that multiply, 64 rows each.
APUS_LAYOUT int hopper_consumers(int tokens) { return tokens > 64 ? 2 : 1; }

/// Blocks that work side by side on two row tiles and the same tokens, of which each copies half for both.
APUS_LAYOUT int hopper_together(int tokens) { return tokens > 64 ? 2 : 1; }

/// Rows of one block's tile, and of those of all that work together.
APUS_LAYOUT int hopper_rows(int tokens) { return hopper_consumers(tokens) * CUDA_SWIZZLED_ROWS; }
APUS_LAYOUT int hopper_rows_together(int tokens) { return hopper_together(tokens) * hopper_rows(tokens); }

/// Rows of a copy of activations.
APUS_LAYOUT int hopper_box_rows(int tokens) { return tokens / hopper_together(tokens); }

/// Beside them one warp, or one warpgroup where registers change hands, that copies.
APUS_LAYOUT int hopper_threads(int tokens) { return tokens > 64 ? 3 * 128 : 128 + 32; }

/// Blocks of a multiprocessor: with two, the next kernel's first copies overlap the end of this one.
APUS_LAYOUT int hopper_blocks(int tokens) { return tokens > 64 ? 1 : 2; }

/// Of a thread's tokens / 2 totals, those that lie in shared memory: beside 128 sums, registers have room for 64.
APUS_LAYOUT int hopper_parked(int tokens) { return tokens > 192 ? tokens / 2 - 64 : 0; }
APUS_LAYOUT int hopper_parked_bytes(int tokens) { return hopper_consumers(tokens) * 128 * hopper_parked(tokens) * 4; }

/// A unit of each consumer's weights, and of the activations.
APUS_LAYOUT int hopper_stage_bytes(int tokens) {
    return hopper_consumers(tokens) * CUDA_SWIZZLED_BYTES + tokens * CUDA_SWIZZLED_ROW_BYTES;
}

/// Stages of the ring. A multiprocessor has 228 KB; each block takes one for the system and less than one for barriers.
APUS_LAYOUT int hopper_stages(int tokens) {
    return ((224 / hopper_blocks(tokens)) * 1024 - hopper_parked_bytes(tokens)) / hopper_stage_bytes(tokens);
}

APUS_LAYOUT int hopper_ring_bytes(int tokens) { return hopper_stages(tokens) * hopper_stage_bytes(tokens); }
APUS_LAYOUT int hopper_shared_bytes(int tokens) { return hopper_ring_bytes(tokens) + hopper_parked_bytes(tokens); }

// MARK: Attention (prefill_hopper.cu)

enum {
    ATTENTION_HOPPER_THREADS = 3 * 128,
    /// Columns of each of two warpgroups.
    ATTENTION_HOPPER_COLUMNS = 64,
    /// Pieces of the ring, in turn the keys and the values of a span.
    ATTENTION_HOPPER_PIECES = 5,
};

/// Of a tile of 64 dimensions for each position.
APUS_LAYOUT int attention_hopper_tile_bytes(void) { return (int)CUDA_SPAN_TOKENS * CUDA_SWIZZLED_ROW_BYTES; }
APUS_LAYOUT int attention_hopper_piece_bytes(int head_dim) { return head_dim / 64 * attention_hopper_tile_bytes(); }

/// Both warpgroups' queries, a swizzled tile for each 64 dimensions.
APUS_LAYOUT int attention_hopper_query_bytes(int head_dim) { return 2 * (head_dim / 64) * CUDA_SWIZZLED_BYTES; }

/// The queries of two items, of which one is written while the other is multiplied; then the ring.
APUS_LAYOUT int attention_hopper_shared_bytes(int head_dim) {
    return 2 * attention_hopper_query_bytes(head_dim) + ATTENTION_HOPPER_PIECES * attention_hopper_piece_bytes(head_dim);
}

// MARK: Items

/// The first unit of a slice.
APUS_LAYOUT int hopper_slice_start(int units, int slice) { return units * slice / CUDA_HOPPER_SLICES; }

APUS_LAYOUT int hopper_tiles(int count, int size) { return (count + size - 1) / size; }

/// What works on an item: multiprocessors' blocks, or those that work together.
APUS_LAYOUT int hopper_workers(int tokens, int multiprocessors) {
    int blocks = multiprocessors * hopper_blocks(tokens) / hopper_together(tokens);
    return blocks > 0 ? blocks : 1;
}

/// Tiles of a product, those of blocks that work together being one.
APUS_LAYOUT int hopper_tile_count(int variant_tokens, int rows, int tokens) {
    return hopper_tiles(rows, hopper_rows_together(variant_tokens)) * hopper_tiles(tokens, variant_tokens);
}

/// The most tiles that are split, for memory of their sums; none where totals are parked.
APUS_LAYOUT int hopper_most_split(int tokens, int multiprocessors) {
    if (hopper_parked(tokens) > 0) return 0;
    if (hopper_together(tokens) == 2) return 3 * hopper_workers(tokens, multiprocessors) / CUDA_HOPPER_SLICES;
    return 2 * multiprocessors * (tokens <= 16 ? 3 : 1) - 1;
}

/// Whether the slices of a tile are items of their own, whose sums the last to finish adds up: where there would be too
/// few items to keep a device busy to the end, and the sums are little beside the weights.
APUS_LAYOUT bool hopper_is_split(int tokens, int tiles, int multiprocessors) {
    return tiles <= hopper_most_split(tokens, multiprocessors);
}

/// Bytes of the sums of all slices of a tile.
APUS_LAYOUT int hopper_partial_bytes(int tokens) {
    return CUDA_HOPPER_SLICES * hopper_rows_together(tokens) * tokens * 4;
}

/// Tiles are taken strip by strip of HOPPER_STRIP token tiles, row tile after row tile: what runs at a time is nearly
/// square, and its operands stay in the second-level cache. The tile's row is the result's quotient by `token_tiles`,
/// its tokens the remainder.
APUS_LAYOUT int hopper_tile(int index, int row_tiles, int token_tiles) {
    int strip = index / (HOPPER_STRIP * row_tiles), first = strip * HOPPER_STRIP;
    int width = token_tiles - first < HOPPER_STRIP ? token_tiles - first : HOPPER_STRIP;
    int inside = index - first * row_tiles;
    return inside / width * token_tiles + first + inside % width;
}

// MARK: Choice of a width

/// Cycles of a multiprocessor for a unit of a tile of more than 64 tokens: the most of tensor cores' (4,096 operations a
/// cycle, 2 · 128 · 64 a token), shared memory's (128 bytes: both operands of each instruction, and what copies write)
/// and the second-level cache's (42 bytes: own weights, and half of the activations). For 128, 192 and 256 tokens 640,
/// 832 and 1,024, of which tensor cores take 512, 768 and 1,024.
APUS_LAYOUT int hopper_unit_cycles(int tokens) {
    int products = 4 * tokens;
    int operands = 4 * hopper_consumers(tokens) * (64 * 32 + tokens * 32);
    int memory = (operands + hopper_stage_bytes(tokens)) / 128;
    int cache = (hopper_rows(tokens) + hopper_box_rows(tokens)) * CUDA_SWIZZLED_ROW_BYTES / HOPPER_CACHE_BYTES;
    int most = products > memory ? products : memory;
    return most > cache ? most : cache;
}

/// Cycles that a product takes in tiles of so many tokens, more than 64: rounds of items, and what the last leaves
/// behind, f32 sums through the second-level cache: its own, and where slices are added those of all four.
APUS_LAYOUT int64_t hopper_cycles(int variant_tokens, int rows, int units, int tokens, int multiprocessors) {
    const int tiles = hopper_tile_count(variant_tokens, rows, tokens);
    const bool is_split = hopper_is_split(variant_tokens, tiles, multiprocessors);
    const int items = is_split ? tiles * CUDA_HOPPER_SLICES : tiles;
    const int64_t rounds = hopper_tiles(items, hopper_workers(variant_tokens, multiprocessors));
    const int64_t item_units = is_split ? hopper_tiles(units, CUDA_HOPPER_SLICES) : units;
    const int64_t end = hopper_rows(variant_tokens) * variant_tokens * 4 / HOPPER_CACHE_BYTES;
    return rounds * (item_units * hopper_unit_cycles(variant_tokens) + (is_split ? end : 0))
        + (is_split ? CUDA_HOPPER_SLICES + 1 : 1) * end;
}

/// The variant of a product. Up to 64 tokens take the smallest tile that holds them; more the one that is done first.
/// No bit depends on it.
APUS_LAYOUT int hopper_variant(int format, int rows, int columns, int tokens, int multiprocessors) {
    for (int variant = 0; variant < 4; variant++) {
        if (tokens <= hopper_tokens(variant)) return variant;
    }
    // 8-bit floats have a set of sums more, for which wider tiles leave no registers.
    const int last = format == CUDA_WEIGHT_E4M3 ? 4 : CUDA_HOPPER_VARIANTS - 1;
    const int units = hopper_tiles(columns, hopper_unit_columns(format));
    int best = 4;
    int64_t least = hopper_cycles(hopper_tokens(4), rows, units, tokens, multiprocessors);
    for (int variant = 5; variant <= last; variant++) {
        const int64_t cycles = hopper_cycles(hopper_tokens(variant), rows, units, tokens, multiprocessors);
        if (cycles <= least) best = variant, least = cycles;
    }
    return best;
}

#endif
