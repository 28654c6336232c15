// Packs a checkpoint's weights into the order that the kernels read (weights.h). Packing walks the destination, unit
// by unit, so that any run of tiles can be written alone. A quantized block is first taken apart: a code for each weight,
// and what the codes of its format are scaled by.

#include <math.h>
#include <string.h>

#include "CUDAKernels.h"
#include "matrix_layout.h"
#include "stored_blocks.h"

static int64_t divide_up(int64_t count, int64_t size) { return (count + size - 1) / size; }

static int element_bytes(int format) { return format == CUDA_WEIGHT_F32 ? 4 : 2; }

/// A unit being packed: where the first of its 16 rows starts in the checkpoint's matrix, and what of it there is.
typedef struct {
    const uint8_t *source;
    int64_t row_bytes;
    int rows;
    int first_column;
    int columns;
} unit_source;

// MARK: Plain formats

/// Where weight `index` of the eight that `lane` owns in `step` comes from, within the unit.
static int weight_row(int lane, int index) { return lane / 4 + index / 2 % 2 * 8; }
static int weight_column(int lane, int step, int index) {
    return step / 2 * 32 + lane % 4 * 8 + step % 2 * 4 + index / 4 * 2 + index % 2;
}

static void pack_plain(int format, const unit_source *unit, uint8_t *data) {
    const int bytes = element_bytes(format);
    for (int step = 0; step < 4; step++) {
        for (int lane = 0; lane < 32; lane++) {
            for (int index = 0; index < 8; index += 2) {
                const int row = weight_row(lane, index), column = weight_column(lane, step, index);
                const int place = bytes == 4 ? 256 * step + 128 * (index / 4) + 4 * lane + index % 4
                                             : 256 * step + 8 * lane + index;
                // Columns are a multiple of 8: both or none of a pair exist.
                if (row >= unit->rows || column >= unit->columns) continue;
                const int64_t offset = row * unit->row_bytes + (int64_t)(unit->first_column + column) * bytes;
                memcpy(data + place * bytes, unit->source + offset, (size_t)(2 * bytes));
            }
        }
    }
}

/// Formats that the kernels have nothing like: every weight rounded to f16.
static void pack_rounded(int source, const unit_source *unit, uint8_t *data) {
    uint16_t values[CUDA_TILE_ROWS][CUDA_UNIT_COLUMNS];
    memset(values, 0, sizeof(values));
    for (int row = 0; row < unit->rows; row++) {
        for (int block = 0; block < unit->columns / 32; block++) {
            float floats[32];
            stored_floats(source, unit->source + row * unit->row_bytes, unit->first_column / 32 + block, floats);
            for (int i = 0; i < 32; i++) values[row][32 * block + i] = half_of(floats[i]);
        }
    }
    const unit_source rounded = {
        .source = (const uint8_t *)values, .row_bytes = sizeof(values[0]), .rows = unit->rows, .first_column = 0,
        .columns = unit->columns};
    pack_plain(CUDA_WEIGHT_F16, &rounded, data);
}

// MARK: Quantized formats

/// Adds bits to a word of the destination.
static void add_bits(uint8_t *place, uint32_t bits) {
    uint32_t word;
    memcpy(&word, place, 4);
    word |= bits;
    memcpy(place, &word, 4);
}

/// Packs the codes of four neighbours of a row of the tile, the columns of a step that a lane owns: pairs `half` and
/// `half` + 2 of the lane's four.
static void pack_four(int format, const uint8_t *codes, int step, int t, int row, uint8_t *data) {
    const int lane = row % 8 * 4 + t, half = row / 8;
    if (!has_nibbles(format)) {
        uint8_t *const weights = data + 512 * (step / 2) + 16 * lane + 8 * (step % 2) + 2 * half;
        memcpy(weights, codes, 2);
        memcpy(weights + 4, codes + 2, 2);
        return;
    }
    uint32_t nibbles = 0;
    static const int places[4] = {0, 16, 8, 24};
    for (int i = 0; i < 4; i++) nibbles |= (uint32_t)(codes[i] & 15) << places[i];
    add_bits(data + 16 * lane + 4 * step, nibbles << 4 * half);
    for (int i = 0; i < 4 && format == CUDA_WEIGHT_Q5_K; i++) {
        const int pair = 4 * step + half + i / 2 * 2;
        add_bits(data + 512 + 4 * lane, (uint32_t)(codes[i] >> 4 & 1) << (pair + i % 2 * 16));
    }
    for (int i = 0; i < 4 && format == CUDA_WEIGHT_Q6_K; i++) {
        const int pair = 4 * (step % 2) + half + i / 2 * 2;
        add_bits(data + 512 + 8 * lane + step / 2 * 4, (uint32_t)(codes[i] >> 4 & 3) << (2 * pair + i % 2 * 16));
    }
}

