// The emulator's inside: a block's threads are fibers of the calling thread, which change places only where they wait
// for one another. A warp's lanes leave pointers to their operands; the last to arrive computes for all.

#pragma once

#include "../../Kernels/cuda/device.cuh"
#include "CUDAEmulator.h"

#include <stdint.h>

#include <vector>

namespace emulator {

/// What a thread can wait for.
enum class place : uint8_t {
    nowhere, warp_sync, shuffle, votes, sum, maximum, mma, transpose, block_sync, wgmma, registers
};

constexpr uint32_t most_threads = 1024;
constexpr uint32_t most_shared_bytes = CUDA_EMULATOR_SHARED_BYTES;

/// A copy that has begun and is done when its group is waited for.
struct pending_copy {
    void *shared;
    const void *global;
    bool valid;
    uint32_t group;
};

struct warp {
    /// By lane: in the block; could run now; came to the collective; wait at the block's barrier.
    uint32_t lanes, ready, arrived, at_barrier;
    /// Lanes that look again whenever a barrier in shared memory changes, and what the last of them waits for.
    uint32_t watching;
    const char *watched;
    /// Which collective the arrived lanes wait at, and their operands.
    place where;
    void *operands[32];
};

struct fiber {
    void *stack_pointer;
    /// Among those of all blocks that run together, and which block it is of.
    uint32_t thread, block;
    std::vector<pending_copy> copies;
    /// Of `copies`, done; groups committed.
    size_t copies_done;
    uint32_t groups;
    /// Whether it has waited for the kernels in front.
    bool has_waited;
};

extern fiber *current;
extern warp *current_warp;

/// Ends the launch with a sentence; called by one of its threads.
[[noreturn]] void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/// Registers that the current lane is at `where`. True for the last of its warp, which then calls `release`; the others
/// return false after that.
bool arrive(place where, void *operand);
/// Lets the warp go on.
void release();

/// Lets `compute` run once all 32 lanes have come; it gets their operands.
template <class Operand, class Compute> inline void together(place where, Operand &operand, Compute compute) {
    if (!arrive(where, &operand)) return;
    Operand *operands[32];
    for (int lane = 0; lane < 32; lane++) operands[lane] = static_cast<Operand *>(current_warp->operands[lane]);
    compute(operands);
    release();
}

/// Ends a launch that waits for another rank.
[[noreturn]] void waits_in_vain(int rank);

/// Lets others run until something has changed that a barrier's waiters look at.
void watch(const char *name);
/// Says that it has.
void wake_watchers();

/// Of the current thread, among those that run together.
uint32_t warp_number();
/// Bytes of the block's dynamic shared memory.
uint32_t shared_bytes();

/// Blocks that run together, each with its own shared memory.
constexpr uint32_t most_together = 2;

/// Shared memory of a block, by place: what is static lies elsewhere while another block runs.
struct shared_place {
    uint32_t block;
    bool is_static;
    size_t offset;

    unsigned char *address() const;
};

/// Where, in the block `block`, that lies which the current thread finds at `pointer`.
shared_place place_in(uint32_t block, const void *pointer);
/// Blocks and threads that run together, and whether all threads of one have returned.
uint32_t blocks_together();
uint32_t threads_together();
bool has_ended(uint32_t block);

// hopper.cpp: what is asynchronous in compute capability 9.0.

/// Forgets the block before.
void begin_block();
/// A sentence if the block left something unfinished.
const char *end_block();
/// Performs one of the copies under way, any of them; false if there is none.
bool deliver(uint32_t random);
bool has_copies();

/// The kernel of this name, or null.
const kernel *find(const char *name);
/// 0 if a device would take such a launch; else an error of the driver, after a sentence on standard error.
int32_t check(const char *name, const kernel *entry, const cuda_launch &shape);

}  // namespace emulator
