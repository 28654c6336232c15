// The words that only compute capability 9.0 has: barriers in shared memory that count bytes, copies that complete on
// them, and products of a warpgroup whose operands lie in shared memory. As in device.cuh each has two bodies: PTX, and a
// call of the emulator, which performs what is asynchronous as late as it may and leaves NaN where nothing has arrived.

#ifndef APUS_HOPPER_CUH
#define APUS_HOPPER_CUH

#include "device.cuh"
#include "tiles.h"

#ifdef __CUDACC__

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#define APUS_IS_HOPPER 1
#endif

/// A kernel for compute capability 9.0 alone, whose body is the call `body(a)`. Elsewhere the fatbin has a kernel of the
/// name that ends at once: no launch function chooses it there. It waits for the kernels in front itself.
#ifdef APUS_IS_HOPPER
#define APUS_HOPPER_KERNEL(name, Arguments, threads, blocks, body) \
    extern "C" __global__ void __launch_bounds__(threads, blocks) apus_##name(const __grid_constant__ Arguments a) { \
        body(a); \
    }
#else
#define APUS_HOPPER_KERNEL(name, Arguments, threads, blocks, body) \
    extern "C" __global__ void apus_##name(const __grid_constant__ Arguments a) { asm volatile("trap;"); }
#endif

/// The same of a kernel whose blocks come in pairs, 2n and 2n + 1, on neighbouring multiprocessors: each can write the
/// other's shared memory. A grid has an even number of them.
#ifdef APUS_IS_HOPPER
#define APUS_HOPPER_PAIR_KERNEL(name, Arguments, threads, blocks, body) \
    extern "C" __global__ void __cluster_dims__(2, 1, 1) __launch_bounds__(threads, blocks) \
        apus_##name(const __grid_constant__ Arguments a) { \
        body(a); \
    }
#else
#define APUS_HOPPER_PAIR_KERNEL(name, Arguments, threads, blocks, body) \
    APUS_HOPPER_KERNEL(name, Arguments, threads, blocks, body)
#endif

#else

namespace emulator {

void barrier_init(uint64_t *barrier, uint32_t arrivals);
void barrier_arrive(uint64_t *barrier, uint32_t bytes);
void barrier_wait(const uint64_t *barrier, uint32_t parity, const char *name);
void named_barrier(uint32_t barrier, uint32_t threads);
void named_barrier_arrive(uint32_t barrier, uint32_t threads);
void copy_bytes(void *shared, const void *global, uint32_t bytes, uint64_t *barrier);
void copy_box(void *shared, const void *map, int32_t column, int32_t row, uint64_t *barrier);
void pair_sync();
void barrier_arrive_in(uint64_t *barrier, uint32_t rank);
void copy_box_to_pair(void *shared, const void *map, int32_t column, int32_t row, uint64_t *barrier);
uint32_t shared_address(const void *pointer);
void wgmma_fence();
void wgmma(float *d, int columns, uint64_t a, uint64_t b, bool adds);
void wgmma_e4m3(float *d, int columns, uint64_t a, uint64_t b, bool adds);
void wgmma_fragments(float *d, int columns, const uint32_t *a, uint64_t b, bool adds);
void wgmma_commit();
void wgmma_wait(uint32_t newest_groups);
void change_registers(uint32_t count);

}  // namespace emulator

#define APUS_HOPPER_KERNEL(name, Arguments, threads, blocks, body) \
    [[maybe_unused]] static const emulator::kernel apus_entry_##name( \
        "apus_" #name, threads, sizeof(Arguments), \
        [](const void *arguments) { body(*static_cast<const Arguments *>(arguments)); });
#define APUS_HOPPER_PAIR_KERNEL(name, Arguments, threads, blocks, body) \
    [[maybe_unused]] static const emulator::kernel apus_entry_##name( \
        "apus_" #name, threads, sizeof(Arguments), \
        [](const void *arguments) { body(*static_cast<const Arguments *>(arguments)); }, 2);

static inline void release_dependents() {}
static inline void wait_for_dependencies() { emulator::wait_for_dependencies(); }

#endif

// MARK: Barriers

