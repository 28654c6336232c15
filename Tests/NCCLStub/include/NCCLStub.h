// A collective library for machines without a GPU: the functions of NVIDIA's by their own names, for ranks that are
// threads of one process. Linked into the tests, which tell it what is to go wrong, and a library of its own, which they
// open as they would open the real one.
//
// Ranks truly wait for each other. Sums begin at another rank in every part of a message, as a ring's do, so that nobody
// comes to rely on the order of ranks.

#ifndef NCCL_STUB_H
#define NCCL_STUB_H

#include "CUDADriver.h"

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/// The functions that are linked in.
const nccl_calls *nccl_stub_calls(void);

/// Puts `function` on a stream, where it is called until it returns nonzero.
typedef int32_t (*nccl_stub_enqueue)(void *stream, int32_t (*function)(void *context), void *context);

/// Forgets all groups and faults. From now on calls become work of streams; without `enqueue` they return when all
/// ranks have made them, and pointers are the host's.
void nccl_stub_reset(nccl_stub_enqueue enqueue);

/// What a rank does from a call on.
enum {
    NCCL_STUB_WORKS = 0,
    /// Its device never comes to the call, and nobody hears why.
    NCCL_STUB_HANGS = 1,
    /// It is gone: the others hear of an error, and wait.
    NCCL_STUB_IS_LOST = 2,
    /// It comes to each call so many milliseconds late.
    NCCL_STUB_IS_SLOW = 3,
    /// The call itself returns an error.
    NCCL_STUB_REFUSES = 4,
};

/// Lets `rank` of every group do the first `after` calls well, and then what `fault` says.
void nccl_stub_fail(int32_t rank, int32_t fault, int32_t after, int32_t milliseconds);

/// Calls that all ranks of a group have done together since the reset, and communicators that were aborted.
int64_t nccl_stub_calls_done(void);
int64_t nccl_stub_aborted(void);

#ifdef __cplusplus
}
#endif

#endif
