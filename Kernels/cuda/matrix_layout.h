// Sizes of packed weight matrices (include/weights.h describes the layout) and of the products with them: what the kernels
// and the host that packs weights and launches must agree on. C and C++.

#ifndef APUS_MATRIX_LAYOUT_H
#define APUS_MATRIX_LAYOUT_H

#include "include/CUDAKernels.h"

#ifdef __cplusplus
#ifdef __CUDACC__
#define APUS_LAYOUT __host__ __device__ constexpr
#else
#define APUS_LAYOUT constexpr
#endif
#else
#define APUS_LAYOUT static inline
#endif

APUS_LAYOUT bool is_quantized(int format) { return format >= CUDA_WEIGHT_Q8_0; }

/// Whether a lane's eight weights of a step lie in four bytes of nibbles.
APUS_LAYOUT bool has_nibbles(int format) {
    return is_quantized(format) && format != CUDA_WEIGHT_Q8_0 && format != CUDA_WEIGHT_INT8 &&
        format != CUDA_WEIGHT_E4M3;
}

/// Whether a weight is a product plus a minimum.
APUS_LAYOUT bool has_minimum(int format) {
    return format == CUDA_WEIGHT_Q4_1 || format == CUDA_WEIGHT_Q4_K || format == CUDA_WEIGHT_Q5_K;
}

/// Bytes of a unit of a tile: 16 rows × 64 columns.
APUS_LAYOUT int unit_bytes(int format) {
    if (!is_quantized(format)) return format == CUDA_WEIGHT_F32 ? 4096 : 2048;
    if (!has_nibbles(format)) return 1024;
    return format == CUDA_WEIGHT_Q6_K ? 768 : format == CUDA_WEIGHT_Q5_K ? 640 : 512;
}

/// Bytes of a unit's own scales.
APUS_LAYOUT int unit_scale_bytes(int format) {
    if (!is_quantized(format) || (format >= CUDA_WEIGHT_INT4 && format != CUDA_WEIGHT_MXFP4)) return 0;
    return format == CUDA_WEIGHT_Q4_1 ? 128 : format == CUDA_WEIGHT_MXFP4 ? 32 : 64;
}

/// Bytes of what several units may share.
APUS_LAYOUT int group_bytes(int format) {
    switch (format) {
    case CUDA_WEIGHT_Q4_K:
    case CUDA_WEIGHT_Q5_K: return 64;
    case CUDA_WEIGHT_Q6_K: return 32;
    case CUDA_WEIGHT_INT4:
    case CUDA_WEIGHT_E4M3: return 128;
    case CUDA_WEIGHT_INT8: return 192;
    default: return 0;
    }
}

/// Bytes of a unit in a stage: weights, scales, and its group.
APUS_LAYOUT int unit_stage_bytes(int format) {
    return unit_bytes(format) + unit_scale_bytes(format) + group_bytes(format);
}

/// The row that lies `packed`-th in a matrix whose pairs are `apart` (cuda_matrix.pairs).
APUS_LAYOUT int paired_row(int apart, int packed) {
    const int inside = packed % 16, second = inside / 8;
    if (apart == 0) return packed;
    if (apart == 1) return packed - inside + packed % 8 * 2 + second;
    return packed / (2 * apart) * (2 * apart) + packed % (2 * apart) / 16 * 8 + packed % 8 + second * apart;
}

// MARK: Products (linear.cu)

enum {
    LINEAR_THREADS = 256,
    LINEAR_WARPS = 8,
    /// Of the one block of the large kernel: what compute capability 8.0 has, less the system's.
    LINEAR_LARGE_SHARED = 160 * 1024,
    /// The most that a block may have on devices with less (8.6, 8.9, 12.0): there, rings have fewer stages.
    LINEAR_SMALL_SHARED = 99 * 1024,
    LINEAR_LARGE_TOKENS = 128,
    LINEAR_LARGE_TILES = 8,
};

/// Whether warps that multiply the same activations with weights that have minima share the work of summing them.
APUS_LAYOUT bool linear_shares_sums(int format, int tokens) { return has_minimum(format) && tokens > 8; }

/// Bytes of 64 columns of bf16 activations, and after them those of their two sums in f32, if shared.
APUS_LAYOUT int linear_activation_bytes(int tokens) { return tokens * CUDA_UNIT_COLUMNS * 2; }
APUS_LAYOUT int linear_sum_bytes(int format, int tokens) { return linear_shares_sums(format, tokens) ? tokens * 8 : 0; }

