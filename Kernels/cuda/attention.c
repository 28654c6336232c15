// Launch shapes of Kernels/attention.cu, and the sizes of what it works in. Grids follow from a step's counts and the
// device, never from lengths: the kernels find their work in the plan.

#include "CUDAKernels.h"
#include "pages.cuh"
#include "tiles.h"

enum {
    PLAN_THREADS = 256,
    DECODE_THREADS = 128,
    PREFILL_THREADS = 256,
    COMBINE_THREADS = 128,
    /// That fit on a multiprocessor.
    COMBINE_BLOCKS = 6,
    /// Decode blocks of the kernels over bf16 with options that do, and over panels.
    OPTIONS_BLOCKS = 2,
    PANEL_BLOCKS = 3,
    /// Positions that a prefill block stages at a time, twice, keys and values.
    STAGE_TOKENS = 64,
    /// Query rows whose context is cut in prefill, for which there should be room even where sequences are few.
    CUT_ROWS = 64,
};

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

static int64_t spans_of(int64_t tokens) { return (tokens + CUDA_SPAN_TOKENS - 1) / CUDA_SPAN_TOKENS; }

/// Those of panels.
static bool find_panel_kernels(
    int32_t head_dim, bool has_options, int32_t *decode, int32_t *prefill, int32_t *decode_blocks) {
    const bool is_small = head_dim == 64;
    if (has_options) {
        *decode = is_small ? CUDA_KERNEL_attend_decode_panels_options_64 : CUDA_KERNEL_attend_decode_panels_options_128;
        *prefill =
            is_small ? CUDA_KERNEL_attend_prefill_hopper_options_64 : CUDA_KERNEL_attend_prefill_hopper_options_128;
    } else {
        *decode = is_small ? CUDA_KERNEL_attend_decode_panels_64 : CUDA_KERNEL_attend_decode_panels_128;
        *prefill = is_small ? CUDA_KERNEL_attend_prefill_hopper_64 : CUDA_KERNEL_attend_prefill_hopper_128;
    }
    *decode_blocks = has_options ? OPTIONS_BLOCKS : PANEL_BLOCKS;
    return cuda_kv_takes_panels(head_dim);
}

/// The kernels of a head size and of a form of the cache, and how many decode blocks fit on a multiprocessor.
static bool find_kernels(
    int32_t head_dim, int32_t type, bool has_options, int32_t *decode, int32_t *prefill, int32_t *decode_blocks) {
    if (type == CUDA_KV_PANELS) return find_panel_kernels(head_dim, has_options, decode, prefill, decode_blocks);
    switch (head_dim) {
#define KERNELS(dimensions, kind) \
    *decode = CUDA_KERNEL_attend_decode_##kind##dimensions; \
    *prefill = CUDA_KERNEL_attend_prefill_##kind##dimensions;
#define HEAD_DIM(dimensions, blocks) \
    case dimensions: \
        *decode_blocks = has_options && !cuda_kv_has_codes(type) ? OPTIONS_BLOCKS : blocks; \
        if (type == CUDA_KV_E4M3) { KERNELS(dimensions, e4m3_) } \
        else if (type == CUDA_KV_INT8) { KERNELS(dimensions, int8_) } \
        else if (has_options) { KERNELS(dimensions, options_) } \
        else { KERNELS(dimensions, ) } \
        return true;
    HEAD_DIM(64, 3)
    HEAD_DIM(80, 3)
    HEAD_DIM(96, 3)
    HEAD_DIM(128, 3)
    HEAD_DIM(256, 2)
#undef HEAD_DIM
#undef KERNELS
    default: *decode = *prefill = -1; *decode_blocks = 0; return false;
    }
}

bool cuda_attention_supports(int32_t head_dim) {
    int32_t decode, prefill, blocks;
    return find_kernels(head_dim, CUDA_KV_BF16, false, &decode, &prefill, &blocks);
}

uint64_t cuda_attention_plan_bytes(int64_t max_sequences, int64_t max_tokens) {
    (void)max_tokens;
    return (uint64_t)(cuda_plan_slots(max_sequences) + max_sequences) * sizeof(int32_t);
}

int32_t cuda_attention_partial_spans(int64_t max_sequences, int64_t max_context) {
    int64_t rows = max_sequences > CUT_ROWS ? max_sequences : CUT_ROWS;
    return (int32_t)(max_sequences + least(rows * spans_of(max_context), CUDA_PARTIAL_SPANS));
}

