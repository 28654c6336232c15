// Finds the collective library's functions in a library opened at run time, and makes the two calls that Swift cannot
// make well: one that passes 128 bytes by value, and the start that fills in a struct of a certain version.

#include "NCCL.h"

#include <dlfcn.h>
#include <stdio.h>

_Static_assert(sizeof(nccl_identity) == 128 && offsetof(nccl_config, blocking) == 16, "as nccl.h has them");

static void *open_first(const char *const *names, const char **opened, char *reason, size_t reason_capacity) {
    for (int i = 0; names[i] != NULL; i++) {
        void *handle = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
        if (handle != NULL) {
            *opened = names[i];
            return handle;
        }
        // The first name is the one to be missed.
        const char *error = dlerror();
        if (i == 0) snprintf(reason, reason_capacity, "%s", error != NULL ? error : names[i]);
    }
    return NULL;
}

int32_t nccl_open(const char *library, nccl_calls *calls, int32_t *version, char *reason, size_t reason_capacity) {
    const char *const usual[] = {"libnccl.so.2", "libnccl.so", NULL};
    const char *const given[] = {library, NULL};
    const char *name = NULL;
    void *handle = open_first(library != NULL ? given : usual, &name, reason, reason_capacity);
    if (handle == NULL) return 1;
    // First of all the version: a library that is too old lacks functions, and should be told so by its age.
    calls->version = (nccl_result(*)(int32_t *))dlsym(handle, "ncclGetVersion");
    if (calls->version == NULL || calls->version(version) != NCCL_SUCCESS) {
        snprintf(reason, reason_capacity, "%s does not say its version", name);
        return 2;
    }
    if (*version < NCCL_OLDEST_VERSION) {
        snprintf(
            reason, reason_capacity, "%s is NCCL %d.%d.%d", name, *version < 10000 ? *version / 1000 : *version / 10000,
            (*version < 10000 ? *version % 1000 : *version % 10000) / 100, *version % 100);
        return 3;
    }
#define NCCL_FIND(symbol, member, result, parameters) \
    calls->member = (result(*) parameters)dlsym(handle, #symbol); \
    if (calls->member == NULL) { \
        snprintf(reason, reason_capacity, "%s lacks %s", name, #symbol); \
        return 4; \
    }
    NCCL_CALLS(NCCL_FIND)
#undef NCCL_FIND
    return 0;
}

nccl_result nccl_start_rank(
    const nccl_calls *calls, nccl_communicator *communicator, int32_t ranks, const nccl_identity *identity, int32_t rank) {
    nccl_config config = {
        .size = sizeof(nccl_config), .magic = 0xcafebeef, .version = NCCL_OLDEST_VERSION, .blocking = 0,
    };
    return calls->start_rank(communicator, ranks, *identity, rank, &config);
}
