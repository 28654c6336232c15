// How weights lie in the device's memory, and how a checkpoint's matrix gets there. A part of CUDAKernels.h, which
// includes it.

#ifndef CUDA_KERNELS_WEIGHTS_H
#define CUDA_KERNELS_WEIGHTS_H

/// Storage of a weight matrix. The quantized formats keep the checkpoint's integers, and its scales as far as it has them.
enum {
    CUDA_WEIGHT_BF16 = 0,
    CUDA_WEIGHT_F16 = 1,
    CUDA_WEIGHT_F32 = 2,
    CUDA_WEIGHT_Q8_0 = 3,
    CUDA_WEIGHT_Q4_0 = 4,
    CUDA_WEIGHT_Q4_1 = 5,
    CUDA_WEIGHT_Q4_K = 6,
    CUDA_WEIGHT_Q5_K = 7,
    CUDA_WEIGHT_Q6_K = 8,
    /// d · (q − z) with f16 scales, as GPTQ and AWQ have them.
    CUDA_WEIGHT_INT4 = 9,
    /// d · (q − z) with f32 scales.
    CUDA_WEIGHT_INT8 = 10,
    CUDA_WEIGHT_MXFP4 = 11,
    /// d · q with f32 scales.
    CUDA_WEIGHT_E4M3 = 12,
    CUDA_WEIGHT_FORMAT_COUNT = 13,
};

/// Storage of a matrix in a checkpoint. Tensors.DType says what each holds. Those without a format of their own become
/// another that holds the same numbers: q5_0 and iq4_nl q8_0, q3_k q6_k, iq4_xs int8, int4 whose scales are not f16 int8;
/// but q5_1 and q2_k are rounded to f16.
enum {
    CUDA_SOURCE_BF16 = 0,
    CUDA_SOURCE_F16,
    CUDA_SOURCE_F32,
    CUDA_SOURCE_Q8_0,
    CUDA_SOURCE_Q4_0,
    CUDA_SOURCE_Q4_1,
    CUDA_SOURCE_Q5_0,
    CUDA_SOURCE_Q5_1,
    CUDA_SOURCE_Q2_K,
    CUDA_SOURCE_Q3_K,
    CUDA_SOURCE_Q4_K,
    CUDA_SOURCE_Q5_K,
    CUDA_SOURCE_Q6_K,
    CUDA_SOURCE_IQ4_NL,
    CUDA_SOURCE_IQ4_XS,
    CUDA_SOURCE_MXFP4,
    CUDA_SOURCE_INT4,
    CUDA_SOURCE_INT8,
    CUDA_SOURCE_E4M3,
};

/// A packed matrix is cut into tiles of 16 rows and units of 64 columns (both padded with zeros). Inside a unit a
/// lane l = 4g + t of a warp owns rows g and g + 8; in step s (0…3), one mma.m16n8k16, it owns the columns
///     64 · unit + 32 · (s / 2) + 8 · t + 4 · (s % 2) + {0, 1, 2, 3},
/// the first two as the low half of k, the last two as the high half. So a lane's activations of half a unit are eight
/// adjacent columns, and a quantization block of 32 columns is two steps.
///
/// A fragment is a step's eight weights of a lane in the order of the instruction's A operand:
///     (g; 0, 1), (g + 8; 0, 1), (g; 2, 3), (g + 8; 2, 3).
///
/// Order in memory, tile after tile, unit after unit (bytes of a unit in brackets):
///   bf16, f16 [2048]  [step 4][lane 32][8 weights]
///   f32       [4096]  [step 4][half 2][lane 32][4 weights]
///   q8_0      [1024]  [block 2][lane 32][step of the block 2][8 weights]
///   int8, e4m3        as q8_0
///   q4_0, q4_1 [512]  [lane 32][step 4][8 weights in 32 bits: weight 2i in bits 4i…, weight 2i + 1 in bits 16 + 4i…]
///   q4_k, int4, mxfp4 as q4_0
///   q5_k       [640]  nibbles as q4_0; [lane 32] a bit more of each: pair p = 4 · step + i in bits p and 16 + p
///   q6_k       [768]  nibbles as q4_0; [lane 32][block 2] two bits more: pair p = 4 · (step % 2) + i in bits 2p… and
///                     16 + 2p…. Its scales are of 16 columns, so that step s owns 32 · (s / 2) + 16 · (s % 2) + 4 · t…
/// Scales, tile after tile, unit after unit, for the eight row pairs (g, g + 8):
///   q8_0, q4_0 [64]   [g 8][block 2][d of g, d of g + 8] f16
///   q4_1      [128]   [g 8][block 2][d of g, d of g + 8, m of g, m of g + 8] f16
///   q4_k, q5_k [64]   [g 8][block 2][s of g, s of g + 8, m of g, m of g + 8] bytes
///   q6_k       [64]   [g 8][block 2][s + 128 of g, 16 columns and 16, of g + 8 likewise] bytes
///   mxfp4      [32]   [g 8][block 2][e of g, e of g + 8] bytes
/// What more columns share, tile after tile, once for each 2^group_shift units:
///   q4_k, q5_k [64]   [g 8][d of g, d of g + 8, e of g, e of g + 8] f16
///   q6_k       [32]   [g 8][d of g, d of g + 8] f16
///   int4      [128]   [g 8][block 2][d of g, d of g + 8 f16, 128 + z of g, 128 + z of g + 8 bf16]
///   int8      [192]   [g 8][block 2][d of g, d of g + 8] f32, [g 8][block 2][z − 128 of g, of g + 8] bf16; q − 128
///   e4m3      [128]   [g 8][block 2][d of g, d of g + 8] f32
enum {
    CUDA_TILE_ROWS = 16,
    CUDA_UNIT_COLUMNS = 64,
    /// A row's units are cut into this many runs, [units · i / 8, units · (i + 1) / 8). Each is summed on its own, and
    /// the sums are added in order: the order of additions is the same for every kernel and every batch.
    CUDA_K_SLICES = 8,
};

