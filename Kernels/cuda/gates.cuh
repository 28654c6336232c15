// What a gated feed-forward block makes of a gate and the value beside it; activation.cu says it in formulas.

#ifndef APUS_GATES_CUH
#define APUS_GATES_CUH

#include "exponential.cuh"

APUS_DEVICE float gated(float gate, float value, int kind, float limit) {
    if (kind == CUDA_GATE_SILU) return gate / (exponential(-gate) + 1.0f) * value;
    if (kind == CUDA_GATE_GELU_TANH) {
        const float inner = fmaf(gate * gate * gate, 0.044715f, gate);
        return gate / (exponential(-1.5957691216057308f * inner) + 1.0f) * value;
    }
    const float low = gate > limit ? limit : gate;
    const float clamped = value < -limit ? -limit : value > limit ? limit : value;
    return low / (exponential(-1.702f * low) + 1.0f) * (clamped + 1.0f);
}

#endif
