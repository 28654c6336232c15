// Math:    none; runs the operations of a step of few rows, threads dividing each operation between them.
// Shapes:  a stage is a linear layer, or neighbouring operations on one sequence or row; its units are counted.
// Launch:  threads take units in order, one counter for all stages, and begin one when all units of the stages before
//          are finished. Who waits knows its next unit and asks memory for its weights. Each thread makes a linear
//          layer's input for itself where that is a norm or a gate: shorter than to wait for somebody else's.
// Bound:   bytes of the weights.
// Checked: StepTests (bitwise against the same operations one by one)
// Source:  none

#include <stdlib.h>

#include "linear.h"
#include "step.h"

/// Elements of queries × positions that one thread may attend to more than its share, before all threads attend: fewer
/// where a step is not bound by memory, which the others ask for weights meanwhile.
#define ATTEND_ALONE (1 << 17)
#define ATTEND_ALONE_NARROW (1 << 14)
/// Bytes of weights that a thread asks for while it waits, at most and at a time.
#define AHEAD_BYTES (384 << 10)
#define AHEAD_STEP 1024

// MARK: Stages

static bool is_apart(const float *a, int64_t a_count, const float *b, int64_t b_count) {
    return (uintptr_t)(a + a_count) <= (uintptr_t)b || (uintptr_t)(b + b_count) <= (uintptr_t)a;
}

/// Whether operation `index` makes the input of the next, a linear layer, from rows that the layer does not change.
static bool makes_input(const recorded_step *step, int64_t index) {
    if (index + 1 >= step->count) return false;
    const operation *o = &step->operations[index], *next = o + 1;
    if (next->kind != OPERATION_LINEAR || next->linear.stride != next->linear.weight.columns) return false;
    int64_t rows = step->rows, written = rows * next->linear.output_stride, columns = next->linear.stride;
    if (o->kind == OPERATION_NORM) {
        return o->norm.output == next->linear.x && o->norm.hidden == columns
            && is_apart(o->norm.x, rows * columns, o->norm.output, rows * columns)
            && is_apart(o->norm.x, rows * columns, next->linear.output, written);
    }
    return o->kind == OPERATION_GATE && o->gate.output == next->linear.x && o->gate.ffn == columns
        && is_apart(o->gate.x, 2 * rows * columns, o->gate.output, rows * columns)
        && is_apart(o->gate.x, 2 * rows * columns, next->linear.output, written);
}

/// Whether all threads attend, because one alone would take too long.
static bool is_attended_by_all(const cpu_context *context, const recorded_step *step, const operation *o) {
    const cpu_attention_batch *batch = &o->attend.batch;
    int64_t longest = 0, total = 0;
    for (int64_t s = 0; s < batch->sequences; s++) {
        int64_t own = 0;
        for (int64_t row = batch->query_starts[s]; row < batch->query_starts[s + 1]; row++) {
            own += batch->positions[row] + 1;
        }
        total += own;
        longest = own > longest ? own : longest;
    }
    int64_t limit = context->isa >= CPU_AVX512 ? ATTEND_ALONE : ATTEND_ALONE_NARROW;
    return (longest - total / step->part_count) * batch->heads * o->attend.layer.head_dim > limit;
}

/// Pairs of row groups of a weight.
static int64_t pairs_of(const cpu_context *context, const cpu_weight *weight) {
    int64_t pairs = 0;
    for (int64_t i = 0; i < weight->segment_count; i++) {
        pairs += row_pairs(weight->segments[i].rows, cpu_row_group(context));
    }
    return pairs;
}

/// Cuts a linear layer: memory delivers long runs faster, and short ones at the end let threads finish together.
static void cut_linear(const recorded_step *step, step_stage *stage, int64_t pairs) {
    int64_t threads = step->part_count;
    stage->pairs = pairs;
    stage->long_run = pairs * 3 / (4 * threads);
    if (stage->long_run == 0) stage->long_run = 1;
    int64_t left = pairs - threads * stage->long_run;
    stage->short_run = left / (4 * threads) > 0 ? left / (4 * threads) : 1;
    int64_t shorter = left > 0 ? (left + stage->short_run - 1) / stage->short_run : 0;
    int64_t longer = left > 0 ? threads : (pairs + stage->long_run - 1) / stage->long_run;
    stage->units = (int32_t)(longer + shorter);
}

/// The pairs of one unit.
static void unit_pairs(const recorded_step *step, const step_stage *stage, int64_t unit, int64_t *first, int64_t *end) {
    int64_t threads = step->part_count, run = unit < threads ? stage->long_run : stage->short_run;
    *first = unit < threads ? unit * run : threads * stage->long_run + (unit - threads) * run;
    *end = *first + run < stage->pairs ? *first + run : stage->pairs;
}

