// Math:    output[t] += up[a] · (down[a] · x[t]) with a = choices[t]; nothing where a is negative.
// Shapes:  x [tokens, columns] bf16, down [slots × max_rank, columns], up [slots × max_rank, width], ranks [slots],
//          output [tokens, output_stride] from its first column that changes on; f32. Of a slot's rows, as many count as
//          its rank.
// Launch:  grid (tokens, runs of 1024 columns). A block makes the few inner numbers of its row, a warp each, and then a
//          thread takes four columns, 256 apart. Every run of a row makes the same inner numbers again.
// Bound:   bytes of the adapters' matrices, for each row anew; not measured on a device.
// Checked: LowRankCases (against f64; bit for bit alone and in company), in the emulator
// Source:  Hu et al., "LoRA" (arXiv 2106.09685); Chen et al., "Punica" (arXiv 2310.18547) for rows of many adapters.

#include "cuda/rows.cuh"
#include "cuda/rows.h"

namespace {

/// The sum over a warp's lanes of the products of every 32nd element; the same in all of them.
APUS_DEVICE float warp_product(const uint16_t *x, const float *row, int columns) {
    float sum = 0;
    for (int column = lane_index(); column < columns; column += 32) {
        sum = fmaf(bf16_to_float(x[column]), row[column], sum);
    }
    return warp_sum(sum);
}

}  // namespace

APUS_KERNEL(add_low_rank, cuda_add_low_rank_arguments, ROW_THREADS, 4) {
    const int64_t token = blockIdx.x;
    const int slot = at<const int32_t>(a.choices)[token];
    // The whole block leaves.
    if (slot < 0) return;
    const int rank = at<const int32_t>(a.ranks)[slot];
    if (rank == 0) return;
    __shared__ float inner[LOW_RANK_MOST];
    const int64_t first = static_cast<int64_t>(slot) * a.max_rank;
    const uint16_t *x = at<const uint16_t>(a.x, token * a.columns);
    for (int r = warp_index(); r < rank; r += ROW_WARPS) {
        const float sum = warp_product(x, at<const float>(a.down, (first + r) * a.columns), a.columns);
        if (lane_index() == 0) inner[r] = sum;
    }
    block_sync();
    float *output = at<float>(a.output, token * a.output_stride);
    for (int i = 0; i < LOW_RANK_COLUMNS; i += ROW_THREADS) {
        const int column = static_cast<int>(blockIdx.y * LOW_RANK_COLUMNS + threadIdx.x) + i;
        if (column >= a.width) return;
        const float *up = at<const float>(a.up, first * a.width + column);
        float sum = 0;
        for (int r = 0; r < rank; r++) sum = fmaf(inner[r], up[static_cast<int64_t>(r) * a.width], sum);
        output[column] += sum;
    }
}
