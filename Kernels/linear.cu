// Math:    output[t][r] (+)= Σ_k W[r][k] · x[t][k]. x is bf16 and W the exact sum of bf16 parts (times a scale per 32
//          columns, plus a minimum in q4_1), so that products are exact and only f32 additions round. Or what
//          cuda/endings.cuh makes of the sums.
// Shapes:  x [tokens, columns], W packed (weights.h), output [tokens, ≥ rows] f32.
// Launch:  to 64 tokens: a warp per tile of 16 rows and slice of K, tokens are the narrow side of the product. Beyond:
//          128 rows × 128 tokens a block. Both sum 8 slices of K from zero, then add the slices in order: same bits.
// Bound:   to 64 tokens bytes of W, beyond tensor instructions; fractions of both are recorded in docs/benchmarks.
// Checked: Conformance (f64 reference, every format; bitwise over batches and kernels), in permuted thread orders too
// Source:  weights in fragment order and bits of nibbles as mantissas: Marlin (arXiv 2408.11743); the rest is its own.

#include "cuda/linear.cuh"

#define LINEAR_SKINNY(name, format, tokens) \
    APUS_KERNEL( \
        linear_##name##_##tokens, cuda_ended_linear_arguments, LINEAR_THREADS, linear_blocks(format, tokens)) { \
        linear::skinny<format, tokens>( \
            a.product, &a.ending, static_cast<int>(blockIdx.x) * linear_row_tiles(tokens), linear::rows_in_order()); \
    }
#define LINEAR_KERNELS(name, format) \
    LINEAR_SKINNY(name, format, 8) \
    LINEAR_SKINNY(name, format, 16) \
    LINEAR_SKINNY(name, format, 32) \
    LINEAR_SKINNY(name, format, 64) \
    APUS_KERNEL(linear_##name##_large, cuda_ended_linear_arguments, LINEAR_THREADS, 1) { \
        linear::large<format>( \
            a.product, &a.ending, static_cast<int>(blockIdx.y) * LINEAR_LARGE_TILES, \
            static_cast<int>(blockIdx.x) * LINEAR_LARGE_TOKENS, linear::rows_in_order()); \
    }

LINEAR_KERNELS(bf16, CUDA_WEIGHT_BF16)
LINEAR_KERNELS(f16, CUDA_WEIGHT_F16)
LINEAR_KERNELS(f32, CUDA_WEIGHT_F32)
LINEAR_KERNELS(q8_0, CUDA_WEIGHT_Q8_0)
LINEAR_KERNELS(q4_0, CUDA_WEIGHT_Q4_0)
LINEAR_KERNELS(q4_1, CUDA_WEIGHT_Q4_1)
LINEAR_KERNELS(q4_k, CUDA_WEIGHT_Q4_K)
LINEAR_KERNELS(q5_k, CUDA_WEIGHT_Q5_K)
LINEAR_KERNELS(q6_k, CUDA_WEIGHT_Q6_K)
LINEAR_KERNELS(int4, CUDA_WEIGHT_INT4)
LINEAR_KERNELS(int8, CUDA_WEIGHT_INT8)
LINEAR_KERNELS(mxfp4, CUDA_WEIGHT_MXFP4)
LINEAR_KERNELS(e4m3, CUDA_WEIGHT_E4M3)

#undef LINEAR_KERNELS
#undef LINEAR_SKINNY