/// Makes stages of the operations; returns how many, or 0 without memory for them.
static int64_t plan_stages(const cpu_context *context, recorded_step *step) {
    if (step->count > step->stage_capacity) {
        step_stage *stages = realloc(step->stages, (size_t)step->capacity * sizeof(step_stage));
        if (stages == NULL) return 0;
        step->stages = stages;
        step->stage_capacity = step->capacity;
    }
    int64_t count = 0, base = 0;
    for (int64_t i = 0; i < step->count; i++) {
        step_stage *last = count > 0 ? &step->stages[count - 1] : NULL;
        bool joins = last != NULL && (last->kind == STAGE_ROWS || last->kind == STAGE_SEQUENCES);
        step_stage stage = { .kind = STAGE_ROWS, .units = (int32_t)step->rows, .first = i };
        if (makes_input(step, i)) i += 1;
        const operation *o = &step->operations[i];
        if (o->kind == OPERATION_LINEAR) {
            stage.kind = STAGE_LINEAR;
            cut_linear(step, &stage, pairs_of(context, &o->linear.weight));
        } else if (o->kind == OPERATION_ATTEND) {
            bool is_alone = !is_attended_by_all(context, step, o);
            stage.kind = is_alone ? STAGE_SEQUENCES : STAGE_ALL;
            // Several neighbours at a time where there are many: one's keys are asked for while another is attended to.
            int64_t sequences = o->attend.batch.sequences;
            stage.share = (sequences + 2 * step->part_count - 1) / (2 * step->part_count);
            stage.units = is_alone ? (int32_t)((sequences + stage.share - 1) / stage.share) : 0;
            joins &= is_alone;
        }
        if (joins && stage.kind != STAGE_LINEAR) {
            base -= last->units;
            stage.first = last->first;
            if (last->kind == STAGE_SEQUENCES) {
                stage.kind = STAGE_SEQUENCES;
                stage.units = last->units;
                stage.share = last->share;
            }
            count -= 1;
        }
        stage.end = i + 1;
        stage.base = base;
        base += stage.units;
        // What has not changed since the last step stays in all cores' caches.
        if (memcmp(&step->stages[count], &stage, sizeof stage) != 0) step->stages[count] = stage;
        count += 1;
    }
    return count;
}

/// Memory that every thread needs for what linear layers read.
static bool reserve_inputs(recorded_step *step) {
    int64_t columns = 0;
    for (int64_t i = 0; i < step->count; i++) {
        const operation *o = &step->operations[i];
        if (o->kind == OPERATION_LINEAR && o->linear.weight.columns > columns) columns = o->linear.weight.columns;
    }
    for (int i = 0; i < step->part_count; i++) {
        cpu_context *context = step->parts[i].context;
        if (scratch(context, SCRATCH_INPUT, (uint64_t)(step->rows * columns) * sizeof(float)) == NULL) return false;
        uint64_t bytes = (uint64_t)activation_bytes(step->rows, columns);
        if (scratch(context, SCRATCH_ACTIVATIONS, bytes) == NULL) return false;
    }
    return true;
}

// MARK: Running

/// One thread on its way through the step.
typedef struct {
    recorded_step *step;
    step_part *part;
    /// The linear layer it multiplies, with its input, and the stage that belongs to.
    linear_arguments layer;
    int64_t layer_stage;
} traveller;

/// A place in the weights that follow a unit.
typedef struct {
    int64_t stage;
    int64_t segment;
    uint64_t byte;
    int64_t asked;
} ahead;

/// The place where a unit's weights begin.
static ahead place_of(const recorded_step *step, const cpu_context *context, int64_t stage, int64_t unit) {
    ahead place = { .stage = stage };
    const step_stage *s = &step->stages[stage];
    if (s->kind != STAGE_LINEAR) return place;
    const cpu_weight *weight = &step->operations[s->end - 1].linear.weight;
    int64_t first, end, group = cpu_row_group(context);
    unit_pairs(step, s, unit, &first, &end);
    for (; place.segment < weight->segment_count; place.segment++) {
        const cpu_segment *segment = &weight->segments[place.segment];
        int64_t pairs = row_pairs(segment->rows, group);
        if (first < pairs) {
            place.byte = (uint64_t)(2 * first * group_bytes(segment->format, group, weight->columns));
            return place;
        }
        first -= pairs;
    }
    return place;
}

/// Asks for a few more bytes of weights; false when there are enough.
static bool ask_ahead(const recorded_step *step, const cpu_context *context, ahead *place) {
    if (place->asked >= AHEAD_BYTES) return false;
    for (; place->stage < step->end_stage; place->stage++, place->segment = 0, place->byte = 0) {
        const step_stage *stage = &step->stages[place->stage];
        if (stage->kind != STAGE_LINEAR) continue;
        const cpu_weight *weight = &step->operations[stage->end - 1].linear.weight;
        for (; place->segment < weight->segment_count; place->segment++, place->byte = 0) {
            const cpu_segment *segment = &weight->segments[place->segment];
            uint64_t bytes = cpu_segment_bytes(context, segment->format, segment->rows, weight->columns);
            if (place->byte >= bytes) continue;
            for (int i = 0; i < AHEAD_STEP && place->byte < bytes; i += 64, place->byte += 64) {
                __builtin_prefetch(segment->data + place->byte, 0, 2);
            }
            place->asked += AHEAD_STEP;
            return true;
        }
    }
    return false;
}

