// Math:    output[t][r] (+)= Σ_k W[r][k] · x[t][k]. Quantized weights: x is rounded to 8 bits in blocks of 32
//          (x ≈ d_x · q_x), so that a block's sum is d_w · d_x · Σ (q_w − offset) · q_x [+ m_w · d_x · Σ q_x].
// Shapes:  x [tokens, columns], W [rows, columns], output [tokens, rows]; all f32 but W.
// Launch:  tiles of row groups × tokens; threads take runs of row groups, never parts of a row. Every tile sums a
//          row's blocks in the same order with the same roundings: results do not depend on tile, batch or threads.
// Bound:   one token: bytes of W. Many: 8-bit multiply-adds; fractions of both are recorded in docs/benchmarks.
// Checked: LinearTests (f64 reference, every format and instruction set; bitwise over batches and threads)
// Source:  interleaved rows: ik_llama.cpp's R4/R8/R16 formats; block format: GGUF's Q8_1 for activations.
//
// Layout of a quantized row group (R = ISA_ROWS rows), one block of 32 columns after another:
//   f16 scale of every row; Q4_1: f16 minimum of every row; then for i = 0…3 (Q4) or 0…7 (Q8) 4 bytes of every row.
// In Q4 these bytes hold columns 4i…4i+3 in their low halves and 16+4i…16+4i+3 in their high halves, as GGUF's own
// blocks do, so packing moves 32-bit words only. Q8 bytes are stored plus 128. Float groups: column k of every row.

#ifndef ISA

#include "linear.h"

#define FAMILY "linear.c"
#include "each_isa.h"

static const worker_task linear_tasks[CPU_ISA_COUNT] = EACH_ISA(linear_task);
static const worker_task quantize_tasks[CPU_ISA_COUNT] = EACH_ISA(quantize_task);
static void (*const range_functions[CPU_ISA_COUNT])(const linear_arguments *, int, int64_t, int64_t) =
    EACH_ISA(multiply_range);

static bool has_quantized(const cpu_weight *weight) {
    for (int64_t i = 0; i < weight->segment_count; i++) {
        if (weight_is_quantized(weight->segments[i].format)) return true;
    }
    return false;
}

bool cpu_linear(
    cpu_context *context, const float *x, int64_t tokens, int64_t x_stride, const cpu_weight *weight, float *output,
    int64_t output_stride, bool accumulate) {
    if (tokens == 0) return true;
    operation whole = {
        OPERATION_LINEAR, tokens, .linear = { x, x_stride, *weight, output, output_stride, accumulate },
    };
    if (record(context, whole)) return true;
    linear_arguments arguments = {
        .x = x, .tokens = tokens, .x_stride = x_stride, .weight = weight, .output = output,
        .output_stride = output_stride, .accumulate = accumulate, .has_quantized = has_quantized(weight),
        .fetch = worker_pool_threads(context->pool) == 1 ? &context->fetch : NULL,
    };
    bool is_alone = tokens * weight->rows * weight->columns < ALONE_PRODUCTS;
    if (arguments.has_quantized) {
        int workers = worker_pool_threads(context->pool);
        arguments.is_private = is_alone || tokens <= PRIVATE_TOKENS;
        arguments.scratch_stride = activation_bytes(tokens, weight->columns);
        uint64_t copies = arguments.is_private ? (uint64_t)workers : 1;
        arguments.scratch = scratch(context, SCRATCH_ACTIVATIONS, copies * (uint64_t)arguments.scratch_stride);
        if (arguments.scratch == NULL) return false;
    }
    if (is_alone) {
        run_alone(context, linear_tasks[context->isa], &arguments);
    } else {
        if (arguments.has_quantized && !arguments.is_private) {
            run_on_available(context, quantize_tasks[context->isa], &arguments);
        }
        run_on_available(context, linear_tasks[context->isa], &arguments);
    }
    return true;
}

void begin_linear(
    cpu_context *context, const operation *layer, const float *x, int64_t rows, linear_arguments *arguments) {
    arguments->x = x;
    arguments->tokens = rows;
    arguments->x_stride = layer->linear.stride;
    arguments->weight = &layer->linear.weight;
    arguments->output = layer->linear.output;
    arguments->output_stride = layer->linear.output_stride;
    arguments->accumulate = layer->linear.accumulate;
    arguments->fetch = &context->fetch;
    arguments->has_quantized = has_quantized(&layer->linear.weight);
    arguments->is_private = true;
    arguments->scratch = context->scratch[SCRATCH_ACTIVATIONS].address;
    atomic_store_explicit(&arguments->next_rows.next, 0, memory_order_relaxed);
    if (arguments->has_quantized) quantize_tasks[context->isa](arguments, &(team){ NULL, 1 }, 0);
}

bool has_whole_halves(const cpu_context *context, const cpu_weight *weight) {
    int64_t pair = 2 * cpu_row_group(context);
    for (int64_t i = 0; i < weight->segment_count; i++) {
        if (weight->segments[i].rows % pair != 0) return false;
    }
    return weight->rows / 2 % pair == 0;
}

