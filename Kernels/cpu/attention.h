// What the parts of attention agree on: how a layer's cache is laid out, items of work, a thread's workspace. Private.
//
// bf16: keys [blocks, kv_heads, head_dim / 2, block_size, 2], values [blocks, kv_heads, block_size / 2, head_dim, 2].
// Neighbours, of a head's elements for keys and of positions for values, fill one 32-bit lane: the operand of a bf16
// dot product, and where there is none a shift and a mask away from two floats.
// f32:  keys [blocks, kv_heads, head_dim, block_size], values [blocks, kv_heads, block_size, head_dim].
// int8: keys [blocks, kv_heads][head_dim / 4, block_size, 4] plus 128, values [blocks, kv_heads][block_size / 4,
// head_dim, 4], each followed by the scales [block_size] f32 of that head and block: operands of an 8-bit dot product.

#ifndef ATTENTION_H
#define ATTENTION_H

#include "kernels.h"

enum {
    /// Positions of one chunk: a multiple of every block size.
    CHUNK = 128,
    /// Query rows of one item, unless the heads of one token are more.
    ITEM_ROWS = 48,
    /// Query rows that are multiplied together.
    TILE_ROWS = 6,
    /// Chunks of the shortest run a long context is cut into.
    MIN_RUN = 4,
    /// Most bytes of partial results; beyond them contexts are not cut.
    MAX_PARTIAL_BYTES = 64 << 20,
};

typedef struct {
    int32_t sequence;
    int32_t kv_head;
    int32_t first_token;
    int32_t token_count;
    int32_t first_chunk;
    int32_t chunk_count;
    /// The first chunk that the query tile looks back on.
    int32_t tile_chunk;
    /// Index of the first (row, chunk) partial result of the query tile, or −1 when one item does all chunks.
    int64_t partial;
    /// Chunks of the tile's context, the stride between a row's and the next row's partials.
    int64_t partial_stride;
} attention_item;

typedef struct {
    const cpu_attention_batch *batch;
    const cpu_kv_layer *layer;
    attention_item *items;
    int64_t item_count;
    /// Items that a thread takes together: all heads of a query tile, whose keys lie side by side, when there are enough.
    int64_t items_together;
    int64_t group;
    /// Each worker's own memory, `workspace_stride` floats apart; see `workspace`.
    float *workspaces;
    int64_t workspace_stride;
    int64_t max_rows;
    /// [partials, head_dim + 2]: weighted values, maximum, sum.
    float *partials;
    bool has_partials;
    work_counter next;
    work_counter next_fold;
} attention_arguments;

/// What one item works in. `rows` is a multiple of 16, so that row numbers can be computed 16 at a time.
typedef struct {
    /// [rows, CHUNK] scores of a chunk, then the weights in their place.
    float *scores;
    /// [rows, head_dim] and [rows]: results of the current chunk.
    float *chunk_values;
    float *chunk_maxima;
    float *chunk_sums;
    /// The same of all chunks so far.
    float *values;
    float *maxima;
    float *sums;
    /// [rows] What the results so far and the chunk's are multiplied by when they are folded.
    float *old_factors;
    float *new_factors;
    /// [rows, head_dim] queries, as the dot product wants them; with 8-bit keys, see attention_int8.h.
    float *queries;
    /// [rows] What integer scores are multiplied by; integer weighted values of a chunk.
    float *query_factors;
    float *value_factors;
    /// [CHUNK] Scales of a chunk's keys and values in 8 bits.
    float *key_scales;
    float *value_scales;
    /// [head_dim, CHUNK] keys of a chunk, copied when a block has fewer positions than a vector has lanes.
    float *copied_keys;
    /// [rows] How many positions of the chunk each row may see, and how many of these lie behind its window.
    int32_t *limits;
    int32_t *starts;
} workspace;

static inline int64_t workspace_floats(int64_t rows, int64_t head_dim) {
    rows = round_up(rows, 16);
    return rows * (CHUNK + 3 * head_dim + 10) + CHUNK * head_dim + 2 * CHUNK;
}

static inline workspace workspace_at(float *base, int64_t rows, int64_t head_dim) {
    rows = round_up(rows, 16);
    workspace w;
    w.scores = base;
    w.chunk_values = w.scores + rows * CHUNK;
    w.values = w.chunk_values + rows * head_dim;
    w.queries = w.values + rows * head_dim;
    w.copied_keys = w.queries + rows * head_dim;
    w.maxima = w.copied_keys + CHUNK * head_dim;
    w.sums = w.maxima + rows;
    w.chunk_maxima = w.sums + rows;
    w.chunk_sums = w.chunk_maxima + rows;
    w.old_factors = w.chunk_sums + rows;
    w.new_factors = w.old_factors + rows;
    w.query_factors = w.new_factors + rows;
    w.value_factors = w.query_factors + rows;
    w.key_scales = w.value_factors + rows;
    w.value_scales = w.key_scales + CHUNK;
    w.limits = (int32_t *)(w.value_scales + CHUNK);
    w.starts = w.limits + rows;
    return w;
}

/// Bytes of all heads' keys, or values, of one block.
static inline int64_t kv_block_bytes(const cpu_kv_layer *layer) {
    return layer->kv_heads * cpu_kv_head_bytes(layer->type, layer->block_size, layer->head_dim);
}

/// Whether scores are in base 2, as they are where the queries were rounded or scaled anyway.
static inline bool is_base_2(const cpu_kv_layer *layer) { return layer->type != CPU_KV_F32; }

static inline float *partial_at(
    const attention_arguments *a, const attention_item *item, int64_t row, int64_t chunk) {
    return a->partials + (item->partial + row * item->partial_stride + chunk - item->tile_chunk) * (a->layer->head_dim + 2);
}

static inline float *output_of(const attention_arguments *a, const attention_item *item, int64_t row) {
    int64_t token = item->first_token + row / a->group, head = item->kv_head * a->group + row % a->group;
    return a->batch->output + (token * a->batch->heads + head) * a->layer->head_dim;
}

/// The first position that a row looks back on.
static inline int64_t window_start(const cpu_attention_batch *batch, int64_t token) {
    int64_t behind = batch->positions[token] + 1 - batch->window;
    return batch->window > 0 && behind > 0 ? behind : 0;
}

static inline int64_t first_chunk_of(const cpu_attention_batch *batch, int64_t token) {
    return window_start(batch, token) / CHUNK;
}

static inline int64_t chunks_of(const cpu_attention_batch *batch, int64_t last_token) {
    return batch->positions[last_token] / CHUNK + 1;
}

#endif