/// Tiles of rows of a block of the kernel for up to `tokens` (8, 16, 32, 64): the more tokens, the more warps share.
APUS_LAYOUT int linear_row_tiles(int tokens) { return tokens <= 8 ? 1 : tokens <= 16 ? 2 : 4; }

/// Slices of K that a block sums at a time: a warp for each slice of each tile.
APUS_LAYOUT int linear_slices_at_once(int tokens) { return LINEAR_WARPS / linear_row_tiles(tokens); }

/// Bytes of a stage: a unit of weights for each warp, and the activations of each slice's unit.
APUS_LAYOUT int linear_stage_bytes(int format, int tokens) {
    return LINEAR_WARPS * unit_stage_bytes(format) +
        linear_slices_at_once(tokens) * (linear_activation_bytes(tokens) + linear_sum_bytes(format, tokens));
}

/// Bytes of the sums that all slices but a round's first hand over.
APUS_LAYOUT int linear_partial_bytes(int tokens) {
    return (linear_slices_at_once(tokens) - 1) * linear_row_tiles(tokens) * CUDA_TILE_ROWS * tokens * 4;
}

APUS_LAYOUT int linear_stages_that_fit(int bytes, int stage_bytes, int most) {
    return bytes / stage_bytes < most ? bytes / stage_bytes : most;
}

/// Blocks of a multiprocessor. Quantized weights leave room for more, and their arithmetic wants the warps.
APUS_LAYOUT int linear_blocks(int format, int tokens) {
    return !is_quantized(format) || tokens > 8 ? 2 : group_bytes(format) == 0 ? 4 : 3;
}

/// Stages of the ring of the kernel for up to `tokens`.
APUS_LAYOUT int linear_stages(int format, int tokens, bool is_small) {
    // A multiprocessor of compute capability 9.0 has 228 KB, of which each block takes one for the system.
    const int blocks = linear_blocks(format, tokens), most = (blocks == 4 ? 56 : blocks == 3 ? 75 : 113) * 1024;
    const int bytes = is_small && most > LINEAR_SMALL_SHARED ? LINEAR_SMALL_SHARED : most;
    return linear_stages_that_fit(bytes - linear_partial_bytes(tokens), linear_stage_bytes(format, tokens), 8);
}

APUS_LAYOUT int linear_shared_bytes(int format, int tokens, bool is_small) {
    return linear_stages(format, tokens, is_small) * linear_stage_bytes(format, tokens) + linear_partial_bytes(tokens);
}

/// Whether a device whose blocks may have `shared_limit` bytes takes the small ring.
APUS_LAYOUT bool linear_is_small(int format, int tokens, int shared_limit) {
    return linear_shared_bytes(format, tokens, false) > shared_limit;
}

/// A stage is filled while another is used, and the next one summed.
APUS_LAYOUT int linear_least_stages(int format, int tokens) { return 2 + linear_shares_sums(format, tokens); }

/// Whether the kernel for up to `tokens` knows a small ring. It does not where two stages of f32 are too much, and where
/// the ring's size, a constant no more, would take a register that minima do not leave: the large kernel does the same.
APUS_LAYOUT bool linear_has_small(int format, int tokens) {
    return tokens < 64 || (format != CUDA_WEIGHT_F32 && !has_minimum(format));
}

APUS_LAYOUT int linear_large_stage_bytes(int format) {
    return LINEAR_LARGE_TILES * unit_stage_bytes(format) +
        linear_activation_bytes(LINEAR_LARGE_TOKENS) + linear_sum_bytes(format, LINEAR_LARGE_TOKENS);
}

APUS_LAYOUT int linear_large_stages(int format, bool is_small) {
    const int bytes = is_small ? LINEAR_SMALL_SHARED : LINEAR_LARGE_SHARED;
    return linear_stages_that_fit(bytes, linear_large_stage_bytes(format), 4);
}

APUS_LAYOUT int linear_large_shared_bytes(int format, bool is_small) {
    return linear_large_stages(format, is_small) * linear_large_stage_bytes(format);
}

APUS_LAYOUT bool linear_large_is_small(int format, int shared_limit) {
    return linear_large_shared_bytes(format, false) > shared_limit;
}

#endif
