// Math:    output = ½ g (1 + tanh(√(2/π) (g + 0.044715 g³))) · u, or
//          output = h / (1 + e^(−1.702 h)) · (clamp(u, ±limit) + 1) with h = min(g, limit).
// Shapes:  x [tokens, 2 × ffn] (g then u); output [tokens, ffn]; f32. The plain SiLU gate is activation.c's.
// Launch:  threads take rows; few rows stay on the caller.
// Bound:   bytes of x and output.
// Checked: ElementCases
// Source:  Hendrycks & Gimpel, "Gaussian Error Linear Units" (2016); gpt-oss (arXiv 2508.10925) for the clamped one

#ifndef ISA

#include "rows.h"

#define FAMILY "gates.c"
#include "each_isa.h"

static const worker_task gates_tasks[CPU_ISA_COUNT] = EACH_ISA(gates_task);

void cpu_gate_by(
    cpu_context *context, int32_t kind, float limit, const float *x, int64_t tokens, int64_t ffn, float *output) {
    if (kind == CPU_GATE_SILU) {
        cpu_gate(context, x, tokens, ffn, output);
        return;
    }
    row_arguments a = {
        .x = (float *)x, .x_stride = 2 * ffn, .output = output, .output_stride = ffn, .parts = 1, .width = ffn,
        .number = limit, .kind = kind,
    };
    apply_to_rows(context, gates_tasks, tokens, a);
}

#else

#define gelu16 NAME(gelu16)
#define clamped16 NAME(clamped16)
#define gates16 NAME(gates16)

/// ½ (1 + tanh y) is 1 / (1 + e⁻²ʸ), which keeps its digits where the tangent is near −1.
INLINE f32x16 gelu16(f32x16 g, f32x16 u) {
    f32x16 y = fma16(g * g * g, (f32x16)0.044715f, g);
    return g / (exp16(-1.5957691216057308f * y) + 1.0f) * u;
}

INLINE f32x16 clamped16(f32x16 g, f32x16 u, float limit) {
    f32x16 h = g > limit ? (f32x16)limit : g;
    f32x16 low = u < -limit ? (f32x16)-limit : u, clamped = low > limit ? (f32x16)limit : low;
    return h / (exp16(-1.702f * h) + 1.0f) * (clamped + 1.0f);
}

INLINE f32x16 gates16(f32x16 g, f32x16 u, float limit, int kind) {
    return kind == CPU_GATE_GELU_TANH ? gelu16(g, u) : clamped16(g, u, limit);
}

static void NAME(gates_task)(void *arguments, const team *team, int worker) {
    (void)worker;
    row_task *task = arguments;
    const row_arguments *a = &task->a;
    int64_t begin, end, at_a_time = rows_at_a_time(task->rows, team), whole = a->width / 16 * 16;
    while (take_rows(&task->next, task->rows, at_a_time, &begin, &end)) {
        for (int64_t t = begin; t < end; t++) {
            const float *g = a->x + t * a->x_stride, *u = g + a->width;
            float *output = a->output + t * a->output_stride;
            for (int64_t k = 0; k < whole; k += 16) {
                f32x16 result = gates16(*(const f32x16 *)(g + k), *(const f32x16 *)(u + k), a->number, a->kind);
                *(f32x16 *)(output + k) = result;
            }
            for (int64_t k = whole; k < a->width; k++) {
                output[k] = gates16((f32x16)g[k], (f32x16)u[k], a->number, a->kind)[0];
            }
        }
    }
}

#endif
