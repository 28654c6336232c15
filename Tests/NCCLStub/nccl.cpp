// The stub's functions. One lock for everything; a call is a meeting of all ranks of a group, done by whoever comes last.

#include "NCCLStub.h"

#include <stdlib.h>
#include <string.h>

#include <chrono>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

namespace {

using clock_type = std::chrono::steady_clock;

enum class kind { sum, gather };

struct member;

struct operation {
    member *who;
    kind what;
    const float *input;
    float *output;
    size_t count;
};

struct group {
    int32_t ranks;
    std::map<int32_t, member *> members;
    int32_t arrived = 0;
};

struct member {
    group *its;
    int32_t rank;
    nccl_result error = NCCL_SUCCESS;
    bool is_aborted = false, has_arrived = false, is_done = false;
    int32_t calls = 0;
    /// The call it is at, and when it comes to it.
    const operation *at = nullptr;
    clock_type::time_point comes;
    std::vector<std::unique_ptr<operation>> operations;
};

struct {
    std::mutex lock;
    std::condition_variable changed;
    nccl_stub_enqueue enqueue = nullptr;
    std::map<uint64_t, std::unique_ptr<group>> groups;
    std::vector<std::unique_ptr<member>> members;
    uint64_t identities = 0;
    int32_t fault = NCCL_STUB_WORKS, faulty_rank = 0, after = 0, milliseconds = 0;
    int64_t done = 0, aborted = 0;
} stub;

bool is_faulty(const member &who, int32_t fault) {
    return stub.fault == fault && stub.faulty_rank == who.rank && who.calls > stub.after;
}

void sum(const group &all) {
    const operation &first = *all.members.begin()->second->at;
    const size_t part = (first.count + static_cast<size_t>(all.ranks) - 1) / static_cast<size_t>(all.ranks);
    std::vector<float> sums(first.count);
    for (size_t i = 0; i < first.count; i++) {
        const int32_t start = static_cast<int32_t>(i / part) + 1;
        for (int32_t step = 0; step < all.ranks; step++) {
            sums[i] += all.members.at((start + step) % all.ranks)->at->input[i];
        }
    }
    for (const auto &[rank, who] : all.members) memcpy(who->at->output, sums.data(), first.count * sizeof(float));
}

void gather(const group &all) {
    for (const auto &[to, reader] : all.members) {
        for (const auto &[from, writer] : all.members) {
            float *const place = reader->at->output + static_cast<size_t>(from) * writer->at->count;
            memmove(place, writer->at->input, writer->at->count * sizeof(float));
        }
    }
}

/// Does the call that all ranks have come to.
void meet(group &all) {
    const operation &first = *all.members.begin()->second->at;
    bool is_same = true;
    for (const auto &[rank, who] : all.members) {
        is_same = is_same && who->at->what == first.what && who->at->count == first.count;
    }
    for (const auto &[rank, who] : all.members) {
        if (!is_same) who->error = NCCL_INVALID_USAGE;
        who->is_done = true;
        who->has_arrived = false;
    }
    if (is_same) first.what == kind::sum ? sum(all) : gather(all);
    all.arrived = 0;
    stub.done++;
}

/// One try of a call; nonzero when it is over.
int32_t attempt(void *context) {
    const std::lock_guard<std::mutex> guard(stub.lock);
    const operation &call = *static_cast<operation *>(context);
    member &who = *call.who;
    group &all = *who.its;
    if (who.is_aborted) return 1;
    if (who.at == nullptr) {
        who.at = &call;
        who.calls++;
        who.comes = clock_type::now();
        if (is_faulty(who, NCCL_STUB_IS_SLOW)) who.comes += std::chrono::milliseconds(stub.milliseconds);
        if (is_faulty(who, NCCL_STUB_IS_LOST)) {
            for (const auto &[rank, other] : all.members) {
                if (rank != who.rank) other->error = NCCL_REMOTE_ERROR;
            }
        }
    }
    if (is_faulty(who, NCCL_STUB_HANGS) || is_faulty(who, NCCL_STUB_IS_LOST)) return 0;
    if (!who.has_arrived && !who.is_done && clock_type::now() >= who.comes) {
        who.has_arrived = true;
        if (++all.arrived == all.ranks) meet(all);
    }
    if (!who.is_done) return 0;
    who.is_done = false;
    who.at = nullptr;
    stub.changed.notify_all();
    return 1;
}

nccl_result call(
    kind what, const void *input, void *output, size_t count, int32_t type, nccl_communicator communicator,
    void *stream) {
    member &who = *static_cast<member *>(communicator);
    if (type != NCCL_FLOAT32 || input == nullptr || output == nullptr) return NCCL_INVALID_ARGUMENT;
    operation *made;
    {
        const std::lock_guard<std::mutex> guard(stub.lock);
        if (stub.fault == NCCL_STUB_REFUSES && stub.faulty_rank == who.rank
            && who.operations.size() >= static_cast<size_t>(stub.after)) {
            return NCCL_UNHANDLED_CUDA_ERROR;
        }
        who.operations.push_back(std::make_unique<operation>(
            operation{&who, what, static_cast<const float *>(input), static_cast<float *>(output), count}));
        made = who.operations.back().get();
    }
    if (stub.enqueue != nullptr) {
        return stub.enqueue(stream, attempt, made) == 0 ? NCCL_SUCCESS : NCCL_UNHANDLED_CUDA_ERROR;
    }
    while (attempt(made) == 0) {
        std::unique_lock<std::mutex> held(stub.lock);
        stub.changed.wait_for(held, std::chrono::milliseconds(1));
    }
    return NCCL_SUCCESS;
}

}  // namespace

