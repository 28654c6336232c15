// What AddressSanitizer has to be told where it is compiled in: which stack is in use, and which bytes of the emulator's
// memory belong to nobody. Elsewhere nothing happens.

#pragma once

#include <stddef.h>

#ifdef __has_feature
#if __has_feature(address_sanitizer)
#define EMULATOR_IS_SANITIZED 1
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#endif

namespace emulator {

#ifdef EMULATOR_IS_SANITIZED

constexpr bool is_sanitized = true;

/// Touching these bytes ends the process.
inline void forbid(const void *start, size_t bytes) { __asan_poison_memory_region(start, bytes); }
inline void permit(const void *start, size_t bytes) { __asan_unpoison_memory_region(start, bytes); }

/// Around each change of stacks: to which one, and, where it goes on, from which.
inline void begin_switch(const void *bottom, size_t bytes) { __sanitizer_start_switch_fiber(nullptr, bottom, bytes); }
inline void end_switch(const void **from_bottom, size_t *from_bytes) {
    __sanitizer_finish_switch_fiber(nullptr, from_bottom, from_bytes);
}

#else

constexpr bool is_sanitized = false;
inline void forbid(const void *, size_t) {}
inline void permit(const void *, size_t) {}
inline void begin_switch(const void *, size_t) {}
inline void end_switch(const void **, size_t *) {}

#endif

}  // namespace emulator
