// The inner products and exponentials of attention; included by attention.c once for each instruction set. Private.
//
// Whatever the element type, two neighbours are multiplied at a time, the even one first. With a bf16 dot product
// (ISA_BF16) queries and weights are rounded to bf16 too; elsewhere they stay floats.

#define pair_lanes NAME(pair_lanes)
#define unpack_pairs NAME(unpack_pairs)
#define splat_pair NAME(splat_pair)
#define dot_pairs NAME(dot_pairs)
#define multiply_pairs NAME(multiply_pairs)
#define score_tile NAME(score_tile)
#define load_value_pairs NAME(load_value_pairs)
#define weigh_tile NAME(weigh_tile)
#define exp2_16 NAME(exp2_16)
#define exponentiate NAME(exponentiate)

/// 16-lane vectors of positions scored together, of elements weighed together: as many as registers hold.
#if ISA_BF16
#define WIDE 4
#define NARROW 2
#elif ISA_NATIVE && ISA_ROWS == 16
#define WIDE 2
#define NARROW 2
#else
#define WIDE 1
#define NARROW 1
#endif

/// The most 16-lane vectors of positions that any tile scores together.
#define MOST_WIDE 4

/// Two neighbours in each of 16 lanes: as bf16 pairs, or as floats.
typedef struct {
    u32x16 packed;
    f32x16 even;
    f32x16 odd;
} pair_lanes;

INLINE pair_lanes unpack_pairs(u32x16 packed) {
    return (pair_lanes){ packed, (f32x16)(packed << 16), (f32x16)(packed & 0xFFFF0000) };
}

/// Bytes of one pair of queries or weights.
#define PAIR_BYTES(is_bf16) (ISA_BF16 && (is_bf16) ? 4 : 8)

/// The pair of bf16 queries or weights at `source` in every lane.
INLINE u32x16 splat_pair(const uint8_t *source) {
    uint32_t packed;
    memcpy(&packed, source, sizeof packed);
    return (u32x16)packed;
}

INLINE f32x16 dot_pairs(f32x16 sums, u32x16 a, u32x16 b) {
#if ISA_BF16
    return (f32x16)_mm512_dpbf16_ps((__m512)sums, (__m512bh)a, (__m512bh)b);
#else
    (void)a;
    (void)b;
    return sums;
#endif
}

/// sums[r][v] += cached[v] · x[r], where x[r] begins `stride` bytes after x[r − 1].
INLINE void multiply_pairs(
    f32x16 *sums, const pair_lanes *cached, const uint8_t *x, int64_t stride, int rows, int vectors, bool is_bf16) {
    if (ISA_BF16 && is_bf16) {
        UNROLL for (int r = 0; r < rows; r++) {
            u32x16 pair = splat_pair(x + r * stride);
            UNROLL for (int v = 0; v < vectors; v++) {
                sums[r * vectors + v] = dot_pairs(sums[r * vectors + v], cached[v].packed, pair);
            }
        }
        return;
    }
    // All even neighbours, then all odd ones: fewer registers are in use at a time.
    UNROLL for (int r = 0; r < rows; r++) {
        UNROLL for (int v = 0; v < vectors; v++) {
            f32x16 value = *(const float *)(x + r * stride);
            sums[r * vectors + v] = fma16(cached[v].even, value, sums[r * vectors + v]);
        }
    }
    UNROLL for (int r = 0; r < rows; r++) {
        UNROLL for (int v = 0; v < vectors; v++) {
            f32x16 value = *(const float *)(x + r * stride + 4);
            sums[r * vectors + v] = fma16(cached[v].odd, value, sums[r * vectors + v]);
        }
    }
}

