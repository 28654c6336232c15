// The host's side of linear.cu: packs a checkpoint's weights into the order that the kernels read, and chooses the
// kernel and its launch. Packing walks the destination, lane by lane, so that any run of tiles can be written alone.

#include <string.h>

#include "CUDAKernels.h"
#include "matrix_layout.h"

// MARK: Packing

/// Columns of a checkpoint's block, and bytes of it.
static int block_bytes(int format) {
    return format == CUDA_WEIGHT_Q8_0 ? 34 : format == CUDA_WEIGHT_Q4_0 ? 18 : 20;
}

static int element_bytes(int format) { return format == CUDA_WEIGHT_F32 ? 4 : 2; }

static int64_t divide_up(int64_t count, int64_t size) { return (count + size - 1) / size; }

static int64_t unit_count(int64_t rows, int64_t columns) {
    return divide_up(rows, CUDA_TILE_ROWS) * divide_up(columns, CUDA_UNIT_COLUMNS);
}

uint64_t cuda_packed_bytes(int32_t format, int64_t rows, int64_t columns) {
    return (uint64_t)(unit_count(rows, columns) * unit_bytes(format));
}

uint64_t cuda_packed_scale_bytes(int32_t format, int64_t rows, int64_t columns) {
    return (uint64_t)(unit_count(rows, columns) * unit_scale_bytes(format));
}

/// A unit being packed: where the first of its 16 rows starts in the checkpoint's matrix, and what of it there is.
typedef struct {
    int format;
    const uint8_t *source;
    int64_t row_bytes;
    int rows;
    int first_column;
    int columns;
} unit_source;

/// Where weight `index` of the eight that `lane` owns in `step` comes from, within the unit.
static int weight_row(int lane, int index) { return lane / 4 + index / 2 % 2 * 8; }
static int weight_column(int lane, int step, int index) {
    return step / 2 * 32 + lane % 4 * 8 + step % 2 * 4 + index / 4 * 2 + index % 2;
}

