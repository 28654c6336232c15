// What the CUDA kernels are written with: each instruction that C++ has no word for, once, with two bodies side by
// side. nvcc takes the first, PTX or an intrinsic. A C++ compiler takes the second, which the emulator of the tests
// (`Tests/CUDAEmulator`) completes, so that the same kernel source runs and is checked without a GPU. Where arithmetic
// is concerned both bodies round alike, bit for bit, except `exp2_approx` and the order of additions inside `mma_bf16`.
//
// bf16 and f16 values are their 16 bits; two of them in 32 bits have the first in the low half.

#ifndef APUS_DEVICE_CUH
#define APUS_DEVICE_CUH

#include "include/CUDAKernels.h"

#include <stdint.h>

#ifdef __CUDACC__

#define APUS_DEVICE __device__ __forceinline__

/// Lets the blocks of the next kernel come once all of this one's have called this or ended.
APUS_DEVICE void release_dependents() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;");
#endif
}

/// Returns when the kernels in front of this one are done and what they wrote can be seen. Without the attribute that
/// lets kernels overlap, at once.
APUS_DEVICE void wait_for_dependencies() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/// Defines the kernel `apus_name`; its body follows and reads the arguments from `a`. `threads` is the most a block may
/// have, `blocks` how many must fit on a multiprocessor. It lets the next kernel's blocks come as soon as its own are
/// all there, and touches nothing before the kernels in front of it are done.
#define APUS_KERNEL(name, Arguments, threads, blocks) \
    static APUS_DEVICE void apus_body_##name(const Arguments &a); \
    extern "C" __global__ void __launch_bounds__(threads, blocks) apus_##name(const __grid_constant__ Arguments a) { \
        release_dependents(); \
        wait_for_dependencies(); \
        apus_body_##name(a); \
    } \
    static APUS_DEVICE void apus_body_##name(const Arguments &a)

/// Declares `name`, a pointer to the block's dynamic shared memory, aligned to 1024 bytes.
#define DYNAMIC_SHARED(T, name) \
    extern __shared__ __align__(1024) unsigned char apus_dynamic_shared[]; \
    T *const name = reinterpret_cast<T *>(apus_dynamic_shared)

#else

#include <math.h>
#include <stddef.h>
#include <string.h>

// MARK: What nvcc declares by itself

#define __device__
#define __host__
#define __global__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __align__(bytes) __attribute__((aligned(bytes)))
/// One block runs at a time, so a block's variables may be static. Their own section is how the emulator finds them.
#define __shared__ static __attribute__((section("apus_shared")))
#define __constant__ static const

struct alignas(8) uint2 {
    uint32_t x, y;
};
struct alignas(16) uint4 {
    uint32_t x, y, z, w;
};
struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
static inline uint2 make_uint2(uint32_t x, uint32_t y) { return {x, y}; }
static inline uint4 make_uint4(uint32_t x, uint32_t y, uint32_t z, uint32_t w) { return {x, y, z, w}; }
static inline float2 make_float2(float x, float y) { return {x, y}; }
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

static inline uint32_t __float_as_uint(float value) { return __builtin_bit_cast(uint32_t, value); }
static inline float __uint_as_float(uint32_t bits) { return __builtin_bit_cast(float, bits); }
static inline int32_t __float_as_int(float value) { return __builtin_bit_cast(int32_t, value); }
static inline float __int_as_float(int32_t bits) { return __builtin_bit_cast(float, bits); }
static inline int __popc(uint32_t value) { return __builtin_popcount(value); }
static inline int __clz(int32_t value) { return value == 0 ? 32 : __builtin_clz(static_cast<uint32_t>(value)); }
static inline int __ffs(int32_t value) { return __builtin_ffs(value); }
/// Byte i of the result is the byte of y:x that the i-th nibble of the selector names.
static inline uint32_t __byte_perm(uint32_t x, uint32_t y, uint32_t selector) {
    const uint64_t bytes = x | static_cast<uint64_t>(y) << 32;
    uint32_t result = 0;
    for (uint32_t i = 0; i < 32; i += 8) {
        result |= static_cast<uint32_t>(bytes >> 8 * (selector >> i / 2 & 7) & 0xFF) << i;
    }
    return result;
}
template <class T> static inline T min(T a, T b) { return b < a ? b : a; }
template <class T> static inline T max(T a, T b) { return a < b ? b : a; }
/// Threads change places only where they wait for one another, so that any access is atomic.
template <class T> static inline T atomicAdd(T *address, T value) {
    const T old = *address;
    *address = old + value;
    return old;
}
template <class T> static inline T atomicOr(T *address, T value) {
    const T old = *address;
    *address = old | value;
    return old;
}
template <class T> static inline T atomicMax(T *address, T value) {
    const T old = *address;
    *address = max(old, value);
    return old;
}