uint64_t cuda_attention_partial_bytes(
    int64_t max_sequences, int64_t max_context, int32_t heads, int32_t head_dim) {
    uint64_t spans = (uint64_t)cuda_attention_partial_spans(max_sequences, max_context);
    return spans * (uint64_t)heads * ((uint64_t)head_dim + 2) * sizeof(float);
}

cuda_launch cuda_attention_plan_launch(const cuda_attention_plan_arguments *arguments) {
    (void)arguments;
    return (cuda_launch){
        .kernel = CUDA_KERNEL_attention_plan, .grid_x = 1, .grid_y = 1, .grid_z = 1, .threads = PLAN_THREADS,
    };
}

static bool has_options(const cuda_attend_arguments *arguments) {
    return arguments->window > 0 || arguments->soft_cap > 0 || arguments->sinks != 0;
}

cuda_launch cuda_attend_decode_launch(const cuda_attend_arguments *arguments) {
    const cuda_attention_batch *batch = &arguments->batch;
    int32_t decode, prefill, blocks;
    (void)find_kernels(
        batch->head_dim, arguments->cache.type, has_options(arguments), &decode, &prefill, &blocks);
    int64_t most_spans = spans_of((int64_t)batch->blocks_per_sequence * arguments->cache.block_size);
    int64_t warps = (int64_t)batch->sequence_count * most_spans * batch->kv_heads
        * cuda_decode_tiles(batch->heads, batch->kv_heads);
    return (cuda_launch){
        .kernel = decode,
        .grid_x = (uint32_t)least((int64_t)arguments->multiprocessors * blocks, (warps + 3) / 4),
        .grid_y = 1, .grid_z = 1, .threads = DECODE_THREADS,
    };
}

cuda_launch cuda_attend_combine_launch(const cuda_attend_arguments *arguments) {
    int64_t items = (int64_t)arguments->batch.token_count * arguments->batch.heads;
    return (cuda_launch){
        .kernel = CUDA_KERNEL_attend_combine,
        .grid_x = (uint32_t)least((int64_t)arguments->multiprocessors * COMBINE_BLOCKS, items), .grid_y = 1,
        .grid_z = 1, .threads = COMBINE_THREADS,
    };
}

/// Two stages of fragments and scales, and of 8 bits the codes of a tile.
static int32_t prefill_shared_bytes(int32_t type, int32_t head_dim) {
    const int32_t groups = 2 * STAGE_TOKENS / CUDA_GROUP_TOKENS;
    const int32_t fragments = cuda_kv_element_bytes(CUDA_KV_BF16, head_dim), scales = cuda_kv_scale_bytes(type);
    const int32_t codes = cuda_kv_has_codes(type) ? cuda_kv_element_bytes(type, head_dim) : 0;
    return groups * (2 * (fragments + scales) + codes);
}

cuda_launch cuda_attend_prefill_launch(const cuda_attend_arguments *arguments) {
    const cuda_attention_batch *batch = &arguments->batch;
    int32_t decode, prefill, blocks;
    (void)find_kernels(
        batch->head_dim, arguments->cache.type, has_options(arguments), &decode, &prefill, &blocks);
    int64_t columns = cuda_prefill_columns(batch->head_dim), group = batch->heads / batch->kv_heads;
    int64_t tiles = (int64_t)batch->token_count * group / columns + batch->sequence_count;
    int64_t most_spans = spans_of((int64_t)batch->blocks_per_sequence * arguments->cache.block_size);
    int64_t runs = batch->cuts_prefill ? (most_spans + CUDA_RUN_SPANS - 1) / CUDA_RUN_SPANS : 1;
    const bool is_hopper = arguments->cache.type == CUDA_KV_PANELS;
    return (cuda_launch){
        .kernel = prefill,
        .grid_x = (uint32_t)least(arguments->multiprocessors, tiles * runs * batch->kv_heads), .grid_y = 1,
        .grid_z = 1,
        .threads = is_hopper ? ATTENTION_HOPPER_THREADS : PREFILL_THREADS,
        .shared_bytes = (uint32_t)(is_hopper ? attention_hopper_shared_bytes(batch->head_dim)
                                             : prefill_shared_bytes(arguments->cache.type, batch->head_dim)),
    };
}
