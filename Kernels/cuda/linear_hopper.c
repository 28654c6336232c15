// The host's side of linear_hopper.cu: packs bf16 weights into swizzled tiles, and chooses the kernel and its launch.

#include <string.h>

#include "CUDAKernels.h"
#include "tiles.h"

_Static_assert(sizeof(cuda_linear_hopper_arguments) == 384, "whole units of a map's alignment: host and device agree");

// MARK: Packing

static int64_t divide_up(int64_t count, int64_t size) { return (count + size - 1) / size; }

uint64_t cuda_swizzled_bytes(int64_t rows, int64_t columns) {
    return (uint64_t)(divide_up(rows, CUDA_SWIZZLED_ROWS) * divide_up(columns, CUDA_UNIT_COLUMNS)) * CUDA_SWIZZLED_BYTES;
}

void cuda_pack_swizzled(
    const uint8_t *source, int64_t rows, int64_t columns, int64_t first_tile, int64_t tile_count, uint8_t *data) {
    const int64_t units = divide_up(columns, CUDA_UNIT_COLUMNS), row_bytes = 2 * columns;
    memset(data, 0, (size_t)(tile_count * units * CUDA_SWIZZLED_BYTES));
    for (int64_t row = 0; row < tile_count * CUDA_SWIZZLED_ROWS; row++) {
        const int64_t source_row = first_tile * CUDA_SWIZZLED_ROWS + row;
        if (source_row >= rows) break;
        uint8_t *const tiles = data + row / CUDA_SWIZZLED_ROWS * units * CUDA_SWIZZLED_BYTES;
        // Columns are a multiple of 8: pieces are whole.
        for (int64_t byte = 0; byte < row_bytes; byte += 16) {
            const int64_t place = byte / CUDA_SWIZZLED_ROW_BYTES * CUDA_SWIZZLED_BYTES
                + swizzled_place((int)(row % CUDA_SWIZZLED_ROWS), (int)(byte % CUDA_SWIZZLED_ROW_BYTES));
            memcpy(tiles + place, source + source_row * row_bytes + byte, 16);
        }
    }
}

/// A block of E4M3 in a checkpoint: an f32 scale and 32 codes.
enum { E4M3_BLOCK_BYTES = 36 };

static int64_t e4m3_units(int64_t columns) { return divide_up(columns, hopper_unit_columns(CUDA_WEIGHT_E4M3)); }

uint64_t cuda_swizzled_e4m3_bytes(int64_t rows, int64_t columns) {
    return (uint64_t)(divide_up(rows, CUDA_SWIZZLED_ROWS) * e4m3_units(columns)) * CUDA_SWIZZLED_BYTES;
}

uint64_t cuda_swizzled_e4m3_scale_bytes(int64_t rows, int64_t columns, int32_t shift) {
    const uint64_t groups = (uint64_t)hopper_groups((int)e4m3_units(columns), shift);
    return (uint64_t)divide_up(rows, CUDA_SWIZZLED_ROWS) * groups * CUDA_SWIZZLED_ROWS * sizeof(float);
}

