// Math:    none; runs the operations of a step, each thread taking its own rows through all of them.
// Shapes:  rows are the step's tokens in order; a thread's are neighbours, whole tiles where there are many.
// Launch:  a row needs no other, but for its sequence's keys and values. So threads meet once a step, not after every
//          operation: activations stay in one core's caches, and a thread that loses its core for a moment does not
//          stop the others. The price is that all threads read all weights, which a few rows each already repay.
// Bound:   what the operations are bound by.
// Checked: StepTests (bitwise against the same operations one by one)
// Source:  none; data parallelism, with the wait of a later chunk for the keys of the earlier one.

#include <stdlib.h>

#include "attention.h"
#include "linear.h"
#include "step.h"

enum {
    /// Rows for each thread from which on a step of more than TOGETHER_ROWS is worth dividing.
    MIN_ROWS = 4,
    /// What attending to one position costs, in products of a linear layer: few rows wait for memory.
    DECODE_PRODUCTS = 10,
    PREFILL_PRODUCTS = 2,
};

/// The largest share of a thread, as a multiple of the mean, that is accepted.
static const double MAX_IMBALANCE = 1.3;

recorded_step *recorded_step_create(int isa, int threads) {
    recorded_step *step = aligned_alloc(64, sizeof *step);
    if (step == NULL) return NULL;
    memset(step, 0, sizeof *step);
    step->parts = aligned_alloc(64, (size_t)threads * sizeof(step_part));
    if (step->parts == NULL) {
        free(step);
        return NULL;
    }
    memset(step->parts, 0, (size_t)threads * sizeof(step_part));
    gate_init(&step->finished);
    for (; step->part_count < threads; step->part_count++) {
        step_part *part = &step->parts[step->part_count];
        gate_init(&part->stored);
        part->context = cpu_context_create(isa, 1);
        int32_t *blocks = malloc(MAX_FETCHED_BLOCKS * sizeof(int32_t));
        if (part->context == NULL || blocks == NULL) {
            free(blocks);
            if (part->context != NULL) cpu_context_destroy(part->context);
            recorded_step_destroy(step);
            return NULL;
        }
        part->context->fetch = (fetch_list){ .blocks = blocks, .block_capacity = MAX_FETCHED_BLOCKS };
    }
    return step;
}

void recorded_step_destroy(recorded_step *step) {
    for (int i = 0; i < step->part_count; i++) {
        free(step->parts[i].context->fetch.blocks);
        cpu_context_destroy(step->parts[i].context);
        free(step->parts[i].starts);
    }
    free(step->parts);
    free(step->stages);
    free(step->operations);
    free(step->work);
    free(step);
}

/// Room for the rows' work and the parts' starts.
static bool reserve_rows(recorded_step *step, int64_t rows) {
    if (rows <= step->row_capacity) return true;
    double *work = realloc(step->work, (size_t)(rows + 1) * sizeof(double));
    if (work == NULL) return false;
    step->work = work;
    for (int i = 0; i < step->part_count; i++) {
        int32_t *starts = realloc(step->parts[i].starts, (size_t)(rows + 1) * sizeof(int32_t));
        if (starts == NULL) return false;
        step->parts[i].starts = starts;
    }
    step->row_capacity = rows;
    return true;
}

void cpu_begin_step(cpu_context *context, int64_t tokens) {
    recorded_step *step = context->step;
    if (step == NULL) return;
    step->is_together = tokens <= TOGETHER_ROWS;
    if (!step->is_together && tokens < (int64_t)step->part_count * MIN_ROWS) return;
    if (!reserve_rows(step, tokens)) return;
    step->rows = tokens;
    step->count = 0;
    step->has_failed = false;
    step->is_recording = true;
}

bool cpu_end_step(cpu_context *context) {
    run_recorded(context);
    return context->step == NULL || !context->step->has_failed;
}

