// The part of NVIDIA's driver API that Apus calls, declared here so that neither its headers nor its library are needed
// to build: the library is opened at run time. Names and values are those of the driver API's documentation.

#ifndef CUDA_DRIVER_H
#define CUDA_DRIVER_H

#include "NCCL.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/// CUresult: 0 is success.
typedef int32_t cuda_result;
/// CUdeviceptr.
typedef uint64_t cuda_pointer;
/// CUcontext, CUmodule, CUfunction, CUstream, CUevent, CUgraph, CUgraphExec: opaque to everyone but the driver.
typedef void *cuda_handle;

/// CU_DEVICE_ATTRIBUTE_*, CU_FUNC_ATTRIBUTE_*, CU_STREAM_*, CU_EVENT_*: the ones in use.
enum {
    CUDA_ATTRIBUTE_MULTIPROCESSOR_COUNT = 16,
    CUDA_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN = 97,
    CUDA_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR = 75,
    CUDA_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR = 76,
    CUDA_FUNCTION_MAX_DYNAMIC_SHARED_SIZE_BYTES = 8,
    CUDA_FUNCTION_PREFERRED_SHARED_MEMORY_CARVEOUT = 9,
    CUDA_STREAM_NON_BLOCKING = 1,
    CUDA_EVENT_DISABLE_TIMING = 2,
    CUDA_CAPTURE_MODE_THREAD_LOCAL = 1,
    CUDA_ERROR_NOT_READY = 600,
    CUDA_ERROR_ALREADY_REACHED = 704,
};

/// A kernel's launch with attributes, as `cuLaunchKernelEx` takes it.
typedef struct {
    uint32_t id;
    uint32_t padding;
    /// A union of 64 bytes: of the one attribute in use, 1 lets the kernel begin before the one in front has ended.
    uint64_t value[8];
} cuda_launch_attribute;
typedef struct {
    uint32_t grid_x, grid_y, grid_z;
    uint32_t block_x, block_y, block_z;
    uint32_t shared_bytes;
    cuda_handle stream;
    const cuda_launch_attribute *attributes;
    uint32_t attribute_count;
} cuda_launch_config;

/// CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION, and what a CUtensorMap of bf16 with rows swizzled by 128 bytes
/// is described with: CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B.
enum {
    CUDA_LAUNCH_OVERLAPS = 6,
    CUDA_TENSOR_MAP_BF16 = 9,
    CUDA_TENSOR_MAP_SWIZZLE_128 = 3,
    CUDA_TENSOR_MAP_PROMOTION_256 = 3,
};

