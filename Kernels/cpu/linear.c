// Math:    output[t][r] (+)= Σ_k W[r][k] · x[t][k]. Quantized weights: x is rounded to 8 bits in blocks of 32
//          (x ≈ d_x · q_x), so that a block's sum is d_w · d_x · Σ (q_w − offset) · q_x [+ m_w · d_x · Σ q_x].
//          Weights in bf16 where pairs of it are multiplied by one instruction: linear_bf16.c.
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
static const worker_task round_tasks[CPU_ISA_COUNT] = EACH_ISA(round_task);
static void (*const range_functions[CPU_ISA_COUNT])(const linear_arguments *, int, int64_t, int64_t) =
    EACH_ISA(multiply_range);

/// Finds out how the weight's segments want their activations rounded.
static void find_roundings(linear_arguments *a) {
    for (int64_t i = 0; i < a->weight->segment_count; i++) {
        a->has_quantized |= weight_is_quantized(a->weight->segments[i].format);
        a->has_bf16 |= a->weight->segments[i].format == CPU_WEIGHT_BF16_PAIRS;
    }
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
        .output_stride = output_stride, .accumulate = accumulate,
        .fetch = worker_pool_threads(context->pool) == 1 ? &context->fetch : NULL,
    };
    find_roundings(&arguments);
    bool is_alone = tokens * weight->rows * weight->columns < ALONE_PRODUCTS;
    bool has_rounded = arguments.has_quantized || arguments.has_bf16;
    if (has_rounded) {
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
        if (has_rounded && !arguments.is_private) {
            run_on_available(context, round_tasks[context->isa], &arguments);
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
    arguments->has_quantized = arguments->has_bf16 = false;
    find_roundings(arguments);
    arguments->is_private = true;
    arguments->scratch = context->scratch[SCRATCH_ACTIVATIONS].address;
    atomic_store_explicit(&arguments->next_rows.next, 0, memory_order_relaxed);
    if (arguments->has_quantized || arguments->has_bf16) round_tasks[context->isa](arguments, &(team){ NULL, 1 }, 0);
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

#define run_pairs NAME(run_pairs)
#define rounded_rows NAME(rounded_rows)
#define round_rows NAME(round_rows)

#include "linear_rounding.h"
#include "linear_tile.h"

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

/// Where a thread finds the rounded activations.
INLINE quantized_rows rounded_rows(const linear_arguments *a, int worker) {
    int64_t columns = a->weight->columns;
    uint8_t *base = a->scratch + (a->is_private ? worker * a->scratch_stride : 0);
    uint8_t *values = base + scale_bytes(a->tokens, columns);
    uint16_t *bf16 = (uint16_t *)(values + round_up(a->tokens * columns, 64));
    return (quantized_rows){ (int8_t *)values, (block_scale *)base, bf16, columns, NULL };
}

/// Rounds rows `begin` to `end` in every way that is wanted.
INLINE void round_rows(const linear_arguments *a, int64_t begin, int64_t end, const quantized_rows *x) {
    if (a->has_quantized) quantize_rows(a->x, a->x_stride, begin, end, x);
    if (a->has_bf16) round_rows_bf16(a->x, a->x_stride, begin, end, x->columns, x->bf16);
}

/// Rounds the activations for all threads.
static void NAME(round_task)(void *arguments, const team *team, int worker) {
    linear_arguments *a = arguments;
    quantized_rows x = rounded_rows(a, worker);
    int64_t begin, end, at_a_time = rows_at_a_time(a->tokens, team);
    while (take_rows(&a->next_rows, a->tokens, at_a_time, &begin, &end)) round_rows(a, begin, end, &x);
}

/// Multiplies pairs `first` to `end` of the whole weight.
static void NAME(multiply_range)(const linear_arguments *a, int worker, int64_t first, int64_t end) {
    quantized_rows x = { 0 };
    if (a->has_quantized || a->has_bf16) x = rounded_rows(a, worker);
    fetch_list nothing = { 0 };
    x.fetch = a->fetch != NULL ? a->fetch : &nothing;
    int64_t offset = 0;
    for (int64_t i = 0; i < a->weight->segment_count; i++) {
        const cpu_segment *segment = &a->weight->segments[i];
        int64_t pairs = row_pairs(segment->rows, ISA_ROWS);
        int64_t from = first > offset ? first : offset;
        int64_t to = end < offset + pairs ? end : offset + pairs;
        if (from < to && segment->format == CPU_WEIGHT_BF16_PAIRS) {
            multiply_bf16(a, segment, from - offset, to - from, x.bf16, x.fetch);
        } else if (from < to) {
            run_pairs(a, &x, segment, from - offset, to - from);
        }
        offset += pairs;
    }
}

static void NAME(linear_task)(void *arguments, const team *team, int worker) {
    linear_arguments *a = arguments;
    prefetch_first(a->weight);
    if (a->is_private) {
        quantized_rows x = rounded_rows(a, worker);
        round_rows(a, 0, a->tokens, &x);
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