bool record(cpu_context *context, operation operation) {
    recorded_step *step = context->step;
    if (step == NULL || !step->is_recording) return false;
    if (operation.rows == step->rows && step->count == step->capacity) {
        int64_t capacity = 2 * step->capacity + 64;
        void *larger = realloc(step->operations, (size_t)capacity * sizeof operation);
        if (larger != NULL) {
            step->operations = larger;
            step->capacity = capacity;
        }
    }
    if (operation.rows != step->rows || step->count == step->capacity) {
        run_recorded(context);
        return false;
    }
    // Most steps ask for what the last one did; what is not written again stays in all cores' caches.
    struct operation *place = &step->operations[step->count++];
    bool is_same = step->count <= step->written && memcmp(place, &operation, sizeof operation) == 0;
    if (!is_same) memcpy(place, &operation, sizeof operation);
    if (step->count > step->written) step->written = step->count;
    return true;
}

// MARK: Dividing the rows

/// Products of `rows` rows, in multiples of one row's: tiles are four rows high, lower ones cost more for each row.
static double tile_rows(int64_t rows) {
    return (double)(rows / 4 * 4) + (rows % 4 >= 2 ? 2.3 : 0) + (rows % 2 == 1 ? 1.5 : 0);
}

/// Fills `work` with what attention costs before each row; returns what linear layers cost a row.
static double weigh_rows(recorded_step *step, const cpu_attention_batch **batch) {
    double products = 0, width = 0;
    *batch = NULL;
    for (int64_t i = 0; i < step->count; i++) {
        const operation *o = &step->operations[i];
        if (o->kind == OPERATION_LINEAR) products += (double)(o->linear.weight.rows * o->linear.weight.columns);
        if (o->kind != OPERATION_ATTEND) continue;
        *batch = &o->attend.batch;
        width += 2.0 * (double)(o->attend.batch.heads * o->attend.layer.head_dim);
    }
    memset(step->work, 0, (size_t)(step->rows + 1) * sizeof(double));
    if (*batch == NULL) return products;
    for (int64_t s = 0, row = 0; s < (*batch)->sequences; s++) {
        int64_t begin = (*batch)->query_starts[s], end = (*batch)->query_starts[s + 1];
        double each = width * (end - begin == 1 ? DECODE_PRODUCTS : PREFILL_PRODUCTS);
        for (row = begin; row < end; row++) {
            step->work[row + 1] = step->work[row] + each * ((double)(*batch)->positions[row] + 1);
        }
    }
    return products;
}

/// Gives each part its rows. False when they cannot be divided fairly.
static bool divide_rows(recorded_step *step) {
    const cpu_attention_batch *batch;
    double products = weigh_rows(step, &batch), largest = 0;
    int64_t begin = 0;
    for (int i = 0; i < step->part_count; i++) {
        int64_t left = step->part_count - i - 1, best = step->rows;
        double least = -1;
        for (int64_t end = begin + 1; left > 0 && end <= step->rows - left; end++) {
            double own = products * tile_rows(end - begin) + step->work[end] - step->work[begin];
            double others = products * tile_rows(step->rows - end) + step->work[step->rows] - step->work[end];
            double larger = own > others / (double)left ? own : others / (double)left;
            if (least < 0 || larger < least) {
                least = larger;
                best = end;
            }
        }
        step_part *part = &step->parts[i];
        part->begin = begin;
        part->end = best;
        part->first_needed = i;
        double own = products * tile_rows(best - begin) + step->work[best] - step->work[begin];
        if (own > largest) largest = own;
        begin = best;
    }
    double total = products * (double)step->rows + step->work[step->rows];
    if (largest * step->part_count > MAX_IMBALANCE * total) return false;
    for (int64_t s = 0; batch != NULL && s < batch->sequences; s++) {
        // A sequence that began in an earlier part.
        for (int i = 1; i < step->part_count; i++) {
            step_part *part = &step->parts[i];
            if (batch->query_starts[s] >= part->begin || batch->query_starts[s + 1] <= part->begin) continue;
            while (step->parts[part->first_needed].begin > batch->query_starts[s]) part->first_needed -= 1;
        }
    }
    return true;
}

// MARK: Running

/// The part's share of a batch: sequences that have rows in it, their starts counted from its first row.
static cpu_attention_batch own_queries(const step_part *part, const cpu_attention_batch *all) {
    cpu_attention_batch own = *all;
    int64_t first = 0, last = 0;
    while (first < all->sequences && all->query_starts[first + 1] <= part->begin) first++;
    for (last = first; last < all->sequences && all->query_starts[last] < part->end; last++) {
        int64_t start = all->query_starts[last] - part->begin;
        part->starts[last - first] = (int32_t)(start < 0 ? 0 : start);
    }
    int64_t end = all->query_starts[last] < part->end ? all->query_starts[last] : part->end;
    part->starts[last - first] = (int32_t)(end - part->begin);
    own.sequences = last - first;
    own.query_starts = part->starts;
    own.block_tables += first * all->blocks_per_sequence;
    own.positions += part->begin;
    own.q += part->begin * all->q_stride;
    return own;
}

