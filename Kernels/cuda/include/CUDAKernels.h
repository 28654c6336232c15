// The C interface of the CUDA kernels: which there are, how one is launched and, in a header for each kind of them, the
// one argument each takes and how weights are laid out for it. Shared by the kernels (`Kernels/*.cu`), the backend that launches them, and the emulator.
//
// Every kernel takes exactly one argument, a struct of this file, by value. Addresses are device addresses, strides are
// in elements, activations are row-major. bf16 and f16 values are passed as their 16 bits.

#ifndef CUDA_KERNELS_H
#define CUDA_KERNELS_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/// An address in the device's memory.
typedef uint64_t cuda_address;

// MARK: Launches

/// All kernels, by family: the one list from which ids and names follow. X(name)
#define CUDA_KERNEL_LIST(X) \
    X(stamp) \
    X(embed) \
    X(gather_rows) \
    X(rms_norm) \
    X(norm_parts) \
    X(quantize_rows) \
    X(change_elements) \
    X(gate) \
    X(rotate) \
    X(rotary_table) \
    X(store_kv) \
    X(store_kv_bytes) \
    X(attention_plan) \
    X(attend_decode_64) \
    X(attend_decode_80) \
    X(attend_decode_96) \
    X(attend_decode_128) \
    X(attend_decode_256) \
    X(attend_prefill_64) \
    X(attend_prefill_80) \
    X(attend_prefill_96) \
    X(attend_prefill_128) \
    X(attend_prefill_256) \
    X(attend_decode_options_64) \
    X(attend_decode_options_80) \
    X(attend_decode_options_96) \
    X(attend_decode_options_128) \
    X(attend_decode_options_256) \
    X(attend_prefill_options_64) \
    X(attend_prefill_options_80) \
    X(attend_prefill_options_96) \
    X(attend_prefill_options_128) \
    X(attend_prefill_options_256) \
    X(attend_decode_e4m3_64) X(attend_decode_e4m3_80) X(attend_decode_e4m3_96) \
    X(attend_decode_e4m3_128) X(attend_decode_e4m3_256) \
    X(attend_decode_int8_64) X(attend_decode_int8_80) X(attend_decode_int8_96) \
    X(attend_decode_int8_128) X(attend_decode_int8_256) \
    X(attend_prefill_e4m3_64) X(attend_prefill_e4m3_80) X(attend_prefill_e4m3_96) \
    X(attend_prefill_e4m3_128) X(attend_prefill_e4m3_256) \
    X(attend_prefill_int8_64) X(attend_prefill_int8_80) X(attend_prefill_int8_96) \
    X(attend_prefill_int8_128) X(attend_prefill_int8_256) \
    X(attend_decode_panels_64) X(attend_decode_panels_128) \
    X(attend_decode_panels_options_64) X(attend_decode_panels_options_128) \
    X(attend_combine) \
    X(linear_bf16_8) X(linear_bf16_16) X(linear_bf16_32) X(linear_bf16_64) X(linear_bf16_large) \
    X(linear_f16_8) X(linear_f16_16) X(linear_f16_32) X(linear_f16_64) X(linear_f16_large) \
    X(linear_f32_8) X(linear_f32_16) X(linear_f32_32) X(linear_f32_64) X(linear_f32_large) \
    X(linear_q8_0_8) X(linear_q8_0_16) X(linear_q8_0_32) X(linear_q8_0_64) X(linear_q8_0_large) \
    X(linear_q4_0_8) X(linear_q4_0_16) X(linear_q4_0_32) X(linear_q4_0_64) X(linear_q4_0_large) \
    X(linear_q4_1_8) X(linear_q4_1_16) X(linear_q4_1_32) X(linear_q4_1_64) X(linear_q4_1_large) \
    X(linear_q4_k_8) X(linear_q4_k_16) X(linear_q4_k_32) X(linear_q4_k_64) X(linear_q4_k_large) \
    X(linear_q5_k_8) X(linear_q5_k_16) X(linear_q5_k_32) X(linear_q5_k_64) X(linear_q5_k_large) \
    X(linear_q6_k_8) X(linear_q6_k_16) X(linear_q6_k_32) X(linear_q6_k_64) X(linear_q6_k_large) \
    X(linear_int4_8) X(linear_int4_16) X(linear_int4_32) X(linear_int4_64) X(linear_int4_large) \
    X(linear_int8_8) X(linear_int8_16) X(linear_int8_32) X(linear_int8_64) X(linear_int8_large) \
    X(linear_mxfp4_8) X(linear_mxfp4_16) X(linear_mxfp4_32) X(linear_mxfp4_64) X(linear_mxfp4_large) \
    X(linear_e4m3_8) X(linear_e4m3_16) X(linear_e4m3_32) X(linear_e4m3_64) X(linear_e4m3_large) \
    X(add_low_rank) \
    X(adjust_logits) \
    X(sample) \
    X(sample_greedily) \
    X(route_experts) \
    X(group_routes) \
    X(gate_experts) \
    X(combine_experts) \
    X(expert_linear_bf16_8) X(expert_linear_bf16_32) X(expert_linear_bf16_large) \
    X(expert_linear_f16_8) X(expert_linear_f16_32) X(expert_linear_f16_large) \
    X(expert_linear_f32_8) X(expert_linear_f32_32) X(expert_linear_f32_large) \
    X(expert_linear_q8_0_8) X(expert_linear_q8_0_32) X(expert_linear_q8_0_large) \
    X(expert_linear_q4_0_8) X(expert_linear_q4_0_32) X(expert_linear_q4_0_large) \
    X(expert_linear_q4_1_8) X(expert_linear_q4_1_32) X(expert_linear_q4_1_large) \
    X(expert_linear_q4_k_8) X(expert_linear_q4_k_32) X(expert_linear_q4_k_large) \
    X(expert_linear_q5_k_8) X(expert_linear_q5_k_32) X(expert_linear_q5_k_large) \
    X(expert_linear_q6_k_8) X(expert_linear_q6_k_32) X(expert_linear_q6_k_large) \
    X(expert_linear_int4_8) X(expert_linear_int4_32) X(expert_linear_int4_large) \
    X(expert_linear_int8_8) X(expert_linear_int8_32) X(expert_linear_int8_large) \
    X(expert_linear_mxfp4_8) X(expert_linear_mxfp4_32) X(expert_linear_mxfp4_large) \
    X(expert_linear_e4m3_8) X(expert_linear_e4m3_32) X(expert_linear_e4m3_large) \
    X(linear_hopper_8) X(linear_hopper_16) X(linear_hopper_32) X(linear_hopper_64) X(linear_hopper_128) \
    X(linear_hopper_192) \
    X(linear_hopper_e4m3_8) X(linear_hopper_e4m3_16) X(linear_hopper_e4m3_32) X(linear_hopper_e4m3_64) \
    X(linear_hopper_e4m3_128) \
    X(attend_prefill_hopper_64) X(attend_prefill_hopper_128) \
    X(attend_prefill_hopper_options_64) X(attend_prefill_hopper_options_128) \
    X(add_ranks) X(join_ranks) X(all_reduce) X(all_reduce_norm) X(all_gather)

