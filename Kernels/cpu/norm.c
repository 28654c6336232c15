// Math:    output = x · w / √(mean(x²) + ε), a row at a time.
// Shapes:  x, output [tokens, hidden]; w [hidden]; all f32.
// Launch:  threads take rows; a step of few rows stays on the caller. A row's squares are summed in 16 lanes.
// Bound:   bytes of x (read twice, the second time from the first cache).
// Checked: ElementwiseTests
// Source:  Zhang & Sennrich, "Root Mean Square Layer Normalization" (2019)

#ifndef ISA

#include <math.h>

#include "kernels.h"

/// Elements below which the caller works alone.
#define NORM_ALONE 32768

typedef struct {
    const float *x;
    int64_t tokens;
    int64_t hidden;
    const float *weight;
    float epsilon;
    float *output;
    work_counter next;
} norm_arguments;

#define FAMILY "norm.c"
#include "each_isa.h"

static const worker_task norm_tasks[CPU_ISA_COUNT] = EACH_ISA(norm_task);

void cpu_rms_norm(
    cpu_context *context, const float *x, int64_t tokens, int64_t hidden, const float *weight, float epsilon,
    float *output) {
    operation whole = { OPERATION_NORM, tokens, .norm = { x, hidden, weight, epsilon, output } };
    if (record(context, whole)) return;
    norm_arguments arguments = {
        .x = x, .tokens = tokens, .hidden = hidden, .weight = weight, .epsilon = epsilon, .output = output,
    };
    if (tokens * hidden < NORM_ALONE) run_alone(context, norm_tasks[context->isa], &arguments);
    else run_on_available(context, norm_tasks[context->isa], &arguments);
}

#else

#define norm_row NAME(norm_row)

INLINE void norm_row(const float *x, int64_t hidden, const float *weight, float epsilon, float *output) {
    int64_t whole = hidden / 16 * 16;
    f32x16 squares = 0.0f;
    for (int64_t k = 0; k < whole; k += 16) {
        f32x16 value = *(const f32x16 *)(x + k);
        squares = fma16(value, value, squares);
    }
    float sum = sum16(squares);
    for (int64_t k = whole; k < hidden; k++) sum += x[k] * x[k];
    float scale = 1.0f / sqrtf(sum / (float)hidden + epsilon);
    for (int64_t k = 0; k < whole; k += 16) {
        *(f32x16 *)(output + k) = *(const f32x16 *)(x + k) * scale * *(const f32x16 *)(weight + k);
    }
    for (int64_t k = whole; k < hidden; k++) output[k] = x[k] * scale * weight[k];
}

static void NAME(norm_task)(void *arguments, const team *team, int worker) {
    (void)worker;
    norm_arguments *a = arguments;
    int64_t begin, end, at_a_time = rows_at_a_time(a->tokens, team);
    while (take_rows(&a->next, a->tokens, at_a_time, &begin, &end)) {
        for (int64_t t = begin; t < end; t++) {
            norm_row(a->x + t * a->hidden, a->hidden, a->weight, a->epsilon, a->output + t * a->hidden);
        }
    }
}

#endif
