// Attention over keys and values in 8 bits; included by attention.c once for each instruction set. Private.
//
// All products are of integers, so they are exact and the same on every instruction set. A query becomes 14 bits of its
// own scale, 128 · high + low, and a row's weights, each times its value's scale, become 16 bits of their largest,
// 256 · high + low: two products of bytes in place of one of bf16, and what is lost is what the cache's rounding loses.

#include "attention_rounding.h"

#define dot_quads NAME(dot_quads)
#define splat_quad NAME(splat_quad)
#define pack_query_int8 NAME(pack_query_int8)
#define find_scales NAME(find_scales)
#define score_bytes NAME(score_bytes)
#define exponentiate_int8 NAME(exponentiate_int8)
#define weigh_bytes NAME(weigh_bytes)
#define score_chunk_int8 NAME(score_chunk_int8)
#define weigh_chunk_int8 NAME(weigh_chunk_int8)

/// Query rows multiplied together, each with two sums, and vectors of positions or elements.
#define BYTE_ROWS 3
#if ISA_NATIVE && ISA_ROWS == 16
#define BYTES_WIDE 4
#else
#define BYTES_WIDE 1
#endif

/// Adds four products, of an unsigned and a signed byte each, to every lane.
INLINE s32x16 dot_quads(s32x16 sums, u32x16 u, s32x16 s) {
#if ISA_NATIVE && ISA_ROWS == 16
    return (s32x16)_mm512_dpbusd_epi32((__m512i)sums, (__m512i)u, (__m512i)s);
#else
#if ISA_NATIVE
    // Sums of pairs of bytes would not fit into 16 bits; those of pairs of words fit into 32.
    u32x16 even_u = u & 0x00FF00FF, odd_u = u >> 8 & 0x00FF00FF;
    __m256i low = (__m256i)s.lo, high = (__m256i)s.hi;
    s32x8 a = (s32x8)_mm256_madd_epi16((__m256i)even_u.lo, _mm256_srai_epi16(_mm256_slli_epi16(low, 8), 8));
    s32x8 b = (s32x8)_mm256_madd_epi16((__m256i)even_u.hi, _mm256_srai_epi16(_mm256_slli_epi16(high, 8), 8));
    a += (s32x8)_mm256_madd_epi16((__m256i)odd_u.lo, _mm256_srai_epi16(low, 8));
    b += (s32x8)_mm256_madd_epi16((__m256i)odd_u.hi, _mm256_srai_epi16(high, 8));
    sums.lo += a;
    sums.hi += b;
    return sums;
#else
    sums += (s32x16)(u & 0xFF) * (s << 24 >> 24) + (s32x16)(u >> 8 & 0xFF) * (s << 16 >> 24);
    return sums + (s32x16)(u >> 16 & 0xFF) * (s << 8 >> 24) + (s32x16)(u >> 24) * (s >> 24);
#endif
#endif
}

/// The four bytes at `source` in every lane.
INLINE s32x16 splat_quad(const uint8_t *source) {
    int32_t quad;
    memcpy(&quad, source, sizeof quad);
    return (s32x16)quad;
}

/// Writes a query's high bytes [head_dim], its low bytes [head_dim] and what sums of either begin with, because keys
/// have 128 added; returns what integer scores are multiplied by, beside the key's scale.
static NOINLINE float pack_query_int8(const float *query, int64_t head_dim, float scale, float *target) {
    int8_t *high = (int8_t *)target, *low = high + head_dim;
    const float largest = largest_size(query, head_dim);
    const float most = 127 * 128 + 63, factor = largest >= 1e-30f ? most / largest : 0;
    s32x8 high_sums = 0, low_sums = 0;
    for (int64_t d = 0; d < head_dim; d += 8) {
        f32x8 rounded = *(const f32x8 *)(query + d) * factor + 12582912.0f;
        s32x8 whole = (s32x8)rounded - 0x4B400000, upper = (whole + 64) >> 7, lower = whole - upper * 128;
        *(s8x8 *)(high + d) = __builtin_convertvector(upper, s8x8);
        *(s8x8 *)(low + d) = __builtin_convertvector(lower, s8x8);
        high_sums += upper;
        low_sums += lower;
    }
    int32_t starts[2] = { 0, 0 };
    for (int i = 0; i < 8; i++) {
        starts[0] -= 128 * high_sums[i];
        starts[1] -= 128 * low_sums[i];
    }
    memcpy(low + head_dim, starts, sizeof starts);
    return largest / most * scale * 1.44269504088896341f;
}

