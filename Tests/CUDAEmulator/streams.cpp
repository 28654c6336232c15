// Memory with untouchable pages behind it, and queues of work.

#include "streams.h"

#include "sanitizer.h"

#include <sys/mman.h>
#include <time.h>

#include <stdio.h>
#include <string.h>

#include <utility>

namespace emulator {

machine device;

namespace {

constexpr size_t page_bytes = 4096;
/// What a device aligns allocations to.
constexpr size_t alignment = 256;

double now() {
    timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

size_t pages(size_t bytes) { return (bytes + page_bytes - 1) / page_bytes * page_bytes; }

void *pointer(cuda_pointer address) { return reinterpret_cast<void *>(address); }

/// Whether the device may touch these bytes; if not, the device is lost, as a real one is.
bool may_touch(const work &work, const char *what) {
    if (contains(device.device_memory, work.device, work.bytes)) return true;
    fprintf(
        stderr, "%s %zu bytes at %p: not inside one allocation of the device\n", what, work.bytes,
        pointer(work.device));
    device.error = illegal_address;
    return false;
}

/// False if the work has to be tried again later.
bool perform(work &work) {
    switch (work.kind) {
        case work::to_device:
            if (!may_touch(work, "copying to the device")) return true;
            memcpy(pointer(work.device), work.contents.empty() ? work.host : work.contents.data(), work.bytes);
            return true;
        case work::to_host:
            if (!may_touch(work, "copying to the host")) return true;
            memcpy(work.host, pointer(work.device), work.bytes);
            return true;
        case work::fill:
            if (!may_touch(work, "filling")) return true;
            memset(pointer(work.device), work.value, work.bytes);
            return true;
        case work::launch: {
            const cuda_result error = cuda_emulator_launch_named(work.entry->name, &work.shape, work.contents.data());
            if (error != 0) device.error = error;
            return true;
        }
        case work::record:
            work.event->reached = work.record_number;
            work.event->seconds = now();
            return true;
        case work::wait:
            if (work.event->reached < work.record_number && work.event->stream != nullptr) {
                return run(*work.event->stream, work.event, work.record_number);
            }
            return true;
        case work::ask: return work.function(work.host) != 0;
    }
    return true;
}

}  // namespace

void *allocate(size_t bytes) {
    const size_t size = pages(bytes) + page_bytes;
    void *const start = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (start == MAP_FAILED) return nullptr;
    unsigned char *const end = static_cast<unsigned char *>(start) + pages(bytes);
    mprotect(end, page_bytes, PROT_NONE);
    // As close to the end as alignment allows.
    unsigned char *const address = end - (bytes + alignment - 1) / alignment * alignment;
    forbid(start, size);
    permit(address, bytes);
    memset(address, 0xFF, bytes);
    return address;
}

void retire(void *address, size_t bytes) {
    const uintptr_t start = reinterpret_cast<uintptr_t>(address) / page_bytes * page_bytes;
    void *const first = pointer(start);
    // The addresses are never used again.
    forbid(first, pages(bytes));
    mmap(first, pages(bytes), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
}

bool contains(const std::map<uintptr_t, size_t> &memory, uintptr_t address, size_t bytes) {
    auto after = memory.upper_bound(address);
    if (after == memory.begin()) return false;
    const auto &[start, size] = *--after;
    return address - start <= size && bytes <= size - (address - start);
}

bool run(stream &stream, const event *until, uint64_t record_number) {
    // What is under way below waits for something on another stream, which waits for this one.
    if (stream.is_running) return until != nullptr && until->reached >= record_number;
    stream.is_running = true;
    bool goes_on = true;
    while (goes_on && !stream.queue.empty()) {
        if (until != nullptr && until->reached >= record_number) break;
        work &next = stream.queue.front();
        // A lost device does nothing more; records still count, or nobody could wait for them.
        if (device.error == 0 || next.kind == work::record) goes_on = perform(next);
        if (goes_on) stream.queue.pop_front();
    }
    stream.is_running = false;
    return goes_on;
}

void run_all() {
    for (stream *const stream : device.streams) run(*stream);
}

void enqueue(stream &stream, work work) {
    if (stream.is_capturing) {
        stream.captured.push_back(std::move(work));
        return;
    }
    stream.queue.push_back(std::move(work));
    if (stream.queue.size() > CUDA_EMULATOR_QUEUE_LIMIT) run(stream);
}

}  // namespace emulator
