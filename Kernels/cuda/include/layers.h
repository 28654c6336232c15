// The arguments of the kernels between the products: rows, rotation, the cache and attention. A part of CUDAKernels.h,
// which includes it.

#ifndef CUDA_KERNELS_LAYERS_H
#define CUDA_KERNELS_LAYERS_H

// MARK: Rows (embedding.cu, norm.cu, elementwise.cu, activation.cu)

/// output[i] = table[token i] as f32; a token −1 − r stands for `samples[r]`, the token chosen in row r of the step
/// before. A table may be rows `first_row`… of a larger one; ids outside it give zeros.
typedef struct {
    cuda_matrix table;
    cuda_address tokens;  // [tokens] i32
    cuda_address samples;  // [sampled rows] i32, or 0
    cuda_address output;  // [tokens, columns] f32
    int32_t token_count;
    int32_t first_row;
} cuda_embed_arguments;
cuda_launch cuda_embed_launch(const cuda_embed_arguments *arguments);

/// output[i] = x[rows[i]], f32.
typedef struct {
    cuda_address x;
    cuda_address rows;  // [row_count] i32
    cuda_address output;
    int32_t row_count;
    int32_t columns;
} cuda_gather_rows_arguments;
cuda_launch cuda_gather_rows_launch(const cuda_gather_rows_arguments *arguments);

/// output = x · weight / √(mean(x²) + epsilon), row by row, rounded to bf16; and what quantize_rows makes of that.
typedef struct {
    cuda_address x;  // [rows, columns] f32
    cuda_address weight;  // [columns] f32
    cuda_address output;  // [rows, columns] bf16
    cuda_address codes;  // [rows, columns] E4M3, columns being a multiple of 16; or 0
    cuda_address code_scales;  // [rows] f32
    int32_t row_count;
    int32_t columns;
    float epsilon;
    int32_t unused;
} cuda_rms_norm_arguments;
cuda_launch cuda_rms_norm_launch(const cuda_rms_norm_arguments *arguments);

/// Normalizes parts of rows, `width` columns each from `first` on: in place, or a single part a row added to `output`.
typedef struct {
    cuda_address x;  // [rows, x_stride] f32
    cuda_address weight;  // [width] f32
    cuda_address output;  // [rows, width] f32, or 0
    int32_t row_count;
    int32_t x_stride;
    int32_t first;
    int32_t parts;
    int32_t width;
    float epsilon;
} cuda_norm_parts_arguments;
cuda_launch cuda_norm_parts_launch(const cuda_norm_parts_arguments *arguments);

/// Functions of an element: x · number; number · tanh(x / number); x + bias of its column.
enum {
    CUDA_ELEMENT_MULTIPLY = 0,
    CUDA_ELEMENT_SOFT_CAP = 1,
    CUDA_ELEMENT_ADD_BIAS = 2,
};

/// Changes every element of x in place.
typedef struct {
    cuda_address x;  // [rows, columns] f32
    cuda_address bias;  // [columns] f32, or 0
    int32_t row_count;
    int32_t columns;
    float number;
    /// One of CUDA_ELEMENT_*.
    int32_t kind;
} cuda_change_elements_arguments;
cuda_launch cuda_change_elements_launch(const cuda_change_elements_arguments *arguments);

/// How a gate g is activated, and what is made of the other half u: activation.cu says what each computes.
enum {
    CUDA_GATE_SILU = 0,
    CUDA_GATE_GELU_TANH = 1,
    CUDA_GATE_CLAMPED = 2,
};

/// output = activation(x[:, :ffn], x[:, ffn:]), rounded to bf16.
typedef struct {
    cuda_address x;  // [tokens, 2 × ffn] f32
    cuda_address output;  // [tokens, ffn] bf16
    int32_t token_count;
    int32_t ffn;
    /// One of CUDA_GATE_*, and the limit of CUDA_GATE_CLAMPED.
    int32_t kind;
    float limit;
} cuda_gate_arguments;
cuda_launch cuda_gate_launch(const cuda_gate_arguments *arguments);

// MARK: Rotation and cache (rotary.cu)

/// Rotates the first `heads` heads of each row of x in place.
typedef struct {
    cuda_address x;  // [tokens, x_stride] f32
    cuda_address positions;  // [tokens] i32
    cuda_address frequencies;  // [frequency_count] f32: radians per position
    int32_t token_count;
    int32_t x_stride;
    int32_t heads;
    int32_t head_dim;
    int32_t frequency_count;
    /// 1 turns pairs (0, 1), (2, 3), …; 0 turns (0, dim/2), (1, dim/2 + 1), … with dim = 2 × frequency_count.
    int32_t interleaved;
    /// What turned elements are multiplied by.
    float magnitude;
    int32_t unused;
} cuda_rotate_arguments;
cuda_launch cuda_rotate_launch(const cuda_rotate_arguments *arguments);

/// table[t][i] = cosine and sine of positions[t] · frequencies[i], times `magnitude`: what `rotate` turns by, for
/// products that end in heads.
typedef struct {
    cuda_address positions;  // [tokens] i32
    cuda_address frequencies;  // [frequency_count] f32: radians per position
    cuda_address table;  // [tokens, frequency_count, 2] f32
    int32_t token_count;
    int32_t frequency_count;
    float magnitude;
    int32_t unused;
} cuda_rotary_table_arguments;
cuda_launch cuda_rotary_table_launch(const cuda_rotary_table_arguments *arguments);

