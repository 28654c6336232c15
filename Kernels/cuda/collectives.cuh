// How ranks whose devices read each other's memory add and gather, for the threads of one block. A template over the
// block, so that the tests run the same lines by threads of the host, one for each rank, that truly wait.
//
// A call: every block copies its runs of the message to the rank's staging memory, tells the same block of every other
// rank, and waits for theirs; then it reads. Halves of the staging memory take turns: who has seen a rank arrive at call
// n + 1 knows that it has read all of call n, so that the half of call n may be written in call n + 2.

#ifndef APUS_COLLECTIVES_CUH
#define APUS_COLLECTIVES_CUH

#include "collectives.h"
#include "device.cuh"

// MARK: Words between devices

/// Writes so that whoever sees the value, on whichever device, sees all that this block wrote before its barrier.
APUS_DEVICE void store_release_system(uint32_t *address, uint32_t value) {
#ifdef __CUDACC__
    asm volatile("st.release.sys.global.u32 [%0], %1;" ::"l"(__cvta_generic_to_global(address)), "r"(value) : "memory");
#else
    __atomic_store_n(address, value, __ATOMIC_RELEASE);
#endif
}

APUS_DEVICE uint32_t load_acquire_system(const uint32_t *address) {
#ifdef __CUDACC__
    uint32_t value;
    asm volatile("ld.acquire.sys.global.u32 %0, [%1];"
                 : "=r"(value)
                 : "l"(__cvta_generic_to_global(address))
                 : "memory");
    return value;
#else
    return __atomic_load_n(address, __ATOMIC_ACQUIRE);
#endif
}

/// Whether call `now` is `wanted` or a later one; the count goes round.
APUS_DEVICE bool has_come(uint32_t now, uint32_t wanted) { return static_cast<int32_t>(now - wanted) >= 0; }

/// Whether the host has told this rank to wait no more.
APUS_DEVICE bool is_given_up(const cuda_peers &peers) {
    return load_acquire_system(at<const uint32_t>(peers.notice, 1)) != 0;
}

// MARK: A block's part in a call

/// A call as one block sees it.
template <class Block> struct collective {
    const cuda_peers &peers;
    Block &block;
    collective_signals *mine;
    uint32_t call;

    APUS_DEVICE collective(const cuda_peers &peers, Block &block) : peers(peers), block(block) {
        mine = at<collective_signals>(peers.signals[peers.rank]);
        // Changed by the last block of a call only, after all have read it.
        call = *static_cast<volatile uint32_t *>(&mine->calls) + 1;
    }

    /// What a rank shows the others in this call.
    APUS_DEVICE float *staging(int rank) const {
        return at<float>(peers.staging[rank], (call & 1) * peers.staging_count);
    }

    /// Returns when this block of all ranks has come here, and sees what they wrote before.
    APUS_DEVICE void meet(int meeting) {
        block.sync();
        for (int rank = block.thread(); rank < peers.ranks; rank += block.threads()) {
            collective_signals *const theirs = at<collective_signals>(peers.signals[rank]);
            store_release_system(&theirs->arrivals[meeting][block.index()][peers.rank], call);
        }
        for (int rank = block.thread(); rank < peers.ranks; rank += block.threads()) {
            block.wait(&mine->arrivals[meeting][block.index()][rank], call, peers, rank);
        }
        block.sync();
    }

    /// Ends the call for this block; the last one counts it.
    APUS_DEVICE void end() {
        block.sync();
        if (block.thread() != 0) return;
        if (atomicAdd(&mine->blocks, 1u) + 1 != static_cast<uint32_t>(block.count())) return;
        mine->blocks = 0;
        mine->calls = call;
    }

    /// Does `body` for every fourth element of [begin, end), and how many there are from it on, at most 4.
    template <class Body> APUS_DEVICE void each(int64_t begin, int64_t end, Body body) const {
        for (int64_t i = begin + 4 * block.thread(); i < end; i += 4 * block.threads()) {
            body(i, static_cast<int>(end - i < 4 ? end - i : 4));
        }
    }
};

APUS_DEVICE float4 load_floats(const float *from, int count) {
    if (count == 4) return *aligned<const float4>(from);
    return make_float4(from[0], count > 1 ? from[1] : 0, count > 2 ? from[2] : 0, 0);
}

APUS_DEVICE void store_floats(float *to, float4 value, int count) {
    if (count == 4) {
        *aligned<float4>(to) = value;
        return;
    }
    to[0] = value.x;
    if (count > 1) to[1] = value.y;
    if (count > 2) to[2] = value.z;
}