void cuda_pack_swizzled_e4m3(
    const uint8_t *source, int64_t rows, int64_t columns, int32_t shift, int64_t first_tile, int64_t tile_count,
    uint8_t *data, uint8_t *scales) {
    const int64_t units = e4m3_units(columns), blocks = columns / 32, groups = hopper_groups((int)units, shift);
    const int64_t tile_scales = groups * CUDA_SWIZZLED_ROWS * (int64_t)sizeof(float);
    memset(data, 0, (size_t)(tile_count * units * CUDA_SWIZZLED_BYTES));
    memset(scales, 0, (size_t)(tile_count * tile_scales));
    for (int64_t row = 0; row < tile_count * CUDA_SWIZZLED_ROWS; row++) {
        const int64_t source_row = first_tile * CUDA_SWIZZLED_ROWS + row, inside = row % CUDA_SWIZZLED_ROWS;
        if (source_row >= rows) break;
        uint8_t *const tiles = data + row / CUDA_SWIZZLED_ROWS * units * CUDA_SWIZZLED_BYTES;
        uint8_t *const own_scales = scales + row / CUDA_SWIZZLED_ROWS * tile_scales;
        for (int64_t block = 0; block < blocks; block++) {
            const uint8_t *const stored = source + (source_row * blocks + block) * E4M3_BLOCK_BYTES;
            const int64_t unit = block / 4;
            for (int half = 0; half < 2; half++) {
                const int byte = (int)(block % 4) * 32 + 16 * half;
                memcpy(
                    tiles + unit * CUDA_SWIZZLED_BYTES + swizzled_place((int)inside, byte), stored + 4 + 16 * half, 16);
            }
            const int64_t scale = (unit >> shift) * CUDA_SWIZZLED_ROWS + inside;
            memcpy(own_scales + scale * (int64_t)sizeof(float), stored, sizeof(float));
        }
    }
}

// MARK: Launch

int32_t cuda_linear_hopper_variant(const cuda_linear_hopper_arguments *arguments) {
    const cuda_matrix *const matrix = &arguments->matrix;
    return hopper_variant(
        matrix->format, matrix->rows, matrix->columns, arguments->token_count, arguments->multiprocessors);
}

int32_t cuda_linear_hopper_box_rows(int32_t variant) { return hopper_box_rows(hopper_tokens(variant)); }

uint64_t cuda_linear_hopper_partial_bytes(int32_t multiprocessors) {
    uint64_t most = 0;
    for (int variant = 0; variant < CUDA_HOPPER_VARIANTS; variant++) {
        const int tokens = hopper_tokens(variant);
        const uint64_t bytes = (uint64_t)hopper_most_split(tokens, multiprocessors) * (uint64_t)hopper_partial_bytes(tokens);
        if (bytes > most) most = bytes;
    }
    return most;
}

uint64_t cuda_linear_hopper_arrival_bytes(int32_t multiprocessors) {
    return (uint64_t)hopper_most_split(8, multiprocessors) * sizeof(uint32_t);
}

uint32_t cuda_linear_hopper_shared_bytes(void) {
    int most = 0;
    for (int variant = 0; variant < CUDA_HOPPER_VARIANTS; variant++) {
        const int bytes = hopper_shared_bytes(hopper_tokens(variant));
        if (bytes > most) most = bytes;
    }
    return (uint32_t)most;
}

cuda_launch cuda_linear_hopper_launch(const cuda_linear_hopper_arguments *arguments) {
    return cuda_linear_hopper_launch_of(arguments, cuda_linear_hopper_variant(arguments));
}

cuda_launch cuda_linear_hopper_launch_of(const cuda_linear_hopper_arguments *arguments, int32_t variant) {
    const int tokens = hopper_tokens(variant);
    const int tiles = hopper_tile_count(tokens, arguments->matrix.rows, arguments->token_count);
    const bool is_split = hopper_is_split(tokens, tiles, arguments->multiprocessors);
    const int items = is_split ? tiles * CUDA_HOPPER_SLICES : tiles;
    const int workers = hopper_workers(tokens, arguments->multiprocessors);
    const bool is_bytes = arguments->matrix.format == CUDA_WEIGHT_E4M3;
    return (cuda_launch){
        .kernel = (is_bytes ? CUDA_KERNEL_linear_hopper_e4m3_8 : CUDA_KERNEL_linear_hopper_8) + variant,
        .grid_x = (uint32_t)((items < workers ? items : workers) * hopper_together(tokens)),
        .grid_y = 1,
        .grid_z = 1,
        .threads = (uint32_t)hopper_threads(tokens),
        .shared_bytes = (uint32_t)hopper_shared_bytes(tokens),
    };
}
