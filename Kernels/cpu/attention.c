// Math:    output[t] = Σ_p softmax_p(scale · q[t] · k[p]) · v[p] over positions p ≤ position[t] of t's sequence;
//          with a window only the last of them, with a soft cap c of scores c · tanh(s / c), with sinks one weight more
//          that has no value (attention_options.h).
// Shapes:  q [tokens, heads × head_dim]; keys and values bf16, f32 or int8, layouts in attention.h (lanes run over positions
//          for the scores, over elements for the values); output [tokens, heads × head_dim].
// Launch:  an item is (sequence, kv head, a tile of query rows: tokens × the heads that share the kv head [, a run of
//          chunks]); threads take items. Positions go in chunks of CHUNK at fixed places of the sequence: each gives
//          (maximum, sum, weighted values), folded in order. So block size, prefill chunking, batch and threads
//          cannot change a bit. Long contexts of few queries are cut between chunks; their folds wait for a barrier.
// Bound:   decode: bytes of keys and values; prefill: multiply-adds.
// Checked: AttentionTests (f64 reference; bitwise over block size, prefill chunks, batch, threads; NaN in unused slots)
// Source:  Dao et al., "Flash-Decoding" (2023); fixed splits: He, "Defeating Nondeterminism in LLM Inference" (2025)

#ifndef ISA

#include "attention.h"

#define FAMILY "attention.c"
#define FAMILY_HAS_BF16
#include "each_isa.h"

