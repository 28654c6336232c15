// Math:    for each part of a row: y = p · w / √(mean(p²) + ε), written over the part or added to an output.
// Shapes:  x [rows, x_stride], `parts` of `width` each from `offset` on; w [width]; output [rows, width] where there is
//          one, then of a single part; f32.
// Launch:  threads take rows; few rows stay on the caller. A part's squares are summed in 16 lanes.
// Bound:   bytes of x.
// Checked: ElementCases
// Source:  Henry et al., "Query-Key Normalization for Transformers" (2020)

#ifndef ISA

#include <math.h>

#include "rows.h"

#define FAMILY "head_norm.c"
#include "each_isa.h"

static const worker_task head_norm_tasks[CPU_ISA_COUNT] = EACH_ISA(head_norm_task);

void cpu_norm_heads(
    cpu_context *context, float *x, int64_t rows, int64_t stride, int64_t offset, int64_t heads, int64_t head_dim,
    const float *weight, float epsilon) {
    row_arguments a = {
        .x = x + offset, .x_stride = stride, .weight = weight, .parts = heads, .width = head_dim, .number = epsilon,
    };
    apply_to_rows(context, head_norm_tasks, rows, a);
}

void cpu_add_rms_norm(
    cpu_context *context, float *x, int64_t rows, int64_t hidden, const float *weight, float epsilon, float *output) {
    row_arguments a = {
        .x = x, .x_stride = hidden, .weight = weight, .output = output, .output_stride = hidden, .parts = 1,
        .width = hidden, .number = epsilon,
    };
    apply_to_rows(context, head_norm_tasks, rows, a);
}

#else

#define part_scale NAME(part_scale)

/// What a part is multiplied by, its weights apart: as norm.c finds it for a row.
INLINE float part_scale(const float *x, int64_t width, float epsilon) {
    int64_t whole = width / 16 * 16;
    f32x16 squares = 0.0f;
    for (int64_t k = 0; k < whole; k += 16) {
        f32x16 value = *(const f32x16 *)(x + k);
        squares = fma16(value, value, squares);
    }
    float sum = sum16(squares);
    for (int64_t k = whole; k < width; k++) sum += x[k] * x[k];
    return 1.0f / sqrtf(sum / (float)width + epsilon);
}

static void NAME(head_norm_task)(void *arguments, const team *team, int worker) {
    (void)worker;
    row_task *task = arguments;
    const row_arguments *a = &task->a;
    int64_t begin, end, at_a_time = rows_at_a_time(task->rows, team);
    while (take_rows(&task->next, task->rows, at_a_time, &begin, &end)) {
        for (int64_t t = begin; t < end; t++) {
            for (int64_t part = 0; part < a->parts; part++) {
                float *x = a->x + t * a->x_stride + part * a->width;
                const float scale = part_scale(x, a->width, a->number);
                if (a->output == NULL) {
                    for (int64_t k = 0; k < a->width; k++) x[k] = x[k] * scale * a->weight[k];
                } else {
                    float *output = a->output + t * a->output_stride;
                    for (int64_t k = 0; k < a->width; k++) output[k] += x[k] * scale * a->weight[k];
                }
            }
        }
    }
}

#endif
