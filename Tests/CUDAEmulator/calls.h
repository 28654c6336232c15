// What every call of the driver begins with: it counts itself, fails if a test wants it to, and insists on what a real
// driver insists on: an initialized library, a current context, live handles, no allocation while capturing.

#pragma once

#include "streams.h"

#include <unistd.h>

#include <mutex>

/// The driver's calls, each a function of its member's name.
namespace driver {

using namespace emulator;

#define CALL_NUMBER(name, member, parameters) call_##member,
enum { CUDA_DRIVER_CALLS(CALL_NUMBER) call_count };
#undef CALL_NUMBER

#define CALL_DECLARATION(name, member, parameters) cuda_result member parameters;
CUDA_DRIVER_CALLS(CALL_DECLARATION)
#undef CALL_DECLARATION

extern std::recursive_mutex lock;
extern bool is_initialized;
extern int32_t context_users;
extern thread_local cuda_handle current_context;
/// Its address is the one context's handle.
extern char the_context;

/// What a call needs before it does anything.
enum class needs { nothing, initialization, context };

cuda_result begin(int call, needs needs);

#define BEGIN(member, needed) \
    const std::lock_guard<std::recursive_mutex> guard(lock); \
    if (const cuda_result begun = begin(call_##member, needs::needed); begun != 0) return begun
/// For calls that free: they do so on a lost device too.
#define BEGIN_FREE(member) \
    const std::lock_guard<std::recursive_mutex> guard(lock); \
    const cuda_result begun = begin(call_##member, needs::context); \
    if (begun != 0 && begun != device.error) return begun

template <class T> inline bool exists(const std::set<T *> &all, cuda_handle handle) {
    return all.count(static_cast<T *>(handle)) != 0;
}

/// Tries until `body` says that it is done, and lets other threads make calls in between.
template <class Body> inline cuda_result patiently(Body body) {
    while (true) {
        {
            const std::lock_guard<std::recursive_mutex> guard(lock);
            if (body() || device.error != 0) return device.error;
        }
        usleep(50);
    }
}

/// Allocating and synchronizing are forbidden while this thread captures a stream, and spoil the capture.
bool spoils_capture();

}  // namespace driver