// MARK: The emulator's side

struct emulated_index {
    uint32_t x, y, z;
};
/// Of the thread that runs now.
extern emulated_index threadIdx, blockIdx, blockDim, gridDim;

namespace emulator {

/// One per kernel, static: enters it into the list that launches look into.
struct kernel {
    const char *name;
    uint32_t max_threads;
    size_t argument_bytes;
    void (*body)(const void *arguments);
    /// Blocks that run together, 1 or 2.
    uint32_t together;
    const kernel *next;

    kernel(
        const char *name, uint32_t max_threads, size_t argument_bytes, void (*body)(const void *), uint32_t together = 1);
};

/// The block's dynamic shared memory.
extern unsigned char *dynamic_shared;

// Each returns in a lane once all lanes of its warp (threads of its block) have called it.
void block_sync();
void warp_sync();
void mma(float *d, const uint32_t *a, const uint32_t *b);
uint32_t transpose(uint32_t value);
uint64_t shuffle(uint64_t value, uint32_t source);
uint32_t votes(bool value);
float sum(float value);
float maximum(float value);

// Performed by the `copy_wait` that covers them, not before.
void copy(void *shared, const void *global, bool valid);
void copy_commit();
void copy_wait(uint32_t newest_groups);

/// Notes that this thread has waited for the kernels in front.
void wait_for_dependencies();

/// Ends the launch, as an access at such an address does on a device.
[[noreturn]] void misaligned(const void *address, uint32_t bytes);

/// a · b + c with one rounding, for operands whose sum does not fit a float exactly.
uint16_t bf16_fma(float a, float b, float c);

}  // namespace emulator

#define APUS_DEVICE __forceinline__

#define APUS_KERNEL(name, Arguments, threads, blocks) \
    static void apus_##name(const Arguments &a); \
    [[maybe_unused]] static const emulator::kernel apus_entry_##name( \
        "apus_" #name, threads, sizeof(Arguments), \
        [](const void *arguments) { \
            emulator::wait_for_dependencies(); \
            apus_##name(*static_cast<const Arguments *>(arguments)); \
        }); \
    static void apus_##name([[maybe_unused]] const Arguments &a)

#define DYNAMIC_SHARED(T, name) T *const name = reinterpret_cast<T *>(emulator::dynamic_shared)

#endif

// MARK: Addresses and places

/// The element at `offset` of the array at a device address.
template <class T> APUS_DEVICE T *at(cuda_address address, int64_t offset = 0) {
    return reinterpret_cast<T *>(address) + offset;
}

/// Blocks have one dimension.
APUS_DEVICE int lane_index() { return static_cast<int>(threadIdx.x & 31); }
APUS_DEVICE int warp_index() { return static_cast<int>(threadIdx.x >> 5); }

/// The value, of which the compiler does not know that it is the same as before: what follows from it is computed again
/// instead of held in registers.
APUS_DEVICE int recomputed(int value) {
#ifdef __CUDACC__
    asm volatile("" : "+r"(value));
#endif
    return value;
}

// MARK: Numbers

APUS_DEVICE float bf16_to_float(uint16_t value) { return __uint_as_float(static_cast<uint32_t>(value) << 16); }

/// The halves of a pair.
APUS_DEVICE float bf16_low(uint32_t pair) { return __uint_as_float(pair << 16); }
APUS_DEVICE float bf16_high(uint32_t pair) { return __uint_as_float(pair & 0xFFFF0000u); }

/// Both round to nearest even; every NaN becomes 0x7FFF. (The instruction for a single value is the slower one.)
APUS_DEVICE uint32_t pack_bf16(float low, float high);
APUS_DEVICE uint16_t float_to_bf16(float value) {
#ifdef __CUDACC__
    return static_cast<uint16_t>(pack_bf16(value, 0));
#else
    const uint32_t bits = __float_as_uint(value);
    const uint32_t rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16;
    return static_cast<uint16_t>((bits & 0x7FFFFFFF) > 0x7F800000 ? 0x7FFF : rounded);
#endif
}

APUS_DEVICE uint32_t pack_bf16(float low, float high) {
#ifdef __CUDACC__
    uint32_t result;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(result) : "f"(high), "f"(low));
    return result;
#else
    return float_to_bf16(low) | static_cast<uint32_t>(float_to_bf16(high)) << 16;
#endif
}

