// The C interface of the CUDA kernels: the one argument each kernel takes, how it is launched, and how weights are laid
// out for it. Shared by the kernels (`Kernels/*.cu`), the backend that launches them, and the emulator.
//
// Every kernel takes exactly one argument, a struct of this file, by value. Addresses are device addresses, strides are
// in elements, activations are row-major. bf16 and f16 values are passed as their 16 bits.

#ifndef CUDA_KERNELS_H
#define CUDA_KERNELS_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/// An address in the device's memory.
typedef uint64_t cuda_address;

// MARK: Launches

/// All kernels, by family: the one list from which ids and names follow. X(name)
#define CUDA_KERNEL_LIST(X) \
    X(stamp) \
    X(embed) \
    X(gather_rows) \
    X(rms_norm) \
    X(norm_parts) \
    X(change_elements) \
    X(gate) \
    X(rotate) \
    X(store_kv) \
    X(attention_plan) \
    X(attend_decode_64) \
    X(attend_decode_80) \
    X(attend_decode_96) \
    X(attend_decode_128) \
    X(attend_decode_256) \
    X(attend_prefill_64) \
    X(attend_prefill_80) \
    X(attend_prefill_96) \
    X(attend_prefill_128) \
    X(attend_prefill_256) \
    X(attend_decode_options_64) \
    X(attend_decode_options_80) \
    X(attend_decode_options_96) \
    X(attend_decode_options_128) \
    X(attend_decode_options_256) \
    X(attend_prefill_options_64) \
    X(attend_prefill_options_80) \
    X(attend_prefill_options_96) \
    X(attend_prefill_options_128) \
    X(attend_prefill_options_256) \
    X(attend_combine) \
    X(linear_bf16_8) X(linear_bf16_16) X(linear_bf16_32) X(linear_bf16_64) X(linear_bf16_large) \
    X(linear_f16_8) X(linear_f16_16) X(linear_f16_32) X(linear_f16_64) X(linear_f16_large) \
    X(linear_f32_8) X(linear_f32_16) X(linear_f32_32) X(linear_f32_64) X(linear_f32_large) \
    X(linear_q8_0_8) X(linear_q8_0_16) X(linear_q8_0_32) X(linear_q8_0_64) X(linear_q8_0_large) \
    X(linear_q4_0_8) X(linear_q4_0_16) X(linear_q4_0_32) X(linear_q4_0_64) X(linear_q4_0_large) \
    X(linear_q4_1_8) X(linear_q4_1_16) X(linear_q4_1_32) X(linear_q4_1_64) X(linear_q4_1_large) \
    X(linear_q4_k_8) X(linear_q4_k_16) X(linear_q4_k_32) X(linear_q4_k_64) X(linear_q4_k_large) \
    X(linear_q5_k_8) X(linear_q5_k_16) X(linear_q5_k_32) X(linear_q5_k_64) X(linear_q5_k_large) \
    X(linear_q6_k_8) X(linear_q6_k_16) X(linear_q6_k_32) X(linear_q6_k_64) X(linear_q6_k_large) \
    X(linear_int4_8) X(linear_int4_16) X(linear_int4_32) X(linear_int4_64) X(linear_int4_large) \
    X(linear_int8_8) X(linear_int8_16) X(linear_int8_32) X(linear_int8_64) X(linear_int8_large) \
    X(linear_mxfp4_8) X(linear_mxfp4_16) X(linear_mxfp4_32) X(linear_mxfp4_64) X(linear_mxfp4_large) \
    X(linear_e4m3_8) X(linear_e4m3_16) X(linear_e4m3_32) X(linear_e4m3_64) X(linear_e4m3_large) \
    X(add_low_rank) \
    X(adjust_logits) \
    X(sample) \
    X(route_experts) \
    X(group_routes) \
    X(gate_experts) \
    X(combine_experts) \
    X(expert_linear_bf16_8) X(expert_linear_bf16_32) X(expert_linear_bf16_large) \
    X(expert_linear_f16_8) X(expert_linear_f16_32) X(expert_linear_f16_large) \
    X(expert_linear_f32_8) X(expert_linear_f32_32) X(expert_linear_f32_large) \
    X(expert_linear_q8_0_8) X(expert_linear_q8_0_32) X(expert_linear_q8_0_large) \
    X(expert_linear_q4_0_8) X(expert_linear_q4_0_32) X(expert_linear_q4_0_large) \
    X(expert_linear_q4_1_8) X(expert_linear_q4_1_32) X(expert_linear_q4_1_large) \
    X(expert_linear_q4_k_8) X(expert_linear_q4_k_32) X(expert_linear_q4_k_large) \
    X(expert_linear_q5_k_8) X(expert_linear_q5_k_32) X(expert_linear_q5_k_large) \
    X(expert_linear_q6_k_8) X(expert_linear_q6_k_32) X(expert_linear_q6_k_large) \
    X(expert_linear_int4_8) X(expert_linear_int4_32) X(expert_linear_int4_large) \
    X(expert_linear_int8_8) X(expert_linear_int8_32) X(expert_linear_int8_large) \
    X(expert_linear_mxfp4_8) X(expert_linear_mxfp4_32) X(expert_linear_mxfp4_large) \
    X(expert_linear_e4m3_8) X(expert_linear_e4m3_32) X(expert_linear_e4m3_large) \
    X(linear_hopper_8) X(linear_hopper_16) X(linear_hopper_32) X(linear_hopper_64) X(linear_hopper_128) \
    X(linear_hopper_192) X(attend_prefill_hopper_64) X(attend_prefill_hopper_128)