static void pack_plain(const unit_source *unit, uint8_t *data) {
    const int bytes = element_bytes(unit->format);
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

/// Packs four neighbours of a row of the tile, the columns of a step that a lane owns: the bytes of q8_0, of which the
/// first two and the last two stay together, or nibbles, with the middle two swapped, beside those of the other row.
static void pack_four(int format, const uint8_t *integers, int step, int t, int row, uint8_t *data) {
    const int lane = row % 8 * 4 + t, half = row / 8;
    if (format == CUDA_WEIGHT_Q8_0) {
        uint8_t *const weights = data + 512 * (step / 2) + 16 * lane + 8 * (step % 2) + 2 * half;
        const uint8_t *const source = integers + 8 * t + 4 * (step % 2);
        memcpy(weights, source, 2);
        memcpy(weights + 4, source + 2, 2);
        return;
    }
    // The first 16 columns of a block are the low nibbles of its bytes, the last 16 the high ones.
    uint32_t bytes, word;
    memcpy(&bytes, integers + t % 2 * 8 + step % 2 * 4, 4);
    const uint32_t nibbles = bytes >> (t < 2 ? 0 : 4) & 0x0F0F0F0F;
    const uint32_t swapped = (nibbles & 0xFF0000FF) | (nibbles & 0xFF00) << 8 | (nibbles >> 8 & 0xFF00);
    memcpy(&word, data + 16 * lane + 4 * step, 4);
    word |= swapped << 4 * half;
    memcpy(data + 16 * lane + 4 * step, &word, 4);
}

static void pack_quantized(const unit_source *unit, uint8_t *data, uint8_t *scales) {
    const int format = unit->format, bytes = block_bytes(format);
    const int scales_of_row = format == CUDA_WEIGHT_Q4_1 ? 2 : 1;
    for (int row = 0; row < unit->rows; row++) {
        for (int block = 0; block < unit->columns / 32; block++) {
            const uint8_t *source = unit->source + row * unit->row_bytes + (unit->first_column / 32 + block) * bytes;
            uint8_t *const pair = scales + (row % 8 * 2 + block) * 4 * scales_of_row;
            for (int i = 0; i < scales_of_row; i++) memcpy(pair + 4 * i + row / 8 * 2, source + 2 * i, 2);
            for (int i = 0; i < 8; i++) {
                pack_four(format, source + 2 * scales_of_row, 2 * block + i % 2, i / 2, row, data);
            }
        }
    }
}

void cuda_pack(
    int32_t format, const uint8_t *source, int64_t rows, int64_t columns, int64_t first_tile, int64_t tile_count,
    uint8_t *data, uint8_t *scales) {
    const int64_t units = divide_up(columns, CUDA_UNIT_COLUMNS);
    const int64_t row_bytes =
        is_quantized(format) ? columns / 32 * block_bytes(format) : columns * element_bytes(format);
    for (int64_t tile = first_tile; tile < first_tile + tile_count; tile++) {
        const int64_t rows_left = rows - tile * CUDA_TILE_ROWS;
        for (int64_t i = 0; i < units; i++) {
            const int64_t columns_left = columns - i * CUDA_UNIT_COLUMNS;
            const int64_t index = (tile - first_tile) * units + i;
            const unit_source unit = {
                .format = format,
                .source = source + tile * CUDA_TILE_ROWS * row_bytes,
                .row_bytes = row_bytes,
                .rows = rows_left < CUDA_TILE_ROWS ? (int)rows_left : CUDA_TILE_ROWS,
                .first_column = (int)(i * CUDA_UNIT_COLUMNS),
                .columns = columns_left < CUDA_UNIT_COLUMNS ? (int)columns_left : CUDA_UNIT_COLUMNS,
            };
            uint8_t *const unit_data = data + index * unit_bytes(format);
            memset(unit_data, 0, (size_t)unit_bytes(format));
            if (!is_quantized(format)) {
                pack_plain(&unit, unit_data);
                continue;
            }
            uint8_t *const unit_scales = scales + index * unit_scale_bytes(format);
            memset(unit_scales, 0, (size_t)unit_scale_bytes(format));
            pack_quantized(&unit, unit_data, unit_scales);
        }
    }
}

// MARK: Launch

cuda_launch cuda_linear_launch(const cuda_linear_arguments *arguments) {
    const int format = arguments->matrix.format, tokens = arguments->token_count;
    const uint32_t tiles = (uint32_t)divide_up(arguments->matrix.rows, CUDA_TILE_ROWS);
    // The list of kernels has five for each format, in the formats' order.
    const int32_t first = CUDA_KERNEL_linear_bf16_8 + 5 * format;
    const int variant = tokens <= 8 ? 0 : tokens <= 16 ? 1 : tokens <= 32 ? 2 : 3, most = 8 << variant;
    const bool is_small = linear_is_small(format, most, arguments->shared_limit);
    if (tokens > 64 || (is_small && !linear_has_small(format, most))) {
        const bool is_large_small = linear_large_is_small(format, arguments->shared_limit);
        return (cuda_launch){
            .kernel = first + 4,
            .grid_x = (uint32_t)divide_up(tokens, LINEAR_LARGE_TOKENS),
            .grid_y = (uint32_t)divide_up(tiles, LINEAR_LARGE_TILES),
            .grid_z = 1,
            .threads = LINEAR_THREADS,
            .shared_bytes = (uint32_t)linear_large_shared_bytes(format, is_large_small),
        };
    }
    return (cuda_launch){
        .kernel = first + variant,
        .grid_x = (uint32_t)divide_up(tiles, linear_row_tiles(most)),
        .grid_y = 1,
        .grid_z = 1,
        .threads = LINEAR_THREADS,
        .shared_bytes = (uint32_t)linear_shared_bytes(format, most, is_small),
    };
}
