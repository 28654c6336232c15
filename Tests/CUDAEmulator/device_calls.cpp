// The driver's calls about the device, its context, and errors.

#include "calls.h"

#include <string.h>

namespace driver {

cuda_result init(uint32_t flags) {
    BEGIN(init, nothing);
    if (flags != 0) return invalid_value;
    is_initialized = true;
    return 0;
}

cuda_result driver_version(int32_t *version) {
    BEGIN(driver_version, nothing);
    *version = 13000;
    return 0;
}

namespace {

struct error_text {
    cuda_result error;
    const char *name, *text;
};
const error_text error_texts[] = {
    {0, "CUDA_SUCCESS", "no error"},
    {1, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {2, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {3, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {100, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {101, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {200, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"},
    {201, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {209, "CUDA_ERROR_NO_BINARY_FOR_GPU", "no kernel image is available for execution on the device"},
    {214, "CUDA_ERROR_ECC_UNCORRECTABLE", "uncorrectable ECC error encountered"},
    {400, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {500, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {600, "CUDA_ERROR_NOT_READY", "device not ready"},
    {700, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {704, "CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED", "peer access is already enabled"},
    {701, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES", "too many resources requested for launch"},
    {702, "CUDA_ERROR_LAUNCH_TIMEOUT", "the launch timed out and was terminated"},
    {719, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
    {801, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
    {900, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "operation not permitted when stream is capturing"},
    {901, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED", "operation failed due to a previous error during capture"},
    {999, "CUDA_ERROR_UNKNOWN", "unknown error"},
};

const error_text *find_text(cuda_result error) {
    for (const error_text &text : error_texts) {
        if (text.error == error) return &text;
    }
    return nullptr;
}

}  // namespace

cuda_result error_name(cuda_result error, const char **name) {
    BEGIN(error_name, nothing);
    const error_text *const found = find_text(error);
    *name = found == nullptr ? nullptr : found->name;
    return found == nullptr ? invalid_value : 0;
}

cuda_result error_string(cuda_result error, const char **text) {
    BEGIN(error_string, nothing);
    const error_text *const found = find_text(error);
    *text = found == nullptr ? nullptr : found->text;
    return found == nullptr ? invalid_value : 0;
}

cuda_result device_count(int32_t *count) {
    BEGIN(device_count, initialization);
    *count = 1;
    return 0;
}

cuda_result device_get(int32_t *number, int32_t ordinal) {
    BEGIN(device_get, initialization);
    if (ordinal != 0) return invalid_device;
    *number = 0;
    return 0;
}

cuda_result device_name(char *name, int32_t capacity, int32_t number) {
    BEGIN(device_name, initialization);
    if (number != 0) return invalid_device;
    if (capacity < 1) return invalid_value;
    strncpy(name, "Emulated device", static_cast<size_t>(capacity));
    name[capacity - 1] = 0;
    return 0;
}

cuda_result device_uuid(uint8_t *uuid16, int32_t number) {
    BEGIN(device_uuid, initialization);
    if (number != 0) return invalid_device;
    for (uint8_t i = 0; i < 16; i++) uuid16[i] = i;
    return 0;
}

cuda_result device_attribute(int32_t *value, int32_t attribute, int32_t number) {
    BEGIN(device_attribute, initialization);
    if (number != 0) return invalid_device;
    switch (attribute) {
        case CUDA_ATTRIBUTE_MULTIPROCESSOR_COUNT: *value = device.multiprocessors; return 0;
        case CUDA_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN: *value = static_cast<int32_t>(device.shared_bytes); return 0;
        case CUDA_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: *value = 9; return 0;
        case CUDA_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: *value = 0; return 0;
        default: return invalid_value;
    }
}

cuda_result context_retain(cuda_handle *context, int32_t number) {
    BEGIN(context_retain, initialization);
    if (number != 0) return invalid_device;
    context_users++;
    *context = &the_context;
    return 0;
}

cuda_result context_release(int32_t number) {
    BEGIN(context_release, initialization);
    if (number != 0) return invalid_device;
    if (context_users == 0) return invalid_context;
    context_users--;
    return 0;
}

cuda_result context_set_current(cuda_handle context) {
    BEGIN(context_set_current, initialization);
    if (context != nullptr && context != &the_context) return invalid_context;
    current_context = context;
    return 0;
}

cuda_result device_reaches(int32_t *can, int32_t number, int32_t other) {
    BEGIN(device_reaches, initialization);
    if (number != 0 || other != 0) return invalid_device;
    // Nobody is its own peer.
    *can = 0;
    return 0;
}

cuda_result context_reach(cuda_handle other, uint32_t flags) {
    BEGIN(context_reach, context);
    return other != &the_context || flags != 0 ? invalid_value : CUDA_ERROR_ALREADY_REACHED;
}

}  // namespace driver
