// Math:    output[t] = Σ_p softmax_p(scale · q[t] · k[p]) · v[p] over positions p ≤ position[t] of t's sequence.
// Shapes:  q [tokens, heads × head_dim]; keys [blocks, kv_heads, head_dim, block_size] (lanes run over positions),
//          values [blocks, kv_heads, block_size, head_dim], bf16 or f32; output [tokens, heads × head_dim].
// Launch:  an item is (sequence, kv head, a tile of query rows: tokens × the heads that share the kv head [, a run of
//          chunks]); threads take items. Positions go in chunks of CHUNK at fixed places of the sequence: each gives
//          (maximum, sum, weighted values), folded in order. So block size, prefill chunking, batch and threads
//          cannot change a bit. Long contexts of few queries are cut between chunks; their folds wait for a barrier.
// Bound:   decode: bytes of keys and values; prefill: multiply-adds.
// Checked: AttentionTests (f64 reference; bitwise over block size, prefill chunks, batch, threads; NaN in unused slots)
// Source:  Dao et al., "Flash-Decoding" (2023); fixed splits: He, "Defeating Nondeterminism in LLM Inference" (2025)

#ifndef ISA

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
    /// Index of the first (row, chunk) partial result of the query tile, or −1 when one item does all chunks.
    int64_t partial;
    /// Chunks of the whole context, the stride between a row's and the next row's partials.
    int64_t partial_stride;
} attention_item;

