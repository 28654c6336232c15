// Runs the CUDA kernels without a GPU: their source compiled as C++, a fiber for each thread, and a driver that looks
// like NVIDIA's to the backend. Made to find mistakes: what a device leaves open, this does in the least convenient
// way.

#ifndef CUDA_EMULATOR_H
#define CUDA_EMULATOR_H

#include "CUDADriver.h"
#include "CUDAKernels.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// MARK: Kernels

/// Runs a launch to its end. Returns 0, or nonzero after a sentence on standard error: an unknown kernel, a shape that
/// a device refuses, or threads that wait for one another for ever. Launches of several threads take turns.
int32_t cuda_emulator_launch(const cuda_launch *launch, const void *arguments);

/// The same for a kernel that is not in the contract's list.
int32_t cuda_emulator_launch_named(const char *name, const cuda_launch *shape, const void *arguments);

/// The order in which the threads of a block take turns: 0 is ascending, any other value a random order of its own. A
/// kernel whose result depends on it lacks a barrier.
void cuda_emulator_set_order(uint64_t seed);

/// What the kernels of examples.cpp take; `variant` chooses what each does wrong, 0 nothing.
typedef struct {
    cuda_address a, b;
    cuda_address output;
    int32_t variant;
    int32_t unused;
} cuda_example_arguments;

/// What the kernels of examples.cpp for compute capability 9.0 take: `a` is packed, `b` described.
typedef struct {
    cuda_tensor_map b;
    cuda_address a;
    cuda_address output;
    int32_t column, row;
    int32_t variant;
    int32_t unused;
} cuda_hopper_example_arguments;

/// Lets `ranks` threads of the host make `calls` calls of collectives.cuh together, sums and gathers in turn, of up to
/// `most` elements each. Returns how many elements were wrong; −1 if a rank waited for seconds. A rank `missing` stays
/// away from the last call (−1: none does), and the others are told to wait no more.
int64_t cuda_example_meet(int32_t ranks, int32_t calls, int64_t most, uint64_t seed, int32_t missing);

/// A sum and a gather by the kernels themselves, as one rank among others that have left what they bring. Returns how many
/// elements were wrong; where `missing` has not come (−1: all have), what the kernel left for the host, negated.
int64_t cuda_example_meet_alone(int32_t ranks, int32_t rank, int64_t count, int32_t missing);

/// A sum with the norm of its rows in one kernel, and the two kernels it stands for, as one rank among others that have left
/// what they bring. Returns how many words differ, −1 where a kernel failed.
int64_t cuda_example_sum_and_norm(int32_t ranks, int32_t rank, int32_t rows, int32_t columns);

/// Functions of tiles.h and pages.cuh, which Swift does not see: where a tile lies that a block takes `index`-th, the first
/// unit of a slice, the descriptor of a tile, and the element of a dimension of a token within a group of panels.
int32_t cuda_example_tile(int32_t index, int32_t row_tiles, int32_t token_tiles);
int32_t cuda_example_slice_start(int32_t units, int32_t slice);
uint64_t cuda_example_descriptor(uint32_t address);
int32_t cuda_example_panel_element(int32_t token, int32_t dimension);

/// Whether AddressSanitizer is compiled in: then a thread that touches what lies outside its block's shared memory or
/// the device's allocations ends the process, with a report.
bool cuda_emulator_is_sanitized(void);

/// Whether a kernel of this name (with its `apus_`) is compiled in.
bool cuda_emulator_has_kernel(const char *name);

// MARK: The driver

/// An image that `module_load` accepts; it holds all kernels.
#define CUDA_EMULATOR_IMAGE "EMULATED"

/// A driver with one device of compute capability 9.0. Work on a stream is done as late as the order of calls allows:
/// at a synchronization, or when `CUDA_EMULATOR_QUEUE_LIMIT` entries wait. So memory read or reused too early shows.
const cuda_driver *cuda_emulator_driver(void);

enum { CUDA_EMULATOR_QUEUE_LIMIT = 4096 };

/// What the device has from now on. At first 4 multiprocessors, 1 GiB and CUDA_EMULATOR_SHARED_BYTES, which are also
/// the most, for a block.
void cuda_emulator_configure(int32_t multiprocessors, uint64_t memory_bytes, uint32_t shared_bytes);
enum { CUDA_EMULATOR_SHARED_BYTES = 227 * 1024 };

/// Forgets everything: allocations are freed, queues dropped, failures and counters cleared, sticky errors too.
void cuda_emulator_reset(void);

/// Lets the member `call` of the driver ("launch", "memory_allocate", …) succeed `after` more times and then return
/// `error`, once. Errors of launches, copies and synchronizations stay, as on a device: every later call returns them.
/// False if there is no such call.
bool cuda_emulator_fail(const char *call, int32_t after, cuda_result error);

/// How often a member of the driver was called; −1 if there is no such call.
int64_t cuda_emulator_calls(const char *call);

/// Puts work of a library on a stream, or into the graph that it captures: `function` is called, by whichever thread lets
/// the stream go on, until it returns nonzero; what comes behind it waits. It may not call the driver.
int32_t cuda_emulator_enqueue(void *stream, int32_t (*function)(void *context), void *context);

/// Allocations not freed yet, on the device and pinned on the host, and the device's bytes in use.
int64_t cuda_emulator_live_allocations(void);
uint64_t cuda_emulator_live_bytes(void);

#ifdef __cplusplus
}
#endif

#endif
