// Math:    output[t] += up[a] · (down[a] · x[t]) with a = choices[t]; nothing where a is negative.
// Shapes:  x [rows, x_stride], down [slots × max_rank, columns], up [slots × max_rank, width] (the matrix on its side,
//          so that outputs are neighbours), ranks [slots], output [rows, output_stride]; f32. Of a slot's rows, as many
//          count as its rank.
// Launch:  threads take rows; few rows stay on the caller. A row's sums have one order, whatever other rows ask for.
// Bound:   bytes of the adapters' matrices in decoding, products in prompts.
// Checked: LowRankCases (against 64-bit sums; bit for bit alone, in company and in every instruction set's tails)
// Source:  Hu et al., "LoRA" (arXiv 2106.09685); Chen et al., "Punica" (arXiv 2310.18547) for rows of many adapters.

#ifndef ISA

#include "rows.h"

#define FAMILY "lora.c"
#include "each_isa.h"

static const worker_task low_rank_tasks[CPU_ISA_COUNT] = EACH_ISA(low_rank_task);

void cpu_add_low_rank(
    cpu_context *context, const cpu_low_rank *deltas, const float *x, int64_t rows, int64_t x_stride,
    const int32_t *choices, float *output, int64_t output_stride) {
    row_arguments a = {
        .x = (float *)x, .x_stride = x_stride, .weight = deltas->down, .output = output + deltas->first,
        .output_stride = output_stride, .parts = deltas->max_rank, .width = deltas->columns, .choices = choices,
        .up = deltas->up, .ranks = deltas->ranks, .output_width = deltas->width,
    };
    apply_to_rows(context, low_rank_tasks, rows, a);
}

#else

#define tail16 NAME(tail16)
#define shrink_by NAME(shrink_by)
#define expand_by NAME(expand_by)

/// The last `count` (below 16) elements, then zeros.
INLINE f32x16 tail16(const float *source, int64_t count) {
    float values[16] = { 0 };
    memcpy(values, source, (size_t)count * sizeof(float));
    return *(const f32x16 *)values;
}

/// inner[i] = down[i] · x for `count` rows at a time; a row's sum does not depend on `count`.
INLINE void shrink_by(const float *x, const float *down, int64_t columns, const int count, float *inner) {
    f32x16 sums[4];
    UNROLL for (int i = 0; i < count; i++) sums[i] = (f32x16)0.0f;
    int64_t whole = columns / 16 * 16;
    for (int64_t k = 0; k < whole; k += 16) {
        f32x16 own = *(const f32x16 *)(x + k);
        UNROLL for (int i = 0; i < count; i++) {
            sums[i] = fma16(*(const f32x16 *)(down + i * columns + k), own, sums[i]);
        }
    }
    if (whole < columns) {
        f32x16 own = tail16(x + whole, columns - whole);
        UNROLL for (int i = 0; i < count; i++) {
            sums[i] = fma16(tail16(down + i * columns + whole, columns - whole), own, sums[i]);
        }
    }
    UNROLL for (int i = 0; i < count; i++) inner[i] = sum16(sums[i]);
}

/// output[16 i…] += Σ inner[r] · up[r][16 i…] for `count` vectors.
INLINE void expand_by(
    const float *inner, int64_t rank, const float *up, int64_t width, const int count, float *output) {
    f32x16 sums[4];
    UNROLL for (int i = 0; i < count; i++) sums[i] = (f32x16)0.0f;
    for (int64_t r = 0; r < rank; r++) {
        f32x16 factor = (f32x16)inner[r];
        UNROLL for (int i = 0; i < count; i++) {
            sums[i] = fma16(*(const f32x16 *)(up + r * width + 16 * i), factor, sums[i]);
        }
    }
    UNROLL for (int i = 0; i < count; i++) *(f32x16 *)(output + 16 * i) += sums[i];
}

static void NAME(low_rank_task)(void *arguments, const team *team, int worker) {
    (void)worker;
    row_task *task = arguments;
    const row_arguments *a = &task->a;
    int64_t begin, end, at_a_time = rows_at_a_time(task->rows, team);
    while (take_rows(&task->next, task->rows, at_a_time, &begin, &end)) {
        for (int64_t t = begin; t < end; t++) {
            if (a->choices[t] < 0) continue;
            int64_t slot = a->choices[t], rank = a->ranks[slot], width = a->output_width, r = 0, k = 0;
            const float *x = a->x + t * a->x_stride, *down = a->weight + slot * a->parts * a->width;
            const float *up = a->up + slot * a->parts * width;
            float *output = a->output + t * a->output_stride, inner[CPU_MAX_RANK];
            for (; r + 4 <= rank; r += 4) shrink_by(x, down + r * a->width, a->width, 4, inner + r);
            for (; r < rank; r++) shrink_by(x, down + r * a->width, a->width, 1, inner + r);
            if (rank == 0) continue;
            for (; k + 64 <= width; k += 64) expand_by(inner, rank, up + k, width, 4, output + k);
            for (; k + 16 <= width; k += 16) expand_by(inner, rank, up + k, width, 1, output + k);
            for (; k < width; k++) {
                f32x16 sum = (f32x16)0.0f;
                for (int64_t i = 0; i < rank; i++) sum = fma16((f32x16)up[i * width + k], (f32x16)inner[i], sum);
                output[k] += sum[0];
            }
        }
    }
}

#endif
