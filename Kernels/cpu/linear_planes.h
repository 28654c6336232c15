// Math:    sums of the formats whose codes lie in planes: Σ d_w · d_x · Σ (code − offset) · q_x [+ m_w · d_x · Σ q_x],
//          block by block; a format with two scales in a block takes each half as a block.
// Shapes:  row groups × tokens, as linear_tile.h's other tiles
// Launch:  included by linear_tile.h once for every instruction set; `format` is a constant in every tile
// Bound:   one token: bytes of W. Many: 8-bit multiply-adds, and for each block of 32 a conversion and 2–3 products.
// Checked: LinearTests (f64 reference; bitwise over batches, threads and layouts), FormatTests
// Source:  layout in planes.h

#define code_words NAME(code_words)
#define sum_codes NAME(sum_codes)
#define sum_part NAME(sum_part)
#define load_rows_u8 NAME(load_rows_u8)
#define load_rows_scale NAME(load_rows_scale)
#define tile_planes NAME(tile_planes)
#define planes_operands NAME(planes_operands)

/// What every part of a tile reads.
typedef struct {
    plane_layout layout;
    int64_t group_bytes;
    int64_t blocks;
    int64_t columns;
    int groups;
    int token_count;
} planes_operands;

/// One byte of every row as integers.
INLINE rows_s32 load_rows_u8(const uint8_t *source, bool is_signed) {
#if ISA_ROWS == 8
    typedef uint8_t u8x8 VECTOR(uint8_t, 8);
    typedef int8_t s8x8 VECTOR(int8_t, 8);
    if (is_signed) return __builtin_convertvector(*(const s8x8 *)source, s32x8);
    return __builtin_convertvector(*(const u8x8 *)source, s32x8);
#else
    typedef uint8_t u8x16 VECTOR(uint8_t, 16);
    if (is_signed) return __builtin_convertvector(*(const s8x16 *)source, s32x16);
    return __builtin_convertvector(*(const u8x16 *)source, s32x16);
#endif
}

/// The scale of every row that blocks share.
INLINE rows_f32 load_rows_scale(const uint8_t *source, scale_type type) {
    if (type == SCALE_F32) return *(const rows_f32 *)source;
    if (type == SCALE_F16) return load_rows_f16(source);
#if ISA_ROWS == 8
    return (f32x8)(__builtin_convertvector(*(const u16x8 *)source, u32x8) << 16);
#else
    return widen_bf16(*(const u16x16 *)source);
#endif
}

/// Codes of columns 16 · half + 4i … + 3 of every row, below 8 bits; `w` is where the block's codes start.
INLINE rows_u8 code_words(const uint8_t *w, int bits, int half, int i) {
    rows_u8 nibbles = *(const rows_u8 *)(w + i * 4 * ISA_ROWS);
    if (half == 1) nibbles = (rows_u8)((rows_dot)nibbles >> 4);
    nibbles &= 15;
    if (bits == 5) {
        rows_dot fifth = *(const rows_dot *)(w + 16 * ISA_ROWS);
        nibbles |= (rows_u8)(half == 0 ? fifth << (4 - i) : fifth >> i) & 0x10;
    }
    if (bits == 6) {
        rows_dot upper = *(const rows_dot *)(w + (16 + 4 * half) * ISA_ROWS);
        nibbles |= (rows_u8)(i < 2 ? upper << (4 - 2 * i) : upper >> (2 * i - 4)) & 0x30;
    }
    return nibbles;
}

/// Σ code · q_x over the columns of steps [first, last) of 4, for every group and token; offsets are in `start`.
INLINE void sum_codes(
    const planes_operands *o, const uint8_t *w, const int8_t *q, int first, int last, const int32_t *start,
    rows_s32 *dots) {
    const int bits = o->layout.bits, groups = o->groups, token_count = o->token_count;
#if ISA_DOT == DOT_PAIRS
    // Steps whose 16-bit sums cannot overflow; codes of 8 bits go as two planes of 4, eight steps each.
    const int safe = bits == 6 ? 2 : bits == 5 ? 4 : 8, steps = safe < last - first ? safe : last - first;
    UNROLL for (int plane = 0; plane < (bits == 8 ? 2 : 1); plane++) {
        rows_dot pairs[MAX_TILE_SUMS];
        UNROLL for (int step = first; step < last; step++) {
            UNROLL for (int g = 0; g < groups; g++) {
                rows_u8 codes;
                if (bits == 8) {
                    rows_dot bytes = *(const rows_dot *)(w + g * o->group_bytes + step * 4 * ISA_ROWS);
                    codes = (rows_u8)(plane == 0 ? bytes : bytes >> 4) & 15;
                } else {
                    codes = code_words(w + g * o->group_bytes, bits, step / 4, step % 4);
                }
                UNROLL for (int t = 0; t < token_count; t++) {
                    const int index = g * token_count + t;
                    if ((step - first) % steps == 0) pairs[index] = (rows_dot)0;
                    pairs[index] = dot_step(pairs[index], codes, splat_word(q + t * o->columns + 4 * step));
                    if ((step - first) % steps != steps - 1) continue;
                    rows_s32 sum = dot_finish(pairs[index], plane == 0 ? 1 : 16);
                    dots[index] = step - first < steps && plane == 0 ? sum + start[t] : dots[index] + sum;
                }
            }
        }
    }
#else
    UNROLL for (int i = 0; i < groups * token_count; i++) dots[i] = (rows_s32)(start[i % token_count]);
    UNROLL for (int step = first; step < last; step++) {
        UNROLL for (int g = 0; g < groups; g++) {
            const uint8_t *base = w + g * o->group_bytes;
            rows_u8 codes = bits == 8 ? *(const rows_u8 *)(base + step * 4 * ISA_ROWS)
                                      : code_words(base, bits, step / 4, step % 4);
            UNROLL for (int t = 0; t < token_count; t++) {
                const int index = g * token_count + t;
                dots[index] = dot_step(dots[index], codes, splat_word(q + t * o->columns + 4 * step));
            }
        }
    }
#endif
}

