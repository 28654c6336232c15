// The driver's calls about kernels, streams, graphs and events.

#include "calls.h"
#include "tensor_map.h"

#include <string.h>

#include <utility>

namespace driver {

// MARK: Modules and launches

cuda_result module_load(cuda_handle *module, const void *image) {
    BEGIN(module_load, context);
    if (strncmp(static_cast<const char *>(image), CUDA_EMULATOR_IMAGE, strlen(CUDA_EMULATOR_IMAGE)) != 0) {
        return invalid_image;
    }
    *module = new char;
    device.modules.insert(*module);
    return 0;
}

cuda_result module_unload(cuda_handle module) {
    BEGIN_FREE(module_unload);
    if (device.modules.erase(module) == 0) return invalid_handle;
    delete static_cast<char *>(module);
    return device.error;
}

cuda_result module_function(cuda_handle *result, cuda_handle module, const char *name) {
    BEGIN(module_function, context);
    if (device.modules.count(module) == 0) return invalid_handle;
    const kernel *const entry = find(name);
    if (entry == nullptr) return not_found;
    *result = &device.functions.try_emplace(entry, function{entry, 48 << 10}).first->second;
    return 0;
}

namespace {

function *find_function(cuda_handle handle) {
    for (auto &[entry, function] : device.functions) {
        if (&function == handle) return &function;
    }
    return nullptr;
}

}  // namespace

cuda_result function_set_attribute(cuda_handle handle, int32_t attribute, int32_t value) {
    BEGIN(function_set_attribute, context);
    function *const function = find_function(handle);
    if (function == nullptr) return invalid_handle;
    if (attribute == CUDA_FUNCTION_PREFERRED_SHARED_MEMORY_CARVEOUT) {
        // A hint, in percent.
        return value < -1 || value > 100 ? invalid_value : 0;
    }
    if (attribute != CUDA_FUNCTION_MAX_DYNAMIC_SHARED_SIZE_BYTES) return invalid_value;
    if (value < 0 || static_cast<uint32_t>(value) > device.shared_bytes) return invalid_value;
    function->shared_bytes = static_cast<uint32_t>(value);
    return 0;
}

cuda_result launch(
    cuda_handle handle, uint32_t grid_x, uint32_t grid_y, uint32_t grid_z, uint32_t block_x, uint32_t block_y,
    uint32_t block_z, uint32_t shared_bytes, cuda_handle stream_handle, void **parameters, void **extra) {
    BEGIN(launch, context);
    const function *const function = find_function(handle);
    if (function == nullptr || device.modules.empty() || !exists(device.streams, stream_handle)) return invalid_handle;
    // One argument, blocks of one dimension: what the kernels' contract allows.
    if (block_y != 1 || block_z != 1 || parameters == nullptr || extra != nullptr) return invalid_value;
    if (shared_bytes > function->shared_bytes) return invalid_value;
    work launch = {};
    launch.kind = work::launch;
    launch.entry = function->entry;
    launch.shape = {0, grid_x, grid_y, grid_z, block_x, shared_bytes};
    const int32_t refused = check(function->entry->name, function->entry, launch.shape);
    if (refused != 0) return refused;
    const uint8_t *const arguments = static_cast<const uint8_t *>(parameters[0]);
    launch.contents.assign(arguments, arguments + function->entry->argument_bytes);
    enqueue(*static_cast<stream *>(stream_handle), std::move(launch));
    return 0;
}

cuda_result launch_with(const cuda_launch_config *config, cuda_handle handle, void **parameters, void **extra) {
    BEGIN(launch_with, context);
    for (uint32_t i = 0; i < config->attribute_count; i++) {
        if (config->attributes[i].id != CUDA_LAUNCH_OVERLAPS || config->attributes[i].value[0] > 1) return invalid_value;
    }
    // Kernels overlap as little as they may: not at all. What one may do before it has waited is checked as it runs.
    return launch(
        handle, config->grid_x, config->grid_y, config->grid_z, config->block_x, config->block_y, config->block_z,
        config->shared_bytes, config->stream, parameters, extra);
}

cuda_result tensor_map_encode(
    void *map, int32_t type, uint32_t rank, void *address, const uint64_t *size, const uint64_t *strides,
    const uint32_t *box, const uint32_t *element_strides, int32_t interleave, int32_t swizzle, int32_t promotion,
    int32_t fill) {
    BEGIN(tensor_map_encode, nothing);
    const uint64_t start = reinterpret_cast<uintptr_t>(address);
    // What the manual asks for, of the one kind that is used: two dimensions of bf16, all elements, zeros outside.
    if (reinterpret_cast<uintptr_t>(map) % 64 != 0 || start == 0 || start % 16 != 0) return invalid_value;
    if (type != CUDA_TENSOR_MAP_BF16 || rank != 2 || interleave != 0 || fill != 0) return invalid_value;
    if (swizzle != 0 && swizzle != CUDA_TENSOR_MAP_SWIZZLE_128) return invalid_value;
    if (promotion < 0 || promotion > CUDA_TENSOR_MAP_PROMOTION_256) return invalid_value;
    for (int i = 0; i < 2; i++) {
        if (size[i] == 0 || size[i] > 1ull << 32 || box[i] == 0 || box[i] > 256) return invalid_value;
        if (element_strides[i] != 1) return invalid_value;
    }
    if (strides[0] % 16 != 0 || strides[0] >= 1ull << 40 || strides[0] < 2 * size[0]) return invalid_value;
    if (2 * box[0] % 16 != 0 || (swizzle != 0 && 2 * box[0] != 128)) return invalid_value;
    const tensor_map made = {
        tensor_map_mark, start, {size[0], size[1]}, strides[0], {box[0], box[1]}, static_cast<uint32_t>(swizzle)};
    memset(map, 0, 128);
    memcpy(map, &made, sizeof(made));
    return 0;
}

// MARK: Streams, graphs and events

cuda_result stream_create(cuda_handle *handle, uint32_t) {
    BEGIN(stream_create, context);
    stream *const created = new stream{};
    device.streams.insert(created);
    *handle = created;
    return 0;
}

cuda_result stream_destroy(cuda_handle handle) {
    BEGIN_FREE(stream_destroy);
    if (!exists(device.streams, handle)) return invalid_handle;
    stream *const destroyed = static_cast<stream *>(handle);
    run(*destroyed);
    for (event *const event : device.events) {
        if (event->stream == destroyed) event->stream = nullptr;
    }
    device.streams.erase(destroyed);
    delete destroyed;
    return device.error;
}

cuda_result stream_synchronize(cuda_handle handle) {
    {
        BEGIN(stream_synchronize, context);
        if (!exists(device.streams, handle)) return invalid_handle;
        if (spoils_capture()) return capture_unsupported;
    }
    return patiently([=] { return run(*static_cast<stream *>(handle)); });
}

cuda_result stream_wait_event(cuda_handle handle, cuda_handle event_handle, uint32_t) {
    BEGIN(stream_wait_event, context);
    if (!exists(device.streams, handle) || !exists(device.events, event_handle)) return invalid_handle;
    if (static_cast<stream *>(handle)->is_capturing) return 0;
    work wait = {};
    wait.kind = work::wait;
    wait.event = static_cast<event *>(event_handle);
    wait.record_number = wait.event->records;
    enqueue(*static_cast<stream *>(handle), std::move(wait));
    return 0;
}

cuda_result capture_begin(cuda_handle handle, int32_t) {
    BEGIN(capture_begin, context);
    if (!exists(device.streams, handle)) return invalid_handle;
    stream &stream = *static_cast<struct stream *>(handle);
    if (stream.is_capturing) return invalid_value;
    stream.is_capturing = true;
    stream.capturer = std::this_thread::get_id();
    stream.is_invalidated = false;
    stream.captured.clear();
    return 0;
}

cuda_result capture_end(cuda_handle handle, cuda_handle *graph_handle) {
    BEGIN(capture_end, context);
    *graph_handle = nullptr;
    if (!exists(device.streams, handle)) return invalid_handle;
    stream &stream = *static_cast<struct stream *>(handle);
    if (!stream.is_capturing) return invalid_value;
    stream.is_capturing = false;
    if (stream.is_invalidated) return capture_invalidated;
    graph *const captured = new graph{std::move(stream.captured)};
    stream.captured.clear();
    device.graphs.insert(captured);
    *graph_handle = captured;
    return 0;
}

cuda_result graph_instantiate(cuda_handle *executable, cuda_handle handle, uint64_t) {
    BEGIN(graph_instantiate, context);
    if (!exists(device.graphs, handle)) return invalid_handle;
    graph *const copy = new graph(*static_cast<graph *>(handle));
    device.executables.insert(copy);
    *executable = copy;
    return 0;
}

cuda_result graph_launch(cuda_handle executable, cuda_handle handle) {
    BEGIN(graph_launch, context);
    if (!exists(device.executables, executable) || !exists(device.streams, handle)) return invalid_handle;
    for (const work &node : static_cast<graph *>(executable)->nodes) enqueue(*static_cast<stream *>(handle), node);
    return 0;
}

cuda_result graph_destroy(cuda_handle handle) {
    BEGIN_FREE(graph_destroy);
    if (device.graphs.erase(static_cast<graph *>(handle)) == 0) return invalid_handle;
    delete static_cast<graph *>(handle);
    return device.error;
}

cuda_result graph_executable_destroy(cuda_handle handle) {
    BEGIN_FREE(graph_executable_destroy);
    if (device.executables.erase(static_cast<graph *>(handle)) == 0) return invalid_handle;
    delete static_cast<graph *>(handle);
    return device.error;
}

cuda_result event_create(cuda_handle *handle, uint32_t flags) {
    BEGIN(event_create, context);
    event *const created = new event{};
    created->has_timing = (flags & CUDA_EVENT_DISABLE_TIMING) == 0;
    device.events.insert(created);
    *handle = created;
    return 0;
}

cuda_result event_record(cuda_handle event_handle, cuda_handle handle) {
    BEGIN(event_record, context);
    if (!exists(device.events, event_handle) || !exists(device.streams, handle)) return invalid_handle;
    stream &stream = *static_cast<struct stream *>(handle);
    // In a graph, records and waits would only order its own nodes, which are in order.
    if (stream.is_capturing) return 0;
    work record = {};
    record.kind = work::record;
    record.event = static_cast<event *>(event_handle);
    record.record_number = ++record.event->records;
    record.event->stream = &stream;
    enqueue(stream, std::move(record));
    return 0;
}

cuda_result event_synchronize(cuda_handle handle) {
    {
        BEGIN(event_synchronize, context);
        if (!exists(device.events, handle)) return invalid_handle;
        if (spoils_capture()) return capture_unsupported;
    }
    return patiently([=] {
        event &event = *static_cast<struct event *>(handle);
        if (event.reached >= event.records || event.stream == nullptr) return true;
        return run(*event.stream, &event, event.records);
    });
}

cuda_result event_elapsed(float *milliseconds, cuda_handle start, cuda_handle end) {
    BEGIN(event_elapsed, context);
    if (!exists(device.events, start) || !exists(device.events, end)) return invalid_handle;
    const event &from = *static_cast<event *>(start), &to = *static_cast<event *>(end);
    if (!from.has_timing || !to.has_timing || from.records == 0 || to.records == 0) return invalid_handle;
    if (from.reached < from.records || to.reached < to.records) return not_ready;
    *milliseconds = static_cast<float>((to.seconds - from.seconds) * 1e3);
    return 0;
}

cuda_result event_destroy(cuda_handle handle) {
    BEGIN_FREE(event_destroy);
    if (!exists(device.events, handle)) return invalid_handle;
    event *const destroyed = static_cast<event *>(handle);
    // Records and waits in queues refer to it.
    run_all();
    device.events.erase(destroyed);
    delete destroyed;
    return device.error;
}

}  // namespace driver