/// How keys and values are kept: bf16, or codes of 8 bits (E4M3, or signed integers as the CPU's cache has them) and an f32
/// scale for each token's key and value of each head; or bf16 in panels, as the prefill kernel of compute capability 9.0
/// reads it, where the device has that and the head is one that it takes.
enum {
    CUDA_KV_BF16 = 0,
    CUDA_KV_E4M3 = 1,
    CUDA_KV_INT8 = 2,
    CUDA_KV_PANELS = 3,
};
/// Whether bf16 of heads of this size is kept in panels on a device of compute capability 9.0 that gives a block 227 KB.
bool cuda_kv_takes_panels(int32_t head_dim);

/// One layer's cached keys and values, `cuda_kv_bytes` each. The order inside is attention.cu's own: groups of 16 tokens of
/// a block and a head, in the panels or fragments that its products read (pages.cuh).
typedef struct {
    cuda_address keys;
    cuda_address values;
    /// A multiple of 16.
    int32_t block_size;
    int32_t kv_heads;
    /// A multiple of 16, up to 256.
    int32_t head_dim;
    /// One of CUDA_KV_*.
    int32_t type;
} cuda_kv_layer;
/// Bytes of the keys (or of the values) of `blocks` blocks.
uint64_t cuda_kv_bytes(int32_t type, int64_t blocks, int32_t block_size, int32_t kv_heads, int32_t head_dim);

/// Writes each row's keys and values to its slot (block × block_size + offset); a negative slot is skipped.
typedef struct {
    cuda_kv_layer cache;
    cuda_address qkv;  // [tokens, qkv_stride] f32
    cuda_address slots;  // [tokens] i32
    int32_t token_count;
    int32_t qkv_stride;
    int32_t key_offset;
    int32_t value_offset;
} cuda_store_kv_arguments;
cuda_launch cuda_store_kv_launch(const cuda_store_kv_arguments *arguments);

// MARK: Attention (attention.cu)

enum {
    /// A softmax runs over spans of this many positions; their results are folded in order. So the result of a row
    /// depends on its own context only, whichever kernel computes it and whoever else is in the batch.
    CUDA_SPAN_TOKENS = 128,
    /// Most spans whose partial results have a place of their own: a million tokens of context in one step. Sequences
    /// beyond it are folded one span after the other, more slowly and to the same bits.
    CUDA_PARTIAL_SPANS = 8192,
};

/// Which rows belong to which sequence, and the work list that `attention_plan` makes of it once a step.
typedef struct {
    cuda_address query_starts;  // [sequences + 1] i32
    cuda_address context_lengths;  // [sequences] i32; 0 for padding
    cuda_address block_tables;  // [sequences, blocks_per_sequence] i32
    cuda_address positions;  // [tokens] i32: row i of the step looks back on positions 0…positions[i]
    cuda_address plan;  // cuda_attention_plan_bytes
    int32_t sequence_count;
    int32_t blocks_per_sequence;
    int32_t token_count;
    int32_t kv_heads;
    int32_t heads;
    int32_t head_dim;
    /// cuda_attention_partial_spans: what the memory for partial results was made for.
    int32_t partial_spans;
    /// 1 cuts the long contexts of prefill sequences with few rows into runs, so that more of the device works on them.
    int32_t cuts_prefill;
} cuda_attention_batch;

/// Bytes of a plan for steps of at most this size.
uint64_t cuda_attention_plan_bytes(int64_t max_sequences, int64_t max_tokens);
/// Partial results (maximum, sum and output of a span, for all heads) for steps of at most this size, and their bytes.
/// Decode, and prefill that cuts contexts, leave them to combine; `max_context` is the longest context in tokens.
int32_t cuda_attention_partial_spans(int64_t max_sequences, int64_t max_context);
uint64_t cuda_attention_partial_bytes(
    int64_t max_sequences, int64_t max_context, int32_t heads, int32_t head_dim);

typedef struct {
    cuda_attention_batch batch;
} cuda_attention_plan_arguments;
cuda_launch cuda_attention_plan_launch(const cuda_attention_plan_arguments *arguments);

/// Causal attention. Sequences with one query row go to the decode kernel, the others to the prefill kernel; each
/// leaves the other's rows alone, so a mixed step launches both. Combine comes after them, once, if there was decode or
/// prefill that cuts contexts. Grids depend on the counts of the step's shape, never on lengths, so that a captured
/// launch can be replayed. The last row of a sequence looks back on the whole of its context. Slots at and beyond a
/// context, and table entries beyond it, may hold anything.
typedef struct {
    cuda_attention_batch batch;
    cuda_kv_layer cache;
    cuda_address q;  // [tokens, q_stride] f32: heads side by side, 16-byte aligned
    cuda_address output;  // [tokens, heads × head_dim] bf16
    cuda_address partial;  // cuda_attention_partial_bytes
    int32_t q_stride;
    float scale;
    /// Of the device: persistent launches fill them.
    int32_t multiprocessors;
    /// Positions that a row looks back on, its own included; 0 for all. What lies behind is not read.
    int32_t window;
    /// Scores s become cap · tanh(s / cap); 0 leaves them.
    float soft_cap;
    int32_t unused;
    cuda_address sinks;  // [heads] f32: scores that take part of the weights and have no value; 0 for none
} cuda_attend_arguments;
/// Whether a head of this size has kernels.
bool cuda_attention_supports(int32_t head_dim);
cuda_launch cuda_attend_decode_launch(const cuda_attend_arguments *arguments);
cuda_launch cuda_attend_combine_launch(const cuda_attend_arguments *arguments);
cuda_launch cuda_attend_prefill_launch(const cuda_attend_arguments *arguments);

#endif
