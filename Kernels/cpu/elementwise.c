// Math:    in place: x = x · f; x = c · tanh(x / c); x += b, where b is the same for every row.
// Shapes:  x [rows, stride], the first `width` of each row; b [width]; f32.
// Launch:  threads take rows; few rows stay on the caller. So do the other operations that share `apply_to_rows`.
// Bound:   bytes of x.
// Checked: ElementCases
// Source:  Gemma 2 (arXiv 2408.00118) for the soft cap.

#ifndef ISA

#include "rows.h"

/// Elements below which the caller works alone.
#define ROWS_ALONE 16384

enum { MULTIPLY, SOFT_CAP, ADD_BIAS };

#define FAMILY "elementwise.c"
#include "each_isa.h"

static const worker_task element_tasks[CPU_ISA_COUNT] = EACH_ISA(element_task);

void apply_to_rows(cpu_context *context, const worker_task *tasks, int64_t rows, row_arguments arguments) {
    operation whole = { OPERATION_ROWS, rows, .each_row = { tasks, arguments } };
    if (record(context, whole)) return;
    row_task task = { .a = arguments, .rows = rows };
    if (rows * arguments.parts * arguments.width < ROWS_ALONE) run_alone(context, tasks[context->isa], &task);
    else run_on_available(context, tasks[context->isa], &task);
}

void cpu_multiply_rows(cpu_context *context, float *x, int64_t rows, int64_t width, float factor) {
    row_arguments a = { .x = x, .x_stride = width, .parts = 1, .width = width, .number = factor, .kind = MULTIPLY };
    apply_to_rows(context, element_tasks, rows, a);
}

void cpu_soft_cap(cpu_context *context, float *x, int64_t rows, int64_t width, float cap) {
    row_arguments a = { .x = x, .x_stride = width, .parts = 1, .width = width, .number = cap, .kind = SOFT_CAP };
    apply_to_rows(context, element_tasks, rows, a);
}

void cpu_add_bias(
    cpu_context *context, float *x, int64_t rows, int64_t stride, const float *bias, int64_t width) {
    row_arguments a = {
        .x = x, .x_stride = stride, .weight = bias, .parts = 1, .width = width, .kind = ADD_BIAS,
    };
    apply_to_rows(context, element_tasks, rows, a);
}

#else

#include "hyperbolic.h"

#define change16 NAME(change16)
#define change_row NAME(change_row)

INLINE f32x16 change16(f32x16 x, f32x16 bias, float number, int kind) {
    return kind == MULTIPLY ? x * number : kind == SOFT_CAP ? tanh16(x / number) * number : x + bias;
}

INLINE void change_row(float *x, const float *bias, int64_t width, float number, int kind) {
    int64_t whole = width / 16 * 16;
    for (int64_t k = 0; k < whole; k += 16) {
        f32x16 added = kind == ADD_BIAS ? *(const f32x16 *)(bias + k) : (f32x16)0.0f;
        *(f32x16 *)(x + k) = change16(*(const f32x16 *)(x + k), added, number, kind);
    }
    for (int64_t k = whole; k < width; k++) {
        x[k] = change16((f32x16)x[k], (f32x16)(kind == ADD_BIAS ? bias[k] : 0), number, kind)[0];
    }
}

static void NAME(element_task)(void *arguments, const team *team, int worker) {
    (void)worker;
    row_task *task = arguments;
    const row_arguments *a = &task->a;
    int64_t begin, end, at_a_time = rows_at_a_time(task->rows, team);
    while (take_rows(&task->next, task->rows, at_a_time, &begin, &end)) {
        for (int64_t t = begin; t < end; t++) {
            float *x = a->x + t * a->x_stride;
            if (a->kind == MULTIPLY) change_row(x, NULL, a->width, a->number, MULTIPLY);
            else if (a->kind == SOFT_CAP) change_row(x, NULL, a->width, a->number, SOFT_CAP);
            else change_row(x, a->weight, a->width, 0, ADD_BIAS);
        }
    }
}

#endif