/// Writes what a row's block of 32 is scaled by: what is the unit's, and what is its group's.
static void pack_scales(int format, const stored_block *block, int row, int index, uint8_t *scales, uint8_t *group) {
    const int g = row % 8, half = row / 8, pair = 2 * g + index;
    switch (format) {
    case CUDA_WEIGHT_Q8_0:
    case CUDA_WEIGHT_Q4_0: memcpy(scales + 4 * pair + 2 * half, &block->halves[0], 2); break;
    case CUDA_WEIGHT_Q4_1:
        for (int i = 0; i < 2; i++) memcpy(scales + 8 * pair + 4 * i + 2 * half, &block->halves[i], 2);
        break;
    case CUDA_WEIGHT_Q4_K:
    case CUDA_WEIGHT_Q5_K:
        for (int i = 0; i < 2; i++) {
            scales[4 * pair + 2 * i + half] = block->small[i];
            memcpy(group + 8 * g + 4 * i + 2 * half, &block->halves[i], 2);
        }
        break;
    case CUDA_WEIGHT_Q6_K:
        memcpy(scales + 4 * pair + 2 * half, block->small, 2);
        memcpy(group + 4 * g + 2 * half, &block->halves[0], 2);
        break;
    case CUDA_WEIGHT_MXFP4: scales[2 * pair + half] = block->small[0]; break;
    case CUDA_WEIGHT_INT4: {
        const uint16_t zero = bf16_of(128 + block->zero);
        memcpy(group + 8 * pair + 2 * half, &block->halves[0], 2);
        memcpy(group + 8 * pair + 4 + 2 * half, &zero, 2);
        break;
    }
    case CUDA_WEIGHT_INT8: {
        const uint16_t zero = bf16_of(block->zero - 128);
        memcpy(group + 8 * pair + 4 * half, &block->scale, 4);
        memcpy(group + 128 + 4 * pair + 2 * half, &zero, 2);
        break;
    }
    case CUDA_WEIGHT_E4M3: memcpy(group + 8 * pair + 4 * half, &block->scale, 4); break;
    }
}

static void pack_quantized(
    const cuda_packing *packing, const unit_source *unit, uint8_t *data, uint8_t *scales, uint8_t *group) {
    const bool has_halves = packing->format == CUDA_WEIGHT_Q6_K;
    for (int row = 0; row < unit->rows; row++) {
        for (int index = 0; index < unit->columns / 32; index++) {
            stored_block block;
            read_block(
                packing, unit->source + row * unit->row_bytes, unit->first_column / 32 + index, &block);
            for (int i = 0; i < 8; i++) {
                const int step = 2 * index + (has_halves ? i / 4 : i % 2), t = has_halves ? i % 4 : i / 2;
                pack_four(packing->format, block.codes + 4 * i, step, t, row, data);
            }
            pack_scales(packing->format, &block, row, index, scales, group);
        }
    }
}

void cuda_pack(
    const cuda_packing *packing, const uint8_t *bytes, int64_t rows, int64_t columns, int64_t first_tile,
    int64_t tile_count, uint8_t *data, uint8_t *scales, uint8_t *groups) {
    const int format = packing->format;
    const int64_t units = divide_up(columns, CUDA_UNIT_COLUMNS);
    const int64_t row_bytes =
        columns / cuda_source_block_columns(packing->source) * source_block_bytes(packing->source);
    memset(data, 0, (size_t)(tile_count * packing->tile_bytes));
    if (packing->tile_scale_bytes > 0) memset(scales, 0, (size_t)(tile_count * packing->tile_scale_bytes));
    if (packing->tile_group_bytes > 0) memset(groups, 0, (size_t)(tile_count * packing->tile_group_bytes));
    for (int64_t tile = first_tile; tile < first_tile + tile_count; tile++) {
        const int64_t rows_left = rows - tile * CUDA_TILE_ROWS, own = tile - first_tile;
        for (int64_t i = 0; i < units; i++) {
            const int64_t columns_left = columns - i * CUDA_UNIT_COLUMNS;
            const unit_source unit = {
                .source = bytes + tile * CUDA_TILE_ROWS * row_bytes,
                .row_bytes = row_bytes,
                .rows = rows_left < CUDA_TILE_ROWS ? (int)rows_left : CUDA_TILE_ROWS,
                .first_column = (int)(i * CUDA_UNIT_COLUMNS),
                .columns = columns_left < CUDA_UNIT_COLUMNS ? (int)columns_left : CUDA_UNIT_COLUMNS,
            };
            uint8_t *const unit_data = data + own * packing->tile_bytes + i * unit_bytes(format);
            if (is_quantized(format)) {
                pack_quantized(
                    packing, &unit, unit_data, scales + own * packing->tile_scale_bytes + i * unit_scale_bytes(format),
                    groups + own * packing->tile_group_bytes + (i >> packing->group_shift) * group_bytes(format));
            } else if (packing->source > CUDA_SOURCE_F32) {
                pack_rounded(packing->source, &unit, unit_data);
            } else {
                pack_plain(format, &unit, unit_data);
            }
        }
    }
}