/// CUDA_KERNEL_embed, …: index of a kernel in the list.
enum {
#define CUDA_KERNEL_ID(name) CUDA_KERNEL_##name,
    CUDA_KERNEL_LIST(CUDA_KERNEL_ID)
#undef CUDA_KERNEL_ID
    CUDA_KERNEL_COUNT
};

/// The name of a kernel's entry in a fatbin, `apus_` and its name in the list; NULL for an id that is none.
const char *cuda_kernel_name(int32_t kernel);

/// How to launch a kernel: its id, its grid, threads of a block and bytes of dynamic shared memory.
typedef struct {
    int32_t kernel;
    uint32_t grid_x;
    uint32_t grid_y;
    uint32_t grid_z;
    uint32_t threads;
    uint32_t shared_bytes;
} cuda_launch;

// MARK: Stamp (stamp.cu)

/// Raised when an argument or a layout changes its meaning but not its size.
#define CUDA_KERNELS_VERSION 7

/// What kernels and backend must agree on. `stamp` writes the one its fatbin was built with, `cuda_kernels_stamp` returns
/// the one this program was built with; a difference means that the fatbins are of another version.
typedef struct {
    cuda_address output;  // u64
} cuda_stamp_arguments;
uint64_t cuda_kernels_stamp(void);

// MARK: Weights

/// Storage of a weight matrix. The quantized formats keep the checkpoint's integers, and its scales as far as it has them.
enum {
    CUDA_WEIGHT_BF16 = 0,
    CUDA_WEIGHT_F16 = 1,
    CUDA_WEIGHT_F32 = 2,
    CUDA_WEIGHT_Q8_0 = 3,
    CUDA_WEIGHT_Q4_0 = 4,
    CUDA_WEIGHT_Q4_1 = 5,
    CUDA_WEIGHT_Q4_K = 6,
    CUDA_WEIGHT_Q5_K = 7,
    CUDA_WEIGHT_Q6_K = 8,
    /// d · (q − z) with f16 scales, as GPTQ and AWQ have them.
    CUDA_WEIGHT_INT4 = 9,
    /// d · (q − z) with f32 scales.
    CUDA_WEIGHT_INT8 = 10,
    CUDA_WEIGHT_MXFP4 = 11,
    /// d · q with f32 scales.
    CUDA_WEIGHT_E4M3 = 12,
    CUDA_WEIGHT_FORMAT_COUNT = 13,
};