bool cpu_gated_linear(cpu_context *context, const operation *layer, const float *x, int64_t rows, float *output) {
    const cpu_weight *weight = &layer->linear.weight;
    int64_t pair = 2 * cpu_row_group(context), ffn = weight->rows / 2, half = ffn / pair;
    // Runs of either half in turn: as long as their sums fit into a part of the first cache.
    int64_t run = GATED_BYTES / (rows * 2 * pair * (int64_t)sizeof(float));
    run = run < 1 ? 1 : run < half ? run : half;
    float *patch = scratch(context, SCRATCH_PATCH, (uint64_t)(rows * 2 * run * pair) * sizeof(float));
    uint64_t bytes = (uint64_t)activation_bytes(rows, weight->columns);
    if (patch == NULL || scratch(context, SCRATCH_ACTIVATIONS, bytes) == NULL) return false;
    linear_arguments arguments = { 0 };
    begin_linear(context, layer, x, rows, &arguments);
    for (int64_t first = 0; first < half; first += run) {
        int64_t count = first + run < half ? run : half - first, width = count * pair;
        arguments.output_stride = 2 * width;
        // Where row 0 of the weight would be written, were the patch the whole output.
        arguments.output = patch - first * pair;
        multiply_pairs(context, &arguments, first, first + count);
        arguments.output = patch + width - (half + first) * pair;
        multiply_pairs(context, &arguments, half + first, half + first + count);
        gate_patch(context, patch, rows, width, output + first * pair, ffn);
    }
    return true;
}

void multiply_pairs(cpu_context *context, linear_arguments *arguments, int64_t first, int64_t end) {
    range_functions[context->isa](arguments, 0, first, end);
}

#else

#define store_rows NAME(store_rows)
#define prefetch_next NAME(prefetch_next)
#define prefetch_early NAME(prefetch_early)
#define prefetch_first NAME(prefetch_first)
#define start_dots NAME(start_dots)
#define tile_q4 NAME(tile_q4)
#define tile_q8 NAME(tile_q8)
#define tile_float NAME(tile_float)
#define run_tile NAME(run_tile)
#define run_pairs NAME(run_pairs)
#define rounded_rows NAME(rounded_rows)
#define load_columns NAME(load_columns)

#include "linear_rounding.h"

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

/// `count` pairs of row groups of a segment × all tokens: the weights stay in the first cache while the tokens pass.
static void run_pairs(
    const linear_arguments *a, const quantized_rows *x, const cpu_segment *segment, int64_t pair, int64_t count) {
    // Eight tokens at once where they are all, or nearly: then the weights pass once, and memory is not waited for.
    bool has_8 = a->tokens >= 8 && a->tokens < 16 && NAME(tiles)[segment->format][3] != NULL;
    for (int64_t group = 2 * pair; group < 2 * (pair + count); group += 2) {
        prefetch_turn turn = { 0, a->tokens >= 16 ? 3 : a->tokens >= 8 ? 1 : 0 };
        for (int64_t token = 0; token < a->tokens; turn.number++) {
            int64_t left = a->tokens - token;
            int size = has_8 && left >= 8 ? 3 : left >= 4 ? 2 : left >= 2 ? 1 : 0;
            if (turn.number > turn.mask || (has_8 && token > 0)) turn = NO_TURN;
            NAME(tiles)[segment->format][size](a, x, segment, group, token, turn);
            token += 1 << size;
        }
    }
}

#undef TILE
#undef TILES
#undef TILES_OF
#undef TILES_TO_8_OF

/// Where a thread finds the rounded activations.
INLINE quantized_rows rounded_rows(const linear_arguments *a, int worker) {
    int64_t columns = a->weight->columns;
    uint8_t *base = a->scratch + (a->is_private ? worker * a->scratch_stride : 0);
    int64_t scale_bytes = round_up(a->tokens * (columns / 32) * (int64_t)sizeof(block_scale), 64);
    return (quantized_rows){ (int8_t *)(base + scale_bytes), (block_scale *)base, columns, NULL };
}

/// Rounds the activations for all threads.
static void NAME(quantize_task)(void *arguments, const team *team, int worker) {
    linear_arguments *a = arguments;
    quantized_rows x = rounded_rows(a, worker);
    int64_t begin, end, at_a_time = rows_at_a_time(a->tokens, team);
    while (take_rows(&a->next_rows, a->tokens, at_a_time, &begin, &end)) quantize_rows(a->x, a->x_stride, begin, end, &x);
}

/// Multiplies pairs `first` to `end` of the whole weight.
static void NAME(multiply_range)(const linear_arguments *a, int worker, int64_t first, int64_t end) {
    quantized_rows x = { 0 };
    if (a->has_quantized) x = rounded_rows(a, worker);
    fetch_list nothing = { 0 };
    x.fetch = a->fetch != NULL ? a->fetch : &nothing;
    int64_t offset = 0;
    for (int64_t i = 0; i < a->weight->segment_count; i++) {
        const cpu_segment *segment = &a->weight->segments[i];
        int64_t pairs = row_pairs(segment->rows, ISA_ROWS);
        int64_t from = first > offset ? first : offset;
        int64_t to = end < offset + pairs ? end : offset + pairs;
        if (from < to) run_pairs(a, &x, segment, from - offset, to - from);
        offset += pairs;
    }
}

static void NAME(linear_task)(void *arguments, const team *team, int worker) {
    linear_arguments *a = arguments;
    prefetch_first(a->weight);
    if (a->has_quantized && a->is_private) {
        quantized_rows x = rounded_rows(a, worker);
        quantize_rows(a->x, a->x_stride, 0, a->tokens, &x);
    }
    int64_t total = 0;
    for (int64_t i = 0; i < a->weight->segment_count; i++) {
        total += row_pairs(a->weight->segments[i].rows, ISA_ROWS);
    }
    // Several runs for each thread, so that one which the system interrupts does not hold up the others. Few tokens:
    // memory is the limit, and delivers long runs faster. Many: equal shares count.
    int64_t run = a->tokens < 32 ? (total + 4 * team->count - 1) / (4 * team->count) : total / (8 * team->count);
    if (run == 0) run = 1;
    for (int64_t first; (first = take_work(&a->next_pair, run)) < total;) {
        NAME(multiply_range)(a, worker, first, first + run < total ? first + run : total);
    }
}

#endif