typedef struct {
    const cpu_attention_batch *batch;
    const cpu_kv_layer *layer;
    attention_item *items;
    int64_t item_count;
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

/// What one item works in: scores [rows, CHUNK], values [rows, head_dim], maxima and sums [rows], each of the current
/// chunk and of all chunks so far; and for each row its query and how many positions of the chunk it may see.
typedef struct {
    float *scores;
    float *chunk_values;
    float *chunk_maxima;
    float *chunk_sums;
    float *values;
    float *maxima;
    float *sums;
    const float **queries;
    int32_t *limits;
} workspace;

static int64_t workspace_floats(int64_t rows, int64_t head_dim) {
    return round_up(rows * (2 + CHUNK + 2 * head_dim + 4 + 1), 16);
}

static workspace workspace_at(float *base, int64_t rows, int64_t head_dim) {
    workspace w;
    w.queries = (const float **)base;
    w.scores = base + 2 * rows;
    w.chunk_values = w.scores + rows * CHUNK;
    w.values = w.chunk_values + rows * head_dim;
    w.maxima = w.values + rows * head_dim;
    w.sums = w.maxima + rows;
    w.chunk_maxima = w.sums + rows;
    w.chunk_sums = w.chunk_maxima + rows;
    w.limits = (int32_t *)(w.chunk_sums + rows);
    return w;
}

typedef struct {
    const float *qkv;
    int64_t tokens;
    int64_t stride;
    int64_t key_offset;
    int64_t value_offset;
    const int32_t *slots;
    const cpu_kv_layer *layer;
} store_arguments;

static float *partial_at(const attention_arguments *a, const attention_item *item, int64_t row, int64_t chunk) {
    return a->partials + (item->partial + row * item->partial_stride + chunk) * (a->layer->head_dim + 2);
}

static float *output_of(const attention_arguments *a, const attention_item *item, int64_t row) {
    int64_t token = item->first_token + row / a->group, head = item->kv_head * a->group + row % a->group;
    return a->batch->output + (token * a->batch->heads + head) * a->layer->head_dim;
}

static int64_t chunks_of(const cpu_attention_batch *batch, int64_t last_token) {
    return batch->positions[last_token] / CHUNK + 1;
}

#define FAMILY "attention.c"
#include "each_isa.h"

static const worker_task attention_tasks[CPU_ISA_COUNT] = EACH_ISA(attention_task);
static const worker_task store_tasks[CPU_ISA_COUNT] = EACH_ISA(store_task);

/// Visits the query tiles of the batch; writes their items when `items` is not NULL. Returns how many there are.
static int64_t list_items(
    const cpu_attention_batch *batch, int64_t kv_heads, int64_t tile_tokens, int64_t run, attention_item *items,
    int64_t group, int64_t *partial_count) {
    int64_t count = 0;
    *partial_count = 0;
    for (int64_t s = 0; s < batch->sequences; s++) {
        int64_t begin = batch->query_starts[s], end = batch->query_starts[s + 1];
        // The longest contexts first, so that no long item is left for the end.
        for (int64_t last = end; last > begin; last -= tile_tokens) {
            int64_t first = last - tile_tokens > begin ? last - tile_tokens : begin;
            int64_t chunks = chunks_of(batch, last - 1);
            bool is_cut = chunks > run;
            for (int64_t h = 0; h < kv_heads; h++) {
                for (int64_t chunk = 0; chunk < chunks; chunk += is_cut ? run : chunks) {
                    int64_t length = is_cut && chunks - chunk > run ? run : chunks - chunk;
                    if (items != NULL) {
                        items[count] = (attention_item){
                            (int32_t)s, (int32_t)h, (int32_t)first, (int32_t)(last - first), (int32_t)chunk,
                            (int32_t)length, is_cut ? *partial_count : -1, chunks,
                        };
                    }
                    count += 1;
                }
                if (is_cut) *partial_count += (last - first) * group * chunks;
            }
        }
    }
    return count;
}

/// How many chunks one item covers at most: enough items to keep all threads busy, none shorter than MIN_RUN.
static int64_t chunk_run(const cpu_attention_batch *batch, int64_t kv_heads, int64_t tile_tokens, int64_t threads) {
    if (threads == 1) return INT32_MAX;
    int64_t total = 0;
    for (int64_t s = 0; s < batch->sequences; s++) {
        int64_t begin = batch->query_starts[s], end = batch->query_starts[s + 1];
        for (int64_t last = end; last > begin; last -= tile_tokens) total += chunks_of(batch, last - 1);
    }
    int64_t run = total * kv_heads / (threads * 4);
    return run < MIN_RUN ? MIN_RUN : run;
}

bool cpu_attend(cpu_context *context, const cpu_attention_batch *batch, const cpu_kv_layer *layer) {
    int64_t group = batch->heads / layer->kv_heads;
    int64_t tile_tokens = group < ITEM_ROWS ? ITEM_ROWS / group : 1;
    int64_t threads = worker_pool_threads(context->pool);
    int64_t run = chunk_run(batch, layer->kv_heads, tile_tokens, threads);
    int64_t partials;
    int64_t count = list_items(batch, layer->kv_heads, tile_tokens, run, NULL, group, &partials);
    if (count == 0) return true;
    if (partials * (layer->head_dim + 2) * 4 > MAX_PARTIAL_BYTES) {
        // Long prompts have rows enough for all threads; cutting their contexts too would only cost memory.
        run = INT32_MAX;
        count = list_items(batch, layer->kv_heads, tile_tokens, run, NULL, group, &partials);
    }
    attention_arguments arguments = {
        .batch = batch, .layer = layer, .item_count = count, .group = group, .max_rows = tile_tokens * group,
        .workspace_stride = workspace_floats(tile_tokens * group, layer->head_dim), .has_partials = partials > 0,
    };
    arguments.items = scratch(context, SCRATCH_ITEMS, (uint64_t)count * sizeof(attention_item));
    arguments.workspaces = scratch(context, SCRATCH_ATTENTION, (uint64_t)(threads * arguments.workspace_stride) * 4);
    if (arguments.items == NULL || arguments.workspaces == NULL) return false;
    if (partials > 0) {
        arguments.partials = scratch(context, SCRATCH_PARTIALS, (uint64_t)(partials * (layer->head_dim + 2)) * 4);
        if (arguments.partials == NULL) return false;
    }
    (void)list_items(batch, layer->kv_heads, tile_tokens, run, arguments.items, group, &partials);
    if (count == 1) run_alone(context, attention_tasks[context->isa], &arguments);
    else if (partials > 0) run_on_all(context, attention_tasks[context->isa], &arguments);
    else run_on_available(context, attention_tasks[context->isa], &arguments);
    return true;
}

void cpu_store_kv(
    cpu_context *context, const float *qkv, int64_t tokens, int64_t stride, int64_t key_offset, int64_t value_offset,
    const int32_t *slots, const cpu_kv_layer *layer) {
    store_arguments arguments = { qkv, tokens, stride, key_offset, value_offset, slots, layer };
    if (tokens < 64) run_alone(context, store_tasks[context->isa], &arguments);
    else run_on_all(context, store_tasks[context->isa], &arguments);
}

#else

#define load_pair NAME(load_pair)
#define multiply_rows NAME(multiply_rows)
#define score_rows NAME(score_rows)
#define score_chunk NAME(score_chunk)
#define exponentiate_chunk NAME(exponentiate_chunk)
#define weigh_rows NAME(weigh_rows)
#define weigh_chunk NAME(weigh_chunk)
#define fold NAME(fold)
#define attend_item NAME(attend_item)
#define attend_item_bf16 NAME(attend_item_bf16)
#define attend_item_f32 NAME(attend_item_f32)
#define finish_row NAME(finish_row)
#define fold_partials NAME(fold_partials)

/// Two runs of eight cached elements as floats; indices are in elements.
INLINE f32x16 load_pair(const void *base, int64_t low, int64_t high, bool is_bf16) {
    if (is_bf16) {
        u16x8 a = *(const u16x8 *)((const uint16_t *)base + low), b = *(const u16x8 *)((const uint16_t *)base + high);
        return widen_bf16(__builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
    }
    f32x8 a = *(const f32x8 *)((const float *)base + low), b = *(const f32x8 *)((const float *)base + high);
    return __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}

/// Scores of `rows` query rows (a constant) against the first `octets` × 8 positions of a chunk.
INLINE void score_rows(
    const cpu_kv_layer *layer, const int64_t *key_octets, int octets, const float *const *queries, int rows,
    float scale, float *scores, bool is_bf16) {
    int64_t stride = layer->block_size;
    for (int o = 0; o < octets; o += 2) {
        int64_t low = key_octets[o], high = o + 1 < octets ? key_octets[o + 1] : low;
        f32x16 sums[TILE_ROWS];
        for (int r = 0; r < rows; r++) sums[r] = 0.0f;
        for (int64_t d = 0; d < layer->head_dim; d++) {
            f32x16 keys = load_pair(layer->keys, low + d * stride, high + d * stride, is_bf16);
            for (int r = 0; r < rows; r++) sums[r] = fma16(keys, (f32x16)queries[r][d], sums[r]);
        }
        for (int r = 0; r < rows; r++) *(f32x16 *)(scores + r * CHUNK + o * 8) = sums[r] * scale;
    }
}

/// chunk_values[r] = Σ over the first `limits[r]` positions of weight × value, for `rows` rows (a constant).
INLINE void weigh_rows(
    const cpu_kv_layer *layer, const int64_t *value_octets, const int32_t *limits, int rows, const float *weights,
    float *chunk_values, bool is_bf16) {
    int64_t head_dim = layer->head_dim;
    int common = limits[0];
    for (int r = 1; r < rows; r++) common = limits[r] < common ? limits[r] : common;
    for (int64_t d = 0; d < head_dim; d += 16) {
        int64_t high = d + 8 < head_dim ? 8 : 0;
        f32x16 sums[TILE_ROWS];
        for (int r = 0; r < rows; r++) sums[r] = 0.0f;
        for (int p = 0; p < common; p++) {
            int64_t at = value_octets[p / 8] + p % 8 * head_dim + d;
            f32x16 values = load_pair(layer->values, at, at + high, is_bf16);
            for (int r = 0; r < rows; r++) sums[r] = fma16(values, (f32x16)weights[r * CHUNK + p], sums[r]);
        }
        for (int r = 0; r < rows; r++) {
            // Positions that not all rows may see, each row on its own: what is masked is not even multiplied by 0.
            for (int p = common; p < limits[r]; p++) {
                int64_t at = value_octets[p / 8] + p % 8 * head_dim + d;
                f32x16 values = load_pair(layer->values, at, at + high, is_bf16);
                sums[r] = fma16(values, (f32x16)weights[r * CHUNK + p], sums[r]);
            }
            float *target = chunk_values + r * head_dim + d;
            if (high == 8) *(f32x16 *)target = sums[r];
            else *(f32x8 *)target = sums[r].lo;
        }
    }
}

#define ROWS_CASE(function, count, ...) case count: function(__VA_ARGS__); break;

INLINE void score_chunk(
    const attention_arguments *a, const workspace *w, const int64_t *octets, int octet_count, int from, int to,
    bool is_bf16) {
    for (int r = from; r < to; r += TILE_ROWS) {
        const float *const *queries = w->queries + r;
        float *scores = w->scores + r * CHUNK;
        float scale = a->batch->scale;
        switch (to - r) {
        ROWS_CASE(score_rows, 1, a->layer, octets, octet_count, queries, 1, scale, scores, is_bf16)
        ROWS_CASE(score_rows, 2, a->layer, octets, octet_count, queries, 2, scale, scores, is_bf16)
        ROWS_CASE(score_rows, 3, a->layer, octets, octet_count, queries, 3, scale, scores, is_bf16)
        ROWS_CASE(score_rows, 4, a->layer, octets, octet_count, queries, 4, scale, scores, is_bf16)
        ROWS_CASE(score_rows, 5, a->layer, octets, octet_count, queries, 5, scale, scores, is_bf16)
        default: score_rows(a->layer, octets, octet_count, queries, 6, scale, scores, is_bf16);
        }
    }
}

INLINE void weigh_chunk(
    const attention_arguments *a, const workspace *w, const int64_t *octets, int from, int to, bool is_bf16) {
    int64_t head_dim = a->layer->head_dim;
    for (int r = from; r < to; r += TILE_ROWS) {
        const int32_t *limits = w->limits + r;
        const float *weights = w->scores + r * CHUNK;
        float *values = w->chunk_values + r * head_dim;
        switch (to - r) {
        ROWS_CASE(weigh_rows, 1, a->layer, octets, limits, 1, weights, values, is_bf16)
        ROWS_CASE(weigh_rows, 2, a->layer, octets, limits, 2, weights, values, is_bf16)
        ROWS_CASE(weigh_rows, 3, a->layer, octets, limits, 3, weights, values, is_bf16)
        ROWS_CASE(weigh_rows, 4, a->layer, octets, limits, 4, weights, values, is_bf16)
        ROWS_CASE(weigh_rows, 5, a->layer, octets, limits, 5, weights, values, is_bf16)
        default: weigh_rows(a->layer, octets, limits, 6, weights, values, is_bf16);
        }
    }
}

/// Replaces the scores of the first `limit` positions by e^(score − maximum), the others by 0.
INLINE void exponentiate_chunk(float *scores, int limit, float *maximum, float *sum) {
    const s32x16 lanes = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 };
    f32x16 highest = -__builtin_inff();
    for (int p = 0; p < limit; p += 16) {
        f32x16 score = *(const f32x16 *)(scores + p);
        score = lanes + p < limit ? score : (f32x16)-__builtin_inff();
        highest = score > highest ? score : highest;
    }
    float largest = max16(highest);
    f32x16 sums = 0.0f;
    for (int p = 0; p < limit; p += 16) {
        f32x16 weight = exp16(*(const f32x16 *)(scores + p) - largest);
        weight = lanes + p < limit ? weight : (f32x16)0.0f;
        *(f32x16 *)(scores + p) = weight;
        sums += weight;
    }
    *maximum = largest;
    *sum = sum16(sums);
}

/// Folds a chunk's (maximum, sum, values) into a row's.
INLINE void fold(
    float *maximum, float *sum, float *values, float chunk_maximum, float chunk_sum, const float *chunk_values,
    int64_t head_dim) {
    float highest = chunk_maximum > *maximum ? chunk_maximum : *maximum;
    // Equal maxima are not subtracted, because they may be infinite.
    f32x16 differences = 0.0f;
    differences[0] = *maximum == highest ? 0.0f : *maximum - highest;
    differences[1] = chunk_maximum == highest ? 0.0f : chunk_maximum - highest;
    f32x16 factors = exp16(differences);
    float old = factors[0], new = factors[1];
    *maximum = highest;
    *sum = *sum * old + chunk_sum * new;
    for (int64_t d = 0; d < head_dim; d += 8) {
        *(f32x8 *)(values + d) = *(const f32x8 *)(values + d) * old + *(const f32x8 *)(chunk_values + d) * new;
    }
}

INLINE void finish_row(float *output, const float *values, float sum, int64_t head_dim) {
    for (int64_t d = 0; d < head_dim; d += 8) *(f32x8 *)(output + d) = *(const f32x8 *)(values + d) / sum;
}

INLINE void attend_item(const attention_arguments *a, const attention_item *item, const workspace *w, bool is_bf16) {
    const cpu_attention_batch *batch = a->batch;
    const cpu_kv_layer *layer = a->layer;
    int64_t head_dim = layer->head_dim, block_size = layer->block_size, group = a->group;
    int rows = (int)(item->token_count * group);
    for (int r = 0; r < rows; r++) {
        int64_t token = item->first_token + r / group, head = item->kv_head * group + r % group;
        w->queries[r] = batch->q + token * batch->q_stride + head * head_dim;
    }
    for (int r = 0; r < rows; r++) {
        w->maxima[r] = -__builtin_inff();
        w->sums[r] = 0;
    }
    memset(w->values, 0, (size_t)(rows * head_dim) * sizeof(float));
    const int32_t *table = batch->block_tables + item->sequence * batch->blocks_per_sequence;
    for (int64_t chunk = item->first_chunk; chunk < item->first_chunk + item->chunk_count; chunk++) {
        int from = rows, longest = 0;
        for (int r = rows - 1; r >= 0; r--) {
            int64_t limit = batch->positions[item->first_token + r / group] + 1 - chunk * CHUNK;
            w->limits[r] = (int32_t)(limit < 0 ? 0 : limit > CHUNK ? CHUNK : limit);
            if (w->limits[r] > 0) from = r;
            if (w->limits[r] > longest) longest = w->limits[r];
        }
        // Where each run of eight positions lies: block sizes are multiples of eight.
        int64_t key_octets[CHUNK / 8], value_octets[CHUNK / 8];
        int octets = (longest + 7) / 8;
        for (int o = 0; o < octets; o++) {
            int64_t position = chunk * CHUNK + o * 8, offset = position % block_size;
            int64_t page = (int64_t)table[position / block_size] * layer->kv_heads + item->kv_head;
            int64_t base = page * head_dim * block_size;
            key_octets[o] = base + offset;
            value_octets[o] = base + offset * head_dim;
        }
        score_chunk(a, w, key_octets, octets, from, rows, is_bf16);
        for (int r = from; r < rows; r++) {
            exponentiate_chunk(w->scores + r * CHUNK, w->limits[r], &w->chunk_maxima[r], &w->chunk_sums[r]);
        }
        weigh_chunk(a, w, value_octets, from, rows, is_bf16);
        for (int r = from; r < rows; r++) {
            const float *values = w->chunk_values + r * head_dim;
            if (item->partial < 0) {
                fold(&w->maxima[r], &w->sums[r], w->values + r * head_dim, w->chunk_maxima[r], w->chunk_sums[r], values,
                    head_dim);
            } else {
                float *partial = partial_at(a, item, r, chunk);
                memcpy(partial, values, (size_t)head_dim * sizeof(float));
                partial[head_dim] = w->chunk_maxima[r];
                partial[head_dim + 1] = w->chunk_sums[r];
            }
        }
    }
    if (item->partial >= 0) return;
    for (int r = 0; r < rows; r++) {
        finish_row(output_of(a, item, r), w->values + r * head_dim, w->sums[r], head_dim);
    }
}

/// Folds the partial results of one query tile, in the order in which a single item would have.
INLINE void fold_partials(const attention_arguments *a, const attention_item *item, const workspace *w) {
    int64_t head_dim = a->layer->head_dim;
    for (int r = 0; r < item->token_count * a->group; r++) {
        float *values = w->values, maximum = -__builtin_inff(), sum = 0.0f;
        memset(values, 0, (size_t)head_dim * sizeof(float));
        int64_t chunks = chunks_of(a->batch, item->first_token + r / a->group);
        for (int64_t chunk = 0; chunk < chunks; chunk++) {
            const float *partial = partial_at(a, item, r, chunk);
            fold(&maximum, &sum, values, partial[head_dim], partial[head_dim + 1], partial, head_dim);
        }
        finish_row(output_of(a, item, r), values, sum, head_dim);
    }
}

// Out of line, so that the two element types are two functions of moderate size.
static void attend_item_bf16(const attention_arguments *a, const attention_item *item, const workspace *w) {
    attend_item(a, item, w, true);
}

static void attend_item_f32(const attention_arguments *a, const attention_item *item, const workspace *w) {
    attend_item(a, item, w, false);
}

static void NAME(attention_task)(void *arguments, const team *team, int worker) {
    attention_arguments *a = arguments;
    workspace w = workspace_at(a->workspaces + worker * a->workspace_stride, a->max_rows, a->layer->head_dim);
    for (int64_t i = take_work(&a->next, 1); i < a->item_count; i = take_work(&a->next, 1)) {
        if (a->layer->is_bf16) attend_item_bf16(a, &a->items[i], &w);
        else attend_item_f32(a, &a->items[i], &w);
    }
    if (!a->has_partials) return;
    team_barrier(team);
    for (int64_t i = take_work(&a->next_fold, 1); i < a->item_count; i = take_work(&a->next_fold, 1)) {
        const attention_item *item = &a->items[i];
        if (item->partial >= 0 && item->first_chunk == 0) fold_partials(a, item, &w);
    }
}

static void NAME(store_task)(void *arguments, const team *team, int worker) {
    const store_arguments *a = arguments;
    const cpu_kv_layer *layer = a->layer;
    int64_t head_dim = layer->head_dim, block_size = layer->block_size, begin, end;
    static_share(a->tokens, worker, team->count, &begin, &end);
    for (int64_t t = begin; t < end; t++) {
        if (a->slots[t] < 0) continue;
        int64_t block = a->slots[t] / block_size, offset = a->slots[t] % block_size;
        for (int64_t h = 0; h < layer->kv_heads; h++) {
            const float *key = a->qkv + t * a->stride + a->key_offset + h * head_dim;
            const float *value = a->qkv + t * a->stride + a->value_offset + h * head_dim;
            int64_t base = (block * layer->kv_heads + h) * head_dim * block_size;
            if (!layer->is_bf16) {
                float *keys = (float *)layer->keys + base + offset;
                for (int64_t d = 0; d < head_dim; d++) keys[d * block_size] = key[d];
                memcpy((float *)layer->values + base + offset * head_dim, value, (size_t)head_dim * sizeof(float));
                continue;
            }
            uint16_t *keys = (uint16_t *)layer->keys + base + offset;
            uint16_t *values = (uint16_t *)layer->values + base + offset * head_dim;
            for (int64_t d = 0; d < head_dim; d += 8) {
                f32x8 k = *(const f32x8 *)(key + d), v = *(const f32x8 *)(value + d);
                f32x16 both = __builtin_shufflevector(k, v, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
                u16x16 rounded = round_to_bf16(both);
                for (int i = 0; i < 8; i++) keys[(d + i) * block_size] = rounded[i];
                *(u16x8 *)(values + d) = rounded.hi;
            }
        }
    }
}

#endif
