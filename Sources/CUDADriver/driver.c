// Finds the driver's functions in a library opened at run time.

#include "CUDADriver.h"

#include <dlfcn.h>
#include <stdio.h>

int32_t cuda_driver_open(const char *library, cuda_driver *driver, char *reason, size_t reason_capacity) {
    const char *name = library != NULL ? library : "libcuda.so.1";
    void *handle = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (handle == NULL) {
        const char *error = dlerror();
        snprintf(reason, reason_capacity, "%s", error != NULL ? error : name);
        return 1;
    }
#define CUDA_DRIVER_FIND(symbol, member, parameters) \
    driver->member = (cuda_result(*) parameters)dlsym(handle, #symbol); \
    if (driver->member == NULL) { \
        snprintf(reason, reason_capacity, "%s lacks %s; the driver is older than CUDA 12", name, #symbol); \
        return 2; \
    }
    CUDA_DRIVER_CALLS(CUDA_DRIVER_FIND)
#undef CUDA_DRIVER_FIND
    return 0;
}