/// A packed matrix, or a run of rows of one.
typedef struct {
    cuda_address data;
    /// 0 for plain formats.
    cuda_address scales;
    /// What more columns than a unit's may share; 0 where a format has none.
    cuda_address groups;
    /// One of CUDA_WEIGHT_*.
    int32_t format;
    /// Rows and columns without padding. `columns` is a multiple of 8 (of 32 when quantized).
    int32_t rows;
    int32_t columns;
    /// One of CUDA_LAYOUT_*.
    int32_t layout;
    int32_t group_shift;
    /// How rows are paired, so that one thread has the sums of both: 0 as they come; n > 1 with the row n further, in
    /// runs of 2n; 1 with the next. Of sixteen packed rows the i-th and the (i + 8)-th are a pair.
    int32_t pairs;
} cuda_matrix;

/// The order of a packed matrix: the fragments above, or the swizzled tiles of tiles.h, 64 rows by 128 bytes, tile after
/// tile of rows, unit after unit, padded with zeros: bf16, or E4M3, whose scales are then [tile][run of 2^group_shift
/// units][64 rows] f32.
enum {
    CUDA_LAYOUT_FRAGMENTS = 0,
    CUDA_LAYOUT_SWIZZLED = 1,
    /// Rows of a swizzled tile.
    CUDA_SWIZZLED_ROW_COUNT = 64,
};

/// How a checkpoint's matrix is packed.
typedef struct {
    /// One of CUDA_SOURCE_* and of CUDA_WEIGHT_*.
    int32_t source;
    int32_t format;
    int32_t group_shift;
    /// Bytes of a tile's weights, scales and groups.
    int32_t tile_bytes;
    int32_t tile_scale_bytes;
    int32_t tile_group_bytes;
} cuda_packing;

/// Columns of a checkpoint's block.
int32_t cuda_source_block_columns(int32_t source);
/// Chooses the packing of a matrix by its type and its scales. `bytes` are `rows` × `columns` weights, row-major.
cuda_packing cuda_packing_of(int32_t source, const uint8_t *bytes, int64_t rows, int64_t columns);
/// Packs tiles of a matrix into host memory. `first_tile` and `tile_count` choose those to write; `data`, `scales` and
/// `groups` are where the first of them goes, so that threads can share the work and large weights can be packed in
/// pieces.
void cuda_pack(
    const cuda_packing *packing, const uint8_t *bytes, int64_t rows, int64_t columns, int64_t first_tile,
    int64_t tile_count, uint8_t *data, uint8_t *scales, uint8_t *groups);

/// The row that is packed `packed`-th in a matrix with such `pairs`.
int32_t cuda_paired_row(int32_t pairs, int32_t packed);
/// How many times two units (of 128 columns) of E4M3 have equal scales in every row: `group_shift` in swizzled tiles;
/// −1 if one unit does not.
int32_t cuda_swizzled_e4m3_shift(const uint8_t *source, int64_t rows, int64_t columns);
uint64_t cuda_swizzled_e4m3_bytes(int64_t rows, int64_t columns);
uint64_t cuda_swizzled_e4m3_scale_bytes(int64_t rows, int64_t columns, int32_t shift);
/// Packs tiles of 64 rows of a checkpoint's blocks.
void cuda_pack_swizzled_e4m3(
    const uint8_t *source, int64_t rows, int64_t columns, int32_t shift, int64_t first_tile, int64_t tile_count,
    uint8_t *data, uint8_t *scales);
/// Bytes of a bf16 matrix in swizzled tiles; and packing, as `cuda_pack` does it, of tiles of 64 rows.
uint64_t cuda_swizzled_bytes(int64_t rows, int64_t columns);
void cuda_pack_swizzled(
    const uint8_t *source, int64_t rows, int64_t columns, int64_t first_tile, int64_t tile_count, uint8_t *data);

#endif