/// Scores of `rows` query rows against `vectors` × 16 positions (both constants). `keys[v]` is where the first pair of
/// the v-th 16 positions lies, `stride` the bytes from one row of the layout to the next. What is wanted next, as many
/// bytes from `ahead[v]` on, is asked for meanwhile: single blocks are too short for the hardware to see a stream.
INLINE void score_tile(
    const uint8_t *const *keys, const uint8_t *const *ahead, int64_t stride, int64_t head_dim, const float *queries,
    float scale, float *scores, int rows, int vectors, bool is_bf16) {
    f32x16 sums[TILE_ROWS * WIDE];
    UNROLL for (int i = 0; i < rows * vectors; i++) sums[i] = 0.0f;
    for (int64_t d = 0; d < head_dim / 2; d++) {
        pair_lanes cached[WIDE];
        UNROLL for (int v = 0; v < vectors; v++) {
            if (is_bf16) {
                cached[v] = unpack_pairs(*(const u32x16 *)(keys[v] + d * stride));
                __builtin_prefetch(ahead[v] + d * 64, 0, 3);
            } else {
                cached[v].even = *(const f32x16 *)(keys[v] + 2 * d * stride);
                cached[v].odd = *(const f32x16 *)(keys[v] + (2 * d + 1) * stride);
            }
        }
        const uint8_t *x = (const uint8_t *)queries + d * PAIR_BYTES(is_bf16);
        multiply_pairs(sums, cached, x, head_dim * 4, rows, vectors, is_bf16);
    }
    UNROLL for (int r = 0; r < rows; r++) {
        UNROLL for (int v = 0; v < vectors; v++) {
            // Queries of a bf16 cache carry the scale already.
            f32x16 score = is_bf16 ? sums[r * vectors + v] : sums[r * vectors + v] * scale;
            *(f32x16 *)(scores + r * CHUNK + v * 16) = score;
        }
    }
}

/// 16 (or the first 8) elements of a pair of positions. `source` is where the first element's pair lies.
INLINE pair_lanes load_value_pairs(const uint8_t *source, int64_t head_dim, bool is_half, bool is_bf16) {
    const uint8_t *high = source + (is_half ? 0 : 32);
    u32x8 a = *(const u32x8 *)source, b = *(const u32x8 *)high;
    u32x16 first = is_half ? __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)
                           : *(const u32x16 *)source;
    if (is_bf16) return unpack_pairs(first);
    source += head_dim * 4;
    high += head_dim * 4;
    u32x8 c = *(const u32x8 *)source, d = *(const u32x8 *)high;
    u32x16 second = __builtin_shufflevector(c, d, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return (pair_lanes){ first, (f32x16)first, (f32x16)second };
}

/// values[r] = Σ over the first `limits[r]` positions of weight × value: `vectors` × 16 elements (8 when `is_half`) of
/// `rows` rows. `octets[o]` is where the values of the o-th eight positions lie, `offset` the bytes to the first of
/// these elements; `ahead[i]` is what is wanted after the i-th 16 positions.
INLINE void weigh_tile(
    const uint8_t *const *octets, const uint8_t *const *ahead, int64_t offset, int64_t head_dim,
    const int32_t *limits, const float *weights, float *values, int rows, int vectors, bool is_half, bool is_bf16) {
    const int64_t pair_bytes = head_dim * (is_bf16 ? 4 : 8);
    int common = limits[0];
    for (int r = 1; r < rows; r++) common = limits[r] < common ? limits[r] : common;
    f32x16 sums[TILE_ROWS * WIDE];
    UNROLL for (int i = 0; i < rows * vectors; i++) sums[i] = 0.0f;
    const uint8_t *x = (const uint8_t *)weights;
    for (int p = 0; p < common / 2; p++) {
        const uint8_t *source = octets[p / 4] + p % 4 * pair_bytes + offset;
        pair_lanes cached[WIDE];
        UNROLL for (int v = 0; v < vectors; v++) {
            cached[v] = load_value_pairs(source + v * 64, head_dim, is_half, is_bf16);
            if (is_bf16) __builtin_prefetch(ahead[p / 8] + p % 8 * pair_bytes + offset + v * 64, 0, 3);
        }
        multiply_pairs(sums, cached, x + p * PAIR_BYTES(is_bf16), CHUNK * 4, rows, vectors, is_bf16);
    }
    UNROLL for (int r = 0; r < rows; r++) {
        // Positions that not all rows may see, each row on its own: what is masked is not even multiplied by 0.
        for (int p = common / 2; 2 * p < limits[r]; p++) {
            const bool has_odd = 2 * p + 1 < limits[r];
            UNROLL for (int v = 0; v < vectors; v++) {
                const uint8_t *source = octets[p / 4] + p % 4 * pair_bytes + offset + v * 64;
                pair_lanes cached = load_value_pairs(source, head_dim, is_half, is_bf16);
                if (!has_odd) {
                    cached.packed &= 0xFFFF;
                    cached.odd = 0.0f;
                }
                const uint8_t *pair = x + r * CHUNK * 4 + p * PAIR_BYTES(is_bf16);
                multiply_pairs(&sums[r * vectors + v], &cached, pair, 0, 1, 1, is_bf16);
            }
        }
        UNROLL for (int v = 0; v < vectors; v++) {
            float *target = values + r * head_dim + v * 16;
            if (is_half) *(f32x8 *)target = sums[r * vectors + v].lo;
            else *(f32x16 *)target = sums[r * vectors + v];
        }
    }
}