static const worker_task attention_tasks[CPU_ISA_COUNT] = EACH_ISA_BF16(attention_task);

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
            int64_t behind = first_chunk_of(batch, first), end_chunk = chunks_of(batch, last - 1);
            int64_t chunks = end_chunk - behind;
            bool is_cut = chunks > run;
            for (int64_t h = 0; h < kv_heads; h++) {
                for (int64_t chunk = behind; chunk < end_chunk; chunk += is_cut ? run : chunks) {
                    int64_t length = is_cut && end_chunk - chunk > run ? run : end_chunk - chunk;
                    if (items != NULL) {
                        items[count] = (attention_item){
                            (int32_t)s, (int32_t)h, (int32_t)first, (int32_t)(last - first), (int32_t)chunk,
                            (int32_t)length, (int32_t)behind, is_cut ? *partial_count : -1, chunks,
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
        for (int64_t last = end; last > begin; last -= tile_tokens) {
            int64_t first = last - tile_tokens > begin ? last - tile_tokens : begin;
            total += chunks_of(batch, last - 1) - first_chunk_of(batch, first);
        }
    }
    int64_t run = total * kv_heads / (threads * 4);
    return run < MIN_RUN ? MIN_RUN : run;
}

bool cpu_attend(cpu_context *context, const cpu_attention_batch *batch, const cpu_kv_layer *layer) {
    operation whole = { OPERATION_ATTEND, batch->query_starts[batch->sequences], .attend = { *batch, *layer } };
    if (record(context, whole)) return true;
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
        .items_together = partials > 0 || count < 4 * threads * layer->kv_heads ? 1 : layer->kv_heads,
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

#else

#include "attention_tile.h"
#include "attention_places.h"
#include "hyperbolic.h"

#define pack_query NAME(pack_query)
#define prepare_item NAME(prepare_item)
#define score_chunk NAME(score_chunk)
#define weigh_chunk NAME(weigh_chunk)
#define fold_factors NAME(fold_factors)
#define fold_values NAME(fold_values)
#define clear_chunk NAME(clear_chunk)
#define fold_chunk NAME(fold_chunk)
#define store_partials NAME(store_partials)
#define finish_row NAME(finish_row)
#define attend_item NAME(attend_item)
#define attend_item_bf16 NAME(attend_item_bf16)
#define attend_item_f32 NAME(attend_item_f32)
#define attend_item_int8 NAME(attend_item_int8)
#define fold_partials NAME(fold_partials)

/// Copies a query as the dot product wants it. Queries of a bf16 cache are scaled, for weights in base 2.
INLINE void pack_query(const float *query, int64_t head_dim, float scale, float *target, bool is_bf16) {
    if (!is_bf16) {
        memcpy(target, query, (size_t)head_dim * sizeof(float));
        return;
    }
    const float factor = scale * 1.44269504088896341f;
    for (int64_t d = 0; d < head_dim; d += 8) {
        f32x8 scaled = *(const f32x8 *)(query + d) * factor;
#if ISA_BF16
        *(u16x8 *)((uint16_t *)target + d) = (u16x8)_mm256_cvtneps_pbh((__m256)scaled);
#else
        *(f32x8 *)(target + d) = scaled;
#endif
    }
}

#include "attention_int8.h"

/// Queries packed, results so far empty.
INLINE void prepare_item(
    const attention_arguments *a, const attention_item *item, const workspace *w, int rows, int32_t type) {
    const cpu_attention_batch *batch = a->batch;
    int64_t head_dim = a->layer->head_dim, group = a->group;
    for (int r = 0; r < rows; r++) {
        int64_t token = item->first_token + r / group, head = item->kv_head * group + r % group;
        const float *query = batch->q + token * batch->q_stride + head * head_dim;
        float *packed = w->queries + r * head_dim;
        if (type == CPU_KV_INT8) w->query_factors[r] = pack_query_int8(query, head_dim, batch->scale, packed);
        else pack_query(query, head_dim, batch->scale, packed, type == CPU_KV_BF16);
    }
    for (int r = 0; r < round_up(rows, 16); r++) {
        w->maxima[r] = w->chunk_maxima[r] = -__builtin_inff();
        w->sums[r] = w->chunk_sums[r] = 0;
    }
    memset(w->values, 0, (size_t)(rows * head_dim) * sizeof(float));
}

INLINE void score_chunk(
    const attention_arguments *a, const workspace *w, const uint8_t *const *keys, const uint8_t *const *octets,
    int64_t stride, int least, int from, int rows, bool is_bf16) {
    int64_t head_dim = a->layer->head_dim;
    const uint8_t *ahead[CHUNK / 16];
    for (int i = 0; i < CHUNK / 16; i++) ahead[i] = 16 * i < w->limits[rows - 1] ? octets[2 * i] : octets[0];
    for (int r = from; r < rows; r += TILE_ROWS) {
        int tile = rows - r < TILE_ROWS ? rows - r : TILE_ROWS;
        // Later rows see more.
        int vectors = (w->limits[r + tile - 1] + 15) / 16;
        const float *queries = w->queries + r * head_dim;
        for (int v = least / 16 / WIDE * WIDE; v < vectors;) {
            bool is_wide = vectors - v > NARROW || WIDE == NARROW;
            const NAME(score_function) *tiles = is_wide ? NAME(score_wide)[is_bf16] : NAME(score_narrow)[is_bf16];
            float *scores = w->scores + r * CHUNK + 16 * v;
            tiles[tile - 1](keys + v, ahead + v, stride, head_dim, queries, a->batch->scale, scores);
            v += is_wide ? WIDE : NARROW;
        }
    }
}

INLINE void weigh_chunk(
    const attention_arguments *a, const workspace *w, const uint8_t *const *octets, const uint8_t *const *ahead,
    int from, int rows, bool is_bf16) {
    int64_t head_dim = a->layer->head_dim;
    for (int r = from; r < rows; r += TILE_ROWS) {
        int tile = rows - r < TILE_ROWS ? rows - r : TILE_ROWS;
        for (int64_t d = 0; d < head_dim;) {
            int64_t left = head_dim - d, taken = left >= 16 * WIDE ? 16 * WIDE : left >= 16 ? 16 : 8;
            const NAME(weigh_function) *tiles = taken == 16 * WIDE ? NAME(weigh_wide)[is_bf16]
                : taken == 16 ? NAME(weigh_one)[is_bf16] : NAME(weigh_half)[is_bf16];
            const float *weights = w->scores + r * CHUNK;
            float *values = w->chunk_values + r * head_dim + d;
            tiles[tile - 1](octets, ahead, d * 4, head_dim, w->limits + r, weights, values);
            d += taken;
        }
    }
}

/// What to multiply two parts by so that both are relative to the larger maximum.
INLINE void fold_factors(f32x16 *maxima, f32x16 others, f32x16 *old, f32x16 *new, bool is_bf16) {
    f32x16 highest = others > *maxima ? others : *maxima;
    // Equal maxima are not subtracted, because they may be infinite.
    f32x16 old_change = *maxima == highest ? (f32x16)0.0f : *maxima - highest;
    f32x16 new_change = others == highest ? (f32x16)0.0f : others - highest;
    *old = is_bf16 ? exp2_16(old_change, false) : exp16(old_change);
    *new = is_bf16 ? exp2_16(new_change, false) : exp16(new_change);
    *old = old_change == 0.0f ? (f32x16)1.0f : *old;
    *new = new_change == 0.0f ? (f32x16)1.0f : *new;
    *maxima = highest;
}

INLINE void fold_values(float *values, const float *others, float old, float new, int64_t head_dim) {
    int64_t d = 0;
    for (; d + 16 <= head_dim; d += 16) {
        *(f32x16 *)(values + d) = *(const f32x16 *)(values + d) * old + *(const f32x16 *)(others + d) * new;
    }
    if (d < head_dim) *(f32x8 *)(values + d) = *(const f32x8 *)(values + d) * old + *(const f32x8 *)(others + d) * new;
}

/// Rows that see nothing of a chunk.
INLINE void clear_chunk(const workspace *w, int from, int to) {
    for (int r = from; r < to; r++) {
        w->chunk_maxima[r] = -__builtin_inff();
        w->chunk_sums[r] = 0;
    }
}

/// Folds the chunk's (maximum, sum, values) of rows from `from` to `rows` into the results so far.
INLINE void fold_chunk(const workspace *w, int from, int rows, int64_t head_dim, bool is_bf16) {
    clear_chunk(w, from / 16 * 16, from);
    clear_chunk(w, rows, (int)round_up(rows, 16));
    for (int r = from / 16 * 16; r < rows; r += 16) {
        f32x16 *sums = (f32x16 *)(w->sums + r);
        f32x16 old, new;
        fold_factors((f32x16 *)(w->maxima + r), *(const f32x16 *)(w->chunk_maxima + r), &old, &new, is_bf16);
        *sums = *sums * old + *(const f32x16 *)(w->chunk_sums + r) * new;
        *(f32x16 *)(w->old_factors + r) = old;
        *(f32x16 *)(w->new_factors + r) = new;
    }
    for (int r = from; r < rows; r++) {
        float *values = w->values + r * head_dim;
        fold_values(values, w->chunk_values + r * head_dim, w->old_factors[r], w->new_factors[r], head_dim);
    }
}

INLINE void store_partials(
    const attention_arguments *a, const attention_item *item, const workspace *w, int64_t chunk, int from, int rows) {
    int64_t head_dim = a->layer->head_dim;
    for (int r = from; r < rows; r++) {
        float *partial = partial_at(a, item, r, chunk);
        memcpy(partial, w->chunk_values + r * head_dim, (size_t)head_dim * sizeof(float));
        partial[head_dim] = w->chunk_maxima[r];
        partial[head_dim + 1] = w->chunk_sums[r];
    }
}

INLINE void finish_row(float *output, const float *values, float sum, int64_t head_dim) {
    for (int64_t d = 0; d < head_dim; d += 8) *(f32x8 *)(output + d) = *(const f32x8 *)(values + d) / sum;
}

#include "attention_options.h"

INLINE void attend_item(attention_arguments *a, const attention_item *item, const workspace *w, int32_t type) {
    const bool is_bf16 = type == CPU_KV_BF16, is_2 = type != CPU_KV_F32;
    const cpu_attention_batch *batch = a->batch;
    const int32_t *table = batch->block_tables + item->sequence * batch->blocks_per_sequence;
    int64_t head_dim = a->layer->head_dim, group = a->group;
    int rows = (int)(item->token_count * group);
    prepare_item(a, item, w, rows, type);
    for (int64_t chunk = item->first_chunk; chunk < item->first_chunk + item->chunk_count; chunk++) {
        // Rows see nothing of a chunk behind them; the first that sees something is `from`.
        int from = rows, longest = 0;
        for (int r = rows - 1; r >= 0; r--) {
            int64_t limit = batch->positions[item->first_token + r / group] + 1 - chunk * CHUNK;
            w->limits[r] = (int32_t)(limit < 0 ? 0 : limit > CHUNK ? CHUNK : limit);
            if (w->limits[r] > 0) from = r;
            if (w->limits[r] > longest) longest = w->limits[r];
        }
        // Behind their windows rows see nothing either: those from `to` on nothing at all of this chunk.
        int to = rows, least = 0, most = 0;
        if (batch->window > 0) find_starts(a, item, w, chunk, from, &to, &least, &most);
        const uint8_t *keys[CHUNK / 16], *octets[CHUNK / 8];
        int64_t stride =
            find_keys(a->layer, table, item->kv_head, chunk * CHUNK, least, longest, w, keys, type);
        find_values(a->layer, table, item->kv_head, chunk * CHUNK, least, longest, octets, type);
        if (type == CPU_KV_INT8) {
            find_scales(a->layer, table, item->kv_head, chunk * CHUNK, least, longest, w);
            score_chunk_int8(a, w, keys, octets, stride, least, from, to);
        } else {
            score_chunk(a, w, keys, octets, stride, least, from, to, is_bf16);
        }
        if (batch->soft_cap > 0) cap_scores(w, batch->soft_cap, from, to, is_2);
        const uint8_t *ahead[CHUNK / 16];
        find_ahead(a, item, chunk, ahead, octets[0]);
        if (type == CPU_KV_INT8) {
            weigh_chunk_int8(a, w, octets, ahead, least, from, to, batch->window > 0);
        } else if (most == 0) {
            for (int r = from; r < to; r++) {
                exponentiate(w->scores + r * CHUNK, w->limits[r], &w->chunk_maxima[r], &w->chunk_sums[r], is_bf16);
            }
            weigh_chunk(a, w, octets, ahead, from, to, is_bf16);
        } else {
            attend_windows(w, octets, head_dim, from, to, is_bf16);
        }
        if (item->partial < 0) fold_chunk(w, from, to, head_dim, is_2);
        else store_partials(a, item, w, chunk, from, to);
    }
    if (item->partial >= 0) return;
    for (int r = 0; r < rows; r++) {
        if (batch->sinks != NULL) add_sink(a, item, r, w->maxima[r], &w->sums[r], w->values + r * head_dim);
        finish_row(output_of(a, item, r), w->values + r * head_dim, w->sums[r], head_dim);
    }
}

/// Folds the partial results of one query tile, in the order in which a single item would have.
INLINE void fold_partials(const attention_arguments *a, const attention_item *item, const workspace *w) {
    int64_t head_dim = a->layer->head_dim;
    for (int r = 0; r < item->token_count * a->group; r++) {
        f32x16 maximum = -__builtin_inff(), sum = 0.0f, old, new;
        memset(w->values, 0, (size_t)head_dim * sizeof(float));
        int64_t token = item->first_token + r / a->group, chunks = chunks_of(a->batch, token);
        for (int64_t chunk = first_chunk_of(a->batch, token); chunk < chunks; chunk++) {
            const float *partial = partial_at(a, item, r, chunk);
            fold_factors(&maximum, (f32x16)partial[head_dim], &old, &new, is_base_2(a->layer));
            sum = sum * old + partial[head_dim + 1] * new;
            fold_values(w->values, partial, old[0], new[0], head_dim);
        }
        if (a->batch->sinks != NULL) add_sink(a, item, r, maximum[0], (float *)&sum, w->values);
        finish_row(output_of(a, item, r), w->values, sum[0], head_dim);
    }
}

// Out of line, so that the types are functions of moderate size.
static void attend_item_bf16(attention_arguments *a, const attention_item *item, const workspace *w) {
    attend_item(a, item, w, CPU_KV_BF16);
}

static void attend_item_f32(attention_arguments *a, const attention_item *item, const workspace *w) {
    attend_item(a, item, w, CPU_KV_F32);
}

static void attend_item_int8(attention_arguments *a, const attention_item *item, const workspace *w) {
    attend_item(a, item, w, CPU_KV_INT8);
}

static void NAME(attention_task)(void *arguments, const team *team, int worker) {
    attention_arguments *a = arguments;
    workspace w = workspace_at(a->workspaces + worker * a->workspace_stride, a->max_rows, a->layer->head_dim);
    int64_t first, together = a->items_together;
    while ((first = take_work(&a->next, together)) < a->item_count) {
        for (int64_t i = first; i < first + together; i++) {
            if (a->layer->type == CPU_KV_BF16) attend_item_bf16(a, &a->items[i], &w);
            else if (a->layer->type == CPU_KV_INT8) attend_item_int8(a, &a->items[i], &w);
            else attend_item_f32(a, &a->items[i], &w);
        }
    }
    if (!a->has_partials) return;
    team_barrier(team);
    for (int64_t i = take_work(&a->next_fold, 1); i < a->item_count; i = take_work(&a->next_fold, 1)) {
        const attention_item *item = &a->items[i];
        if (item->partial >= 0 && item->first_chunk == item->tile_chunk) fold_partials(a, item, &w);
    }
}

#undef MOST_WIDE
#undef WIDE
#undef NARROW

#endif
