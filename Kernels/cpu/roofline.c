// Math:    what this machine can do at most: bytes read and sums of products per second, with nothing else to do.
// Shapes:  memory [bytes]; products of registers, as many accumulators as hide an instruction's latency.
// Launch:  every thread reads its own part of the memory, in four streams; or multiplies operands from its first cache.
// Bound:   by what it measures.
// Checked: CPULimitTests
// Source:  Williams, Waterman & Patterson, "Roofline: an insightful visual performance model" (2009)

#ifndef ISA

#include "kernels.h"

#define ROOFLINE_STREAMS 4
#define ROOFLINE_STEP 256

typedef struct {
    const uint8_t *data;
    uint64_t bytes;
    int product;
    int64_t rounds;
    /// Of all threads; the sums only keep the compiler from leaving the work out.
    _Atomic int64_t operations;
    _Atomic uint32_t sums;
} roofline_arguments;

#define FAMILY "roofline.c"
#define FAMILY_HAS_BF16
#include "each_isa.h"

static const worker_task read_tasks[CPU_ISA_COUNT] = EACH_ISA_BF16(read_task);
static const worker_task multiply_tasks[CPU_ISA_COUNT] = EACH_ISA_BF16(multiply_task);

void cpu_read_memory(cpu_context *context, const void *data, uint64_t bytes, int64_t rounds) {
    roofline_arguments arguments = { .data = data, .bytes = bytes, .rounds = rounds };
    run_on_all(context, read_tasks[context->isa], &arguments);
}

int64_t cpu_multiply(cpu_context *context, int product, int64_t rounds) {
    roofline_arguments arguments = { .product = product, .rounds = rounds };
    run_on_all(context, multiply_tasks[context->isa], &arguments);
    return atomic_load(&arguments.operations);
}

#else

#define roofline_read NAME(roofline_read)
#define roofline_int8 NAME(roofline_int8)
#define roofline_bf16 NAME(roofline_bf16)
#define roofline_f32 NAME(roofline_f32)
#define ROOFLINE_WEIGHTS 2
// As many as registers hold with their sums; wide types are several where the instruction set is not native.
#undef ROOFLINE_INPUTS
#if ISA_NATIVE && ISA_ROWS == 16
#define ROOFLINE_INPUTS 6
#elif ISA_NATIVE
#define ROOFLINE_INPUTS 5
#else
#define ROOFLINE_INPUTS 2
#endif

/// The sum of `steps` steps of each of the streams, which lie `distance` bytes apart.
INLINE uint32_t roofline_read(const uint8_t *data, int64_t steps, int64_t distance) {
    u32x16 sums[ROOFLINE_STREAMS] = { 0 };
    for (int64_t step = 0; step < steps; step++) {
        UNROLL for (int stream = 0; stream < ROOFLINE_STREAMS; stream++) {
            const uint8_t *source = data + stream * distance + step * ROOFLINE_STEP;
            UNROLL for (int part = 0; part < ROOFLINE_STEP; part += 64) {
                sums[stream] += *(const u32x16 *)(source + part);
            }
        }
    }
    u32x16 sum = sums[0];
    for (int stream = 1; stream < ROOFLINE_STREAMS; stream++) sum += sums[stream];
    uint32_t result = 0;
    for (int lane = 0; lane < 16; lane++) result += sum[lane];
    return result;
}

static void NAME(read_task)(void *arguments, const team *team, int worker) {
    roofline_arguments *a = arguments;
    int64_t begin, end;
    static_share((int64_t)(a->bytes / (ROOFLINE_STEP * ROOFLINE_STREAMS)), worker, team->count, &begin, &end);
    for (int64_t round = 0; round < a->rounds; round++) {
        uint32_t sum = roofline_read(
            a->data + begin * ROOFLINE_STEP * ROOFLINE_STREAMS, end - begin, (end - begin) * ROOFLINE_STEP);
        atomic_fetch_add_explicit(&a->sums, sum, memory_order_relaxed);
    }
}

