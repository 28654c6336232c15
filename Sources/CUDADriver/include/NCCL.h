// The part of NVIDIA's collective library that Apus calls, declared here so that neither its header nor the library is
// needed to build: it is opened at run time, and only where several devices share a model. Names and values are those of
// nccl.h, in which they have been the same from 2.14 on.

#ifndef APUS_NCCL_H
#define APUS_NCCL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/// ncclResult_t, ncclDataType_t and ncclRedOp_t: the values in use.
typedef int32_t nccl_result;
enum {
    NCCL_SUCCESS = 0,
    NCCL_UNHANDLED_CUDA_ERROR = 1,
    NCCL_SYSTEM_ERROR = 2,
    NCCL_INVALID_ARGUMENT = 4,
    NCCL_INVALID_USAGE = 5,
    NCCL_REMOTE_ERROR = 6,
    NCCL_IN_PROGRESS = 7,
    NCCL_SUM = 0,
    NCCL_FLOAT32 = 7,
    NCCL_BFLOAT16 = 9,
};

/// The oldest version that starts in the background, as 10000 × major + 100 × minor + patch: a start that waits for a
/// rank which never comes can then be given up. It is also the version of `nccl_config`.
#define NCCL_OLDEST_VERSION 21400

/// ncclComm_t: a rank of a group.
typedef void *nccl_communicator;

/// ncclUniqueId: what the ranks of one group have in common.
typedef struct {
    char bytes[128];
} nccl_identity;

/// ncclConfig_t as of NCCL_OLDEST_VERSION. Later libraries read no further than `size`.
typedef struct {
    size_t size;
    uint32_t magic;
    uint32_t version;
    /// 0: calls return NCCL_IN_PROGRESS, and `asynchronous_error` says when they have ended.
    int32_t blocking;
} nccl_config;

/// X(name in the library, member, result, parameters)
#define NCCL_CALLS(X) \
    X(ncclGetVersion, version, nccl_result, (int32_t *version)) \
    X(ncclGetErrorString, error_string, const char *, (nccl_result result)) \
    X(ncclGetLastError, last_error, const char *, (nccl_communicator communicator)) \
    X(ncclGetUniqueId, make_identity, nccl_result, (nccl_identity *identity)) \
    X(ncclCommInitRankConfig, start_rank, nccl_result, \
      (nccl_communicator *communicator, int32_t ranks, nccl_identity identity, int32_t rank, nccl_config *config)) \
    X(ncclCommGetAsyncError, asynchronous_error, nccl_result, \
      (nccl_communicator communicator, nccl_result *asynchronous)) \
    X(ncclCommFinalize, finish, nccl_result, (nccl_communicator communicator)) \
    X(ncclCommDestroy, destroy, nccl_result, (nccl_communicator communicator)) \
    X(ncclCommAbort, abort, nccl_result, (nccl_communicator communicator)) \
    X(ncclAllReduce, all_reduce, nccl_result, \
      (const void *input, void *output, size_t count, int32_t type, int32_t operation, \
       nccl_communicator communicator, void *stream)) \
    X(ncclAllGather, all_gather, nccl_result, \
      (const void *input, void *output, size_t count, int32_t type, nccl_communicator communicator, void *stream))

/// The library's functions, or those of the stub that the tests use.
typedef struct {
#define NCCL_MEMBER(name, member, result, parameters) result(*member) parameters;
    NCCL_CALLS(NCCL_MEMBER)
#undef NCCL_MEMBER
} nccl_calls;

/// Opens `library` (NULL: libnccl.so.2, then libnccl.so), finds every function in it and asks for its version. Returns 0,
/// or nonzero with a clause in `reason`. The library stays open for the life of the process.
int32_t nccl_open(const char *library, nccl_calls *calls, int32_t *version, char *reason, size_t reason_capacity);

/// Begins to start a rank of the group that `identity` names, on the device whose context is current. Returns at once;
/// `asynchronous_error` says when all ranks are there. (The identity goes by value, which is C's affair.)
nccl_result nccl_start_rank(
    const nccl_calls *calls, nccl_communicator *communicator, int32_t ranks, const nccl_identity *identity, int32_t rank);

#ifdef __cplusplus
}
#endif

#endif
