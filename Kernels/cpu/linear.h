// What packing and multiplying weights agree on. Private.

#ifndef LINEAR_H
#define LINEAR_H

#include "planes.h"

/// Up to this many rows every thread rounds all of them for itself: a few microseconds, about what a run costs.
#define PRIVATE_TOKENS 32
/// Products below which waking the other threads costs more than it saves.
#define ALONE_PRODUCTS 32768
#define MAX_TILE_GROUPS 2
#define MAX_TILE_SUMS 8
/// How many blocks of a row group a tile that passes over its weights once asks memory for beforehand.
#define EARLY_BLOCKS 32
/// Bytes of a gated layer's sums that wait to be gated, both halves.
#define GATED_BYTES (16 << 10)

/// Scale of a block of 32 activations, the scale times their sum, their sum and the sum of the first 16 (as 8-bit
/// integers).
typedef struct {
    float scale;
    float scaled_sum;
    int32_t sum;
    int32_t low_sum;
} block_scale;

/// Activations rounded to 8 bits: values [tokens, columns], scales [tokens, columns / 32]; and to bf16 [tokens,
/// columns]. What no segment of the weight multiplies is not there.
typedef struct {
    int8_t *values;
    block_scale *scales;
    uint16_t *bf16;
    int64_t columns;
    /// What is asked for beside the weights.
    fetch_list *fetch;
} quantized_rows;

/// Which blocks a tile asks memory for on behalf of the next weights: those whose number agrees with its own where the
/// mask has ones. Fits a register: on the stack, written in halves and read as one, it would hold up every tile.
typedef struct {
    uint32_t number;
    uint32_t mask;
} prefetch_turn;

/// Agrees with no block.
#define NO_TURN ((prefetch_turn){ 1u << 31, 1u << 31 })

typedef struct {
    const float *x;
    int64_t tokens;
    int64_t x_stride;
    const cpu_weight *weight;
    float *output;
    int64_t output_stride;
    bool accumulate;
    /// What the one thread asks for beside the weights; NULL where threads share the layer.
    fetch_list *fetch;
    /// Whether segments multiply activations rounded to 8 bits, to bf16.
    bool has_quantized;
    bool has_bf16;
    /// Whether every thread has its own copy of the rounded activations, `scratch_stride` bytes apart.
    bool is_private;
    uint8_t *scratch;
    int64_t scratch_stride;
    work_counter next_rows;
    work_counter next_pair;
} linear_arguments;

/// Fills in one thread's arguments for a layer of which others multiply other pairs of row groups, with `x` in the place
/// of the layer's input, and rounds its rows. The thread's context has room for `activation_bytes`.
void begin_linear(
    cpu_context *context, const operation *layer, const float *x, int64_t rows, linear_arguments *arguments);
/// A linear layer and the gate of its output on the caller's thread, a few row groups of either half at a time, so that what
/// is gated has not left the first cache; the layer's own output is not written. `rows` rows of x and output.
bool cpu_gated_linear(cpu_context *context, const operation *layer, const float *x, int64_t rows, float *output);
/// Whether a layer's halves are made of whole pairs of row groups.
bool has_whole_halves(const cpu_context *context, const cpu_weight *weight);
/// Multiplies pairs `first` to `end`.
void multiply_pairs(cpu_context *context, linear_arguments *arguments, int64_t first, int64_t end);

static inline bool weight_is_quantized(int32_t format) {
    return format >= CPU_WEIGHT_Q8_0 && format != CPU_WEIGHT_E4M3 && format != CPU_WEIGHT_BF16_PAIRS;
}

// MARK: Pairs of bf16 (linear_bf16.c)

/// Rounds rows `begin` to `end` to bf16: rounded […, columns].
void round_rows_bf16(
    const float *x, int64_t x_stride, int64_t begin, int64_t end, int64_t columns, uint16_t *rounded);
/// Multiplies `count` pairs of row groups of a segment × all tokens, whose rounded rows are `x`.
void multiply_bf16(
    const linear_arguments *a, const cpu_segment *segment, int64_t pair, int64_t count, const uint16_t *x,
    fetch_list *fetch);

// MARK: Sizes

/// Tiles are two row groups high, so groups come in pairs; what a last pair lacks is zero and its sums are dropped.
static inline int64_t row_pairs(int64_t rows, int64_t group) {
    return (rows + 2 * group - 1) / (2 * group);
}

/// Bytes of `rows` interleaved rows.
static inline int64_t group_bytes(int32_t format, int64_t rows, int64_t columns) {
    switch (format) {
    case CPU_WEIGHT_F32: return columns * 4 * rows;
    case CPU_WEIGHT_F16:
    case CPU_WEIGHT_BF16:
    case CPU_WEIGHT_BF16_PAIRS: return columns * 2 * rows;
    case CPU_WEIGHT_Q8_0: return columns / 32 * 34 * rows;
    case CPU_WEIGHT_Q4_0: return columns / 32 * 18 * rows;
    case CPU_WEIGHT_Q4_1: return columns / 32 * 20 * rows;
    case CPU_WEIGHT_E4M3: return columns / 32 * 36 * rows;
    default: return plane_row_bytes(format, columns) * rows;
    }
}

/// Bytes of the scales of so many rounded rows, and of all that `quantized_rows` may hold.
static inline int64_t scale_bytes(int64_t tokens, int64_t columns) {
    return round_up(tokens * (columns / 32) * (int64_t)sizeof(block_scale), 64);
}
static inline int64_t activation_bytes(int64_t tokens, int64_t columns) {
    return scale_bytes(tokens, columns) + round_up(tokens * columns, 64) + round_up(tokens * columns * 2, 64);
}

#endif