static void await_stored(const recorded_step *step, const step_part *part, uint32_t count) {
    for (int64_t i = part->first_needed; i < part - step->parts; i++) {
        gate *stored = &step->parts[i].stored;
        uint32_t value = atomic_load_explicit(&stored->value, memory_order_acquire);
        while (value < count) value = gate_await_change(stored, value);
    }
}

// MARK: Fetching ahead

/// Lists the blocks that the part's sequences will read in one attention, as many as caches keep: the first to be read
/// last, so that they are in the nearest cache.
static void list_blocks(fetch_list *list, const step_part *part, const cpu_attention_batch *batch, int64_t block_size) {
    int64_t most = MAX_FETCHED_BYTES / (2 * list->block_bytes);
    if (most > list->block_capacity) most = list->block_capacity;
    list->block_count = 0;
    const int32_t *before = NULL;
    for (int64_t s = batch->sequences - 1; s >= 0; s--) {
        int64_t begin = batch->query_starts[s], end = batch->query_starts[s + 1];
        if (begin < part->begin) begin = part->begin;
        if (end > part->end) end = part->end;
        if (begin >= end) continue;
        const int32_t *table = batch->block_tables + s * batch->blocks_per_sequence;
        int64_t first = window_start(batch, begin) / block_size;
        for (int64_t i = batch->positions[end - 1] / block_size; i >= first; i--) {
            if (list->block_count == most) return;
            // A prefix that neighbours share is asked for once.
            if (before != NULL && before[i] == table[i]) continue;
            list->blocks[list->block_count++] = table[i];
        }
        before = table;
    }
}

/// Aims the part's list at the first attention from the step's operation `first` on, if there is one.
static void aim_ahead(const recorded_step *step, step_part *part, int64_t first) {
    fetch_list *list = &part->context->fetch;
    list->block_count = list->part = list->left = 0;
    while (first < step->count && step->operations[first].kind != OPERATION_ATTEND) first++;
    if (first == step->count) return;
    const operation *next = &step->operations[first];
    const cpu_kv_layer *layer = &next->attend.layer;
    list->keys = layer->keys;
    list->values = layer->values;
    list->block_bytes = kv_block_bytes(layer);
    list_blocks(list, part, &next->attend.batch, layer->block_size);
    // The first turns are those of one linear layer, before the first attention; afterwards they are a whole layer's.
    int64_t lines = list->block_count * 2 * ((list->block_bytes + 63) / 64);
    list->lines = part->fetched < 2 ? FIRST_FETCH_LINES : (lines + list->turns - 1) / (list->turns > 0 ? list->turns : 1);
    if (list->lines > MAX_FETCH_LINES) list->lines = MAX_FETCH_LINES;
    list->turns = 0;
    part->fetched += 1;
}

