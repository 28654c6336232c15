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
    /// rows' worth of work small enough to spread over a device, and their sums fit the registers beside one another.
    CUDA_HOPPER_SLICES = 4,
    /// The sizes of token tiles: 8, 16, 32, 64, 128, 192.
    CUDA_HOPPER_VARIANTS = 6,
    /// Token tiles that neighbouring blocks share the rows of.
    HOPPER_STRIP = 8,
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

APUS_LAYOUT int hopper_tokens(int variant) { return variant < 5 ? 8 << variant : 192; }

/// Warpgroups that multiply, 64 rows each.
APUS_LAYOUT int hopper_consumers(int tokens) { return tokens > 64 ? 2 : 1; }

/// Beside them one warp, or one warpgroup where registers change hands, that copies.
APUS_LAYOUT int hopper_threads(int tokens) { return tokens > 64 ? 3 * 128 : 128 + 32; }

/// Blocks of a multiprocessor: with two, the next kernel's first copies overlap the end of this one.
APUS_LAYOUT int hopper_blocks(int tokens) { return tokens > 64 ? 1 : 2; }

/// A unit of each consumer's weights, and of the activations.
APUS_LAYOUT int hopper_stage_bytes(int tokens) {
    return hopper_consumers(tokens) * CUDA_SWIZZLED_BYTES + tokens * CUDA_SWIZZLED_ROW_BYTES;
}

/// Stages of the ring. A multiprocessor has 228 KB; each block takes one for the system and less than one for barriers.
APUS_LAYOUT int hopper_stages(int tokens) { return (224 / hopper_blocks(tokens)) * 1024 / hopper_stage_bytes(tokens); }

APUS_LAYOUT int hopper_shared_bytes(int tokens) { return hopper_stages(tokens) * hopper_stage_bytes(tokens); }

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

/// Whether the slices of a tile are items of their own, whose sums the last to finish adds up: where there would be too
/// few items to keep a device busy to the end, and the sums are little beside the weights.
APUS_LAYOUT bool hopper_is_split(int tokens, int tiles, int multiprocessors) {
    if (hopper_consumers(tokens) == 2) return 4 * tiles <= 3 * multiprocessors;
    return tiles < 2 * multiprocessors * (tokens <= 16 ? 3 : 1);
}

/// The most tiles that are split, for memory of their sums.
APUS_LAYOUT int hopper_most_split(int tokens, int multiprocessors) {
    if (hopper_consumers(tokens) == 2) return 3 * multiprocessors / 4;
    return 2 * multiprocessors * (tokens <= 16 ? 3 : 1) - 1;
}

/// Bytes of the sums of all slices of a tile.
APUS_LAYOUT int hopper_partial_bytes(int tokens) {
    return CUDA_HOPPER_SLICES * hopper_consumers(tokens) * CUDA_SWIZZLED_ROWS * tokens * 4;
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

#endif