/// Copies the scales of a chunk's keys and values, up to `positions`, to the workspace.
INLINE void find_scales(
    const cpu_kv_layer *layer, const int32_t *table, int64_t kv_head, int64_t first, int least, int positions,
    const workspace *w) {
    int64_t block_size = layer->block_size, head_bytes = cpu_kv_head_bytes(CPU_KV_INT8, block_size, layer->head_dim);
    for (int p = least / 8 * 8; p < positions; p += 8) {
        int64_t at = first + p, block = table[at / block_size] * layer->kv_heads + kv_head;
        int64_t offset = block * head_bytes + layer->head_dim * block_size + at % block_size * 4;
        *(f32x8 *)(w->key_scales + p) = *(const f32x8 *)((const uint8_t *)layer->keys + offset);
        *(f32x8 *)(w->value_scales + p) = *(const f32x8 *)((const uint8_t *)layer->values + offset);
    }
}

/// Scores of `rows` query rows against `vectors` × 16 positions (both constants); see `score_tile`.
INLINE void score_bytes(
    const uint8_t *const *keys, const uint8_t *const *ahead, int64_t stride, int64_t head_dim, const float *queries,
    const float *factors, const float *key_scales, float *scores, int rows, int vectors) {
    s32x16 high[BYTE_ROWS * BYTES_WIDE], low[BYTE_ROWS * BYTES_WIDE];
    UNROLL for (int r = 0; r < rows; r++) {
        int32_t starts[2];
        memcpy(starts, (const uint8_t *)(queries + r * head_dim) + 2 * head_dim, sizeof starts);
        UNROLL for (int v = 0; v < vectors; v++) {
            high[r * vectors + v] = (s32x16)starts[0];
            low[r * vectors + v] = (s32x16)starts[1];
        }
    }
    const uint8_t *x = (const uint8_t *)queries;
    for (int64_t d = 0; d < head_dim / 4; d++, x += 4) {
        u32x16 cached[BYTES_WIDE];
        UNROLL for (int v = 0; v < vectors; v++) {
            cached[v] = *(const u32x16 *)(keys[v] + d * stride);
            __builtin_prefetch(ahead[v] + d * 64, 0, 3);
        }
        UNROLL for (int r = 0; r < rows; r++) {
            s32x16 x_high = splat_quad(x + r * head_dim * 4), x_low = splat_quad(x + r * head_dim * 4 + head_dim);
            UNROLL for (int v = 0; v < vectors; v++) {
                high[r * vectors + v] = dot_quads(high[r * vectors + v], cached[v], x_high);
                low[r * vectors + v] = dot_quads(low[r * vectors + v], cached[v], x_low);
            }
        }
    }
    UNROLL for (int r = 0; r < rows; r++) {
        UNROLL for (int v = 0; v < vectors; v++) {
            f32x16 sum = __builtin_convertvector(high[r * vectors + v] * 128 + low[r * vectors + v], f32x16);
            *(f32x16 *)(scores + r * CHUNK + v * 16) = sum * factors[r] * *(const f32x16 *)(key_scales + v * 16);
        }
    }
}