/// Storage of a matrix in a checkpoint. Tensors.DType says what each holds. Those without a format of their own become
/// another that holds the same numbers: q5_0 and iq4_nl q8_0, q3_k q6_k, iq4_xs int8, int4 whose scales are not f16 int8;
/// but q5_1 and q2_k are rounded to f16.
enum {
    CUDA_SOURCE_BF16 = 0,
    CUDA_SOURCE_F16,
    CUDA_SOURCE_F32,
    CUDA_SOURCE_Q8_0,
    CUDA_SOURCE_Q4_0,
    CUDA_SOURCE_Q4_1,
    CUDA_SOURCE_Q5_0,
    CUDA_SOURCE_Q5_1,
    CUDA_SOURCE_Q2_K,
    CUDA_SOURCE_Q3_K,
    CUDA_SOURCE_Q4_K,
    CUDA_SOURCE_Q5_K,
    CUDA_SOURCE_Q6_K,
    CUDA_SOURCE_IQ4_NL,
    CUDA_SOURCE_IQ4_XS,
    CUDA_SOURCE_MXFP4,
    CUDA_SOURCE_INT4,
    CUDA_SOURCE_INT8,
    CUDA_SOURCE_E4M3,
};

/// A packed matrix is cut into tiles of 16 rows and units of 64 columns (both padded with zeros). Inside a unit a
/// lane l = 4g + t of a warp owns rows g and g + 8; in step s (0…3), one mma.m16n8k16, it owns the columns
///     64 · unit + 32 · (s / 2) + 8 · t + 4 · (s % 2) + {0, 1, 2, 3},
/// the first two as the low half of k, the last two as the high half. So a lane's activations of half a unit are eight
/// adjacent columns, and a quantization block of 32 columns is two steps.
///
/// A fragment is a step's eight weights of a lane in the order of the instruction's A operand:
///     (g; 0, 1), (g + 8; 0, 1), (g; 2, 3), (g + 8; 2, 3).
///
/// Order in memory, tile after tile, unit after unit (bytes of a unit in brackets):
///   bf16, f16 [2048]  [step 4][lane 32][8 weights]
///   f32       [4096]  [step 4][half 2][lane 32][4 weights]
///   q8_0      [1024]  [block 2][lane 32][step of the block 2][8 weights]
///   int8, e4m3        as q8_0
///   q4_0, q4_1 [512]  [lane 32][step 4][8 weights in 32 bits: weight 2i in bits 4i…, weight 2i + 1 in bits 16 + 4i…]
///   q4_k, int4, mxfp4 as q4_0
///   q5_k       [640]  nibbles as q4_0; [lane 32] a bit more of each: pair p = 4 · step + i in bits p and 16 + p
///   q6_k       [768]  nibbles as q4_0; [lane 32][block 2] two bits more: pair p = 4 · (step % 2) + i in bits 2p… and
///                     16 + 2p…. Its scales are of 16 columns, so that step s owns 32 · (s / 2) + 16 · (s % 2) + 4 · t…
/// Scales, tile after tile, unit after unit, for the eight row pairs (g, g + 8):
///   q8_0, q4_0 [64]   [g 8][block 2][d of g, d of g + 8] f16
///   q4_1      [128]   [g 8][block 2][d of g, d of g + 8, m of g, m of g + 8] f16
///   q4_k, q5_k [64]   [g 8][block 2][s of g, s of g + 8, m of g, m of g + 8] bytes
///   q6_k       [64]   [g 8][block 2][s + 128 of g, 16 columns and 16, of g + 8 likewise] bytes
///   mxfp4      [32]   [g 8][block 2][e of g, e of g + 8] bytes
/// What more columns share, tile after tile, once for each 2^group_shift units:
///   q4_k, q5_k [64]   [g 8][d of g, d of g + 8, e of g, e of g + 8] f16
///   q6_k       [32]   [g 8][d of g, d of g + 8] f16
///   int4      [128]   [g 8][block 2][d of g, d of g + 8 f16, 128 + z of g, 128 + z of g + 8 bf16]
///   int8      [192]   [g 8][block 2][d of g, d of g + 8] f32, [g 8][block 2][z − 128 of g, of g + 8] bf16; q − 128
///   e4m3      [128]   [g 8][block 2][d of g, d of g + 8] f32
enum {
    CUDA_TILE_ROWS = 16,
    CUDA_UNIT_COLUMNS = 64,
    /// A row's units are cut into this many runs, [units · i / 8, units · (i + 1) / 8). Each is summed on its own, and
    /// the sums are added in order: the order of additions is the same for every kernel and every batch.
    CUDA_K_SLICES = 8,
};

