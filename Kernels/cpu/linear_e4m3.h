// Math:    sums of 8-bit floats (E4M3) with an f32 scale for each 32 columns: Σ d · Σ e4m3 · x, activations unrounded.
//          Even and odd columns are summed apart, so that one token does not wait for every addition.
// Shapes:  row groups × tokens, as linear_tile.h's other tiles
// Launch:  included by linear_tile.h once for every instruction set
// Bound:   one token: bytes of W. Many: f32 multiply-adds.
// Checked: LinearTests (f64 reference; bitwise over batches, threads and layouts), FormatTests
// Source:  layout: each row's scale, then column by column a byte of every row. Micikevicius et al., FP8 Formats (2022).

#define load_e4m3 NAME(load_e4m3)
#define tile_e4m3 NAME(tile_e4m3)

/// One column, times 2⁻⁸: the bits of an E4M3 number, moved up by 7, are those of an f16 with another bias. Its sign is
/// widened with it, so that a copy is where the f16's is.
INLINE rows_f32 load_e4m3(const uint8_t *w) {
#if ISA_ROWS == 8
    typedef int8_t s8x8 VECTOR(int8_t, 8);
    typedef int16_t s16x8 VECTOR(int16_t, 8);
    u16x8 bits = (u16x8)__builtin_convertvector(*(const s8x8 *)w, s16x8) << 7 & 0xBF80;
#else
    u16x16 bits = (u16x16)__builtin_convertvector(*(const s8x16 *)w, s16x16) << 7 & 0xBF80;
#endif
    return load_rows_f16((const uint8_t *)&bits);
}

/// Sums of `groups` row groups × `token_count` tokens.
INLINE void tile_e4m3(
    const uint8_t *w, int64_t group_bytes, int64_t blocks, const float *x, int64_t x_stride, int groups,
    int token_count, rows_f32 sums[MAX_TILE_SUMS]) {
    UNROLL for (int i = 0; i < groups * token_count; i++) sums[i] = (rows_f32)0.0f;
    for (int64_t b = 0; b < blocks; b++, w += 36 * ISA_ROWS, x += 32) {
        rows_f32 parts[2][MAX_TILE_SUMS];
        UNROLL for (int i = 0; i < groups * token_count; i++) parts[0][i] = parts[1][i] = (rows_f32)0.0f;
        for (int k = 0; k < 32; k += 2) {
            UNROLL for (int odd = 0; odd < 2; odd++) {
                rows_f32 column[MAX_TILE_GROUPS];
                UNROLL for (int g = 0; g < groups; g++) {
                    column[g] = load_e4m3(w + g * group_bytes + (4 + k + odd) * ISA_ROWS);
                }
                UNROLL for (int t = 0; t < token_count; t++) {
                    rows_f32 value = (rows_f32)x[t * x_stride + k + odd];
                    UNROLL for (int g = 0; g < groups; g++) {
                        const int index = g * token_count + t;
                        parts[odd][index] = fma_rows(column[g], value, parts[odd][index]);
                    }
                }
            }
        }
        UNROLL for (int g = 0; g < groups; g++) {
            rows_f32 scale = *(const rows_f32 *)(w + g * group_bytes) * 256.0f;
            UNROLL for (int t = 0; t < token_count; t++) {
                const int index = g * token_count + t;
                sums[index] = fma_rows(parts[0][index] + parts[1][index], scale, sums[index]);
            }
        }
    }
}