/// Adds one part of a block, the columns that have one scale. `shared` are the scales and minima that blocks share.
INLINE void sum_part(
    const planes_operands *o, const uint8_t *w, int part, const rows_f32 shared[2][MAX_TILE_GROUPS], const int8_t *q,
    const block_scale *scales, rows_f32 *sums) {
    const plane_layout layout = o->layout;
    const int groups = o->groups, token_count = o->token_count, length = 8 / layout.parts;
    int32_t inputs[MAX_TILE_SUMS], start[MAX_TILE_SUMS];
    rows_s32 dots[MAX_TILE_SUMS];
    UNROLL for (int t = 0; t < token_count; t++) {
        block_scale s = scales[t * o->blocks];
        inputs[t] = layout.parts == 1 ? s.sum : part == 0 ? s.low_sum : s.sum - s.low_sum;
        start[t] = -layout.offset * inputs[t];
    }
    sum_codes(o, w + plane_scale_bytes(layout) * ISA_ROWS, q, part * length, (part + 1) * length, start, dots);
    UNROLL for (int g = 0; g < groups; g++) {
        const uint8_t *bytes = w + g * o->group_bytes;
        rows_f32 scale = shared[0][g], minimum = shared[1][g];
        if (layout.blocks > 1) {
            rows_s32 own = load_rows_u8(bytes + part * ISA_ROWS, layout.has_signed_scales);
            scale *= __builtin_convertvector(own, rows_f32);
        }
        if (layout.blocks > 1 && layout.has_minimum) {
            rows_s32 own = load_rows_u8(bytes + (layout.parts + part) * ISA_ROWS, false);
            minimum = -(minimum * __builtin_convertvector(own, rows_f32));
        }
        rows_s32 zero = (rows_s32)0;
        if (layout.has_zero) zero = load_rows_u8(bytes, false);
        UNROLL for (int t = 0; t < token_count; t++) {
            block_scale s = scales[t * o->blocks];
            rows_s32 dot = dots[g * token_count + t];
            if (layout.has_zero) dot -= zero * inputs[t];
            rows_f32 sum = sums[g * token_count + t];
            sum = fma_rows(__builtin_convertvector(dot, rows_f32), scale * s.scale, sum);
            if (layout.has_minimum) sum = fma_rows(minimum, (rows_f32)(s.scale * (float)inputs[t]), sum);
            sums[g * token_count + t] = sum;
        }
    }
}

/// Sums of `groups` row groups of a format in planes × `token_count` tokens.
INLINE void tile_planes(
    const uint8_t *w, int64_t group_bytes, int64_t blocks, int32_t format, const quantized_rows *x, int64_t token,
    prefetch_turn turn, int groups, int token_count, rows_f32 sums[MAX_TILE_SUMS]) {
    const plane_layout layout = plane_layout_of(format);
    const planes_operands o = { layout, group_bytes, blocks, x->columns, groups, token_count };
    const int64_t header = plane_header_bytes(layout) * ISA_ROWS, block_bytes = plane_block_bytes(layout) * ISA_ROWS;
    UNROLL for (int i = 0; i < groups * token_count; i++) sums[i] = (rows_f32)0.0f;
    const int8_t *q = x->values + token * x->columns;
    const block_scale *scales = x->scales + token * blocks;
    for (int64_t first = 0; first < blocks; first += layout.blocks) {
        rows_f32 shared[2][MAX_TILE_GROUPS];
        prefetch_next(w, groups, group_bytes, header, first, turn);
        UNROLL for (int g = 0; g < groups; g++) {
            const uint8_t *bytes = w + g * group_bytes;
            shared[0][g] = load_rows_scale(bytes, layout.scale);
            shared[1][g] = layout.has_minimum ? load_rows_f16(bytes + 2 * ISA_ROWS) : (rows_f32)0.0f;
        }
        w += header;
        for (int i = 0; i < layout.blocks; i++, w += block_bytes, q += 32, scales++) {
            if (token_count >= 4) fetch_ahead(x->fetch);
            prefetch_next(w, groups, group_bytes, block_bytes, first + i, turn);
            sum_part(&o, w, 0, shared, q, scales, sums);
            if (layout.parts == 2) sum_part(&o, w, 1, shared, q, scales, sums);
        }
    }
}
