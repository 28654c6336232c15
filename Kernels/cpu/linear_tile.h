// The tiles of linear layers: sums of two row groups × 1, 2, 4 or 8 tokens in every format; included by linear.c once for
// each instruction set. Private.
//
// Weights are unpacked once for all tokens of a tile. A block of 32 columns is summed in integers, then scaled and added in
// f32, whatever the tile's size: so a row's bits do not depend on who is multiplied with it.

#define store_rows NAME(store_rows)
#define prefetch_next NAME(prefetch_next)
#define prefetch_early NAME(prefetch_early)
#define prefetch_first NAME(prefetch_first)
#define start_dots NAME(start_dots)
#define tile_q4 NAME(tile_q4)
#define tile_q8 NAME(tile_q8)
#define tile_float NAME(tile_float)
#define run_tile NAME(run_tile)
#define load_columns NAME(load_columns)

/// Writes the sums of one row group for one token; `count` rows of it exist.
INLINE void store_rows(float *output, rows_f32 sums, int64_t count, bool accumulate) {
    if (count >= ISA_ROWS) {
        if (accumulate) sums += *(const rows_f32 *)output;
        *(rows_f32 *)output = sums;
        return;
    }
    float values[ISA_ROWS];
    *(rows_f32 *)values = sums;
    for (int64_t i = 0; i < count; i++) output[i] = accumulate ? output[i] + values[i] : values[i];
}

/// Asks for the same block of the next tile's row groups: by the time they are wanted, memory has delivered them. The
/// tiles that pass over the same weights share the blocks among them.
INLINE void prefetch_next(
    const uint8_t *w, int groups, int64_t group_bytes, int64_t block_bytes, int64_t block, prefetch_turn turn) {
    if ((((uint32_t)block ^ turn.number) & turn.mask) != 0) return;
    UNROLL for (int g = 0; g < groups; g++) {
        UNROLL for (int64_t at = 0; at < block_bytes; at += 64) {
            __builtin_prefetch(w + (groups + g) * group_bytes + at, 0, 3);
        }
    }
}

/// The same for a tile that no other follows: it needs each block once, so the block EARLY_BLOCKS further on is soon
/// enough, and what is asked for leaves the first cache to the activations, however long a row is.
INLINE void prefetch_early(const uint8_t *w, int64_t block_bytes) {
    UNROLL for (int64_t at = 0; at < block_bytes; at += 64) {
        __builtin_prefetch(w + EARLY_BLOCKS * block_bytes + at, 0, 3);
    }
}

/// Asks for what no tile before could: each segment's first blocks.
INLINE void prefetch_first(const cpu_weight *weight) {
    for (int64_t i = 0; i < weight->segment_count; i++) {
        const cpu_segment *segment = &weight->segments[i];
        int64_t bytes = group_bytes(segment->format, ISA_ROWS, 32 * EARLY_BLOCKS);
        for (int64_t at = 0; at < bytes; at += 64) __builtin_prefetch(segment->data + at, 0, 3);
    }
}

/// What a block's integer sums begin with: the weights' offset times the activations, where it fits into the lanes.
INLINE void start_dots(
    rows_dot *dots, const block_scale *scales, int64_t blocks, int offset, int groups, int token_count) {
    UNROLL for (int g = 0; g < groups; g++) {
        UNROLL for (int t = 0; t < token_count; t++) {
            int32_t start = ISA_DOT == DOT_PAIRS || offset == 0 ? 0 : -offset * scales[t * blocks].sum;
            dots[g * token_count + t] = (rows_dot)(start);
        }
    }
}

