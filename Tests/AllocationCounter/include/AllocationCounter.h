// Counts what a thread allocates, for tests that say how much that may be.

#pragma once

#include <stdbool.h>
#include <stdint.h>

/// Whether allocations are counted here: on Linux with glibc, and not where a sanitizer has its own allocator.
bool counts_allocations(void);

/// Allocations of the calling thread since it began; the ones that move count too.
uint64_t allocations_of_this_thread(void);