// MARK: The library's functions

extern "C" {

nccl_result ncclGetVersion(int32_t *version) {
    const char *const wanted = getenv("NCCL_STUB_VERSION");
    *version = wanted == nullptr ? 22707 : atoi(wanted);
    return NCCL_SUCCESS;
}

const char *ncclGetErrorString(nccl_result result) {
    switch (result) {
        case NCCL_SUCCESS: return "no error";
        case NCCL_UNHANDLED_CUDA_ERROR: return "unhandled cuda error";
        case NCCL_SYSTEM_ERROR: return "unhandled system error";
        case NCCL_INVALID_ARGUMENT: return "invalid argument";
        case NCCL_INVALID_USAGE: return "invalid usage";
        case NCCL_REMOTE_ERROR: return "remote process exited or there was a network error";
        case NCCL_IN_PROGRESS: return "NCCL operation in progress";
        default: return "unknown result code";
    }
}

const char *ncclGetLastError(nccl_communicator) { return ""; }

nccl_result ncclGetUniqueId(nccl_identity *identity) {
    const std::lock_guard<std::mutex> guard(stub.lock);
    memset(identity, 0x5A, sizeof(*identity));
    const uint64_t number = ++stub.identities;
    // At the end, so that an identity that was not passed whole is unknown.
    memcpy(identity->bytes + sizeof(*identity) - sizeof(number), &number, sizeof(number));
    return NCCL_SUCCESS;
}

nccl_result ncclCommInitRankConfig(
    nccl_communicator *communicator, int32_t ranks, nccl_identity identity, int32_t rank, nccl_config *config) {
    const std::lock_guard<std::mutex> guard(stub.lock);
    uint64_t number;
    memcpy(&number, identity.bytes + sizeof(identity) - sizeof(number), sizeof(number));
    if (identity.bytes[0] != 0x5A || number == 0 || number > stub.identities || rank < 0 || rank >= ranks) {
        return NCCL_INVALID_ARGUMENT;
    }
    if (config->magic != 0xcafebeef || config->version != NCCL_OLDEST_VERSION || config->blocking != 0) {
        return NCCL_INVALID_ARGUMENT;
    }
    std::unique_ptr<group> &all = stub.groups[number];
    if (all == nullptr) {
        all = std::make_unique<group>();
        all->ranks = ranks;
    }
    if (all->ranks != ranks || all->members.count(rank) != 0) return NCCL_INVALID_USAGE;
    stub.members.push_back(std::make_unique<member>());
    member *const made = stub.members.back().get();
    made->its = all.get();
    made->rank = rank;
    all->members[rank] = made;
    *communicator = made;
    return NCCL_IN_PROGRESS;
}

nccl_result ncclCommGetAsyncError(nccl_communicator communicator, nccl_result *error) {
    const std::lock_guard<std::mutex> guard(stub.lock);
    const member &who = *static_cast<member *>(communicator);
    const bool is_whole = who.its->members.size() == static_cast<size_t>(who.its->ranks);
    *error = who.error != NCCL_SUCCESS ? who.error : is_whole ? NCCL_SUCCESS : NCCL_IN_PROGRESS;
    return NCCL_SUCCESS;
}

nccl_result ncclCommFinalize(nccl_communicator) { return NCCL_SUCCESS; }

nccl_result ncclCommDestroy(nccl_communicator) { return NCCL_SUCCESS; }

nccl_result ncclCommAbort(nccl_communicator communicator) {
    const std::lock_guard<std::mutex> guard(stub.lock);
    static_cast<member *>(communicator)->is_aborted = true;
    stub.aborted++;
    stub.changed.notify_all();
    return NCCL_SUCCESS;
}

nccl_result ncclAllReduce(
    const void *input, void *output, size_t count, int32_t type, int32_t operation, nccl_communicator communicator,
    void *stream) {
    if (operation != NCCL_SUM) return NCCL_INVALID_ARGUMENT;
    return call(kind::sum, input, output, count, type, communicator, stream);
}

nccl_result ncclAllGather(
    const void *input, void *output, size_t count, int32_t type, nccl_communicator communicator, void *stream) {
    return call(kind::gather, input, output, count, type, communicator, stream);
}

// MARK: For tests

const nccl_calls *nccl_stub_calls(void) {
    static const nccl_calls calls = {
#define NCCL_STUB_MEMBER(name, member, result, parameters) name,
        NCCL_CALLS(NCCL_STUB_MEMBER)
#undef NCCL_STUB_MEMBER
    };
    return &calls;
}

void nccl_stub_reset(nccl_stub_enqueue enqueue) {
    const std::lock_guard<std::mutex> guard(stub.lock);
    stub.enqueue = enqueue;
    // Members stay where they are: somebody may still hold one.
    stub.fault = NCCL_STUB_WORKS;
    stub.done = stub.aborted = 0;
}

void nccl_stub_fail(int32_t rank, int32_t fault, int32_t after, int32_t milliseconds) {
    const std::lock_guard<std::mutex> guard(stub.lock);
    stub.faulty_rank = rank;
    stub.fault = fault;
    stub.after = after;
    stub.milliseconds = milliseconds;
}

int64_t nccl_stub_calls_done(void) {
    const std::lock_guard<std::mutex> guard(stub.lock);
    return stub.done;
}

int64_t nccl_stub_aborted(void) {
    const std::lock_guard<std::mutex> guard(stub.lock);
    return stub.aborted;
}

}  // extern "C"