bool run_operation(const recorded_step *step, step_part *part, const operation *o) {
    cpu_context *context = part->context;
    int64_t first = part->begin, rows = part->end - part->begin;
    switch (o->kind) {
    case OPERATION_EMBED:
        cpu_embed(
            context, o->embed.tokens + first, rows, &o->embed.table,
            o->embed.output + first * o->embed.table.columns);
        return true;
    case OPERATION_NORM:
        cpu_rms_norm(
            context, o->norm.x + first * o->norm.hidden, rows, o->norm.hidden, o->norm.weight, o->norm.epsilon,
            o->norm.output + first * o->norm.hidden);
        return true;
    case OPERATION_LINEAR:
        return cpu_linear(
            context, o->linear.x + first * o->linear.stride, rows, o->linear.stride, &o->linear.weight,
            o->linear.output + first * o->linear.output_stride, o->linear.output_stride, o->linear.accumulate);
    case OPERATION_ROTATE:
        return cpu_rotate(
            context, o->rotate.x + first * o->rotate.stride, rows, o->rotate.stride, o->rotate.heads,
            o->rotate.head_dim, o->rotate.positions + first, o->rotate.frequencies, o->rotate.frequency_count,
            o->rotate.magnitude, o->rotate.interleaved);
    case OPERATION_STORE:
        cpu_store_kv(
            context, o->store.qkv + first * o->store.stride, rows, o->store.stride, o->store.key_offset,
            o->store.value_offset, o->store.slots + first, &o->store.layer);
        atomic_fetch_add(&part->stored.value, 1);
        gate_wake(&part->stored);
        return true;
    case OPERATION_ATTEND: {
        await_stored(step, part, atomic_load_explicit(&part->stored.value, memory_order_relaxed));
        cpu_attention_batch own = own_queries(part, &o->attend.batch);
        own.output += first * own.heads * o->attend.layer.head_dim;
        return cpu_attend(context, &own, &o->attend.layer);
    }
    case OPERATION_GATE:
        cpu_gate(
            context, o->gate.x + first * 2 * o->gate.ffn, rows, o->gate.ffn, o->gate.output + first * o->gate.ffn);
        return true;
    case OPERATION_ROWS: {
        row_arguments own = o->each_row.arguments;
        own.x += first * own.x_stride;
        if (own.output != NULL) own.output += first * own.output_stride;
        if (own.choices != NULL) own.choices += first;
        apply_to_rows(context, o->each_row.tasks, rows, own);
        return true;
    }
    }
    return false;
}

/// Whether operation `index` is a linear layer whose output the next one gates: then only the gated rows are written.
static bool is_gated(const recorded_step *step, int64_t index) {
    if (index + 1 >= step->count) return false;
    const operation *o = &step->operations[index], *next = o + 1;
    return o->kind == OPERATION_LINEAR && next->kind == OPERATION_GATE && next->gate.x == o->linear.output
        && !o->linear.accumulate && o->linear.weight.rows == 2 * next->gate.ffn
        && o->linear.output_stride == o->linear.weight.rows
        && has_whole_halves(step->parts[0].context, &o->linear.weight);
}

/// Takes parts in order, so that nobody waits for one that has not begun.
static void step_task(void *arguments, const team *team, int worker) {
    (void)team;
    (void)worker;
    recorded_step *step = arguments;
    for (;;) {
        int64_t index = take_work(&step->next, 1);
        if (index >= step->part_count) return;
        step_part *part = &step->parts[index];
        // After a failure the others' results are not used, but they must not wait for ever.
        part->fetched = 0;
        aim_ahead(step, part, 0);
        for (int64_t i = 0; i < step->count; i++) {
            const operation *o = &step->operations[i];
            if (is_gated(step, i)) {
                const float *x = o->linear.x + part->begin * o->linear.stride;
                float *gated = o[1].gate.output + part->begin * o[1].gate.ffn;
                part->has_failed |= !cpu_gated_linear(part->context, o, x, part->end - part->begin, gated);
                i += 1;
            } else {
                part->has_failed |= !run_operation(step, part, o);
            }
            if (o->kind == OPERATION_ATTEND) aim_ahead(step, part, i + 1);
        }
    }
}

void run_one_by_one(cpu_context *context, recorded_step *step, int64_t first, int64_t end) {
    step_part *part = &step->parts[0];
    cpu_context *own = part->context;
    part->context = context;
    part->begin = 0;
    part->end = step->rows;
    part->first_needed = 0;
    for (int64_t i = first; i < end; i++) {
        step->has_failed |= !run_operation(step, part, &step->operations[i]);
    }
    part->context = own;
}

void run_recorded(cpu_context *context) {
    recorded_step *step = context->step;
    if (step == NULL || !step->is_recording) return;
    step->is_recording = false;
    if (step->count == 0) return;
    for (int i = 0; i < step->part_count; i++) {
        atomic_store(&step->parts[i].stored.value, 0);
        step->parts[i].has_failed = false;
    }
    atomic_store(&step->next.next, 0);
    if (step->is_together) {
        run_together(context, step);
    } else if (divide_rows(step)) {
        run_on_available(context, step_task, step);
    } else {
        run_one_by_one(context, step, 0, step->count);
    }
    for (int i = 0; i < step->part_count; i++) step->has_failed |= step->parts[i].has_failed;
}
