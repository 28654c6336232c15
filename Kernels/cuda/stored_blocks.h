// Blocks of a checkpoint's quantized matrices, taken apart: a code for each of 32 neighbours, and what scales them.

#ifndef APUS_STORED_BLOCKS_H
#define APUS_STORED_BLOCKS_H

#include "CUDAKernels.h"

/// 32 neighbours of a row, as their packed format wants them.
typedef struct {
    /// The integer or the bits of each; a signed byte of q8_0; less 128 in int8.
    uint8_t codes[32];
    /// Scale and minimum, f16.
    uint16_t halves[2];
    /// Scale and minimum of q4_k and q5_k, the scales of 16 columns of q6_k plus 128, the exponent of mxfp4.
    uint8_t small[2];
    /// Of int4, int8 and e4m3.
    float scale;
    int zero;
} stored_block;

/// Bytes of a block of `cuda_source_block_columns` columns.
int source_block_bytes(int source);
/// Block `index` of 32 columns of a row.
void read_block(const cuda_packing *packing, const uint8_t *row, int64_t index, stored_block *block);
/// The same as floats, for q5_1 and q2_k.
void stored_floats(int source, const uint8_t *row, int64_t index, float *values);

/// The nearest f16, ties to even; what it stands for; the bf16 of a small integer.
uint16_t half_of(float value);
float half_value(uint16_t bits);
uint16_t bf16_of(int value);

#endif