// Every tile is a function of its own: in one large function the compiler runs out of registers.
#define SCORE_TILE(name, rows, vectors, is_bf16) \
    static NOINLINE void NAME(name)( \
        const uint8_t *const *keys, const uint8_t *const *ahead, int64_t stride, int64_t head_dim, \
        const float *queries, float scale, float *scores) { \
        /* Pairs of floats take two registers for each vector: sums of more than two would not fit beside them. */ \
        const int taken = (is_bf16) || vectors < 2 ? vectors : 2; \
        UNROLL for (int v = 0; v < vectors; v += taken) { \
            float *target = scores + 16 * v; \
            score_tile(keys + v, ahead + v, stride, head_dim, queries, scale, target, rows, taken, is_bf16); \
        } \
    }
#define WEIGH_TILE(name, rows, vectors, is_half, is_bf16) \
    static NOINLINE void NAME(name)( \
        const uint8_t *const *octets, const uint8_t *const *ahead, int64_t offset, int64_t head_dim, \
        const int32_t *limits, const float *weights, float *values) { \
        weigh_tile(octets, ahead, offset, head_dim, limits, weights, values, rows, vectors, is_half, is_bf16); \
    }
#define TILES_OF_ROWS(rows, type, is_bf16) \
    SCORE_TILE(score_wide_##type##_##rows, rows, WIDE, is_bf16) \
    SCORE_TILE(score_narrow_##type##_##rows, rows, NARROW, is_bf16) \
    WEIGH_TILE(weigh_wide_##type##_##rows, rows, WIDE, false, is_bf16) \
    WEIGH_TILE(weigh_one_##type##_##rows, rows, 1, false, is_bf16) \
    WEIGH_TILE(weigh_half_##type##_##rows, rows, 1, true, is_bf16)
#define TILES_OF_TYPE(type, is_bf16) \
    TILES_OF_ROWS(1, type, is_bf16) TILES_OF_ROWS(2, type, is_bf16) TILES_OF_ROWS(3, type, is_bf16) \
    TILES_OF_ROWS(4, type, is_bf16) TILES_OF_ROWS(5, type, is_bf16) TILES_OF_ROWS(6, type, is_bf16)
TILES_OF_TYPE(f32, false)
TILES_OF_TYPE(bf16, true)

#define SIX(name) { NAME(name##_1), NAME(name##_2), NAME(name##_3), NAME(name##_4), NAME(name##_5), NAME(name##_6) }

/// By element type (f32, bf16) and rows − 1.
typedef void (*NAME(score_function))(
    const uint8_t *const *, const uint8_t *const *, int64_t, int64_t, const float *, float, float *);
typedef void (*NAME(weigh_function))(
    const uint8_t *const *, const uint8_t *const *, int64_t, int64_t, const int32_t *, const float *, float *);
static const NAME(score_function) NAME(score_wide)[2][TILE_ROWS] = { SIX(score_wide_f32), SIX(score_wide_bf16) };
static const NAME(score_function) NAME(score_narrow)[2][TILE_ROWS] = { SIX(score_narrow_f32), SIX(score_narrow_bf16) };
static const NAME(weigh_function) NAME(weigh_wide)[2][TILE_ROWS] = { SIX(weigh_wide_f32), SIX(weigh_wide_bf16) };
static const NAME(weigh_function) NAME(weigh_one)[2][TILE_ROWS] = { SIX(weigh_one_f32), SIX(weigh_one_bf16) };
static const NAME(weigh_function) NAME(weigh_half)[2][TILE_ROWS] = { SIX(weigh_half_f32), SIX(weigh_half_bf16) };

#undef SCORE_TILE
#undef WEIGH_TILE
#undef TILES_OF_ROWS
#undef TILES_OF_TYPE
#undef SIX

/// 2ˣ for x ≤ 0; 0 below −126; NaN for NaN. Relative error 8 · 10⁻⁸, or 8 · 10⁻⁵ when `is_rough`.
INLINE f32x16 exp2_16(f32x16 x, bool is_rough) {
    // Rounds x to a whole number n and leaves n + 127 in the low bits: shifted up, they are the exponent of 2ⁿ.
    f32x16 shifted = x + (12582912.0f + 127.0f);
    f32x16 r = x - (shifted - (12582912.0f + 127.0f)), y;
    if (is_rough) {
        y = fma16((f32x16)5.517166909e-2f, r, (f32x16)2.426111222e-1f);
        y = fma16(y, r, (f32x16)6.932609855e-1f);
        y = fma16(y, r, (f32x16)9.999280735e-1f);
    } else {
        y = fma16((f32x16)1.327647217e-3f, r, (f32x16)9.675541331e-3f);
        y = fma16(y, r, (f32x16)5.550713273e-2f);
        y = fma16(y, r, (f32x16)2.402211972e-1f);
        y = fma16(y, r, (f32x16)6.931469671e-1f);
        y = fma16(y, r, (f32x16)1.000000072f);
    }
    f32x16 scaled = y * (f32x16)((s32x16)shifted << 23);
    return x < -126.0f ? (f32x16)0.0f : scaled;
}

/// Replaces the first `limit` scores by their weights e^(score − maximum) (bf16 cache: the scores are in base 2), as
/// pairs of bf16 or as floats; what follows up to a multiple of 16 becomes 0.
INLINE void exponentiate(float *scores, int limit, float *maximum, float *sum, bool is_bf16) {
    const s32x16 lanes = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 };
    const f32x16 lowest = -__builtin_inff();
    f32x16 highest = lowest;
    int whole = limit / 16 * 16;
    for (int p = 0; p < whole; p += 16) {
        f32x16 score = *(const f32x16 *)(scores + p);
        highest = score > highest ? score : highest;
    }
    if (whole < limit) {
        f32x16 score = *(const f32x16 *)(scores + whole);
        score = lanes + whole < limit ? score : lowest;
        *(f32x16 *)(scores + whole) = score;
        highest = score > highest ? score : highest;
    }
    float largest = max16(highest);
    f32x16 sums = 0.0f;
    for (int p = 0; p < limit; p += 16) {
        f32x16 shifted = *(const f32x16 *)(scores + p) - largest;
        f32x16 weight = is_bf16 ? exp2_16(shifted, ISA_BF16) : exp16(shifted);
#if ISA_BF16
        if (is_bf16) {
            // The sum is of the weights that are used, so that their rounding cancels.
            u16x16 rounded = (u16x16)_mm512_cvtneps_pbh((__m512)weight);
            *(u16x16 *)((uint16_t *)scores + p) = rounded;
            sums += widen_bf16(rounded);
            continue;
        }
#endif
        *(f32x16 *)(scores + p) = weight;
        sums += weight;
    }
    *maximum = largest;
    *sum = sum16(sums);
}