APUS_DEVICE float half_to_float(uint16_t value) {
#ifdef __CUDACC__
    float result;
    asm("cvt.f32.f16 %0, %1;" : "=f"(result) : "h"(value));
    return result;
#else
    const uint32_t magnitude = value & 0x7FFF;
    const float scaled = __uint_as_float(magnitude << 13) * 0x1p112f;
    const uint32_t bits =
        magnitude > 0x7C00 ? 0x7FFFFFFF : magnitude == 0x7C00 ? 0x7F800000 : __float_as_uint(scaled);
    return __uint_as_float(bits | (magnitude > 0x7C00 ? 0 : (value & 0x8000u) << 16));
#endif
}

/// a · b + c of both halves, rounded once.
APUS_DEVICE uint32_t bf16x2_fma(uint32_t a, uint32_t b, uint32_t c) {
#ifdef __CUDACC__
    uint32_t result;
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(result) : "r"(a), "r"(b), "r"(c));
    return result;
#else
    uint32_t result = 0;
    for (uint32_t shift = 0; shift < 32; shift += 16) {
        const float x = bf16_low(a >> shift), y = bf16_low(b >> shift), z = bf16_low(c >> shift);
        // A product of two bf16 fits a float. If the sum does too (the error of Knuth's two-sum is 0), one rounding
        // remains.
        const float product = x * y, sum = product + z, part = sum - product;
        const float error = (product - (sum - part)) + (z - part);
        const bool is_exact = error == 0 && (fabsf(product) > 0x1p-100f || x == 0 || y == 0);
        const uint32_t half = is_exact ? float_to_bf16(sum) : emulator::bf16_fma(x, y, z);
        result |= half << shift;
    }
    return result;
#endif
}

/// a − b of both halves, rounded once. (An instruction of its own exists only since compute capability 9.0.)
APUS_DEVICE uint32_t bf16x2_sub(uint32_t a, uint32_t b) {
    const uint32_t minus_one = 0xBF80BF80;
    return bf16x2_fma(b, minus_one, a);
}

/// 2^x within 2 ulp, subnormal results flushed to 0. 2^−∞ is 0.
APUS_DEVICE float exp2_approx(float x) {
#ifdef __CUDACC__
    float result;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
    return result;
#else
    const float result = exp2f(x);
    return result < 0x1p-126f ? 0 : result;
#endif
}

// MARK: Memory

/// `address` as that of a T, which has to be a multiple of T's size.
template <class T> APUS_DEVICE T *aligned(const void *address) {
#ifndef __CUDACC__
    if (reinterpret_cast<uintptr_t>(address) % sizeof(T) != 0) emulator::misaligned(address, sizeof(T));
#endif
    return static_cast<T *>(const_cast<void *>(address));
}

APUS_DEVICE uint4 load_16(const void *address) { return *aligned<const uint4>(address); }
APUS_DEVICE uint2 load_8(const void *address) { return *aligned<const uint2>(address); }
APUS_DEVICE void store_16(void *address, uint4 value) { *aligned<uint4>(address) = value; }

/// 16 bytes of global memory that nothing writes while the kernel runs and nobody reads again soon: they leave no trace
/// in L1 and are the first to go from L2.
APUS_DEVICE uint4 load_streaming_16(const void *address) {
#ifdef __CUDACC__
    uint64_t policy;
    asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
    uint4 result;
    asm("ld.global.nc.L1::no_allocate.L2::cache_hint.v4.u32 {%0, %1, %2, %3}, [%4], %5;"
        : "=r"(result.x), "=r"(result.y), "=r"(result.z), "=r"(result.w)
        : "l"(__cvta_generic_to_global(address)), "l"(policy));
    return result;
#else
    return load_16(address);
#endif
}

/// 8 bytes of the same, of a line of 128 whose rest is asked for next: all of it comes from memory at once.
APUS_DEVICE uint2 load_streaming_8(const void *address) {
#ifdef __CUDACC__
    uint64_t policy;
    asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
    uint2 result;
    asm("ld.global.nc.L1::no_allocate.L2::cache_hint.L2::128B.v2.u32 {%0, %1}, [%2], %3;"
        : "=r"(result.x), "=r"(result.y)
        : "l"(__cvta_generic_to_global(address)), "l"(policy));
    return result;
#else
    return load_8(address);
#endif
}

/// Orders what this thread wrote before what it does next, for the whole device.
APUS_DEVICE void device_fence() {
#ifdef __CUDACC__
    __threadfence();
#endif
}

