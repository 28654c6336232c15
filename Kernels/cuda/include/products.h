// The arguments of the kernels that multiply by weights: layers, experts, adapters, and Hopper's own. A part of
// CUDAKernels.h, which includes it.

#ifndef CUDA_KERNELS_PRODUCTS_H
#define CUDA_KERNELS_PRODUCTS_H

// MARK: Matrices (linear.cu)

/// output[t] (+)= matrix · x[t]; or only which of each sixteen rows has the highest result.
typedef struct {
    cuda_matrix matrix;
    cuda_address x;  // [tokens, columns] bf16, rows 16-byte aligned
    cuda_address output;  // [tokens, ≥ rows] f32: the first of the matrix's rows
    cuda_address ranks;  // [tokens, rows / 16 rounded up] u64 (ranks.cuh) in place of the output; or 0
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

// MARK: Endings (endings.cuh)

/// What becomes of the sums of a product while they are still in registers, in place of kernels that would read them
/// again. Bits are those of the kernels it stands for.
enum {
    /// Stored, or added to the output.
    CUDA_ENDING_PLAIN = 0,
    /// The output is [tokens, rows / 2] bf16: the first of each pair of rows is a gate of the second.
    CUDA_ENDING_GATE = 1,
    /// Rows are heads of queries, keys and values: the first ones are rotated, keys and values go to the cache too.
    CUDA_ENDING_HEADS = 2,
};
typedef struct {
    cuda_address bias;  // [rows] f32, added to what is stored; or 0
    cuda_address rotation;  // [tokens, head_dim / 2] cosine and sine f32: cuda_rotary_table_arguments; or 0
    cuda_address slots;  // [tokens] i32 as of cuda_store_kv_arguments; or 0
    cuda_kv_layer cache;  // `head_dim` is the heads', with a cache or without
    cuda_address norm_weight;  // [rows] f32
    cuda_address normed;  // [tokens, rows] bf16: what rms_norm makes of the output, tokens being few; or 0
    cuda_address codes;  // [tokens, rows] E4M3: what quantize_rows makes of `normed`; or 0
    cuda_address code_scales;  // [tokens] f32
    cuda_address arrivals;  // u32, zero; left as zero
    /// One of CUDA_ENDING_*.
    int32_t kind;
    /// One of CUDA_GATE_*, and the limit of CUDA_GATE_CLAMPED.
    int32_t gate;
    float limit;
    /// Rows that are rotated, all of them before the values.
    int32_t rotated_rows;
    /// The first row of keys and of values.
    int32_t key_row;
    int32_t value_row;
    float epsilon;
    int32_t unused;
} cuda_ending;

enum {
    /// Up to so many tokens a product may end in heads, and up to so many in a norm, which one block computes.
    CUDA_ENDING_HEADS_TOKENS = 64,
    CUDA_ENDING_NORM_TOKENS = 4,
};

/// What the kernels of linear.cu take.
typedef struct {
    cuda_linear_arguments product;
    cuda_ending ending;
} cuda_ended_linear_arguments;
cuda_launch cuda_ended_linear_launch(const cuda_ended_linear_arguments *arguments);

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
    /// Of x [tokens, columns] bf16, or of codes, two for one: boxes of 64 by `cuda_linear_hopper_box_rows` rows, swizzled
    /// by 128 bytes.
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
    cuda_ending ending;
    cuda_address input_scales;  // [tokens] f32, where weights and x are 8-bit floats
    cuda_address ranks;  // as those of cuda_linear_arguments
    uint64_t unused[2];
} cuda_linear_hopper_arguments;
/// Which kernel multiplies, by the width of its tiles; `activations` need not be set yet. And the rows of its boxes.
int32_t cuda_linear_hopper_variant(const cuda_linear_hopper_arguments *arguments);
int32_t cuda_linear_hopper_box_rows(int32_t variant);
uint64_t cuda_linear_hopper_partial_bytes(int32_t multiprocessors);
uint64_t cuda_linear_hopper_arrival_bytes(int32_t multiprocessors);
/// The most shared memory that a launch takes.
uint32_t cuda_linear_hopper_shared_bytes(void);
cuda_launch cuda_linear_hopper_launch(const cuda_linear_hopper_arguments *arguments);
/// The same by any variant: no bit depends on it.
cuda_launch cuda_linear_hopper_launch_of(const cuda_linear_hopper_arguments *arguments, int32_t variant);

/// Rows of x as 8-bit floats: x ≈ codes · scale, the least power of two that suffices. A row's codes follow from the row.
typedef struct {
    cuda_address x;  // [rows, columns] bf16
    cuda_address codes;  // [rows, columns] E4M3
    cuda_address scales;  // [rows] f32
    int32_t row_count;
    /// A multiple of 16.
    int32_t columns;
} cuda_quantize_rows_arguments;
cuda_launch cuda_quantize_rows_launch(const cuda_quantize_rows_arguments *arguments);

/// What a kernel waited for when it gave up.
enum {
    CUDA_STUCK_NOWHERE = 0,
    /// A multiplying warp for operands, the copying one for room.
    CUDA_STUCK_OPERANDS = 1,
    CUDA_STUCK_ROOM = 2,
};

#endif