/// Sums of `groups` row groups of a 4-bit format × `token_count` tokens.
INLINE void tile_q4(
    const uint8_t *w, int64_t group_bytes, int64_t blocks, bool has_minimum, const quantized_rows *x, int64_t token,
    prefetch_turn turn, int groups, int token_count, rows_f32 sums[MAX_TILE_SUMS]) {
    const int64_t block_bytes = (has_minimum ? 20 : 18) * ISA_ROWS;
    const int64_t header = (has_minimum ? 4 : 2) * ISA_ROWS;
    // Whether the offset is subtracted at last: 16 bits do not hold it, or there is no register for it beforehand.
    const bool is_late = ISA_DOT == DOT_PAIRS || token_count == 8;
    UNROLL for (int i = 0; i < groups * token_count; i++) sums[i] = (rows_f32)0.0f;
    const int8_t *q = x->values + token * x->columns;
    const block_scale *scales = x->scales + token * blocks;
    for (int64_t b = 0; b < blocks; b++, w += block_bytes, q += 32, scales++) {
        rows_dot dots[MAX_TILE_SUMS];
        start_dots(dots, scales, blocks, is_late || has_minimum ? 0 : 8, groups, token_count);
        // The tile of 8 tokens without minima has no registers left for it.
        if (token_count == 4 || (token_count > 4 && has_minimum)) fetch_ahead(x->fetch);
        if (token_count == 8) prefetch_early(w, block_bytes);
        else prefetch_next(w, groups, group_bytes, block_bytes, b, turn);
        UNROLL for (int i = 0; i < 4; i++) {
            rows_u8 low[MAX_TILE_GROUPS], high[MAX_TILE_GROUPS];
            UNROLL for (int g = 0; g < groups; g++) {
                rows_u8 both = *(const rows_u8 *)(w + g * group_bytes + header + i * 4 * ISA_ROWS);
                low[g] = both & 15;
                high[g] = (rows_u8)((rows_dot)both >> 4) & 15;
            }
            UNROLL for (int t = 0; t < token_count; t++) {
                rows_dot x_low = splat_word(q + t * x->columns + 4 * i);
                rows_dot x_high = splat_word(q + t * x->columns + 16 + 4 * i);
                UNROLL for (int g = 0; g < groups; g++) {
                    rows_dot dot = dots[g * token_count + t];
                    dots[g * token_count + t] = dot_step(dot_step(dot, low[g], x_low), high[g], x_high);
                }
            }
        }
        UNROLL for (int g = 0; g < groups; g++) {
            rows_f32 scale = load_rows_f16(w + g * group_bytes);
            rows_f32 minimum = has_minimum ? load_rows_f16(w + g * group_bytes + 2 * ISA_ROWS) : (rows_f32)0.0f;
            UNROLL for (int t = 0; t < token_count; t++) {
                block_scale s = scales[t * blocks];
                rows_f32 sum = sums[g * token_count + t];
#if ISA_DOT == DOT_PAIRS
                rows_s32 dot = dot_finish(dots[g * token_count + t], 1);
#else
                rows_s32 dot = dots[g * token_count + t];
#endif
                if (!has_minimum && is_late) dot -= s.sum * 8;
                sum = fma_rows(__builtin_convertvector(dot, rows_f32), scale * s.scale, sum);
                if (has_minimum) sum = fma_rows(minimum, (rows_f32)s.scaled_sum, sum);
                sums[g * token_count + t] = sum;
            }
        }
    }
}

/// Sums of `groups` row groups of Q8_0 × `token_count` tokens. Where sums are 16-bit pairs, the bytes are taken as
/// two planes of 4 bits, each of which cannot overflow.
INLINE void tile_q8(
    const uint8_t *w, int64_t group_bytes, int64_t blocks, const quantized_rows *x, int64_t token,
    prefetch_turn turn, int groups, int token_count, rows_f32 sums[MAX_TILE_SUMS]) {
    const int64_t block_bytes = 34 * ISA_ROWS;
    const bool is_late = ISA_DOT == DOT_PAIRS || token_count == 8;
    UNROLL for (int i = 0; i < groups * token_count; i++) sums[i] = (rows_f32)0.0f;
    const int8_t *q = x->values + token * x->columns;
    const block_scale *scales = x->scales + token * blocks;
    for (int64_t b = 0; b < blocks; b++, w += block_bytes, q += 32, scales++) {
        rows_dot dots[MAX_TILE_SUMS];
        start_dots(dots, scales, blocks, is_late ? 0 : 128, groups, token_count);
#if ISA_DOT == DOT_PAIRS
        rows_dot high_dots[MAX_TILE_SUMS];
        UNROLL for (int i = 0; i < groups * token_count; i++) high_dots[i] = (rows_dot)0;
#endif
        if (token_count == 4) fetch_ahead(x->fetch);
        if (token_count == 8) prefetch_early(w, block_bytes);
        else prefetch_next(w, groups, group_bytes, block_bytes, b, turn);
        UNROLL for (int i = 0; i < 8; i++) {
            UNROLL for (int g = 0; g < groups; g++) {
                rows_u8 bytes = *(const rows_u8 *)(w + g * group_bytes + 2 * ISA_ROWS + i * 4 * ISA_ROWS);
#if ISA_DOT == DOT_PAIRS
                rows_u8 low = bytes & 15, high = (rows_u8)((rows_dot)bytes >> 4) & 15;
#endif
                UNROLL for (int t = 0; t < token_count; t++) {
                    rows_dot x_word = splat_word(q + t * x->columns + 4 * i);
#if ISA_DOT == DOT_PAIRS
                    dots[g * token_count + t] = dot_step(dots[g * token_count + t], low, x_word);
                    high_dots[g * token_count + t] = dot_step(high_dots[g * token_count + t], high, x_word);
#else
                    dots[g * token_count + t] = dot_step(dots[g * token_count + t], bytes, x_word);
#endif
                }
            }
        }
        UNROLL for (int g = 0; g < groups; g++) {
            rows_f32 scale = load_rows_f16(w + g * group_bytes);
            UNROLL for (int t = 0; t < token_count; t++) {
                block_scale s = scales[t * blocks];
#if ISA_DOT == DOT_PAIRS
                rows_s32 dot = dot_finish(dots[g * token_count + t], 1);
                dot += dot_finish(high_dots[g * token_count + t], 16);
#else
                rows_s32 dot = dots[g * token_count + t];
#endif
                if (is_late) dot -= s.sum * 128;
                sums[g * token_count + t] =
                    fma_rows(__builtin_convertvector(dot, rows_f32), scale * s.scale, sums[g * token_count + t]);
            }
        }
    }
}