/// Replaces the scores of the positions from `start` to `limit` by their weights 2^(score − maximum), each times its
/// value's scale, as 16 bits of the largest: high bytes [CHUNK], then low bytes [CHUNK]; all others are 0.
INLINE void exponentiate_int8(
    float *scores, int start, int limit, const float *scales, float *maximum, float *sum, float *factor) {
    typedef uint8_t u8x16 VECTOR(uint8_t, 16);
    const s32x16 lanes = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 };
    const f32x16 lowest = -__builtin_inff();
    f32x16 weights[CHUNK / 16], highest = lowest, sums = 0.0f, most = 0.0f;
    for (int p = start / 16 * 16; p < limit; p += 16) {
        f32x16 score = *(const f32x16 *)(scores + p);
        score = lanes + p < limit ? score : lowest;
        score = lanes + p < start ? lowest : score;
        highest = score > highest ? score : highest;
        weights[p / 16] = score;
    }
    float largest = max16(highest);
    for (int p = start / 16 * 16; p < limit; p += 16) {
        f32x16 weight = exp2_16(weights[p / 16] - largest, ISA_BF16);
        sums += weight;
        // What is not seen may have any scale.
        f32x16 scaled = weight * *(const f32x16 *)(scales + p);
        scaled = lanes + p < limit ? scaled : (f32x16)0.0f;
        scaled = lanes + p < start ? (f32x16)0.0f : scaled;
        // Adds 0, or NaN where a value's scale is not finite, so that it shows.
        sums += scaled * 0.0f;
        most = scaled > most ? scaled : most;
        weights[p / 16] = scaled;
    }
    float top = max16(most), whole = top >= 1e-30f ? 65535.0f / top : 0.0f;
    uint8_t *high = (uint8_t *)scores, *low = high + CHUNK;
    for (int p = 0; p < CHUNK; p += 16) {
        s32x16 weight = 0;
        if (p + 16 > start && p < limit) weight = __builtin_convertvector(weights[p / 16] * whole + 0.5f, s32x16);
        *(u8x16 *)(high + p) = __builtin_convertvector(weight >> 8, u8x16);
        *(u8x16 *)(low + p) = __builtin_convertvector(weight & 255, u8x16);
    }
    *maximum = largest;
    *sum = sum16(sums);
    *factor = top / 65535.0f;
}

/// values[r] = Σ over the quads of positions from `first` to `end` of weight × value; see `weigh_tile`. Half a vector is
/// computed whole: behind the last values lie the scales.
INLINE void weigh_bytes(
    const uint8_t *const *octets, const uint8_t *const *ahead, int64_t offset, int64_t head_dim, int first, int end,
    const float *weights, const float *factors, float *values, int rows, int vectors, bool is_half) {
    const int64_t quad_bytes = head_dim * 4;
    s32x16 high[BYTE_ROWS * BYTES_WIDE], low[BYTE_ROWS * BYTES_WIDE];
    UNROLL for (int i = 0; i < rows * vectors; i++) high[i] = low[i] = 0;
    for (int p = first; p < end; p++) {
        const uint8_t *source = octets[p / 2] + p % 2 * quad_bytes + offset;
        s32x16 cached[BYTES_WIDE];
        UNROLL for (int v = 0; v < vectors; v++) {
            cached[v] = *(const s32x16 *)(source + v * 64);
            __builtin_prefetch(ahead[p / 4] + p % 4 * quad_bytes + offset + v * 64, 0, 3);
        }
        const uint8_t *x = (const uint8_t *)weights + 4 * p;
        UNROLL for (int r = 0; r < rows; r++, x += CHUNK * 4) {
            u32x16 x_high = (u32x16)splat_quad(x), x_low = (u32x16)splat_quad(x + CHUNK);
            UNROLL for (int v = 0; v < vectors; v++) {
                high[r * vectors + v] = dot_quads(high[r * vectors + v], x_high, cached[v]);
                low[r * vectors + v] = dot_quads(low[r * vectors + v], x_low, cached[v]);
            }
        }
    }
    UNROLL for (int r = 0; r < rows; r++) {
        UNROLL for (int v = 0; v < vectors; v++) {
            f32x16 sum = __builtin_convertvector(high[r * vectors + v] * 256 + low[r * vectors + v], f32x16);
            sum *= factors[r];
            float *target = values + r * head_dim + v * 16;
            if (is_half) *(f32x8 *)target = sum.lo;
            else *(f32x16 *)target = sum;
        }
    }
}

#define SCORE_BYTES(name, rows, vectors) \
    static NOINLINE void NAME(name)( \
        const uint8_t *const *keys, const uint8_t *const *ahead, int64_t stride, int64_t head_dim, \
        const float *queries, const float *factors, const float *key_scales, float *scores) { \
        score_bytes(keys, ahead, stride, head_dim, queries, factors, key_scales, scores, rows, vectors); \
    }
#define WEIGH_BYTES(name, rows, vectors, is_half) \
    static NOINLINE void NAME(name)( \
        const uint8_t *const *octets, const uint8_t *const *ahead, int64_t offset, int64_t head_dim, int first, \
        int end, const float *weights, const float *factors, float *values) { \
        weigh_bytes(octets, ahead, offset, head_dim, first, end, weights, factors, values, rows, vectors, is_half); \
    }