/// 16 bytes that another block may have written: past the first-level cache.
APUS_DEVICE uint4 load_coherent_16(const void *address) {
#ifdef __CUDACC__
    uint4 result;
    asm volatile("ld.global.cg.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(result.x), "=r"(result.y), "=r"(result.z), "=r"(result.w)
                 : "l"(__cvta_generic_to_global(address))
                 : "memory");
    return result;
#else
    return load_16(address);
#endif
}

/// Starts copying 16 bytes from global to shared memory, or 16 zeros when not `valid`; `global` is then not read. The
/// bytes are there, for this thread, after a `copy_async_wait` that covers the group the copy was committed in.
APUS_DEVICE void copy_async_16(void *shared, const void *global, bool valid) {
#ifdef __CUDACC__
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(
                     static_cast<uint32_t>(__cvta_generic_to_shared(shared))),
                 "l"(__cvta_generic_to_global(global)), "r"(valid ? 16 : 0)
                 : "memory");
#else
    emulator::copy(shared, global, valid);
#endif
}

/// Makes a group, possibly empty, of the copies started since the last.
APUS_DEVICE void copy_async_commit() {
#ifdef __CUDACC__
    asm volatile("cp.async.commit_group;" ::: "memory");
#else
    emulator::copy_commit();
#endif
}

/// Waits for all groups of this thread but the newest `newest_groups`.
template <int newest_groups> APUS_DEVICE void copy_async_wait() {
#ifdef __CUDACC__
    asm volatile("cp.async.wait_group %0;" ::"n"(newest_groups) : "memory");
#else
    emulator::copy_wait(newest_groups);
#endif
}

// MARK: Blocks and warps: every lane of the warp has to call these, with whichever values

APUS_DEVICE void block_sync() {
#ifdef __CUDACC__
    __syncthreads();
#else
    emulator::block_sync();
#endif
}

APUS_DEVICE void warp_sync() {
#ifdef __CUDACC__
    __syncwarp();
#else
    emulator::warp_sync();
#endif
}

/// The value of lane `source` mod 32. T has 4 or 8 bytes.
template <class T> APUS_DEVICE T shuffle(T value, int source) {
#ifdef __CUDACC__
    return __shfl_sync(0xFFFFFFFFu, value, source);
#else
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof(T));
    bits = emulator::shuffle(bits, static_cast<uint32_t>(source) & 31);
    memcpy(&value, &bits, sizeof(T));
    return value;
#endif
}

/// The value of the lane whose index differs in the bits of `mask`.
template <class T> APUS_DEVICE T shuffle_xor(T value, int mask) {
#ifdef __CUDACC__
    return __shfl_xor_sync(0xFFFFFFFFu, value, mask);
#else
    return shuffle(value, lane_index() ^ mask);
#endif
}

/// Bit l is lane l's value.
APUS_DEVICE uint32_t warp_ballot(bool value) {
#ifdef __CUDACC__
    return __ballot_sync(0xFFFFFFFFu, value);
#else
    return emulator::votes(value);
#endif
}

/// (nvcc has a `ballot` in the global namespace, which no device in use supports.)
#define ballot warp_ballot

/// The sum over the warp, the same bits in every lane: lanes 16 apart are added first, neighbours last.
APUS_DEVICE float warp_sum(float value) {
#ifdef __CUDACC__
#pragma unroll
    for (int mask = 16; mask > 0; mask /= 2) value += shuffle_xor(value, mask);
    return value;
#else
    return emulator::sum(value);
#endif
}

APUS_DEVICE float warp_max(float value) {
#ifdef __CUDACC__
#pragma unroll
    for (int mask = 16; mask > 0; mask /= 2) value = fmaxf(value, shuffle_xor(value, mask));
    return value;
#else
    return emulator::maximum(value);
#endif
}

/// d += a · b, with a 16 × 16, b 16 × 8 and d 16 × 8, products and sums in f32. Lane 4g + t holds
///   a: (g; 2t, 2t+1), (g+8; 2t, 2t+1), (g; 2t+8, 2t+9), (g+8; 2t+8, 2t+9) of (row; columns),
///   b: (2t, 2t+1; g), (2t+8, 2t+9; g) of (rows; column),   d: (g; 2t), (g; 2t+1), (g+8; 2t), (g+8; 2t+1).
APUS_DEVICE void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#ifdef __CUDACC__
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    emulator::mma(d, a, b);
#endif
}

/// Transposes an 8 × 8 matrix of 16-bit values, of which lane 4g + t holds (g; 2t, 2t+1), before and after.
APUS_DEVICE uint32_t transpose_8x8(uint32_t value) {
#ifdef __CUDACC__
    uint32_t result;
    asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(result) : "r"(value));
    return result;
#else
    return emulator::transpose(value);
#endif
}

#endif
