// The C interface of the CPU kernels: a context (worker threads, instruction set, scratch memory) and one function
// for each operation of the Swift `Backend` protocol.
//
// Activations are f32, row-major; a stride is in elements. Functions that return `bool` report false when scratch
// memory could not be had; nothing was computed then. All functions are called from one thread, the context's owner.

#ifndef CPU_KERNELS_H
#define CPU_KERNELS_H

#include <stdbool.h>
#include <stdint.h>

/// The instruction sets kernels are compiled for, best last. `CPU_AVX512_EMULATED` is AVX-512's data layout and code
/// over plain vector expressions, so that machines without AVX-512 can test it.
enum {
    CPU_PORTABLE = 0,
    CPU_AVX512_EMULATED = 1,
    CPU_AVX2 = 2,
    CPU_AVX512 = 3,
    /// AVX-512 with dot products of bf16 as well as of 8-bit integers.
    CPU_AVX512_BF16 = 4,
    CPU_ISA_COUNT = 5,
};

/// Storage of a weight matrix. The quantized formats keep the checkpoint's blocks and scales.
enum {
    CPU_WEIGHT_F32 = 0,
    CPU_WEIGHT_F16 = 1,
    CPU_WEIGHT_BF16 = 2,
    CPU_WEIGHT_Q8_0 = 3,
    CPU_WEIGHT_Q4_0 = 4,
    CPU_WEIGHT_Q4_1 = 5,
    CPU_WEIGHT_Q5_0 = 6,
    CPU_WEIGHT_Q5_1 = 7,
    CPU_WEIGHT_Q2_K = 8,
    CPU_WEIGHT_Q4_K = 9,
    CPU_WEIGHT_Q5_K = 10,
    CPU_WEIGHT_Q6_K = 11,
    CPU_WEIGHT_IQ4_XS = 12,
    CPU_WEIGHT_MXFP4 = 13,
    /// Blocks of 32: an f32 scale, the 8-bit code of zero, and codes of 4 or 8 bits.
    CPU_WEIGHT_INT4 = 14,
    CPU_WEIGHT_INT8 = 15,
    /// Blocks of 32: an f32 scale and floats of 8 bits.
    CPU_WEIGHT_E4M3 = 16,
    /// Only as a checkpoint's: packed as Q6_K and Q8_0, which hold the same values.
    CPU_WEIGHT_Q3_K = 17,
    CPU_WEIGHT_IQ4_NL = 18,
    /// Only as packed, of bf16: for dot products of pairs, of activations rounded to bf16 (CPU_AVX512_BF16; columns a
    /// multiple of 32).
    CPU_WEIGHT_BF16_PAIRS = 19,
};

typedef struct cpu_context cpu_context;

/// Rows of a weight that share a storage format, repacked into groups of `cpu_row_group` interleaved rows.
typedef struct {
    /// One of CPU_WEIGHT_*.
    int32_t format;
    /// Output features of this segment, and the first of them within the weight.
    int64_t rows;
    int64_t first_row;
    /// The repacked bytes: `cpu_segment_bytes` of them, 64-byte aligned.
    uint8_t *data;
} cpu_segment;

/// A weight: segments stacked in row order.
typedef struct {
    int64_t rows;
    int64_t columns;
    int64_t segment_count;
    const cpu_segment *segments;
    /// For `cpu_embed`, of a table of which there is only a part: the token of the first row; tokens of other parts give
    /// zeros. −1 where the table is whole.
    int64_t first_token;
} cpu_weight;

/// How keys and values are kept.
enum { CPU_KV_F32, CPU_KV_BF16, CPU_KV_INT8 };

/// Bytes of one head's keys, or values, of one block: elements and, for 8-bit integers, each token's scale.
static inline int64_t cpu_kv_head_bytes(int32_t type, int64_t block_size, int64_t head_dim) {
    return block_size * (type == CPU_KV_F32 ? 4 * head_dim : type == CPU_KV_BF16 ? 2 * head_dim : head_dim + 4);
}

/// Cached keys and values of a layer: blocks of [kv_heads, block_size × head_dim] elements, laid out as attention.h says.
typedef struct {
    void *keys;
    void *values;
    int64_t block_size;
    int64_t kv_heads;
    int64_t head_dim;
    /// One of CPU_KV_*.
    int32_t type;
} cpu_kv_layer;

/// One step's queries; see `AttentionBatch` in Swift.
typedef struct {
    /// [tokens, q_stride], heads × head_dim of each row used.
    const float *q;
    int64_t q_stride;
    /// [tokens, heads × head_dim]
    float *output;
    int64_t heads;
    float scale;
    int64_t sequences;
    /// [sequences + 1], [sequences, blocks_per_sequence], [tokens]
    const int32_t *query_starts;
    const int32_t *block_tables;
    int64_t blocks_per_sequence;
    const int32_t *positions;
    /// Positions that a row looks back on, its own included; 0 for all. Table entries behind are not read.
    int64_t window;
    /// Scores s become cap · tanh(s / cap); 0 leaves them.
    float soft_cap;
    /// [heads] Scores that take their share of the weights and have no value; NULL for none.
    const float *sinks;
} cpu_attention_batch;

