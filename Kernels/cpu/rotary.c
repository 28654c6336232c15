// Math:    (x_a, x_b) ← (x_a · cos θ − x_b · sin θ, x_b · cos θ + x_a · sin θ). θ = position · frequency is rounded to
//          f32, as the reference implementations round it; its cosine and sine are correct to the last place;
//          they are multiplied by a magnitude, which is 1 but for stretched contexts.
// Shapes:  x [tokens, stride], the first heads × head_dim of each row in place; frequencies [rotary / 2].
// Launch:  the table of cosines and sines [tokens, 2, rotary / 2] is kept from call to call and rebuilt when the
//          positions or frequencies change: once a step, not once a layer. Threads take rows.
// Bound:   bytes of x.
// Checked: ElementwiseTests
// Source:  Su et al., "RoFormer" (2021)

#ifndef ISA

#include <math.h>

#include "kernels.h"

/// Elements below which the caller works alone, and angles below which it fills the table alone.
#define ROTATE_ALONE 32768
#define ANGLES_ALONE 512

typedef struct {
    float *x;
    int64_t tokens;
    int64_t stride;
    int64_t heads;
    int64_t head_dim;
    int64_t half;
    const int32_t *positions;
    const float *frequencies;
    /// [tokens, 2, half]: cosines, then sines.
    float *table;
    float magnitude;
    bool interleaved;
    work_counter next_angles;
    work_counter next;
} rotate_arguments;

static void angles_task(void *arguments, const team *team, int worker) {
    (void)worker;
    rotate_arguments *a = arguments;
    int64_t begin, end, at_a_time = rows_at_a_time(a->tokens, team);
    while (take_rows(&a->next_angles, a->tokens, at_a_time, &begin, &end)) {
        for (int64_t t = begin; t < end; t++) {
            float *cosines = a->table + t * 2 * a->half, *sines = cosines + a->half;
            for (int64_t i = 0; i < a->half; i++) {
                float angle = (float)a->positions[t] * a->frequencies[i];
                cosines[i] = (float)cos((double)angle) * a->magnitude;
                sines[i] = (float)sin((double)angle) * a->magnitude;
            }
        }
    }
}

#define FAMILY "rotary.c"
#include "each_isa.h"

static const worker_task rotate_tasks[CPU_ISA_COUNT] = EACH_ISA(rotate_task);

bool cpu_rotate(
    cpu_context *context, float *x, int64_t tokens, int64_t stride, int64_t heads, int64_t head_dim,
    const int32_t *positions, const float *frequencies, int64_t frequency_count,
    float magnitude, bool interleaved) {
    if (tokens == 0) return true;
    operation whole = {
        OPERATION_ROTATE, tokens,
        .rotate = { x, stride, heads, head_dim, positions, frequencies, frequency_count, magnitude, interleaved },
    };
    if (record(context, whole)) return true;
    // The area holds the positions and frequencies the table was made for, then the table.
    int64_t key_bytes = round_up((tokens + frequency_count) * 4, 64);
    uint8_t *area = scratch(context, SCRATCH_ROTARY, (uint64_t)(key_bytes + tokens * 2 * frequency_count * 4));
    if (area == NULL) return false;
    rotate_arguments arguments = {
        .x = x, .tokens = tokens, .stride = stride, .heads = heads, .head_dim = head_dim, .half = frequency_count,
        .positions = positions, .frequencies = frequencies, .table = (float *)(area + key_bytes),
        .magnitude = magnitude, .interleaved = interleaved,
    };
    size_t position_bytes = (size_t)tokens * 4, frequency_bytes = (size_t)frequency_count * 4;
    bool is_current = context->rotary.tokens == tokens && context->rotary.frequency_count == frequency_count
        && context->rotary.magnitude == magnitude && memcmp(area, positions, position_bytes) == 0
        && memcmp(area + position_bytes, frequencies, frequency_bytes) == 0;
    if (!is_current) {
        memcpy(area, positions, position_bytes);
        memcpy(area + position_bytes, frequencies, frequency_bytes);
        context->rotary = (rotary_cache){ tokens, frequency_count, magnitude };
        if (tokens * frequency_count < ANGLES_ALONE) run_alone(context, angles_task, &arguments);
        else run_on_available(context, angles_task, &arguments);
    }
    if (tokens * heads * head_dim < ROTATE_ALONE) run_alone(context, rotate_tasks[context->isa], &arguments);
    else run_on_available(context, rotate_tasks[context->isa], &arguments);
    return true;
}

#else

#define rotate_row NAME(rotate_row)

/// Turns the heads of one token.
INLINE void rotate_row(const rotate_arguments *a, int64_t token) {
    int64_t half = a->half;
    const float *restrict cosines = a->table + token * 2 * half, *restrict sines = cosines + half;
    for (int64_t h = 0; h < a->heads; h++) {
        float *restrict x = a->x + token * a->stride + h * a->head_dim;
        if (a->interleaved) {
            for (int64_t i = 0; i < half; i++) {
                float first = x[2 * i], second = x[2 * i + 1];
                x[2 * i] = first * cosines[i] - second * sines[i];
                x[2 * i + 1] = second * cosines[i] + first * sines[i];
            }
        } else {
            for (int64_t i = 0; i < half; i++) {
                float first = x[i], second = x[half + i];
                x[i] = first * cosines[i] - second * sines[i];
                x[half + i] = second * cosines[i] + first * sines[i];
            }
        }
    }
}

static void NAME(rotate_task)(void *arguments, const team *team, int worker) {
    (void)worker;
    rotate_arguments *a = arguments;
    int64_t begin, end, at_a_time = rows_at_a_time(a->tokens, team);
    while (take_rows(&a->next, a->tokens, at_a_time, &begin, &end)) {
        for (int64_t t = begin; t < end; t++) rotate_row(a, t);
    }
}

#endif
