// Math:    none; what every kernel stands on: which instruction sets this machine has, the context, memory.
// Shapes:  n/a
// Launch:  n/a
// Bound:   n/a
// Checked: CPUBackendTests
// Source:  Intel SDM vol. 2, CPUID; the compiler's __builtin_cpu_supports also asks whether the OS saves the registers.

#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "kernels.h"

bool cpu_isa_available(int isa) {
    switch (isa) {
    case CPU_PORTABLE:
        return true;
#if defined(__x86_64__)
    case CPU_AVX512_EMULATED:
    case CPU_AVX2:
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
    case CPU_AVX512:
        return cpu_isa_available(CPU_AVX2) && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
            && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")
            && __builtin_cpu_supports("avx512vnni");
    case CPU_AVX512_BF16:
        return cpu_isa_available(CPU_AVX512) && __builtin_cpu_supports("avx512bf16");
#else
    case CPU_AVX512_EMULATED:
        return true;
#endif
    default:
        return false;
    }
}

#if defined(__linux__)
/// Gives way to the threads that write tokens and figures to clients: they need microseconds, and with as much weight a
/// step would keep them waiting for a core. Threads made by this one do as it does.
static void give_way(void) {
    enum { WAY = 3 };
    const int niceness = getpriority(PRIO_PROCESS, 0);
    // An operator's own choice stays.
    if (niceness >= 0 && niceness < WAY) (void)setpriority(PRIO_PROCESS, 0, WAY);
}
#endif

cpu_context *cpu_context_create(int isa, int threads) {
#if defined(__linux__)
    give_way();
#endif
    if (!cpu_isa_available(isa) || threads < 1) return NULL;
    cpu_context *context = calloc(1, sizeof *context);
    if (context == NULL) return NULL;
    context->isa = isa;
    context->pool = worker_pool_create(threads);
    if (context->pool == NULL) {
        free(context);
        return NULL;
    }
    if (threads > 1) context->step = recorded_step_create(isa, threads);
    if (threads > 1 && context->step == NULL) {
        cpu_context_destroy(context);
        return NULL;
    }
    return context;
}

void cpu_context_destroy(cpu_context *context) {
    if (context->step != NULL) recorded_step_destroy(context->step);
    worker_pool_destroy(context->pool);
    for (int use = 0; use < SCRATCH_COUNT; use++) {
        if (context->scratch[use].address != NULL) {
            cpu_unmap(context->scratch[use].address, context->scratch[use].bytes);
        }
    }
    free(context);
}

void *cpu_map(uint64_t bytes, bool huge) {
    void *address = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0);
    if (address == MAP_FAILED) return NULL;
#if defined(MADV_HUGEPAGE)
    // Advice only: without large pages the same memory is slower, not wrong.
    if (huge) (void)madvise(address, bytes, MADV_HUGEPAGE);
#else
    (void)huge;
#endif
    return address;
}

void cpu_unmap(void *address, uint64_t bytes) {
    (void)munmap(address, bytes);
}

void *scratch(cpu_context *context, scratch_use use, uint64_t bytes) {
    scratch_area *area = &context->scratch[use];
    if (area->bytes >= bytes && area->address != NULL) return area->address;
    // Room to spare, so that a batch that grows by one row does not map again.
    uint64_t rounded = (bytes + bytes / 2 + 65535) / 65536 * 65536;
    void *address = cpu_map(rounded, false);
    if (address == NULL) return NULL;
    if (area->address != NULL) cpu_unmap(area->address, area->bytes);
    *area = (scratch_area){ address, rounded };
    return address;
}