/// The address of shared memory as instructions and descriptors take it.
APUS_DEVICE uint32_t shared_address(const void *pointer) {
#ifdef __CUDACC__
    return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
#else
    return emulator::shared_address(pointer);
#endif
}

/// Makes a barrier whose phases end after `arrivals` arrivals and the bytes that they announced.
APUS_DEVICE void barrier_init(uint64_t *barrier, uint32_t arrivals) {
#ifdef __CUDACC__
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals));
#else
    emulator::barrier_init(barrier, arrivals);
#endif
}

/// Shows new barriers to the copy engine; a `block_sync` then shows them to the other threads.
APUS_DEVICE void barrier_fence() {
#ifdef __CUDACC__
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}

/// Arrives, and announces bytes that copies will bring in this phase.
APUS_DEVICE void barrier_arrive(uint64_t *barrier, uint32_t bytes = 0) {
#ifdef __CUDACC__
    if (bytes == 0) {
        asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
    } else {
        asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)), "r"(bytes)
                     : "memory");
    }
#else
    emulator::barrier_arrive(barrier, bytes);
#endif
}

/// Clock ticks after which a wait is hopeless: several seconds.
#define APUS_HOPELESS (1ll << 34)

/// Returns once the phase of this parity (0, 1, 0, …) has ended. A wait that takes seconds says which one it was, in
/// host memory where there is an address for it, and ends the kernel: better than a device that hangs.
APUS_DEVICE void barrier_wait(
    const uint64_t *barrier, uint32_t parity, cuda_address stuck, uint32_t place, const char *name) {
#ifdef __CUDACC__
    const uint32_t address = shared_address(barrier);
    const int64_t start = clock64();
    while (true) {
        uint32_t is_over;
        asm volatile(
            "{\n.reg .pred p;\nmbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\nselp.u32 %0, 1, 0, p;\n}"
            : "=r"(is_over)
            : "r"(address), "r"(parity)
            : "memory");
        if (is_over != 0) return;
        if (clock64() - start < APUS_HOPELESS) continue;
        if (stuck != 0) {
            *at<volatile uint32_t>(stuck) = place;
            __threadfence_system();
        }
        asm volatile("trap;");
    }
#else
    (void)stuck, (void)place;
    emulator::barrier_wait(barrier, parity, name);
#endif
}

/// Waits for `threads` threads, whole warps, at one of the barriers 1…15; 0 is the block's own.
APUS_DEVICE void named_barrier(uint32_t barrier, uint32_t threads) {
#ifdef __CUDACC__
    asm volatile("bar.sync %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
#else
    emulator::named_barrier(barrier, threads);
#endif
}

/// Counts as one of them without waiting. Whoever waits there sees what was written before.
APUS_DEVICE void named_barrier_arrive(uint32_t barrier, uint32_t threads) {
#ifdef __CUDACC__
    asm volatile("bar.arrive %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
#else
    emulator::named_barrier_arrive(barrier, threads);
#endif
}

// MARK: Copies

/// Starts copying adjacent bytes, a multiple of 16, from global to shared memory; they count on the barrier. What nobody
/// reads again soon is the first to leave the second-level cache.
APUS_DEVICE void copy_bytes(
    void *shared, const void *global, uint32_t bytes, uint64_t *barrier, bool is_read_once = false) {
#ifdef __CUDACC__
    if (!is_read_once) {
        asm volatile(
            "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::
                "r"(shared_address(shared)),
            "l"(__cvta_generic_to_global(global)), "r"(bytes), "r"(shared_address(barrier))
            : "memory");
        return;
    }
    uint64_t policy;
    asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1], %2, [%3], %4;" ::
            "r"(shared_address(shared)),
        "l"(__cvta_generic_to_global(global)), "r"(bytes), "r"(shared_address(barrier)), "l"(policy)
        : "memory");
#else
    (void)is_read_once;
    emulator::copy_bytes(shared, global, bytes, barrier);
#endif
}

/// Starts copying the box of a matrix that begins at `column` and `row`, zeros beyond the matrix; all of the box's bytes
/// count on the barrier. `map` is a kernel's argument.
APUS_DEVICE void copy_box(
    void *shared, const cuda_tensor_map *map, int32_t column, int32_t row, uint64_t *barrier) {
#ifdef __CUDACC__
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];" ::
            "r"(shared_address(shared)),
        "l"(map), "r"(column), "r"(row), "r"(shared_address(barrier))
        : "memory");