/// The sum over ranks, in their order: rank 0 and 1 first. `parts` gives the address of a rank's element.
template <class Parts> APUS_DEVICE float4 sum_of_ranks(int ranks, int count, Parts parts) {
    float4 values[CUDA_MOST_RANKS];
    // All loads are on their way before the first addition waits.
#pragma unroll
    for (int rank = 0; rank < CUDA_MOST_RANKS; rank++) {
        if (rank < ranks) values[rank] = load_floats(parts(rank), count);
    }
    float4 sum = values[0];
#pragma unroll
    for (int rank = 1; rank < CUDA_MOST_RANKS; rank++) {
        if (rank >= ranks) break;
        sum.x += values[rank].x;
        sum.y += values[rank].y;
        sum.z += values[rank].z;
        sum.w += values[rank].w;
    }
    return sum;
}

template <class Block> APUS_DEVICE void all_reduce(const cuda_all_reduce_arguments &a, Block &block) {
    collective<Block> call(a.peers, block);
    float *const x = at<float>(a.x);
    float *const shown = call.staging(a.peers.rank);
    const int ranks = a.peers.ranks;
    const int64_t part = collective_part(a.count, ranks), run = collective_run(part, block.count());
    // This block's run of each rank's part.
    const auto begin = [&](int rank) { return rank * part + block.index() * run; };
    const auto end = [&](int rank) {
        const int64_t last = (rank + 1) * part < a.count ? (rank + 1) * part : a.count;
        return begin(rank) + run < last ? begin(rank) + run : last;
    };
    const auto sum = [&](int64_t i, int count) {
        return sum_of_ranks(ranks, count, [&](int rank) { return call.staging(rank) + i; });
    };
    for (int rank = 0; rank < ranks; rank++) {
        call.each(begin(rank), end(rank), [&](int64_t i, int count) {
            store_floats(shown + i, load_floats(x + i, count), count);
        });
    }
    call.meet(0);
    if (collective_is_whole(a.count, ranks)) {
        for (int rank = 0; rank < ranks; rank++) {
            call.each(begin(rank), end(rank), [&](int64_t i, int count) { store_floats(x + i, sum(i, count), count); });
        }
    } else {
        // Nobody else reads this part of what this rank shows before the sums are there.
        call.each(begin(a.peers.rank), end(a.peers.rank), [&](int64_t i, int count) {
            store_floats(shown + i, sum(i, count), count);
        });
        call.meet(1);
        for (int rank = 0; rank < ranks; rank++) {
            const float *const sums = call.staging(rank);
            call.each(begin(rank), end(rank), [&](int64_t i, int count) {
                store_floats(x + i, load_floats(sums + i, count), count);
            });
        }
    }
    call.end();
}

/// The sum of [rows, columns], short enough for every rank to add all of it, a row by a block: to the bits of all_reduce.
/// `end` gets the block's row when the block has it.
template <class Block, class End>
APUS_DEVICE void all_reduce_rows(
    const cuda_all_reduce_arguments &a, int columns, Block &block, const End &end) {
    collective<Block> call(a.peers, block);
    const int64_t first = static_cast<int64_t>(block.index()) * columns, past = first + columns;
    float *const x = at<float>(a.x);
    float *const shown = call.staging(a.peers.rank);
    call.each(first, past, [&](int64_t i, int count) { store_floats(shown + i, load_floats(x + i, count), count); });
    call.meet(0);
    call.each(first, past, [&](int64_t i, int count) {
        store_floats(x + i, sum_of_ranks(a.peers.ranks, count, [&](int rank) { return call.staging(rank) + i; }), count);
    });
    block.sync();
    end(block.index());
    call.end();
}

template <class Block> APUS_DEVICE void all_gather(const cuda_all_gather_arguments &a, Block &block) {
    collective<Block> call(a.peers, block);
    const int64_t count = static_cast<int64_t>(a.rows) * a.columns, run = collective_run(count, block.count());
    const int64_t begin = block.index() * run, end = begin + run < count ? begin + run : count;
    const float *const x = at<const float>(a.x);
    float *const shown = call.staging(a.peers.rank), *const output = at<float>(a.output);
    // A part may begin anywhere.
    for (int64_t i = begin + block.thread(); i < end; i += block.threads()) shown[i] = x[i];
    call.meet(0);
    for (int rank = 0; rank < a.peers.ranks; rank++) {
        const float *const from = call.staging(rank);
        for (int64_t i = begin + block.thread(); i < end; i += block.threads()) {
            const int64_t row = i / a.columns;
            output[(row * a.peers.ranks + rank) * a.columns + (i - row * a.columns)] = from[i];
        }
    }
    call.end();
}

#endif
