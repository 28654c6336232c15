// The emulated device's memory and its streams. Work waits in its stream's queue until somebody has to see its result.

#pragma once

#include "CUDAEmulator.h"
#include "threads.h"

#include <stdint.h>

#include <deque>
#include <map>
#include <set>
#include <thread>
#include <vector>

namespace emulator {

enum : cuda_result {
    invalid_value = 1,
    out_of_memory = 2,
    not_initialized = 3,
    invalid_device = 101,
    invalid_image = 200,
    invalid_context = 201,
    invalid_handle = 400,
    not_found = 500,
    not_ready = CUDA_ERROR_NOT_READY,
    illegal_address = 700,
    launch_failed = 719,
    capture_unsupported = 900,
    capture_invalidated = 901,
};

/// Of a kernel in a module: what `function_set_attribute` allowed it.
struct function {
    const kernel *entry;
    uint32_t shared_bytes;
};

struct event {
    bool has_timing;
    /// How often it was recorded, and how many of those records have been reached; when the last was.
    uint64_t records, reached;
    double seconds;
    struct stream *stream;
};

/// One thing to do on a stream.
struct work {
    enum { to_device, to_host, fill, launch, record, wait, ask } kind;
    cuda_pointer device;
    void *host;
    size_t bytes;
    uint8_t value;
    /// Of a launch, its arguments; of a copy from memory that is not pinned, the bytes themselves.
    std::vector<uint8_t> contents;
    const kernel *entry;
    cuda_launch shape;
    struct event *event;
    uint64_t record_number;
    /// Of what is not the device's own: nonzero once it is done. Its context is `host`.
    int32_t (*function)(void *context);
};

struct stream {
    std::deque<work> queue;
    bool is_capturing, is_invalidated, is_running;
    std::vector<work> captured;
    /// Whose thread captures, and alone may spoil it.
    std::thread::id capturer;
};

struct graph {
    std::vector<work> nodes;
};

/// Everything there is, by address or handle.
struct machine {
    int32_t multiprocessors = 4;
    uint64_t memory_bytes = 1 << 30;
    uint32_t shared_bytes = most_shared_bytes;
    uint64_t used_bytes = 0;
    /// Address → bytes.
    std::map<uintptr_t, size_t> device_memory, host_memory;
    std::set<stream *> streams;
    std::set<event *> events;
    std::set<graph *> graphs, executables;
    std::set<void *> modules;
    std::map<const kernel *, function> functions;
    /// Stays: what every later call returns.
    cuda_result error = 0;
};
extern machine device;

/// New memory, full of NaN, with an untouchable page behind it; null if there is none.
void *allocate(size_t bytes);
/// Makes memory untouchable for good.
void retire(void *address, size_t bytes);
/// Whether the bytes lie inside one allocation.
bool contains(const std::map<uintptr_t, size_t> &memory, uintptr_t address, size_t bytes);

/// Does what waits on a stream: all, or up to an event's record. False if it came to something that is not done yet.
bool run(stream &stream, const event *until = nullptr, uint64_t record_number = 0);
void run_all();
/// Adds work to a stream, or to the graph that it captures.
void enqueue(stream &stream, work work);

}  // namespace emulator