#else
    emulator::copy_box(shared, map, column, row, barrier);
#endif
}

// MARK: Pairs of blocks

/// Waits for all threads of both blocks: once before either touches the other's shared memory, once after, for memory is
/// gone with its block. Nothing but new barriers, by `barrier_fence`, is shown to the other: that would wait for stores.
APUS_DEVICE void pair_sync() {
#if defined(APUS_IS_HOPPER)
    asm volatile("barrier.cluster.arrive.relaxed;\nbarrier.cluster.wait.acquire;" ::: "memory");
#elif !defined(__CUDACC__)
    emulator::pair_sync();
#endif
}

/// Arrives at the barrier that lies there in block `rank`, 0 or 1, of the pair. Products must be done with what is given
/// back; of what the thread has stored the other block learns nothing, or each arrival would wait for it.
APUS_DEVICE void barrier_arrive_in(uint64_t *barrier, uint32_t rank) {
#if defined(APUS_IS_HOPPER)
    asm volatile(
        "{\n.reg .b32 there;\nmapa.shared::cluster.u32 there, %0, %1;\n"
        "mbarrier.arrive.shared::cluster.b64 _, [there];\n}" ::"r"(shared_address(barrier)),
        "r"(rank)
        : "memory");
#elif !defined(__CUDACC__)
    emulator::barrier_arrive_in(barrier, rank);
#endif
}

/// As copy_box, to the same place of both blocks; in each the bytes count on the barrier at the same place.
APUS_DEVICE void copy_box_to_pair(
    void *shared, const cuda_tensor_map *map, int32_t column, int32_t row, uint64_t *barrier) {
#if defined(APUS_IS_HOPPER)
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster "
        "[%0], [%1, {%2, %3}], [%4], %5;" ::"r"(shared_address(shared)),
        "l"(map), "r"(column), "r"(row), "r"(shared_address(barrier)), "h"(static_cast<uint16_t>(3))
        : "memory");
#elif !defined(__CUDACC__)
    emulator::copy_box_to_pair(shared, map, column, row, barrier);
#endif
}

// MARK: Products of a warpgroup: all 128 threads of four warps, the first a multiple of four, have to call these

/// Orders the registers of sums before the products that follow.
APUS_DEVICE void wgmma_fence() {
#ifdef __CUDACC__
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#else
    emulator::wgmma_fence();
#endif
}

/// Makes a group of the products since the last.
APUS_DEVICE void wgmma_commit() {
#ifdef __CUDACC__
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
#else
    emulator::wgmma_commit();
#endif
}

/// Returns when all groups but the newest are done with their operands. `sums` may then be read if `newest` is 0.
template <int newest, int count> APUS_DEVICE void wgmma_wait(float (&sums)[count]) {
#ifdef __CUDACC__
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(newest) : "memory");
    // Nor may the compiler read sums earlier.
    if constexpr (newest == 0) {
#pragma unroll
        for (int i = 0; i < count; i++) asm volatile("" : "+f"(sums[i])::"memory");
    }
#else
    (void)sums;
    emulator::wgmma_wait(newest);
#endif
}

// Names of the registers that hold a thread's share of the sums.
#define REGISTERS_4 "%0, %1, %2, %3"
#define REGISTERS_8 REGISTERS_4 ", %4, %5, %6, %7"
#define REGISTERS_16 REGISTERS_8 ", %8, %9, %10, %11, %12, %13, %14, %15"
#define REGISTERS_32 REGISTERS_16 ", %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define REGISTERS_64 \
    REGISTERS_32 \
    ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47" \
    ", %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define REGISTERS_80 \
    REGISTERS_64 ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79"
#define REGISTERS_96 \
    REGISTERS_80 \
    ", %80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"
#define REGISTERS_112 \
    REGISTERS_96 ", %96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111"
#define REGISTERS_128 \
    REGISTERS_112 \
    ", %112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"