/// How a gated block activates its gate; gates.c says what each computes.
enum {
    CPU_GATE_SILU = 0,
    CPU_GATE_GELU_TANH = 1,
    CPU_GATE_CLAMPED = 2,
};

/// The feed-forward networks of a layer, of which a row goes through `used`; see `ExpertWeights` in Swift.
typedef struct {
    int64_t count;
    int64_t used;
    /// Whether the weights of those used are made to add up to 1.
    bool is_normalized;
    int32_t gate;
    float limit;
    int64_t hidden;
    int64_t ffn;
    /// [count] each, [2 × ffn, hidden] and [hidden, ffn].
    const cpu_weight *gate_up;
    const cpu_weight *down;
    /// [count, 2 × ffn] and [count, hidden], or NULL.
    const float *gate_up_bias;
    const float *down_bias;
} cpu_experts;

/// The most rows of an adapter's inner matrix.
#define CPU_MAX_RANK 256

/// What adapters add to a part of a matrix's outputs; see `LowRankDeltas` in Swift.
typedef struct {
    /// [slots × max_rank, columns] and [slots × max_rank, width], of which each slot uses as many rows as its rank.
    const float *down;
    const float *up;
    /// [slots] 0 to max_rank, which is at most CPU_MAX_RANK.
    const int32_t *ranks;
    int64_t max_rank;
    int64_t columns;
    int64_t width;
    /// First output that changes.
    int64_t first;
} cpu_low_rank;

/// How to choose a token from a row of logits; see `SamplingRow` in Swift.
typedef struct {
    float temperature;
    float top_p;
    float min_p;
    int64_t top_k;
    uint64_t seed;
    uint64_t position;
    /// Alternatives to report, or negative for no log-probabilities.
    int64_t alternatives;
    /// The token to report instead of choosing one, or negative.
    int64_t scored;
    /// Place in `cpu_logit_adjustments.rows`, or negative for none.
    int64_t adjustment;
    /// Place in `cpu_logit_adjustments.masks`, or negative for none.
    int64_t mask;
} cpu_sampling_row;

/// A number added to a token's logit.
typedef struct {
    int32_t token;
    float bias;
} cpu_token_bias;

/// How often a token was generated, and whether the prompt holds it.
typedef struct {
    int32_t token;
    int32_t generated;
    int32_t is_in_prompt;
} cpu_token_count;

/// What is done to one row: ranges of the lists below. `allowed_count` is negative where all tokens are allowed.
typedef struct {
    int64_t first_bias, bias_count;
    int64_t first_count, count_count;
    int64_t first_allowed, allowed_count;
    float presence_penalty;
    float frequency_penalty;
    /// 1 is off.
    float repetition_penalty;
} cpu_logit_adjustment;

/// What is done to the rows of one call; see `LogitAdjustments` in Swift.
typedef struct {
    const cpu_logit_adjustment *rows;
    const cpu_token_bias *biases;
    const cpu_token_count *counts;
    const int32_t *allowed;
    /// [masks, ceil(vocab / 32)] Bit t % 32 of word t / 32 is 0 where token t may not be chosen.
    const uint32_t *masks;
} cpu_logit_adjustments;

/// Where `cpu_sample` writes; see `SamplingResults` in Swift.
typedef struct {
    int32_t *tokens;
    float *logprobs;
    bool *is_finite;
    int32_t *ranks;
    /// [rows, alternative_stride]
    int32_t *alternative_tokens;
    float *alternative_logprobs;
    int64_t alternative_stride;
} cpu_sampling_results;

// Context.

/// Whether this machine (and this build) can run an instruction set.
bool cpu_isa_available(int isa);
/// A context of `threads` (≥ 1) threads, the caller's included; NULL when threads or memory could not be had.
cpu_context *cpu_context_create(int isa, int threads);
/// Joins the threads and frees everything.
void cpu_context_destroy(cpu_context *context);

// Memory.

/// Zeroed, page-aligned, lazily touched memory, or NULL. `huge`: worth large pages because it is streamed.
void *cpu_map(uint64_t bytes, bool huge);
void cpu_unmap(void *address, uint64_t bytes);

// Weights.

/// Rows that are interleaved into one group; padding rows of a last group are zero.
int64_t cpu_row_group(const cpu_context *context);
/// Bytes of a segment, a multiple of 64.
uint64_t cpu_segment_bytes(const cpu_context *context, int32_t format, int64_t rows, int64_t columns);
/// Converts `row_count` stored rows into `segment` from its row `row_offset` (a multiple of the row group) on. A
/// `source_format` other than the segment's is allowed when the segment is CPU_WEIGHT_F32.
void cpu_pack_rows(
    cpu_context *context, const cpu_segment *segment, int64_t columns, const void *source, int32_t source_format,
    int64_t row_offset, int64_t row_count);

