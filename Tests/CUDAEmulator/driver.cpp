// The driver's table, what its calls have in common, and what tests ask of it.

#include "calls.h"

#include <string.h>

namespace driver {

std::recursive_mutex lock;
bool is_initialized;
int32_t context_users;
thread_local cuda_handle current_context;
char the_context;

namespace {

const char *const call_names[] = {
#define CALL_NAME(name, member, parameters) #member,
    CUDA_DRIVER_CALLS(CALL_NAME)
#undef CALL_NAME
};

struct call {
    int64_t count;
    /// Successes left before `error`; −1 for no failure.
    int32_t left = -1;
    cuda_result error;
};
call calls[call_count];

bool stays(int call) {
    switch (call) {
        case call_launch:
        case call_graph_launch:
        case call_stream_synchronize:
        case call_event_synchronize:
        case call_copy_to_device:
        case call_copy_to_host:
        case call_fill: return true;
        default: return false;
    }
}

int find_call(const char *name) {
    for (int i = 0; i < call_count; i++) {
        if (strcmp(call_names[i], name) == 0) return i;
    }
    return -1;
}

}  // namespace

cuda_result begin(int index, needs needs) {
    call &call = calls[index];
    call.count++;
    if (call.left == 0) {
        call.left = -1;
        if (stays(index)) device.error = call.error;
        return call.error;
    }
    if (call.left > 0) call.left--;
    if (needs == needs::nothing) return 0;
    if (!is_initialized) return not_initialized;
    if (needs == needs::initialization) return 0;
    if (current_context != &the_context || context_users == 0) return invalid_context;
    return device.error;
}

bool spoils_capture() {
    bool spoiled = false;
    for (stream *const stream : device.streams) {
        if (!stream->is_capturing || stream->capturer != std::this_thread::get_id()) continue;
        stream->is_invalidated = true;
        spoiled = true;
    }
    return spoiled;
}

}  // namespace driver

using namespace driver;

// MARK: For tests

const cuda_driver *cuda_emulator_driver(void) {
    static const cuda_driver driver = {
#define DRIVER_MEMBER(name, member, parameters) driver::member,
        CUDA_DRIVER_CALLS(DRIVER_MEMBER)
#undef DRIVER_MEMBER
    };
    return &driver;
}

void cuda_emulator_configure(int32_t multiprocessors, uint64_t memory_bytes, uint32_t shared_bytes) {
    const std::lock_guard<std::recursive_mutex> guard(lock);
    device.multiprocessors = multiprocessors;
    device.memory_bytes = memory_bytes;
    device.shared_bytes = shared_bytes;
}

// Streams, events and graphs are left where they are, so that no handle is given out twice, and so is the count of the
// context's users: owners that outlive a reset destroy nothing of anybody else's.
void cuda_emulator_reset(void) {
    const std::lock_guard<std::recursive_mutex> guard(lock);
    for (auto &[address, bytes] : device.device_memory) retire(reinterpret_cast<void *>(address), bytes);
    for (auto &[address, bytes] : device.host_memory) retire(reinterpret_cast<void *>(address), bytes);
    device = machine();
    for (call &call : calls) call = {};
    is_initialized = false;
}

bool cuda_emulator_fail(const char *call, int32_t after, cuda_result error) {
    const std::lock_guard<std::recursive_mutex> guard(lock);
    const int index = find_call(call);
    if (index < 0) return false;
    calls[index].left = after;
    calls[index].error = error;
    return true;
}

int64_t cuda_emulator_calls(const char *call) {
    const std::lock_guard<std::recursive_mutex> guard(lock);
    const int index = find_call(call);
    return index < 0 ? -1 : calls[index].count;
}

int32_t cuda_emulator_enqueue(void *handle, int32_t (*function)(void *context), void *context) {
    const std::lock_guard<std::recursive_mutex> guard(lock);
    if (!exists(device.streams, handle)) return invalid_handle;
    work ask = {};
    ask.kind = work::ask;
    ask.function = function;
    ask.host = context;
    enqueue(*static_cast<stream *>(handle), std::move(ask));
    return 0;
}

int64_t cuda_emulator_live_allocations(void) {
    const std::lock_guard<std::recursive_mutex> guard(lock);
    return static_cast<int64_t>(device.device_memory.size() + device.host_memory.size());
}

uint64_t cuda_emulator_live_bytes(void) {
    const std::lock_guard<std::recursive_mutex> guard(lock);
    return device.used_bytes;
}
