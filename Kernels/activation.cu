// Math:    output = g / (1 + e⁻ᵍ) · u (SiLU); g / (1 + e⁻²ʸ) · u with y = √(2/π) (g + 0.044715 g³), which is GELU's
//          approximation; or h / (1 + e^(−1.702 h)) · (clamp(u, ±limit) + 1) with h = min(g, limit). In f32, rounded to
//          bf16 once.
// Shapes:  x [tokens, 2 × ffn] f32 (g then u); output [tokens, ffn] bf16.
// Launch:  grid (tokens, runs of 1024 columns); a thread takes four adjacent columns.
// Bound:   bytes of x and output.
// Checked: in the emulator against f64, odd widths and unaligned rows included
// Source:  Shazeer, "GLU Variants Improve Transformer" (2020)

#include "cuda/gates.cuh"
#include "cuda/rows.cuh"
#include "cuda/rows.h"

APUS_KERNEL(gate, cuda_gate_arguments, ROW_THREADS, 8) {
    const int column = 4 * static_cast<int>(blockIdx.y * ROW_THREADS + threadIdx.x);
    if (column >= a.ffn) return;
    const int64_t token = blockIdx.x, ffn = a.ffn;
    const float *gates = at<const float>(a.x, token * 2 * ffn), *values = gates + ffn;
    const bool is_aligned = ffn % 4 == 0 && a.x % 16 == 0 && a.output % 8 == 0;
    const float4 g = load_four(gates, column, a.ffn, is_aligned), u = load_four(values, column, a.ffn, is_aligned);
    const float4 result = make_float4(
        gated(g.x, u.x, a.kind, a.limit), gated(g.y, u.y, a.kind, a.limit), gated(g.z, u.z, a.kind, a.limit),
        gated(g.w, u.w, a.kind, a.limit));
    store_four_bf16(at<uint16_t>(a.output, token * ffn), result, column, a.ffn, is_aligned);
}
