// Launch shapes that the kernels over rows (norm, gate, embedding, sampling) share with the host code that launches
// them. Plain C.

#ifndef APUS_ROWS_H
#define APUS_ROWS_H

enum {
    /// Threads, and so warps, of a block.
    ROW_THREADS = 256,
    ROW_WARPS = ROW_THREADS / 32,
    /// Columns up to which a row is normalized by one warp.
    NARROW_COLUMNS = 512,
    /// Most threads that sample from a row; a small vocabulary has fewer, at least SAMPLE_LEAST_THREADS.
    SAMPLE_THREADS = 512,
    SAMPLE_LEAST_THREADS = 32,
    /// Columns that a block changes by adapters, and their largest rank.
    LOW_RANK_COLUMNS = 1024,
    LOW_RANK_MOST = 256,
    /// Threads that adjust a row of logits.
    ADJUST_THREADS = 512,
};

#endif