/// A packed matrix, or a run of rows of one.
typedef struct {
    cuda_address data;
    /// 0 for plain formats.
    cuda_address scales;
    /// What more columns than a unit's may share; 0 where a format has none.
    cuda_address groups;
    /// One of CUDA_WEIGHT_*.
    int32_t format;
    /// Rows and columns without padding. `columns` is a multiple of 8 (of 32 when quantized).
    int32_t rows;
    int32_t columns;
    /// One of CUDA_LAYOUT_*.
    int32_t layout;
    int32_t group_shift;
    int32_t unused;
} cuda_matrix;

/// The order of a packed matrix: the fragments above, or, bf16 alone, the swizzled tiles of tiles.h, 64 rows by 64
/// columns, tile after tile of rows, unit after unit, padded with zeros.
enum {
    CUDA_LAYOUT_FRAGMENTS = 0,
    CUDA_LAYOUT_SWIZZLED = 1,
    /// Rows of a swizzled tile: matrices whose rows are a multiple of it can be stacked.
    CUDA_SWIZZLED_ROW_COUNT = 64,
};

/// How a checkpoint's matrix is packed.
typedef struct {
    /// One of CUDA_SOURCE_* and of CUDA_WEIGHT_*.
    int32_t source;
    int32_t format;
    int32_t group_shift;
    /// Bytes of a tile's weights, scales and groups.
    int32_t tile_bytes;
    int32_t tile_scale_bytes;
    int32_t tile_group_bytes;
} cuda_packing;

/// Columns of a checkpoint's block.
int32_t cuda_source_block_columns(int32_t source);
/// Chooses the packing of a matrix by its type and its scales. `bytes` are `rows` × `columns` weights, row-major.
cuda_packing cuda_packing_of(int32_t source, const uint8_t *bytes, int64_t rows, int64_t columns);
/// Packs tiles of a matrix into host memory. `first_tile` and `tile_count` choose those to write; `data`, `scales` and
/// `groups` are where the first of them goes, so that threads can share the work and large weights can be packed in
/// pieces.
void cuda_pack(
    const cuda_packing *packing, const uint8_t *bytes, int64_t rows, int64_t columns, int64_t first_tile,
    int64_t tile_count, uint8_t *data, uint8_t *scales, uint8_t *groups);

// MARK: Rows (embedding.cu, norm.cu, elementwise.cu, activation.cu)