/// Waits until all units before the stage's are finished.
static void await_stage(const traveller *t, int64_t stage, int64_t unit) {
    recorded_step *step = t->step;
    uint32_t needed = (uint32_t)(step->stages[stage].base - step->stages[step->first_stage].base);
    uint32_t finished = atomic_load_explicit(&step->finished.value, memory_order_acquire);
    if (finished >= needed) return;
    ahead place = place_of(step, t->part->context, stage, unit);
    do {
        if (ask_ahead(step, t->part->context, &place)) {
            finished = atomic_load_explicit(&step->finished.value, memory_order_acquire);
        } else {
            finished = gate_await_change(&step->finished, finished);
        }
    } while (finished < needed);
}

/// Makes the input of a linear layer in the thread's own memory; the stage's first unit leaves it where others look.
static const float *make_input(const traveller *t, const step_stage *stage, bool is_first) {
    const operation *o = &t->step->operations[stage->first];
    float *own = t->part->context->scratch[SCRATCH_INPUT].address;
    int64_t rows = t->step->rows, width = o->kind == OPERATION_NORM ? o->norm.hidden : o->gate.ffn;
    if (o->kind == OPERATION_NORM) {
        cpu_rms_norm(t->part->context, o->norm.x, rows, width, o->norm.weight, o->norm.epsilon, own);
    } else {
        cpu_gate(t->part->context, o->gate.x, rows, width, own);
    }
    float *target = o->kind == OPERATION_NORM ? o->norm.output : o->gate.output;
    if (is_first) memcpy(target, own, (size_t)(rows * width) * sizeof(float));
    return own;
}

static void run_unit(traveller *t, int64_t index, int64_t unit) {
    recorded_step *step = t->step;
    step_part *part = t->part;
    const step_stage *stage = &step->stages[index];
    if (stage->kind == STAGE_LINEAR) {
        const operation *layer = &step->operations[stage->end - 1];
        if (t->layer_stage != index) {
            bool is_made = stage->first + 1 < stage->end;
            const float *x = is_made ? make_input(t, stage, unit == 0) : layer->linear.x;
            begin_linear(part->context, layer, x, step->rows, &t->layer);
            t->layer_stage = index;
        }
        int64_t first, end;
        unit_pairs(step, stage, unit, &first, &end);
        multiply_pairs(part->context, &t->layer, first, end);
        return;
    }
    part->begin = unit;
    part->end = unit + 1;
    for (int64_t i = stage->first; i < stage->end && stage->kind == STAGE_SEQUENCES; i++) {
        const operation *o = &step->operations[i];
        if (o->kind != OPERATION_ATTEND) continue;
        int64_t end = (unit + 1) * stage->share, sequences = o->attend.batch.sequences;
        part->begin = o->attend.batch.query_starts[unit * stage->share];
        part->end = o->attend.batch.query_starts[end < sequences ? end : sequences];
    }
    for (int64_t i = stage->first; i < stage->end; i++) {
        part->has_failed |= !run_operation(step, part, &step->operations[i]);
    }
}

static void together_task(void *arguments, const team *team, int worker) {
    (void)team;
    recorded_step *step = arguments;
    traveller t = { .step = step, .part = &step->parts[worker], .layer_stage = -1 };
    t.part->first_needed = worker;
    // What waiting threads ask for is weights; nothing is left of another step's keys and values.
    fetch_list *fetch = &t.part->context->fetch;
    fetch->block_count = fetch->part = fetch->left = 0;
    int64_t stage = step->first_stage, base = step->stages[stage].base;
    for (;;) {
        int64_t ticket = base + take_work(&step->next, 1);
        while (stage < step->end_stage && ticket >= step->stages[stage].base + step->stages[stage].units) stage++;
        if (stage == step->end_stage) return;
        int64_t unit = ticket - step->stages[stage].base;
        await_stage(&t, stage, unit);
        run_unit(&t, stage, unit);
        atomic_fetch_add(&step->finished.value, 1);
        gate_wake(&step->finished);
    }
}

void run_together(cpu_context *context, recorded_step *step) {
    int64_t count = reserve_inputs(step) ? plan_stages(context, step) : 0;
    if (count == 0) {
        run_one_by_one(context, step, 0, step->count);
        return;
    }
    for (int64_t i = 0; i < count; i++) {
        const step_stage *stage = &step->stages[i];
        if (stage->kind == STAGE_ALL) {
            run_one_by_one(context, step, stage->first, stage->end);
            continue;
        }
        step->first_stage = i;
        while (i + 1 < count && step->stages[i + 1].kind != STAGE_ALL) i++;
        step->end_stage = i + 1;
        atomic_store(&step->next.next, 0);
        atomic_store(&step->finished.value, 0);
        run_on_available(context, together_task, step);
    }
}