/// What the instruction is for so many columns and `k` of a type: `a` and `b` are descriptors, `adds` 0 overwrites the
/// sums. bf16 may be transposed, which 0, 0 does not.
#define WGMMA_BODY(columns, k, type, transposes, registers, a_name, b_name, adds_name) \
    "{\n.reg .pred p;\nsetp.ne.b32 p, " adds_name ", 0;\n" \
    "wgmma.mma_async.sync.aligned.m64n" #columns "k" #k ".f32." type "." type " {" registers "}, " a_name ", " b_name \
    ", p, 1, 1" transposes ";\n}"
#define SUMS_4(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define SUMS_16(i) SUMS_4(i), SUMS_4(i + 4), SUMS_4(i + 8), SUMS_4(i + 12)
#define SUMS_32(i) SUMS_16(i), SUMS_16(i + 16)

#ifdef APUS_IS_HOPPER
#define WGMMA(name, k, type, transposes, count, columns, registers, sums, a_name, b_name, adds_name) \
    APUS_DEVICE void name(float (&d)[count], uint64_t a, uint64_t b, bool adds) { \
        asm volatile(WGMMA_BODY(columns, k, type, transposes, registers, a_name, b_name, adds_name) \
                     : sums \
                     : "l"(a), "l"(b), "r"(static_cast<int>(adds))); \
    }
#elif !defined(__CUDACC__)
#define WGMMA(name, k, type, transposes, count, columns, registers, sums, a_name, b_name, adds_name) \
    APUS_DEVICE void name(float (&d)[count], uint64_t a, uint64_t b, bool adds) { \
        emulator::name(d, columns, a, b, adds); \
    }
#else
#define WGMMA(name, k, type, transposes, count, columns, registers, sums, a_name, b_name, adds_name) \
    APUS_DEVICE void name(float (&)[count], uint64_t, uint64_t, bool) {}
#endif
#define ALL(...) __VA_ARGS__

/// d (+)= a · bᵀ, with a 64 × 16 and b columns × 16, both in swizzled tiles, of which lane 4g + t of the group's warp w
/// holds, in d[4j…4j + 3], (16w + g; 8j + 2t), (…; 8j + 2t + 1), (16w + g + 8; 8j + 2t), (…; 8j + 2t + 1) of (row;
/// column). Asynchronous: sums are there after `wgmma_wait<0>`, operands must stay until a wait that covers them.
WGMMA(wgmma, 16, "bf16", ", 0, 0", 4, 8, REGISTERS_4, ALL(SUMS_4(0)), "%4", "%5", "%6")
WGMMA(wgmma, 16, "bf16", ", 0, 0", 8, 16, REGISTERS_8, ALL(SUMS_4(0), SUMS_4(4)), "%8", "%9", "%10")
WGMMA(wgmma, 16, "bf16", ", 0, 0", 16, 32, REGISTERS_16, ALL(SUMS_16(0)), "%16", "%17", "%18")
WGMMA(wgmma, 16, "bf16", ", 0, 0", 32, 64, REGISTERS_32, ALL(SUMS_32(0)), "%32", "%33", "%34")
WGMMA(wgmma, 16, "bf16", ", 0, 0", 64, 128, REGISTERS_64, ALL(SUMS_32(0), SUMS_32(32)), "%64", "%65", "%66")
WGMMA(wgmma, 16, "bf16", ", 0, 0", 80, 160, REGISTERS_80, ALL(SUMS_32(0), SUMS_32(32), SUMS_16(64)), "%80", "%81", "%82")
WGMMA(wgmma, 16, "bf16", ", 0, 0", 96, 192, REGISTERS_96, ALL(SUMS_32(0), SUMS_32(32), SUMS_32(64)), "%96", "%97", "%98")
WGMMA(
    wgmma, 16, "bf16", ", 0, 0", 112, 224, REGISTERS_112, ALL(SUMS_32(0), SUMS_32(32), SUMS_32(64), SUMS_16(96)), "%112",
    "%113", "%114")
WGMMA(
    wgmma, 16, "bf16", ", 0, 0", 128, 256, REGISTERS_128, ALL(SUMS_32(0), SUMS_32(32), SUMS_32(64), SUMS_32(96)), "%128",
    "%129", "%130")

