// The items of a prefill: tiles of columns, (query row, head) pairs of one kv head, of a sequence, and the positions that
// they look back on. Both prefill kernels take their work from here.

#ifndef APUS_PREFILL_CUH
#define APUS_PREFILL_CUH

#include "cuda/pages.cuh"
#include "cuda/span.cuh"

/// One of a block's items: a tile of columns of a sequence and kv head.
struct prefill_item {
    int sequence;
    int kv_head;
    int first_row;
    int first_column;
    /// Of the sequence.
    int column_count;
    int context;
    /// The positions to take: all that the last of the tile's columns sees, or those of a run.
    int first_token;
    int limit;
    /// What lies before this position is behind the windows of all columns.
    int behind;
    /// The sequence's first slot if its context is cut into runs, and its spans.
    int slot;
    int spans;
};

/// How many there are.
APUS_DEVICE int prefill_item_count(const cuda_attention_batch &batch) {
    const int32_t *const tiles = at<const int32_t>(batch.plan) + cuda_plan_tiles(batch.sequence_count);
    return tiles[batch.sequence_count] * batch.kv_heads;
}

/// The last rows of a sequence, which look back furthest, come first.
APUS_DEVICE prefill_item find_item(const cuda_attend_arguments &a, int columns, int item) {
    const cuda_attention_batch &batch = a.batch;
    const int32_t *const tiles = at<const int32_t>(batch.plan) + cuda_plan_tiles(batch.sequence_count);
    const int32_t *const starts = at<const int32_t>(batch.query_starts);
    const int tile = tiles[batch.sequence_count] - 1 - item / batch.kv_heads, group = batch.heads / batch.kv_heads;
    prefill_item own;
    own.kv_head = item % batch.kv_heads;
    own.sequence = find_sequence(tiles, batch.sequence_count, tile);
    own.first_row = starts[own.sequence];
    own.context = at<const int32_t>(batch.context_lengths)[own.sequence];
    own.slot = at<const int32_t>(batch.plan)[cuda_plan_slots(batch.sequence_count) + own.sequence];
    own.spans = cuda_spans(own.context);
    const int runs = own.slot >= 0 ? (own.spans + CUDA_RUN_SPANS - 1) / CUDA_RUN_SPANS : 1;
    const int local = tile - tiles[own.sequence];
    own.first_column = local / runs * columns;
    own.column_count = (starts[own.sequence + 1] - own.first_row) * group;
    const int last_row = own.first_row + (min(own.first_column + columns, own.column_count) - 1) / group;
    own.limit = min(own.context, at<const int32_t>(batch.positions)[last_row] + 1);
    own.first_token = local % runs * RUN_TOKENS;
    const int first = own.first_row + own.first_column / group;
    own.behind = window_start(a, min(own.context, at<const int32_t>(batch.positions)[first] + 1));
    if (own.slot >= 0) own.limit = min(own.limit, own.first_token + RUN_TOKENS);
    // Spans begin at multiples of their length.
    own.first_token = max(own.first_token, own.behind / static_cast<int>(CUDA_SPAN_TOKENS) * CUDA_SPAN_TOKENS);
    return own;
}

#endif
