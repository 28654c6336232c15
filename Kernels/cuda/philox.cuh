// The counter-based random generator: a draw depends on its seed (the key) and its counter, on nothing drawn before, so
// that any thread can draw for any token. And from its words, exponential variates.

#ifndef APUS_PHILOX_CUH
#define APUS_PHILOX_CUH

#include "exponential.cuh"

/// Philox4x32-10 (Salmon et al., 2011).
APUS_DEVICE uint4 philox(uint4 counter, uint64_t key) {
    uint32_t key_low = static_cast<uint32_t>(key), key_high = static_cast<uint32_t>(key >> 32);
#pragma unroll
    for (int round = 0; round < 10; round++) {
        const uint64_t first = static_cast<uint64_t>(0xD2511F53u) * counter.x;
        const uint64_t second = static_cast<uint64_t>(0xCD9E8D57u) * counter.z;
        counter = make_uint4(
            static_cast<uint32_t>(second >> 32) ^ counter.y ^ key_low, static_cast<uint32_t>(second),
            static_cast<uint32_t>(first >> 32) ^ counter.w ^ key_high, static_cast<uint32_t>(first));
        key_low += 0x9E3779B9u;
        key_high += 0xBB67AE85u;
    }
    return counter;
}

/// The point (word + ½) / 2³² of (0, 1).
APUS_DEVICE float unit_point(uint32_t word) { return fmaf(static_cast<float>(word), 0x1p-32f, 0x1p-33f); }

/// −log(1 − v), v the unit point of the word: exponentially distributed, and never less than v. The smallest values,
/// which decide a race, are as precise as the others.
APUS_DEVICE float exponential_variate(uint32_t word) {
    if (word < 0x40000000u) return -log_near_one(-unit_point(word));
    return -logarithm(unit_point(~word));
}

#endif