#define BYTES_OF_ROWS(rows) \
    SCORE_BYTES(score_int8_##rows, rows, BYTES_WIDE) \
    WEIGH_BYTES(weigh_wide_int8_##rows, rows, BYTES_WIDE, false) \
    WEIGH_BYTES(weigh_one_int8_##rows, rows, 1, false) \
    WEIGH_BYTES(weigh_half_int8_##rows, rows, 1, true)
BYTES_OF_ROWS(1)
BYTES_OF_ROWS(2)
BYTES_OF_ROWS(3)
#define THREE(name) { NAME(name##_1), NAME(name##_2), NAME(name##_3) }

typedef void (*NAME(score_bytes_function))(
    const uint8_t *const *, const uint8_t *const *, int64_t, int64_t, const float *, const float *, const float *,
    float *);
typedef void (*NAME(weigh_bytes_function))(
    const uint8_t *const *, const uint8_t *const *, int64_t, int64_t, int, int, const float *, const float *, float *);
/// By rows − 1; by width (wide, one, half) and rows − 1.
static const NAME(score_bytes_function) NAME(score_int8)[BYTE_ROWS] = THREE(score_int8);
static const NAME(weigh_bytes_function) NAME(weigh_int8)[3][BYTE_ROWS] = {
    THREE(weigh_wide_int8), THREE(weigh_one_int8), THREE(weigh_half_int8),
};

#undef SCORE_BYTES
#undef WEIGH_BYTES
#undef BYTES_OF_ROWS
#undef THREE

/// Scores of the chunk's rows from `from` to `to`, and what is wanted next asked for.
INLINE void score_chunk_int8(
    const attention_arguments *a, const workspace *w, const uint8_t *const *keys, const uint8_t *const *octets,
    int64_t stride, int least, int from, int to) {
    int64_t head_dim = a->layer->head_dim;
    const uint8_t *ahead[CHUNK / 16];
    for (int i = 0; i < CHUNK / 16; i++) ahead[i] = 16 * i < w->limits[to - 1] ? octets[2 * i] : octets[0];
    for (int r = from; r < to; r += BYTE_ROWS) {
        int tile = to - r < BYTE_ROWS ? to - r : BYTE_ROWS;
        int vectors = (w->limits[r + tile - 1] + 15) / 16;
        for (int v = least / 16 / BYTES_WIDE * BYTES_WIDE; v < vectors; v += BYTES_WIDE) {
            NAME(score_int8)[tile - 1](
                keys + v, ahead + v, stride, head_dim, w->queries + r * head_dim, w->query_factors + r,
                w->key_scales + 16 * v, w->scores + r * CHUNK + 16 * v);
        }
    }
}

/// Weights and weighted values of the chunk's rows from `from` to `to`.
INLINE void weigh_chunk_int8(
    const attention_arguments *a, const workspace *w, const uint8_t *const *octets, const uint8_t *const *ahead,
    int least, int from, int to, bool has_starts) {
    int64_t head_dim = a->layer->head_dim;
    for (int r = from; r < to; r++) {
        exponentiate_int8(
            w->scores + r * CHUNK, has_starts ? w->starts[r] : 0, w->limits[r], w->value_scales, &w->chunk_maxima[r],
            &w->chunk_sums[r], &w->value_factors[r]);
    }
    for (int r = from; r < to; r += BYTE_ROWS) {
        int tile = to - r < BYTE_ROWS ? to - r : BYTE_ROWS;
        int end = (w->limits[r + tile - 1] + 3) / 4;
        for (int64_t d = 0; d < head_dim;) {
            int64_t left = head_dim - d, taken = left >= 16 * BYTES_WIDE ? 16 * BYTES_WIDE : left >= 16 ? 16 : 8;
            int width = taken == 16 * BYTES_WIDE ? 0 : taken == 16 ? 1 : 2;
            NAME(weigh_int8)[width][tile - 1](
                octets, ahead, d * 4, head_dim, least / 4, end, w->scores + r * CHUNK, w->value_factors + r,
                w->chunk_values + r * head_dim + d);
            d += taken;
        }
    }
}

#undef BYTE_ROWS
#undef BYTES_WIDE