/// Column `k` of a float row group.
INLINE rows_f32 load_columns(const uint8_t *w, int32_t format, int64_t k) {
    if (format == CPU_WEIGHT_F32) return *(const rows_f32 *)(w + k * 4 * ISA_ROWS);
    if (format == CPU_WEIGHT_F16) return load_rows_f16(w + k * 2 * ISA_ROWS);
#if ISA_ROWS == 8
    u32x8 bits = __builtin_convertvector(*(const u16x8 *)(w + k * 2 * ISA_ROWS), u32x8);
    return (f32x8)(bits << 16);
#else
    return widen_bf16(*(const u16x16 *)(w + k * 2 * ISA_ROWS));
#endif
}

/// Sums of `groups` row groups of a float format × `token_count` tokens.
INLINE void tile_float(
    const uint8_t *w, int64_t group_bytes, int64_t columns, int32_t format, const float *x, int64_t x_stride,
    int groups, int token_count, rows_f32 sums[MAX_TILE_SUMS]) {
    UNROLL for (int i = 0; i < groups * token_count; i++) sums[i] = (rows_f32)0.0f;
    for (int64_t k = 0; k < columns; k++) {
        rows_f32 column[MAX_TILE_GROUPS];
        UNROLL for (int g = 0; g < groups; g++) column[g] = load_columns(w + g * group_bytes, format, k);
        UNROLL for (int t = 0; t < token_count; t++) {
            rows_f32 value = (rows_f32)x[t * x_stride + k];
            UNROLL for (int g = 0; g < groups; g++) {
                sums[g * token_count + t] = fma_rows(column[g], value, sums[g * token_count + t]);
            }
        }
    }
}

#include "linear_e4m3.h"
#include "linear_planes.h"

/// One tile, two row groups × `token_count` tokens (a constant, as `format` is): sums and writes them.
INLINE void run_tile(
    const linear_arguments *a, const quantized_rows *x, const cpu_segment *segment, int64_t group, int64_t token,
    prefetch_turn turn, int32_t format, int token_count) {
    rows_f32 sums[2 * MAX_TILE_SUMS];
    int64_t columns = a->weight->columns, blocks = columns / 32, bytes = group_bytes(format, ISA_ROWS, columns);
    const uint8_t *w = segment->data + group * bytes;
    // Row groups that are multiplied together. One token: memory delivers one stream faster than two. Eight, and what
    // needs two or more registers for a sum in pairs of 16 bits: there are none for a second group.
    const bool is_float = format <= CPU_WEIGHT_BF16 || (format == CPU_WEIGHT_E4M3 && ISA_ROWS == 16);
    const bool is_wide =
        ISA_DOT == DOT_PAIRS && (format == CPU_WEIGHT_Q8_0 || format == CPU_WEIGHT_E4M3 || has_planes(format));
    const int groups = is_float || (token_count > 1 && token_count < 8 && !is_wide) ? 2 : 1;
    UNROLL for (int g = 0; g < 2; g += groups, w += groups * bytes) {
        rows_f32 *sums_g = sums + g * token_count;
        if (format == CPU_WEIGHT_Q4_0 || format == CPU_WEIGHT_Q4_1) {
            tile_q4(w, bytes, blocks, format == CPU_WEIGHT_Q4_1, x, token, turn, groups, token_count, sums_g);
        } else if (format == CPU_WEIGHT_Q8_0) {
            tile_q8(w, bytes, blocks, x, token, turn, groups, token_count, sums_g);
        } else if (has_planes(format)) {
            tile_planes(w, bytes, blocks, format, x, token, turn, groups, token_count, sums_g);
        } else if (format == CPU_WEIGHT_E4M3) {
            const float *row = a->x + token * a->x_stride;
            tile_e4m3(w, bytes, blocks, row, a->x_stride, groups, token_count, sums_g);
        } else {
            const float *row = a->x + token * a->x_stride;
            tile_float(w, bytes, columns, format, row, a->x_stride, groups, token_count, sums_g);
        }
    }
    UNROLL for (int t = 0; t < token_count; t++) {
        float *output = a->output + (token + t) * a->output_stride + segment->first_row + group * ISA_ROWS;
        UNROLL for (int g = 0; g < 2; g++) {
            int64_t rows = segment->rows - (group + g) * ISA_ROWS;
            store_rows(output + g * ISA_ROWS, sums[g * token_count + t], rows, a->accumulate);
        }
    }
}