// Operations.

/// Between these two, operations on `tokens` rows are only noted, and run together: each thread then takes some of the
/// rows through all of them. So a row must depend on no other's but through keys and values of its own sequence.
/// Ending reports false when an operation could not get its memory.
void cpu_begin_step(cpu_context *context, int64_t tokens);
bool cpu_end_step(cpu_context *context);

void cpu_embed(
    cpu_context *context, const int32_t *tokens, int64_t token_count, const cpu_weight *table, float *output);
void cpu_rms_norm(
    cpu_context *context, const float *x, int64_t tokens, int64_t hidden, const float *weight, float epsilon,
    float *output);
/// output[t] (+)= weight · x[t].
bool cpu_linear(
    cpu_context *context, const float *x, int64_t tokens, int64_t x_stride, const cpu_weight *weight, float *output,
    int64_t output_stride, bool accumulate);
/// `interleaved`: pairs (0, 1), (2, 3), …; else (0, rotary/2), (1, rotary/2 + 1), …. Turned elements are multiplied by
/// `magnitude`.
bool cpu_rotate(
    cpu_context *context, float *x, int64_t tokens, int64_t stride, int64_t heads, int64_t head_dim,
    const int32_t *positions, const float *frequencies, int64_t frequency_count, float magnitude, bool interleaved);
void cpu_store_kv(
    cpu_context *context, const float *qkv, int64_t tokens, int64_t stride, int64_t key_offset, int64_t value_offset,
    const int32_t *slots, const cpu_kv_layer *layer);
bool cpu_attend(cpu_context *context, const cpu_attention_batch *batch, const cpu_kv_layer *layer);
void cpu_gate(cpu_context *context, const float *x, int64_t tokens, int64_t ffn, float *output);
/// The same with any of CPU_GATE_*; `limit` is that of CPU_GATE_CLAMPED.
void cpu_gate_by(
    cpu_context *context, int32_t kind, float limit, const float *x, int64_t tokens, int64_t ffn, float *output);
/// Normalizes `heads` parts of each row in place, from `offset` on.
void cpu_norm_heads(
    cpu_context *context, float *x, int64_t rows, int64_t stride, int64_t offset, int64_t heads, int64_t head_dim,
    const float *weight, float epsilon);
/// Adds the norm of each row to `output`.
void cpu_add_rms_norm(
    cpu_context *context, float *x, int64_t rows, int64_t hidden, const float *weight, float epsilon, float *output);
void cpu_multiply_rows(cpu_context *context, float *x, int64_t rows, int64_t width, float factor);
void cpu_soft_cap(cpu_context *context, float *x, int64_t rows, int64_t width, float cap);
void cpu_add_bias(cpu_context *context, float *x, int64_t rows, int64_t stride, const float *bias, int64_t width);
/// Adds to `output` [rows, hidden] what the experts that `logits` [rows, count] choose make of `x` [rows, hidden].
bool cpu_mix_experts(
    cpu_context *context, const cpu_experts *experts, const float *x, const float *logits, int64_t rows, float *output);
/// output[t] += what the adapter choices[t] makes of x[t]; a negative choice adds nothing. What `deltas` points to stays.
void cpu_add_low_rank(
    cpu_context *context, const cpu_low_rank *deltas, const float *x, int64_t rows, int64_t x_stride,
    const int32_t *choices, float *output, int64_t output_stride);
void cpu_gather_rows(
    cpu_context *context, const float *x, int64_t width, const int32_t *rows, int64_t row_count, float *output);
/// `adjustments`: NULL when no row has any.
bool cpu_sample(
    cpu_context *context, const float *logits, int64_t rows, int64_t vocab, const cpu_sampling_row *parameters,
    const cpu_logit_adjustments *adjustments, const cpu_sampling_results *results);
/// Philox4x32-10: four random words from a counter and a key.
void cpu_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t output[4]);

// Limits of the machine, for `apus bench roofline`; the caller takes the time.

/// Kinds of products.
enum {
    CPU_PRODUCT_INT8 = 0,
    CPU_PRODUCT_BF16 = 1,
    CPU_PRODUCT_F32 = 2,
};

/// Reads `bytes` bytes (a few kilobytes at least) `rounds` times, every thread its own part.
void cpu_read_memory(cpu_context *context, const void *data, uint64_t bytes, int64_t rounds);
/// Multiplies and adds in registers on every thread; how many operations (two for a product and its sum), or 0 where
/// the context's instruction set has no such product.
int64_t cpu_multiply(cpu_context *context, int product, int64_t rounds);

// For tests of the worker pool.

/// Runs an empty task on all threads: each adds 1 to its slot of `visits` [threads].
void cpu_visit(cpu_context *context, int64_t *visits);

#endif
