// Math:    embed: output[i] = table[token i], out of the packed weights, so that the table exists once.
//          gather_rows: output[i] = x[rows[i]].
// Shapes:  table [vocab, columns]; tokens [tokens] i32; x [·, columns]; output [tokens or rows, columns] f32.
// Launch:  grid (rows, runs of columns). embed: a thread takes a column; gather_rows: four adjacent ones.
// Bound:   latency; bytes of the rows when there are many.
// Checked: in the emulator, bit for bit, every format, odd widths and ids outside the table
// Source:  none.

#include "cuda/rows.cuh"
#include "cuda/rows.h"
#include "cuda/weights.cuh"

APUS_KERNEL(embed, cuda_embed_arguments, ROW_THREADS, 8) {
    const int column = static_cast<int>(blockIdx.y * ROW_THREADS + threadIdx.x);
    if (column >= a.table.columns) return;
    int token = at<const int32_t>(a.tokens)[blockIdx.x];
    // A token that the host did not know yet when it queued this step.
    if (token < 0 && a.samples != 0) token = at<const int32_t>(a.samples)[-1 - token];
    const bool is_known = token >= a.first_row && token - a.first_row < a.table.rows;
    at<float>(a.output, static_cast<int64_t>(blockIdx.x) * a.table.columns)[column] =
        is_known ? packed_weight(a.table, token - a.first_row, column) : 0.0f;
}

APUS_KERNEL(gather_rows, cuda_gather_rows_arguments, ROW_THREADS, 8) {
    const int column = 4 * static_cast<int>(blockIdx.y * ROW_THREADS + threadIdx.x);
    if (column >= a.columns) return;
    const int64_t from = at<const int32_t>(a.rows)[blockIdx.x];
    const float *x = at<const float>(a.x, from * a.columns);
    float *output = at<float>(a.output, static_cast<int64_t>(blockIdx.x) * a.columns);
    if (a.columns % 4 == 0 && a.x % 16 == 0 && a.output % 16 == 0) {
        store_16(output + column, load_16(x + column));
        return;
    }
    for (int i = column; i < column + 4 && i < a.columns; i++) output[i] = x[i];
}
