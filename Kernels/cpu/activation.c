// Math:    output = silu(g) · u, silu(g) = g / (1 + e⁻ᵍ).
// Shapes:  x [tokens, 2 × ffn] (g then u); output [tokens, ffn]; f32.
// Launch:  threads take rows; a step of few rows stays on the caller.
// Bound:   bytes of x and output.
// Checked: ElementwiseTests
// Source:  Shazeer, "GLU Variants Improve Transformer" (2020)

#ifndef ISA

#include "kernels.h"

/// Elements below which the caller works alone.
#define GATE_ALONE 16384

typedef struct {
    const float *x;
    int64_t tokens;
    int64_t ffn;
    float *output;
    work_counter next;
} gate_arguments;

#define FAMILY "activation.c"
#include "each_isa.h"

static const worker_task gate_tasks[CPU_ISA_COUNT] = EACH_ISA(gate_task);

void cpu_gate(cpu_context *context, const float *x, int64_t tokens, int64_t ffn, float *output) {
    operation whole = { OPERATION_GATE, tokens, .gate = { x, ffn, output } };
    if (record(context, whole)) return;
    gate_arguments arguments = { .x = x, .tokens = tokens, .ffn = ffn, .output = output };
    if (tokens * ffn < GATE_ALONE) run_alone(context, gate_tasks[context->isa], &arguments);
    else run_on_available(context, gate_tasks[context->isa], &arguments);
}

static void (*const gate_functions[CPU_ISA_COUNT])(const float *, int64_t, int64_t, float *, int64_t) =
    EACH_ISA(gate_rows);

void gate_patch(
    const cpu_context *context, const float *x, int64_t tokens, int64_t width, float *output, int64_t output_stride) {
    gate_functions[context->isa](x, tokens, width, output, output_stride);
}

#else

#define gate16 NAME(gate16)
#define gate_row NAME(gate_row)

INLINE f32x16 gate16(f32x16 g, f32x16 u) {
    return g / (exp16(-g) + 1.0f) * u;
}

INLINE void gate_row(const float *g, int64_t ffn, float *output) {
    const float *u = g + ffn;
    int64_t whole = ffn / 16 * 16;
    for (int64_t k = 0; k < whole; k += 16) {
        *(f32x16 *)(output + k) = gate16(*(const f32x16 *)(g + k), *(const f32x16 *)(u + k));
    }
    for (int64_t k = whole; k < ffn; k++) output[k] = gate16((f32x16)g[k], (f32x16)u[k])[0];
}

static void NAME(gate_rows)(
    const float *x, int64_t tokens, int64_t width, float *output, int64_t output_stride) {
    for (int64_t t = 0; t < tokens; t++) gate_row(x + t * 2 * width, width, output + t * output_stride);
}

static void NAME(gate_task)(void *arguments, const team *team, int worker) {
    (void)worker;
    gate_arguments *a = arguments;
    int64_t begin, end, at_a_time = rows_at_a_time(a->tokens, team);
    while (take_rows(&a->next, a->tokens, at_a_time, &begin, &end)) {
        NAME(gate_rows)(a->x + begin * 2 * a->ffn, end - begin, a->ffn, a->output + begin * a->ffn, a->ffn);
    }
}

#endif