/// CUDA_KERNEL_embed, …: index of a kernel in the list.
enum {
#define CUDA_KERNEL_ID(name) CUDA_KERNEL_##name,
    CUDA_KERNEL_LIST(CUDA_KERNEL_ID)
#undef CUDA_KERNEL_ID
    CUDA_KERNEL_COUNT
};

/// The name of a kernel's entry in a fatbin, `apus_` and its name in the list; NULL for an id that is none.
const char *cuda_kernel_name(int32_t kernel);

/// How to launch a kernel: its id, its grid, threads of a block and bytes of dynamic shared memory.
typedef struct {
    int32_t kernel;
    uint32_t grid_x;
    uint32_t grid_y;
    uint32_t grid_z;
    uint32_t threads;
    uint32_t shared_bytes;
} cuda_launch;

// MARK: Stamp (stamp.cu)

/// Raised when an argument or a layout changes its meaning but not its size.
#define CUDA_KERNELS_VERSION 11

/// What kernels and backend must agree on. `stamp` writes the one its fatbin was built with, `cuda_kernels_stamp` returns
/// the one this program was built with; a difference means that the fatbins are of another version.
typedef struct {
    cuda_address output;  // u64
} cuda_stamp_arguments;
uint64_t cuda_kernels_stamp(void);

// MARK: The families

#include "weights.h"
#include "layers.h"
#include "products.h"
#include "sampling.h"
#include "collectives.h"

/// The value of both stamps: version, number of kernels and sizes of what crosses.
#define CUDA_KERNELS_STAMP \
    ((uint64_t)CUDA_KERNELS_VERSION << 48 | (uint64_t)CUDA_KERNEL_COUNT << 32 \
     | (sizeof(cuda_embed_arguments) + 3 * sizeof(cuda_linear_arguments) + 5 * sizeof(cuda_attend_arguments) \
        + 7 * sizeof(cuda_sampling_row) + 11 * sizeof(cuda_sampling_result) + 13 * sizeof(cuda_rotate_arguments) \
        + 17 * sizeof(cuda_linear_hopper_arguments) + 19 * sizeof(cuda_store_kv_arguments) \
        + 23 * sizeof(cuda_add_low_rank_arguments) + 29 * sizeof(cuda_logit_adjustment) \
        + 31 * sizeof(cuda_route_experts_arguments) + 37 * sizeof(cuda_group_routes_arguments) \
        + 41 * sizeof(cuda_expert_item) + 43 * sizeof(cuda_expert_matrix) + 47 * sizeof(cuda_expert_linear_arguments) \
        + 53 * sizeof(cuda_gate_experts_arguments) + 59 * sizeof(cuda_combine_experts_arguments) \
        + 61 * sizeof(cuda_ended_linear_arguments) + 67 * sizeof(cuda_rotary_table_arguments) \
        + 71 * sizeof(cuda_all_reduce_arguments) + 73 * sizeof(cuda_all_reduce_norm_arguments)))

#ifdef __cplusplus
}
#endif

#endif
