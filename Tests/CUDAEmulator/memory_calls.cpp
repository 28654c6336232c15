// The driver's calls that allocate and copy. Pinned memory is read and written when the stream gets there, other memory
// before the call returns, as a real driver does.

#include "calls.h"

#include <utility>

namespace driver {

cuda_result memory_info(size_t *free_bytes, size_t *total_bytes) {
    BEGIN(memory_info, context);
    *free_bytes = device.memory_bytes - device.used_bytes;
    *total_bytes = device.memory_bytes;
    return 0;
}

cuda_result memory_allocate(cuda_pointer *address, size_t bytes) {
    BEGIN(memory_allocate, context);
    if (spoils_capture()) return capture_unsupported;
    if (bytes == 0) return invalid_value;
    if (bytes > device.memory_bytes - device.used_bytes) return out_of_memory;
    void *const memory = allocate(bytes);
    if (memory == nullptr) return out_of_memory;
    *address = reinterpret_cast<cuda_pointer>(memory);
    device.device_memory[*address] = bytes;
    device.used_bytes += bytes;
    return 0;
}

cuda_result memory_free(cuda_pointer address) {
    BEGIN_FREE(memory_free);
    if (spoils_capture()) return capture_unsupported;
    if (address == 0) return 0;
    const auto found = device.device_memory.find(address);
    if (found == device.device_memory.end()) return invalid_value;
    run_all();
    device.used_bytes -= found->second;
    retire(reinterpret_cast<void *>(address), found->second);
    device.device_memory.erase(found);
    return device.error;
}

cuda_result host_allocate(void **address, size_t bytes, uint32_t) {
    BEGIN(host_allocate, context);
    if (spoils_capture()) return capture_unsupported;
    if (bytes == 0) return invalid_value;
    *address = allocate(bytes);
    if (*address == nullptr) return out_of_memory;
    device.host_memory[reinterpret_cast<uintptr_t>(*address)] = bytes;
    return 0;
}

cuda_result host_free(void *address) {
    BEGIN_FREE(host_free);
    if (spoils_capture()) return capture_unsupported;
    const auto found = device.host_memory.find(reinterpret_cast<uintptr_t>(address));
    if (found == device.host_memory.end()) return invalid_value;
    run_all();
    retire(address, found->second);
    device.host_memory.erase(found);
    return device.error;
}

namespace {

bool is_pinned(const void *address, size_t bytes) {
    return contains(device.host_memory, reinterpret_cast<uintptr_t>(address), bytes);
}

}  // namespace

cuda_result copy_to_device(cuda_pointer to, const void *from, size_t bytes, cuda_handle handle) {
    BEGIN(copy_to_device, context);
    if (!exists(device.streams, handle)) return invalid_handle;
    if (bytes == 0) return 0;
    stream &stream = *static_cast<struct stream *>(handle);
    work copy = {};
    copy.kind = work::to_device;
    copy.device = to;
    copy.host = const_cast<void *>(from);
    copy.bytes = bytes;
    // Memory that is not pinned is read before the call returns.
    if (!stream.is_capturing && !is_pinned(from, bytes)) {
        copy.contents.assign(static_cast<const uint8_t *>(from), static_cast<const uint8_t *>(from) + bytes);
    }
    enqueue(stream, std::move(copy));
    return 0;
}

cuda_result copy_to_host(void *to, cuda_pointer from, size_t bytes, cuda_handle handle) {
    {
        BEGIN(copy_to_host, context);
        if (!exists(device.streams, handle)) return invalid_handle;
        if (bytes == 0) return 0;
        stream &stream = *static_cast<struct stream *>(handle);
        work copy = {};
        copy.kind = work::to_host;
        copy.device = from;
        copy.host = to;
        copy.bytes = bytes;
        enqueue(stream, std::move(copy));
        if (stream.is_capturing || is_pinned(to, bytes)) return device.error;
    }
    // Memory that is not pinned is written before the call returns.
    return patiently([=] { return run(*static_cast<stream *>(handle)); });
}

cuda_result fill(cuda_pointer to, uint8_t value, size_t bytes, cuda_handle handle) {
    BEGIN(fill, context);
    if (!exists(device.streams, handle)) return invalid_handle;
    if (bytes == 0) return 0;
    work fill = {};
    fill.kind = work::fill;
    fill.device = to;
    fill.bytes = bytes;
    fill.value = value;
    enqueue(*static_cast<stream *>(handle), std::move(fill));
    return 0;
}

}  // namespace driver