// MARK: Choosing

/// Whether the blocks of 32 of each run of 2^shift units of every row have one scale and one zero.
static bool shares_scales(const uint8_t *bytes, int block_bytes, int64_t rows, int64_t columns, int shift) {
    const int header = block_bytes == 36 ? 4 : 5;
    const int64_t blocks = columns / 32, run = (int64_t)2 << shift;
    for (int64_t row = 0; row < rows; row++) {
        const uint8_t *const first = bytes + row * blocks * block_bytes;
        for (int64_t i = 0; i < blocks; i++) {
            if (memcmp(first + i * block_bytes, first + i / run * run * block_bytes, (size_t)header) != 0) return false;
        }
    }
    return true;
}

/// Whether every scale is a f16, and every zero fits a code's.
static bool has_short_scales(const uint8_t *bytes, int64_t blocks) {
    for (int64_t i = 0; i < blocks; i++) {
        float scale;
        memcpy(&scale, bytes + 21 * i, 4);
        if (half_value(half_of(scale)) != scale || bytes[21 * i + 4] > 127) return false;
    }
    return true;
}

int32_t cuda_swizzled_e4m3_shift(const uint8_t *source, int64_t rows, int64_t columns) {
    const int64_t units = divide_up(columns, 2 * CUDA_UNIT_COLUMNS);
    const int block_bytes = source_block_bytes(CUDA_SOURCE_E4M3);
    // Two units of the fragments are one here.
    int shift = -1;
    while (shift < 14 && (shift < 0 || units >> shift > 1) && shares_scales(source, block_bytes, rows, columns, shift + 2)) {
        shift++;
    }
    return shift;
}

int32_t cuda_paired_row(int32_t pairs, int32_t packed) { return paired_row(pairs, packed); }

cuda_packing cuda_packing_of(int32_t source, const uint8_t *bytes, int64_t rows, int64_t columns) {
    static const int formats[] = {
        CUDA_WEIGHT_BF16, CUDA_WEIGHT_F16,  CUDA_WEIGHT_F32,  CUDA_WEIGHT_Q8_0, CUDA_WEIGHT_Q4_0,
        CUDA_WEIGHT_Q4_1, CUDA_WEIGHT_Q8_0, CUDA_WEIGHT_F16,  CUDA_WEIGHT_F16,  CUDA_WEIGHT_Q6_K,
        CUDA_WEIGHT_Q4_K, CUDA_WEIGHT_Q5_K, CUDA_WEIGHT_Q6_K, CUDA_WEIGHT_Q8_0, CUDA_WEIGHT_INT8,
        CUDA_WEIGHT_MXFP4, CUDA_WEIGHT_INT4, CUDA_WEIGHT_INT8, CUDA_WEIGHT_E4M3,
    };
    int format = formats[source], shift = 0;
    const int64_t units = divide_up(columns, CUDA_UNIT_COLUMNS);
    if (source == CUDA_SOURCE_INT4 && !has_short_scales(bytes, rows * (columns / 32))) format = CUDA_WEIGHT_INT8;
    if (source == CUDA_SOURCE_INT4 || source == CUDA_SOURCE_INT8 || source == CUDA_SOURCE_E4M3) {
        const int block_bytes = source_block_bytes(source);
        while (shift < 14 && units >> shift > 1 && shares_scales(bytes, block_bytes, rows, columns, shift + 1)) shift++;
    } else if (group_bytes(format) > 0 && cuda_source_block_columns(source) == 256) {
        // An iq4_xs has a scale for each 32.
        shift = format == CUDA_WEIGHT_INT8 ? 0 : 2;
    }
    const int64_t groups = (units + (1 << shift) - 1) >> shift;
    return (cuda_packing){
        .source = source, .format = format, .group_shift = shift, .tile_bytes = (int32_t)(units * unit_bytes(format)),
        .tile_scale_bytes = (int32_t)(units * unit_scale_bytes(format)),
        .tile_group_bytes = (int32_t)(groups * group_bytes(format)),
    };
}