/// output[i] = table[token i] as f32; a token −1 − r stands for `samples[r]`, the token chosen in row r of the step
/// before. Ids outside the table give zeros.
typedef struct {
    cuda_matrix table;
    cuda_address tokens;  // [tokens] i32
    cuda_address samples;  // [sampled rows] i32, or 0
    cuda_address output;  // [tokens, columns] f32
    int32_t token_count;
    int32_t unused;
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

/// output = x · weight / √(mean(x²) + epsilon), row by row, rounded to bf16.
typedef struct {
    cuda_address x;  // [rows, columns] f32
    cuda_address weight;  // [columns] f32
    cuda_address output;  // [rows, columns] bf16
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

// MARK: Matrices (linear.cu)

/// output[t] (+)= matrix · x[t].
typedef struct {
    cuda_matrix matrix;
    cuda_address x;  // [tokens, columns] bf16, rows 16-byte aligned
    cuda_address output;  // [tokens, ≥ rows] f32: the first of the matrix's rows
    int32_t token_count;
    int32_t x_stride;
    int32_t output_stride;
    /// 1 adds to the output, 0 overwrites it.
    int32_t accumulate;
    /// The most bytes of shared memory that the device gives a block, at least 99 KB.
    int32_t shared_limit;
    int32_t unused;
} cuda_linear_arguments;
cuda_launch cuda_linear_launch(const cuda_linear_arguments *arguments);

// MARK: Experts (experts.cu)

enum {
    /// The most experts of a layer.
    CUDA_MAX_EXPERTS = 4096,
};

/// Chooses the experts of each row of logits and what each has to say: the softmax over all, or over those chosen. Of
/// equal logits the first wins. A route is a row and one of its experts: route r is of row r / used.
typedef struct {
    cuda_address logits;  // [tokens, experts] f32
    cuda_address experts;  // [tokens, used] i32, the likeliest first
    cuda_address shares;  // [tokens, used] f32
    int32_t token_count;
    int32_t expert_count;
    int32_t used;
    int32_t is_normalized;
} cuda_route_experts_arguments;
cuda_launch cuda_route_experts_launch(const cuda_route_experts_arguments *arguments);

/// A block's share of the work: up to so many routes as its kernel multiplies at a time, all of one expert.
typedef struct {
    /// −1 when there is nothing to do.
    int32_t expert;
    /// Of the list of routes sorted by expert.
    int32_t first;
    int32_t count;
    int32_t unused;
} cuda_expert_item;

/// How many routes an item holds at most (8, 32 or 128), and how many items there are at most. Both follow from the
/// counts alone, so that a captured launch can be replayed.
int32_t cuda_expert_item_routes(int32_t route_count, int32_t expert_count);
int32_t cuda_expert_item_count(int32_t route_count, int32_t expert_count);

/// Sorts the routes by expert, each expert's in ascending order, and cuts them into items.
typedef struct {
    cuda_address experts;  // [routes] i32
    cuda_address order;  // [routes] i32: the routes, by expert
    cuda_address items;  // [cuda_expert_item_count] cuda_expert_item
    int32_t route_count;
    int32_t expert_count;
    int32_t item_routes;
    int32_t item_count;
} cuda_group_routes_arguments;
cuda_launch cuda_group_routes_launch(const cuda_group_routes_arguments *arguments);

/// A matrix of an expert, and which of the output's rows its first is.
typedef struct {
    cuda_matrix matrix;
    int32_t first_row;
    int32_t unused;
} cuda_expert_matrix;

/// output[r] = matrices of r's expert · x[r / routes_of_input_row], for every route r. Matrices of another format are
/// left out, so that formats take turns.
typedef struct {
    cuda_address matrices;  // [experts, parts] cuda_expert_matrix
    cuda_address order;
    cuda_address items;
    cuda_address x;  // [·, x_stride] bf16, rows 16-byte aligned
    cuda_address output;  // [routes, output_stride] f32
    int32_t route_count;
    int32_t expert_count;
    int32_t parts;
    /// The most rows of a part.
    int32_t part_rows;
    int32_t format;
    int32_t routes_of_input_row;
    int32_t x_stride;
    int32_t output_stride;
    int32_t shared_limit;
    int32_t unused;
} cuda_expert_linear_arguments;
cuda_launch cuda_expert_linear_launch(const cuda_expert_linear_arguments *arguments);

/// output = activation(x + bias of the route's expert), rounded to bf16.
typedef struct {
    cuda_address x;  // [routes, 2 × ffn] f32
    cuda_address bias;  // [experts, 2 × ffn] f32, or 0
    cuda_address experts;  // [routes] i32
    cuda_address output;  // [routes, ffn] bf16
    int32_t route_count;
    int32_t ffn;
    /// One of CUDA_GATE_*, and the limit of CUDA_GATE_CLAMPED.
    int32_t kind;
    float limit;
} cuda_gate_experts_arguments;
cuda_launch cuda_gate_experts_launch(const cuda_gate_experts_arguments *arguments);

/// output[t] += Σ share · (result + bias of the expert) over the routes of t, the likeliest first.
typedef struct {
    cuda_address results;  // [routes, hidden] f32
    cuda_address bias;  // [experts, hidden] f32, or 0
    cuda_address experts;  // [routes] i32
    cuda_address shares;  // [routes] f32
    cuda_address output;  // [tokens, hidden] f32
    int32_t token_count;
    int32_t used;
    int32_t hidden;
    int32_t unused;
} cuda_combine_experts_arguments;
cuda_launch cuda_combine_experts_launch(const cuda_combine_experts_arguments *arguments);

// MARK: Adapters (lora.cu)

/// output[t] += up[s] · (down[s] · x[t]) with s = choices[t]; nothing where that is negative.
typedef struct {
    cuda_address x;  // [tokens, columns] bf16
    cuda_address down;  // [slots × max_rank, columns] f32
    cuda_address up;  // [slots × max_rank, width] f32
    cuda_address ranks;  // [slots] i32, 0 to max_rank
    cuda_address choices;  // [tokens] i32
    cuda_address output;  // [tokens, output_stride] f32: the first column that changes
    int32_t token_count;
    int32_t columns;
    int32_t width;
    int32_t output_stride;
    /// At most 256.
    int32_t max_rank;
    int32_t unused;
} cuda_add_low_rank_arguments;
cuda_launch cuda_add_low_rank_launch(const cuda_add_low_rank_arguments *arguments);

// MARK: Matrices, compute capability 9.0 (linear_hopper.cu)

/// How a copy engine finds a box of a matrix: what the driver's `tensor_map_encode` makes, opaque. Among a kernel's
/// parameters it has to lie at a multiple of 64 bytes, which only the kernel's compiler needs to know.
#ifdef __CUDACC__
#define CUDA_PARAMETER_OF_64 __align__(64)
#else
#define CUDA_PARAMETER_OF_64
#endif
typedef struct CUDA_PARAMETER_OF_64 {
    uint64_t words[16];
} cuda_tensor_map;

/// The same product of a matrix in swizzled tiles. A row's sums have the same order for any number of tokens, but not
/// the order of `cuda_linear_arguments`' kernels.
typedef struct {
    /// Of x [tokens, columns] bf16: boxes of 64 columns by `cuda_linear_hopper_tokens` rows, swizzled by 128 bytes.
    cuda_tensor_map activations;
    cuda_matrix matrix;
    cuda_address output;  // [tokens, ≥ rows] f32: the first of the matrix's rows
    cuda_address partial;  // cuda_linear_hopper_partial_bytes
    cuda_address arrivals;  // cuda_linear_hopper_arrival_bytes, zeros; left as zeros
    /// u32 that the host can read: a warp that waits for seconds leaves CUDA_STUCK_* there and ends the kernel; or 0.
    cuda_address stuck;
    int32_t token_count;
    int32_t output_stride;
    /// 1 adds to the output, 0 overwrites it.
    int32_t accumulate;
    /// Of the device: persistent launches fill them.
    int32_t multiprocessors;
    uint64_t unused[4];
} cuda_linear_hopper_arguments;
/// Rows of the boxes of `activations`, which need not be set yet.
int32_t cuda_linear_hopper_tokens(const cuda_linear_hopper_arguments *arguments);
uint64_t cuda_linear_hopper_partial_bytes(int32_t multiprocessors);
uint64_t cuda_linear_hopper_arrival_bytes(int32_t multiprocessors);
/// The most shared memory that a launch takes.
uint32_t cuda_linear_hopper_shared_bytes(void);
cuda_launch cuda_linear_hopper_launch(const cuda_linear_hopper_arguments *arguments);

/// Bytes of a bf16 matrix in swizzled tiles; and packing, as `cuda_pack` does it, of tiles of 64 rows.
uint64_t cuda_swizzled_bytes(int64_t rows, int64_t columns);
void cuda_pack_swizzled(
    const uint8_t *source, int64_t rows, int64_t columns, int64_t first_tile, int64_t tile_count, uint8_t *data);

/// What a kernel waited for when it gave up.
enum {
    CUDA_STUCK_NOWHERE = 0,
    /// A multiplying warp for operands, the copying one for room.
    CUDA_STUCK_OPERANDS = 1,
    CUDA_STUCK_ROOM = 2,
};

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

/// One layer's cached keys and values, bf16, `cuda_kv_bytes` each. The order inside is attention.cu's own: groups of 16
/// tokens of a block and a head, in the fragments that its products read.
typedef struct {
    cuda_address keys;
    cuda_address values;
    /// A multiple of 16.
    int32_t block_size;
    int32_t kv_heads;
    /// A multiple of 16, up to 256.
    int32_t head_dim;
    int32_t unused;
} cuda_kv_layer;
/// Bytes of the keys (or of the values) of `blocks` blocks.
uint64_t cuda_kv_bytes(int64_t blocks, int32_t block_size, int32_t kv_heads, int32_t head_dim);

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
    /// 1 where the device is of compute capability 9.0 and gives a block 227 KB: prefill without options then takes
    /// prefill_hopper.cu, where that has a kernel for the head.
    int32_t takes_hopper;
    cuda_address sinks;  // [heads] f32: scores that take part of the weights and have no value; 0 for none
} cuda_attend_arguments;
/// Whether a head of this size has kernels.
bool cuda_attention_supports(int32_t head_dim);
cuda_launch cuda_attend_decode_launch(const cuda_attend_arguments *arguments);
cuda_launch cuda_attend_combine_launch(const cuda_attend_arguments *arguments);
cuda_launch cuda_attend_prefill_launch(const cuda_attend_arguments *arguments);

// MARK: Adjustments (adjustment.cu)

/// What is added to a token's logit; −∞ bans it.
typedef struct {
    int32_t token;
    float bias;
} cuda_token_bias;

/// How often a token was generated, and whether the prompt holds it.
typedef struct {
    int32_t token;
    int32_t generated;
    int32_t is_in_prompt;
} cuda_token_count;

/// What is done to one row of logits before choosing, in the order of the fields from `biases` on. Each list names a
/// token once.
typedef struct {
    cuda_address logits;  // [vocab] f32, left as it is
    cuda_address output;  // [vocab] f32
    cuda_address biases;  // [bias_count] cuda_token_bias
    cuda_address counts;  // [count_count] cuda_token_count
    cuda_address allowed;  // [allowed_count] i32
    int32_t bias_count;
    int32_t count_count;
    /// −1 allows every token.
    int32_t allowed_count;
    /// x > 0 ? x / r : x · r where prompt or output hold the token; 1 is off.
    float repetition_penalty;
    /// Times how often the token was generated.
    float frequency_penalty;
    float presence_penalty;
} cuda_logit_adjustment;

typedef struct {
    cuda_address rows;  // [row_count] cuda_logit_adjustment
    int32_t row_count;
    int32_t vocab;
} cuda_adjust_logits_arguments;
cuda_launch cuda_adjust_logits_launch(const cuda_adjust_logits_arguments *arguments);

// MARK: Sampling (sampling.cu)

enum { CUDA_MAX_ALTERNATIVES = 20 };

/// How to choose a token from one row of logits.
typedef struct {
    float temperature;
    float top_p;
    float min_p;
    int32_t top_k;
    /// Alternatives to report, or −1 for no log-probabilities.
    int32_t alternatives;
    /// Nothing is chosen but this token reported, or −1.
    int32_t scored_token;
    uint64_t seed;
    uint64_t position;
    /// [vocab / 32 rounded up] u32: bit i of word w allows token 32 w + i; 0 when all are allowed.
    cuda_address mask;
    /// [vocab] f32: what to choose from instead of the row, which log-probabilities stay those of; 0 for the row itself.
    cuda_address choice;
} cuda_sampling_row;

/// What was chosen; copied to the host as it is.
typedef struct {
    int32_t token;
    float logprob;
    /// 0 when the row held a NaN or no finite logit that the mask allows: nothing was chosen.
    int32_t is_finite;
    int32_t unused;
    int32_t alternative_tokens[CUDA_MAX_ALTERNATIVES];
    float alternative_logprobs[CUDA_MAX_ALTERNATIVES];
} cuda_sampling_result;

typedef struct {
    cuda_address logits;  // [rows, vocab] f32
    cuda_address rows;  // [rows] cuda_sampling_row
    cuda_address results;  // [rows] cuda_sampling_result
    cuda_address samples;  // [rows] i32: the tokens again, for the next step's embedding
    int32_t row_count;
    /// Up to 2¹⁹.
    int32_t vocab;
} cuda_sample_arguments;
cuda_launch cuda_sample_launch(const cuda_sample_arguments *arguments);

/// The value of both stamps: version, number of kernels and sizes of what crosses.
#define CUDA_KERNELS_STAMP \
    ((uint64_t)CUDA_KERNELS_VERSION << 32 | (uint64_t)CUDA_KERNEL_COUNT << 16 \
     | (sizeof(cuda_embed_arguments) + 3 * sizeof(cuda_linear_arguments) + 5 * sizeof(cuda_attend_arguments) \
        + 7 * sizeof(cuda_sampling_row) + 11 * sizeof(cuda_sampling_result) + 13 * sizeof(cuda_rotate_arguments) \
        + 17 * sizeof(cuda_linear_hopper_arguments)))

#ifdef __cplusplus
}
#endif

#endif
