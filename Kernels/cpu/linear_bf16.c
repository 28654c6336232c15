// Math:    output[t][r] (+)= Σ_k W[r][k] · bf16(x[t][k]), W bf16, f32 sums: pair after pair of columns, one chain.
// Shapes:  as linear.c, columns a multiple of 32
// Launch:  tiles of row groups × tokens, by linear.c's threads; a row's chain does not depend on the tile.
// Bound:   one token: bytes of W. Many: bf16 dot products, twice the rate of f32 multiply-adds.
// Checked: LinearTests (f64 reference on rounded activations; bitwise over batches and threads), spills.py
// Source:  Intel's AVX512-BF16: a product of pairs flushes subnormal numbers and rounds after each of its two additions
//
// Layout of a row group: columns 2i and 2i + 1 of every row, one after the other: a row's pair is a 32-bit lane. Only the
// instruction set that multiplies such pairs packs them; others keep bf16 as linear.c's float groups.

#include "linear.h"

#if defined(__x86_64__)

#pragma clang attribute push( \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,avx2,fma,f16c"))), \
    apply_to = function)

#define DOT_PAIRS 1
#define DOT_QUADS 2
#define ISA avx512_bf16
#define ISA_ROWS 16
#define ISA_DOT DOT_QUADS
#define ISA_FMA 1
#define ISA_NATIVE 1
#define ISA_BF16 1
#include "vectors.h"

/// Rows of a group, and bytes of 32 columns of it.
enum { GROUP = 16, BLOCK_BYTES = 32 * GROUP * 2 };

void round_rows_bf16(const float *x, int64_t x_stride, int64_t begin, int64_t end, int64_t columns, uint16_t *rounded) {
    for (int64_t t = begin; t < end; t++) {
        for (int64_t k = 0; k < columns; k += 16) {
            f32x16 values = *(const f32x16 *)(x + t * x_stride + k);
            *(u16x16 *)(rounded + t * columns + k) = (u16x16)_mm512_cvtneps_pbh((__m512)values);
        }
    }
}

/// Sums of `groups` row groups × `token_count` tokens (both constants). `ahead` is how far on in memory what is wanted
/// next lies; 0 asks for nothing new.
INLINE void tile_bf16(
    const uint8_t *w, int64_t group_bytes, int64_t columns, const uint16_t *x, int64_t ahead, fetch_list *fetch,
    int groups, int token_count, f32x16 *sums) {
    UNROLL for (int i = 0; i < groups * token_count; i++) sums[i] = 0.0f;
    for (int64_t k = 0; k < columns; k += 32, w += BLOCK_BYTES, x += 32) {
        if (token_count >= 4) fetch_ahead(fetch);
        UNROLL for (int i = 0; i < 16; i++) {
            u32x16 pairs[2];
            UNROLL for (int g = 0; g < groups; g++) {
                const uint8_t *source = w + g * group_bytes + 64 * i;
                pairs[g] = *(const u32x16 *)source;
                __builtin_prefetch(source + ahead, 0, 2);
            }
            UNROLL for (int t = 0; t < token_count; t++) {
                uint32_t pair;
                memcpy(&pair, x + t * columns + 2 * i, sizeof pair);
                UNROLL for (int g = 0; g < groups; g++) {
                    f32x16 *sum = &sums[g * token_count + t];
                    *sum = (f32x16)_mm512_dpbf16_ps((__m512)*sum, (__m512bh)pairs[g], (__m512bh)(u32x16)pair);
                }
            }
        }
    }
}

/// Writes the sums of a row group for one token; `count` rows of it exist.
INLINE void store_sums(float *output, f32x16 sums, int64_t count, bool accumulate) {
    const __mmask16 rows = count >= GROUP ? 0xFFFF : count > 0 ? (__mmask16)((1u << count) - 1) : 0;
    if (accumulate) sums += (f32x16)_mm512_maskz_loadu_ps(rows, output);
    _mm512_mask_storeu_ps(output, rows, (__m512)sums);
}

/// What a tile multiplies and writes: two row groups from `group` on × tokens from `token` on.
INLINE void run_tile(
    const linear_arguments *a, const cpu_segment *segment, int64_t group, int64_t token, const uint16_t *x,
    fetch_list *fetch, int token_count) {
    const int64_t columns = a->weight->columns, bytes = columns * GROUP * 2;
    // One token: memory delivers one stream faster than two. Later tiles find the next weights asked for.
    const int groups = token_count == 1 ? 1 : 2;
    const int64_t ahead = token == 0 ? groups * bytes : 0;
    f32x16 sums[2 * 8];
    UNROLL for (int g = 0; g < 2; g += groups) {
        const uint8_t *w = segment->data + (group + g) * bytes;
        tile_bf16(w, bytes, columns, x + token * columns, ahead, fetch, groups, token_count, sums + g * token_count);
    }
    UNROLL for (int t = 0; t < token_count; t++) {
        float *output = a->output + (token + t) * a->output_stride + segment->first_row + group * GROUP;
        UNROLL for (int g = 0; g < 2; g++) {
            int64_t rows = segment->rows - (group + g) * GROUP;
            store_sums(output + g * GROUP, sums[g * token_count + t], rows, a->accumulate);
        }
    }
}

// Every tile is a function of its own, so that each has all registers.
#define TILE(tokens) \
    static NOINLINE void tile_bf16_##tokens##_avx512_bf16( \
        const linear_arguments *a, const cpu_segment *segment, int64_t group, int64_t token, const uint16_t *x, \
        fetch_list *fetch) { \
        run_tile(a, segment, group, token, x, fetch, tokens); \
    }
TILE(1)
TILE(2)
TILE(4)
TILE(8)

void multiply_bf16(
    const linear_arguments *a, const cpu_segment *segment, int64_t pair, int64_t count, const uint16_t *x,
    fetch_list *fetch) {
    for (int64_t group = 2 * pair; group < 2 * (pair + count); group += 2) {
        for (int64_t token = 0, size; token < a->tokens; token += size) {
            int64_t left = a->tokens - token;
            size = left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
            if (size == 8) tile_bf16_8_avx512_bf16(a, segment, group, token, x, fetch);
            else if (size == 4) tile_bf16_4_avx512_bf16(a, segment, group, token, x, fetch);
            else if (size == 2) tile_bf16_2_avx512_bf16(a, segment, group, token, x, fetch);
            else tile_bf16_1_avx512_bf16(a, segment, group, token, x, fetch);
        }
    }
}

#pragma clang attribute pop

#else

// Nothing is packed in pairs here.
void round_rows_bf16(const float *x, int64_t x_stride, int64_t begin, int64_t end, int64_t columns, uint16_t *rounded) {
    (void)x, (void)x_stride, (void)begin, (void)end, (void)columns, (void)rounded;
}

void multiply_bf16(
    const linear_arguments *a, const cpu_segment *segment, int64_t pair, int64_t count, const uint16_t *x,
    fetch_list *fetch) {
    (void)a, (void)segment, (void)pair, (void)count, (void)x, (void)fetch;
}

#endif
