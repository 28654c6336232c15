// Math:    a weight is scale · (code − offset) [+ minimum], exactly as its checkpoint says; codes have 4, 5, 6 or 8 bits.
// Shapes:  rows of [columns] in blocks of 32; one or eight blocks share a 16- or 32-bit scale.
// Launch:  n/a; what packing (planes.c) and the tiles (linear_planes.h) agree on. Private.
// Bound:   n/a
// Checked: LinearTests, FormatTests
// Source:  GGUF block formats (ggml-common.h); OCP Microscaling Formats v1.0
//
// Layout of a row group (R rows), one shared scale's blocks after another:
//   the shared scale of every row, then its f16 minimum; then for each of its blocks of 32 columns
//     with 8-bit scales: one of every row, for 32 or twice for 16 columns, then as many 8-bit minima; or one zero
//     4 low bits of the codes as in linear.c's Q4: 16 bytes of each row, 4 at a time
//     5 bits: one word of each row; bit i of byte j belongs to column 4i + j, bit 4 + i to column 16 + 4i + j
//     6 bits: a word for columns 0…15 and one for 16…31; bits 2i and 2i + 1 of byte j belong to column 4i + j
//   8 bits: 32 bytes of each row, 4 at a time, instead of low bits.

#ifndef PLANES_H
#define PLANES_H

#include "kernels.h"

/// How a scale that blocks share is stored.
typedef enum { SCALE_F16, SCALE_BF16, SCALE_F32 } scale_type;

/// What differs between formats; a constant wherever the format is one.
typedef struct {
    /// Bits of a code, and what is subtracted from it.
    int bits;
    int offset;
    /// Blocks of 32 columns that share a scale; if there are several, each has 8-bit scales of its own.
    int blocks;
    /// 8-bit scales of a block: each is for 32 / parts columns.
    int parts;
    bool has_signed_scales;
    bool has_minimum;
    /// Whether each block has an 8-bit code that stands for zero, instead of `offset`.
    bool has_zero;
    scale_type scale;
} plane_layout;

static inline __attribute__((always_inline)) plane_layout plane_layout_of(int32_t format) {
    switch (format) {
    case CPU_WEIGHT_Q5_0: return (plane_layout){ 5, 16, 1, 1, false, false, false, SCALE_F16 };
    case CPU_WEIGHT_Q5_1: return (plane_layout){ 5, 0, 1, 1, false, true, false, SCALE_F16 };
    case CPU_WEIGHT_Q2_K: return (plane_layout){ 4, 0, 8, 2, false, true, false, SCALE_F16 };
    case CPU_WEIGHT_Q4_K: return (plane_layout){ 4, 0, 8, 1, false, true, false, SCALE_F16 };
    case CPU_WEIGHT_Q5_K: return (plane_layout){ 5, 0, 8, 1, false, true, false, SCALE_F16 };
    case CPU_WEIGHT_Q6_K: return (plane_layout){ 6, 32, 8, 2, true, false, false, SCALE_F16 };
    case CPU_WEIGHT_IQ4_XS: return (plane_layout){ 8, 128, 8, 1, true, false, false, SCALE_F16 };
    case CPU_WEIGHT_MXFP4: return (plane_layout){ 5, 12, 1, 1, false, false, false, SCALE_BF16 };
    case CPU_WEIGHT_INT4: return (plane_layout){ 4, 0, 1, 1, false, false, true, SCALE_F32 };
    default: return (plane_layout){ 8, 0, 1, 1, false, false, true, SCALE_F32 };
    }
}

static inline bool has_planes(int32_t format) {
    return format >= CPU_WEIGHT_Q5_0 && format <= CPU_WEIGHT_INT8;
}

/// Bytes of each row that come before the blocks which share them.
static inline __attribute__((always_inline)) int plane_header_bytes(plane_layout layout) {
    return (layout.scale == SCALE_F32 ? 4 : 2) + (layout.has_minimum ? 2 : 0);
}

/// Bytes of each row between the start of a block and its codes.
static inline __attribute__((always_inline)) int plane_scale_bytes(plane_layout layout) {
    int scales = layout.blocks > 1 ? layout.parts * (layout.has_minimum ? 2 : 1) : 0;
    return scales + (layout.has_zero ? 1 : 0);
}

/// Bytes of each row in one block of 32.
static inline __attribute__((always_inline)) int plane_block_bytes(plane_layout layout) {
    return plane_scale_bytes(layout) + 4 * layout.bits;
}

/// Bytes of `columns` columns of one row.
static inline int64_t plane_row_bytes(int32_t format, int64_t columns) {
    plane_layout layout = plane_layout_of(format);
    int64_t shared = columns / (32 * layout.blocks);
    return shared * (plane_header_bytes(layout) + layout.blocks * plane_block_bytes(layout));
}

/// Whether `format` is one of a checkpoint's that `stored_row_bytes` and what follows know.
bool is_stored_in_planes(int32_t format);
/// Bytes of a row as the checkpoint has it.
int64_t stored_row_bytes(int32_t format, int64_t columns);
/// Moves a row of a checkpoint to lane `lane` of a group of `packed` format.
void pack_planes(
    const uint8_t *row, int32_t stored, int32_t packed, int64_t columns, uint8_t *target, int64_t group, int64_t lane);
/// A row of a checkpoint as floats, `stride` apart.
void decode_stored(const uint8_t *row, int32_t stored, int64_t columns, float *output, int64_t stride);
/// Lane `lane` of a packed group as floats.
void decode_planes(
    const uint8_t *base, int32_t packed, int64_t columns, int64_t group, int64_t lane, float *output);

#endif