/// The same of 8-bit floats, 64 × 32 and columns × 32. Hopper adds such products with some 14 bits, the sums so far
/// included: the longer a chain, the more is lost.
WGMMA(wgmma_e4m3, 32, "e4m3", "", 4, 8, REGISTERS_4, ALL(SUMS_4(0)), "%4", "%5", "%6")
WGMMA(wgmma_e4m3, 32, "e4m3", "", 8, 16, REGISTERS_8, ALL(SUMS_4(0), SUMS_4(4)), "%8", "%9", "%10")
WGMMA(wgmma_e4m3, 32, "e4m3", "", 16, 32, REGISTERS_16, ALL(SUMS_16(0)), "%16", "%17", "%18")
WGMMA(wgmma_e4m3, 32, "e4m3", "", 32, 64, REGISTERS_32, ALL(SUMS_32(0)), "%32", "%33", "%34")
WGMMA(wgmma_e4m3, 32, "e4m3", "", 64, 128, REGISTERS_64, ALL(SUMS_32(0), SUMS_32(32)), "%64", "%65", "%66")

#undef WGMMA
#undef WGMMA_BODY

/// d (+)= a · b, with a in registers, each warp's fragment of its 16 rows as of `mma_bf16`, and b, 16 × 64 or × 128, with
/// columns side by side (`swizzled_columns`). The fragments too must stay until the product is waited for.
#if defined(APUS_IS_HOPPER)
#define WGMMA_FRAGMENTS(count, columns, registers, sums, a_names, b_name, adds_name) \
    APUS_DEVICE void wgmma_fragments(float (&d)[count], const uint32_t (&a)[4], uint64_t b, bool adds) { \
        asm volatile( \
            "{\n.reg .pred p;\nsetp.ne.b32 p, " adds_name ", 0;\n" \
            "wgmma.mma_async.sync.aligned.m64n" #columns "k16.f32.bf16.bf16 {" registers "}, {" a_names "}, " b_name \
            ", p, 1, 1, 1;\n}" \
            : sums \
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(adds))); \
    }
#elif !defined(__CUDACC__)
#define WGMMA_FRAGMENTS(count, columns, registers, sums, a_names, b_name, adds_name) \
    APUS_DEVICE void wgmma_fragments(float (&d)[count], const uint32_t (&a)[4], uint64_t b, bool adds) { \
        emulator::wgmma_fragments(d, columns, a, b, adds); \
    }
#else
#define WGMMA_FRAGMENTS(count, columns, registers, sums, a_names, b_name, adds_name) \
    APUS_DEVICE void wgmma_fragments(float (&)[count], const uint32_t (&)[4], uint64_t, bool) {}
#endif
WGMMA_FRAGMENTS(32, 64, REGISTERS_32, ALL(SUMS_32(0)), "%32, %33, %34, %35", "%36", "%37")
WGMMA_FRAGMENTS(64, 128, REGISTERS_64, ALL(SUMS_32(0), SUMS_32(32)), "%64, %65, %66, %67", "%68", "%69")
#undef WGMMA_FRAGMENTS
#undef ALL

/// Shows what this thread has written to shared memory to the products and copies that read it later. A barrier has to
/// follow.
APUS_DEVICE void operand_fence() {
#ifdef APUS_IS_HOPPER
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}

/// Keeps the compiler from computing what follows from a value before this place, and holding it in registers until here.
APUS_DEVICE void compute_late(int &value) {
#ifdef APUS_IS_HOPPER
    asm volatile("" : "+r"(value));
#else
    (void)value;
#endif
}

/// Changes how many registers each thread of the calling warpgroup has, a multiple of 8: a group that only copies gives
/// most of its own to those that multiply.
template <int count> APUS_DEVICE void take_registers() {
    static_assert(count % 8 == 0 && count >= 24 && count <= 256, "what the instruction takes");
#if defined(APUS_IS_HOPPER)
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(count));
#elif !defined(__CUDACC__)
    emulator::change_registers(count);
#endif
}
template <int count> APUS_DEVICE void give_registers() {
    static_assert(count % 8 == 0 && count >= 24 && count <= 256, "what the instruction takes");
#if defined(APUS_IS_HOPPER)
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(count));
#elif !defined(__CUDACC__)
    emulator::change_registers(count);
#endif
}

#endif