/// X(name in the library, member, parameters): every call, with the version suffix the library exports it under.
#define CUDA_DRIVER_CALLS(X) \
    X(cuInit, init, (uint32_t flags)) \
    X(cuDriverGetVersion, driver_version, (int32_t *version)) \
    X(cuGetErrorName, error_name, (cuda_result error, const char **name)) \
    X(cuGetErrorString, error_string, (cuda_result error, const char **text)) \
    X(cuDeviceGetCount, device_count, (int32_t *count)) \
    X(cuDeviceGet, device_get, (int32_t *device, int32_t ordinal)) \
    X(cuDeviceGetName, device_name, (char *name, int32_t capacity, int32_t device)) \
    X(cuDeviceGetUuid_v2, device_uuid, (uint8_t *uuid16, int32_t device)) \
    X(cuDeviceGetAttribute, device_attribute, (int32_t *value, int32_t attribute, int32_t device)) \
    X(cuDevicePrimaryCtxRetain, context_retain, (cuda_handle *context, int32_t device)) \
    X(cuDevicePrimaryCtxRelease_v2, context_release, (int32_t device)) \
    X(cuCtxSetCurrent, context_set_current, (cuda_handle context)) \
    X(cuDeviceCanAccessPeer, device_reaches, (int32_t *can, int32_t device, int32_t other)) \
    X(cuCtxEnablePeerAccess, context_reach, (cuda_handle other, uint32_t flags)) \
    X(cuMemGetInfo_v2, memory_info, (size_t *free_bytes, size_t *total_bytes)) \
    X(cuMemAlloc_v2, memory_allocate, (cuda_pointer *address, size_t bytes)) \
    X(cuMemFree_v2, memory_free, (cuda_pointer address)) \
    X(cuMemHostAlloc, host_allocate, (void **address, size_t bytes, uint32_t flags)) \
    X(cuMemFreeHost, host_free, (void *address)) \
    X(cuMemcpyHtoDAsync_v2, copy_to_device, (cuda_pointer to, const void *from, size_t bytes, cuda_handle stream)) \
    X(cuMemcpyDtoHAsync_v2, copy_to_host, (void *to, cuda_pointer from, size_t bytes, cuda_handle stream)) \
    X(cuMemsetD8Async, fill, (cuda_pointer to, uint8_t value, size_t bytes, cuda_handle stream)) \
    X(cuModuleLoadData, module_load, (cuda_handle *module, const void *image)) \
    X(cuModuleUnload, module_unload, (cuda_handle module)) \
    X(cuModuleGetFunction, module_function, (cuda_handle *function, cuda_handle module, const char *name)) \
    X(cuFuncSetAttribute, function_set_attribute, (cuda_handle function, int32_t attribute, int32_t value)) \
    X(cuLaunchKernel, launch, \
      (cuda_handle function, uint32_t grid_x, uint32_t grid_y, uint32_t grid_z, uint32_t block_x, uint32_t block_y, \
       uint32_t block_z, uint32_t shared_bytes, cuda_handle stream, void **parameters, void **extra)) \
    X(cuLaunchKernelEx, launch_with, \
      (const cuda_launch_config *config, cuda_handle function, void **parameters, void **extra)) \
    X(cuTensorMapEncodeTiled, tensor_map_encode, \
      (void *map, int32_t type, uint32_t rank, void *address, const uint64_t *size, const uint64_t *strides, \
       const uint32_t *box, const uint32_t *element_strides, int32_t interleave, int32_t swizzle, int32_t promotion, \
       int32_t fill)) \
    X(cuStreamCreate, stream_create, (cuda_handle *stream, uint32_t flags)) \
    X(cuStreamDestroy_v2, stream_destroy, (cuda_handle stream)) \
    X(cuStreamSynchronize, stream_synchronize, (cuda_handle stream)) \
    X(cuStreamWaitEvent, stream_wait_event, (cuda_handle stream, cuda_handle event, uint32_t flags)) \
    X(cuStreamBeginCapture_v2, capture_begin, (cuda_handle stream, int32_t mode)) \
    X(cuStreamEndCapture, capture_end, (cuda_handle stream, cuda_handle *graph)) \
    X(cuGraphInstantiateWithFlags, graph_instantiate, (cuda_handle *executable, cuda_handle graph, uint64_t flags)) \
    X(cuGraphLaunch, graph_launch, (cuda_handle executable, cuda_handle stream)) \
    X(cuGraphDestroy, graph_destroy, (cuda_handle graph)) \
    X(cuGraphExecDestroy, graph_executable_destroy, (cuda_handle executable)) \
    X(cuEventCreate, event_create, (cuda_handle *event, uint32_t flags)) \
    X(cuEventRecord, event_record, (cuda_handle event, cuda_handle stream)) \
    X(cuEventSynchronize, event_synchronize, (cuda_handle event)) \
    X(cuEventElapsedTime, event_elapsed, (float *milliseconds, cuda_handle start, cuda_handle end)) \
    X(cuEventDestroy_v2, event_destroy, (cuda_handle event))

/// The driver's functions: the library's, or those of the emulator that the tests use.
typedef struct {
#define CUDA_DRIVER_MEMBER(name, member, parameters) cuda_result(*member) parameters;
    CUDA_DRIVER_CALLS(CUDA_DRIVER_MEMBER)
#undef CUDA_DRIVER_MEMBER
} cuda_driver;

/// Opens `library` (NULL: libcuda.so.1) and finds every function in it. Returns 0, or nonzero with a sentence in `reason`.
/// The library stays open for the life of the process.
int32_t cuda_driver_open(const char *library, cuda_driver *driver, char *reason, size_t reason_capacity);

#ifdef __cplusplus
}
#endif

#endif
