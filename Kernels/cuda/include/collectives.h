// The arguments of the kernels that add and gather what several ranks have computed. A part of CUDAKernels.h, which
// includes it.

#ifndef CUDA_KERNELS_COLLECTIVES_H
#define CUDA_KERNELS_COLLECTIVES_H

// MARK: Collectives (collectives.cu)

enum {
    CUDA_MOST_RANKS = 8,
    /// Most blocks of a launch that waits for other ranks: all fit on a device at once, as they have to.
    CUDA_COLLECTIVE_BLOCKS = 64,
};

/// Ranks that share one device: every part becomes the sum of all, added in the order of ranks.
typedef struct {
    cuda_address parts[CUDA_MOST_RANKS];  // [ranks] of [count] f32, 16-byte aligned
    int64_t count;
    int32_t ranks;
    int32_t unused;
} cuda_add_ranks_arguments;
cuda_launch cuda_add_ranks_launch(const cuda_add_ranks_arguments *arguments);

/// output[row] = what the ranks have in this row, side by side.
typedef struct {
    cuda_address parts[CUDA_MOST_RANKS];  // [ranks] of [rows, columns] f32
    cuda_address output;  // [rows, ranks × columns] f32
    int32_t rows;
    int32_t columns;
    int32_t ranks;
    int32_t unused;
} cuda_join_ranks_arguments;
cuda_launch cuda_join_ranks_launch(const cuda_join_ranks_arguments *arguments);

/// Ranks on devices that read each other's memory. Every rank asks for the same calls in the same order.
typedef struct {
    cuda_address staging[CUDA_MOST_RANKS];  // [ranks] of [2, staging_count] f32
    cuda_address signals[CUDA_MOST_RANKS];  // [ranks] of cuda_signal_bytes, zero at first
    /// Two u32 that the host can touch: a rank that waited in vain leaves here 1 + the rank it waited for, and ends its
    /// kernel; and once the host has written the second, nobody waits any more and results mean nothing.
    cuda_address notice;
    /// Of a wait, in nanoseconds.
    int64_t patience;
    /// A multiple of 4.
    int64_t staging_count;
    int32_t rank;
    int32_t ranks;
} cuda_peers;
uint64_t cuda_signal_bytes(void);

/// x = the sum of all ranks' x, added in their order: the same bits on every rank, whatever the count.
typedef struct {
    cuda_peers peers;
    cuda_address x;  // [count] f32, 16-byte aligned
    /// At most `staging_count`.
    int64_t count;
} cuda_all_reduce_arguments;
cuda_launch cuda_all_reduce_launch(const cuda_all_reduce_arguments *arguments);

/// The same for x of [rows, columns], and its rows normalized as the ending says (`norm_weight`, `normed`, `epsilon`,
/// `codes` and `code_scales`): the bits of a sum and of rms_norm.
typedef struct {
    cuda_all_reduce_arguments sum;
    cuda_ending ending;
    int32_t rows;
    int32_t columns;
} cuda_all_reduce_norm_arguments;
/// Whether a message of so many rows may be summed so: one that every rank adds whole, a block a row.
int32_t cuda_all_reduce_norm_fits(int64_t rows, int64_t columns, int32_t ranks);
cuda_launch cuda_all_reduce_norm_launch(const cuda_all_reduce_norm_arguments *arguments);

/// output[row] = the ranks' x[row] side by side.
typedef struct {
    cuda_peers peers;
    cuda_address x;  // [rows, columns] f32; rows × columns is at most `staging_count`
    cuda_address output;  // [rows, ranks × columns] f32
    int32_t rows;
    int32_t columns;
} cuda_all_gather_arguments;
cuda_launch cuda_all_gather_launch(const cuda_all_gather_arguments *arguments);

#endif