/// The operands come from memory in every round, so that no product is known beforehand; pairs of 8-bit products
/// cancel, so that 16-bit sums do not overflow.
INLINE int64_t roofline_int8(int64_t rounds, roofline_arguments *a) {
    int8_t bytes[64];
    for (int i = 0; i < 64; i++) bytes[i] = i & 1 ? 1 : -1;
    rows_u8 weights[ROOFLINE_WEIGHTS];
    for (int w = 0; w < ROOFLINE_WEIGHTS; w++) weights[w] = (rows_u8)(uint8_t)(w + 1);
    rows_dot sums[ROOFLINE_WEIGHTS][ROOFLINE_INPUTS] = { 0 };
    for (int64_t round = 0; round < rounds; round++) {
        __asm__ volatile("" : : "r"(bytes), "r"(weights) : "memory");
        UNROLL for (int w = 0; w < ROOFLINE_WEIGHTS; w++) {
            UNROLL for (int i = 0; i < ROOFLINE_INPUTS; i++) {
                sums[w][i] = dot_step(sums[w][i], weights[w], splat_word(bytes + 4 * i));
            }
        }
    }
    rows_dot total = sums[0][0];
    for (int w = 0; w < ROOFLINE_WEIGHTS; w++) {
        for (int i = 0; i < ROOFLINE_INPUTS; i++) total ^= sums[w][i];
    }
    atomic_fetch_add_explicit(&a->sums, (uint32_t)total[0], memory_order_relaxed);
    return rounds * ROOFLINE_WEIGHTS * ROOFLINE_INPUTS * ISA_ROWS * 4 * 2;
}

INLINE int64_t roofline_f32(int64_t rounds, roofline_arguments *a) {
    float inputs[ROOFLINE_INPUTS];
    for (int i = 0; i < ROOFLINE_INPUTS; i++) inputs[i] = 0.5f + (float)i;
    rows_f32 weights[ROOFLINE_WEIGHTS] = { 1.0f, -1.0f };
    rows_f32 sums[ROOFLINE_WEIGHTS][ROOFLINE_INPUTS] = { 0 };
    for (int64_t round = 0; round < rounds; round++) {
        __asm__ volatile("" : : "r"(inputs), "r"(weights) : "memory");
        UNROLL for (int w = 0; w < ROOFLINE_WEIGHTS; w++) {
            UNROLL for (int i = 0; i < ROOFLINE_INPUTS; i++) {
                sums[w][i] = fma_rows(weights[w], (rows_f32)inputs[i], sums[w][i]);
            }
        }
    }
    rows_f32 total = 0.0f;
    for (int w = 0; w < ROOFLINE_WEIGHTS; w++) {
        for (int i = 0; i < ROOFLINE_INPUTS; i++) total += sums[w][i];
    }
    atomic_fetch_add_explicit(&a->sums, total[0] > 0, memory_order_relaxed);
    return rounds * ROOFLINE_WEIGHTS * ROOFLINE_INPUTS * ISA_ROWS * 2;
}

#if ISA_BF16
INLINE int64_t roofline_bf16(int64_t rounds, roofline_arguments *a) {
    int32_t inputs[ROOFLINE_INPUTS];
    // Pairs of bf16: 1 and 1.
    for (int i = 0; i < ROOFLINE_INPUTS; i++) inputs[i] = 0x3F803F80;
    s32x16 weights[ROOFLINE_WEIGHTS] = { 0x3F803F80, 0x3F80BF80 };
    f32x16 sums[ROOFLINE_WEIGHTS][ROOFLINE_INPUTS] = { 0 };
    for (int64_t round = 0; round < rounds; round++) {
        __asm__ volatile("" : : "r"(inputs), "r"(weights) : "memory");
        UNROLL for (int w = 0; w < ROOFLINE_WEIGHTS; w++) {
            UNROLL for (int i = 0; i < ROOFLINE_INPUTS; i++) {
                sums[w][i] = (f32x16)_mm512_dpbf16_ps(
                    (__m512)sums[w][i], (__m512bh)weights[w], (__m512bh)(s32x16)inputs[i]);
            }
        }
    }
    f32x16 total = 0.0f;
    for (int w = 0; w < ROOFLINE_WEIGHTS; w++) {
        for (int i = 0; i < ROOFLINE_INPUTS; i++) total += sums[w][i];
    }
    atomic_fetch_add_explicit(&a->sums, total[0] > 0, memory_order_relaxed);
    return rounds * ROOFLINE_WEIGHTS * ROOFLINE_INPUTS * 16 * 2 * 2;
}
#endif

static void NAME(multiply_task)(void *arguments, const team *team, int worker) {
    (void)team;
    (void)worker;
    roofline_arguments *a = arguments;
    int64_t operations = 0;
    switch (a->product) {
    case CPU_PRODUCT_INT8:
        operations = roofline_int8(a->rounds, a);
        break;
    case CPU_PRODUCT_F32:
        operations = roofline_f32(a->rounds, a);
        break;
#if ISA_BF16
    case CPU_PRODUCT_BF16:
        operations = roofline_bf16(a->rounds, a);
        break;
#endif
    }
    atomic_fetch_add_explicit(&a->operations, operations, memory_order_relaxed);
}

#endif
