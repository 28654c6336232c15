// What the kernels of collectives.cu and the host that launches them agree on: where ranks leave word for one another,
// and which part of a message is whose. Plain C.

#ifndef APUS_COLLECTIVES_H
#define APUS_COLLECTIVES_H

#include <stdint.h>

#include "include/CUDAKernels.h"

#ifdef __CUDACC__
#define COLLECTIVE_FUNCTION __host__ __device__ __forceinline__
#else
#define COLLECTIVE_FUNCTION static inline
#endif

enum {
    COLLECTIVE_THREADS = 512,
    /// Meetings of a call: all parts are there; all sums are there.
    COLLECTIVE_MEETINGS = 2,
    /// Bytes that a device reads of another's in the time that a second meeting takes: 3 µs at 375 GB/s.
    COLLECTIVE_MEETING_BYTES = 1125 << 10,
};

/// Of one rank, in its memory. Calls are numbered from 1.
typedef struct {
    /// The last call that ended, and blocks that are done with the one under way: only the rank itself touches them.
    uint32_t calls;
    uint32_t blocks;
    uint32_t unused[30];
    /// The last call in which the block of a rank came to a meeting; written by that rank.
    uint32_t arrivals[COLLECTIVE_MEETINGS][CUDA_COLLECTIVE_BLOCKS][CUDA_MOST_RANKS];
} collective_signals;

/// Elements of a part: a rank's share of a message, a multiple of 4; the last may be shorter.
COLLECTIVE_FUNCTION int64_t collective_part(int64_t count, int ranks) {
    return ((count + ranks - 1) / ranks + 3) / 4 * 4;
}

/// Of a part, those of one block.
COLLECTIVE_FUNCTION int64_t collective_run(int64_t part, int blocks) {
    return ((part + blocks - 1) / blocks + 3) / 4 * 4;
}

/// Whether every rank adds the whole message. If not, each adds a part for all, which reads 2 · (1 − 1/ranks) messages
/// in place of ranks − 1, and takes a second meeting. An element gets the same bits.
COLLECTIVE_FUNCTION int collective_is_whole(int64_t count, int ranks) {
    return 4 * count * (ranks - 1) * (ranks - 2) <= (int64_t)ranks * COLLECTIVE_MEETING_BYTES;
}

COLLECTIVE_FUNCTION int collective_blocks(int64_t count) {
    const int64_t blocks = (count + 4 * COLLECTIVE_THREADS - 1) / (4 * COLLECTIVE_THREADS);
    return (int)(blocks < CUDA_COLLECTIVE_BLOCKS ? blocks : CUDA_COLLECTIVE_BLOCKS);
}

#endif