// Every tile is a function of its own: in one large function the compiler runs out of registers.
#define TILE(name, format, tokens) \
    static NOINLINE void NAME(name)( \
        const linear_arguments *a, const quantized_rows *x, const cpu_segment *segment, int64_t group, \
        int64_t token, prefetch_turn turn) { \
        run_tile(a, x, segment, group, token, turn, format, tokens); \
    }
#define TILES(name, format) TILE(name##_1, format, 1) TILE(name##_2, format, 2) TILE(name##_4, format, 4)
TILES(tile_f32, CPU_WEIGHT_F32)
TILES(tile_f16, CPU_WEIGHT_F16)
TILES(tile_bf16, CPU_WEIGHT_BF16)
TILES(tile_q8_0, CPU_WEIGHT_Q8_0)
TILES(tile_q4_0, CPU_WEIGHT_Q4_0)
TILES(tile_q4_1, CPU_WEIGHT_Q4_1)
TILES(tile_q5_0, CPU_WEIGHT_Q5_0)
TILES(tile_q5_1, CPU_WEIGHT_Q5_1)
TILES(tile_q2_k, CPU_WEIGHT_Q2_K)
TILES(tile_q4_k, CPU_WEIGHT_Q4_K)
TILES(tile_q5_k, CPU_WEIGHT_Q5_K)
TILES(tile_q6_k, CPU_WEIGHT_Q6_K)
TILES(tile_iq4_xs, CPU_WEIGHT_IQ4_XS)
TILES(tile_mxfp4, CPU_WEIGHT_MXFP4)
TILES(tile_int4, CPU_WEIGHT_INT4)
TILES(tile_int8, CPU_WEIGHT_INT8)
TILES(tile_e4m3, CPU_WEIGHT_E4M3)
#define TILES_OF(name) { NAME(name##_1), NAME(name##_2), NAME(name##_4) }
#if ISA_NATIVE && ISA_DOT == DOT_QUADS
TILE(tile_q8_0_8, CPU_WEIGHT_Q8_0, 8)
TILE(tile_q4_0_8, CPU_WEIGHT_Q4_0, 8)
TILE(tile_q4_1_8, CPU_WEIGHT_Q4_1, 8)
#define TILES_TO_8_OF(name) { NAME(name##_1), NAME(name##_2), NAME(name##_4), NAME(name##_8) }
#else
#define TILES_TO_8_OF TILES_OF
#endif

/// The tiles of 1, 2, 4 and, where there are registers for it, 8 tokens of each format, by CPU_WEIGHT_*.
static void (*const NAME(tiles)[][4])(
    const linear_arguments *, const quantized_rows *, const cpu_segment *, int64_t, int64_t, prefetch_turn) = {
    TILES_OF(tile_f32), TILES_OF(tile_f16), TILES_OF(tile_bf16),
    TILES_TO_8_OF(tile_q8_0), TILES_TO_8_OF(tile_q4_0), TILES_TO_8_OF(tile_q4_1),
    TILES_OF(tile_q5_0), TILES_OF(tile_q5_1), TILES_OF(tile_q2_k), TILES_OF(tile_q4_k), TILES_OF(tile_q5_k),
    TILES_OF(tile_q6_k), TILES_OF(tile_iq4_xs), TILES_OF(tile_mxfp4), TILES_OF(tile_int4), TILES_OF(tile_int8),
    TILES_OF(tile_e4m3),
};

#undef TILE
#undef TILES
#undef TILES_OF
#undef TILES_TO_8_OF
