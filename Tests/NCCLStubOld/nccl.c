// What a version check and a search for functions find in a library that is not the right one.

#include "NCCLStubOld.h"

#include <stdlib.h>

int32_t ncclGetVersion(int32_t *version) {
    const char *const wanted = getenv("NCCL_STUB_VERSION");
    *version = wanted == NULL ? 22707 : atoi(wanted);
    return 0;
}
