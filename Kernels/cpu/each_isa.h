// Includes the file named by FAMILY once for every instruction set, with ISA defined. Private.
//
// A kernel is thereby written once. `vectors.h` supplies the few primitives that differ:
//   ISA           suffix of the functions' names
//   ISA_ROWS      rows interleaved in a weight's row group
//   ISA_DOT       how u8 × s8 products are summed (DOT_PAIRS: 16-bit pairs; DOT_QUADS: 32-bit quads, as VNNI does)
//   ISA_FMA       whether multiply-add rounds once
//   ISA_NATIVE    whether intrinsics may be used
//   ISA_BF16      whether pairs of bf16 are multiplied by one instruction; a family asks for that instruction set by
//                 defining FAMILY_HAS_BF16, the others' AVX-512 kernels serve it too

#define DOT_PAIRS 1
#define DOT_QUADS 2

#define ISA portable
#define ISA_ROWS 8
#define ISA_DOT DOT_PAIRS
#if defined(__aarch64__)
#define ISA_FMA 1
#else
#define ISA_FMA 0
#endif
#define ISA_NATIVE 0
#define ISA_BF16 0
#include "vectors.h"
#include FAMILY
#undef ISA
#undef ISA_ROWS
#undef ISA_DOT
#undef ISA_FMA
#undef ISA_NATIVE
#undef ISA_BF16

#if defined(__x86_64__)

#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)

#define ISA avx512_emulated
#define ISA_ROWS 16
#define ISA_DOT DOT_QUADS
#define ISA_FMA 1
#define ISA_NATIVE 0
#define ISA_BF16 0
#include "vectors.h"
#include FAMILY
#undef ISA
#undef ISA_ROWS
#undef ISA_DOT
#undef ISA_FMA
#undef ISA_NATIVE
#undef ISA_BF16

#define ISA avx2
#define ISA_ROWS 8
#define ISA_DOT DOT_PAIRS
#define ISA_FMA 1
#define ISA_NATIVE 1
#define ISA_BF16 0
#include "vectors.h"
#include FAMILY
#undef ISA
#undef ISA_ROWS
#undef ISA_DOT
#undef ISA_FMA
#undef ISA_NATIVE
#undef ISA_BF16

#pragma clang attribute pop
#pragma clang attribute push( \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c"))), apply_to = function)

#define ISA avx512
#define ISA_ROWS 16
#define ISA_DOT DOT_QUADS
#define ISA_FMA 1
#define ISA_NATIVE 1
#define ISA_BF16 0
#include "vectors.h"
#include FAMILY
#undef ISA
#undef ISA_ROWS
#undef ISA_DOT
#undef ISA_FMA
#undef ISA_NATIVE
#undef ISA_BF16

#pragma clang attribute pop

#ifdef FAMILY_HAS_BF16
#pragma clang attribute push( \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,avx2,fma,f16c"))), \
    apply_to = function)

#define ISA avx512_bf16
#define ISA_ROWS 16
#define ISA_DOT DOT_QUADS
#define ISA_FMA 1
#define ISA_NATIVE 1
#define ISA_BF16 1
#include "vectors.h"
#include FAMILY
#undef ISA
#undef ISA_ROWS
#undef ISA_DOT
#undef ISA_FMA
#undef ISA_NATIVE
#undef ISA_BF16

#pragma clang attribute pop
#endif

#else

// Other architectures: the 16-row layout runs over the same plain vector code; AVX is never available.
#define ISA avx512_emulated
#define ISA_ROWS 16
#define ISA_DOT DOT_QUADS
#if defined(__aarch64__)
#define ISA_FMA 1
#else
#define ISA_FMA 0
#endif
#define ISA_NATIVE 0
#define ISA_BF16 0
#include "vectors.h"
#include FAMILY
#undef ISA
#undef ISA_ROWS
#undef ISA_DOT
#undef ISA_FMA
#undef ISA_NATIVE
#undef ISA_BF16

#endif

// The functions of one kernel for every instruction set, indexed by CPU_*.
#if defined(__x86_64__)
#define EACH_ISA(name) { name##_portable, name##_avx512_emulated, name##_avx2, name##_avx512, name##_avx512 }
#define EACH_ISA_BF16(name) { name##_portable, name##_avx512_emulated, name##_avx2, name##_avx512, name##_avx512_bf16 }
#else
#define EACH_ISA(name) { name##_portable, name##_avx512_emulated, NULL, NULL, NULL }
#define EACH_ISA_BF16(name) EACH_ISA(name)
#endif
