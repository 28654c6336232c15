// What a warp's lanes do together, and the arithmetic that takes more than a line.

#include "threads.h"

namespace emulator {

namespace {

/// All lanes' values combined in pairs 16 apart, then 8, …, 1 apart.
template <class Combine> inline float butterfly(place where, float value, Combine combine) {
    together(where, value, [&](float *const *values) {
        for (int mask = 16; mask > 0; mask /= 2) {
            float combined[32];
            for (int lane = 0; lane < 32; lane++) combined[lane] = combine(*values[lane], *values[lane ^ mask]);
            for (int lane = 0; lane < 32; lane++) *values[lane] = combined[lane];
        }
    });
    return value;
}

typedef double row __attribute__((vector_size(64)));
typedef float rounded_row __attribute__((vector_size(32)));

/// The products of an element of d are added in f64, which nearly always is exact, and their sum, rounded to f32, to d: so
/// the order of the sixteen does not show. (A device aligns them to the largest and adds them at once.)
__attribute__((target_clones("avx2", "default"))) void multiply(
    float (&sums)[16][8], const double (&a)[16][16], const double (&b)[16][8]) {
    for (int i = 0; i < 16; i += 4) {
        row sum[4] = {};
        for (int k = 0; k < 16; k++) {
            row line;
            memcpy(&line, b[k], sizeof(line));
            for (int j = 0; j < 4; j++) sum[j] += a[i + j][k] * line;
        }
        for (int j = 0; j < 4; j++) {
            const rounded_row rounded = __builtin_convertvector(sum[j], rounded_row);
            memcpy(sums[i + j], &rounded, sizeof(rounded));
        }
    }
}

struct mma_operands {
    float *d;
    const uint32_t *a, *b;
};

}  // namespace

void warp_sync() {
    char nothing = 0;
    together(place::warp_sync, nothing, [](char *const *) {});
}

void mma(float *d, const uint32_t *a, const uint32_t *b) {
    mma_operands mine = {d, a, b};
    together(place::mma, mine, [](mma_operands *const *lanes) {
        alignas(64) double left[16][16], right[16][8];
        alignas(32) float sums[16][8];
        for (int lane = 0; lane < 32; lane++) {
            const int g = lane / 4, t = lane % 4;
            for (int i = 0; i < 4; i++) {
                left[g + i % 2 * 8][2 * t + i / 2 * 8] = bf16_low(lanes[lane]->a[i]);
                left[g + i % 2 * 8][2 * t + i / 2 * 8 + 1] = bf16_high(lanes[lane]->a[i]);
            }
            for (int i = 0; i < 2; i++) {
                right[2 * t + 8 * i][g] = bf16_low(lanes[lane]->b[i]);
                right[2 * t + 8 * i + 1][g] = bf16_high(lanes[lane]->b[i]);
            }
        }
        multiply(sums, left, right);
        for (int lane = 0; lane < 32; lane++) {
            for (int i = 0; i < 4; i++) lanes[lane]->d[i] += sums[lane / 4 + i / 2 * 8][lane % 4 * 2 + i % 2];
        }
    });
}

uint32_t transpose(uint32_t value) {
    together(place::transpose, value, [](uint32_t *const *values) {
        uint16_t matrix[8][8];
        for (int lane = 0; lane < 32; lane++) {
            matrix[lane / 4][lane % 4 * 2] = static_cast<uint16_t>(*values[lane]);
            matrix[lane / 4][lane % 4 * 2 + 1] = static_cast<uint16_t>(*values[lane] >> 16);
        }
        for (int lane = 0; lane < 32; lane++) {
            const uint32_t high = matrix[lane % 4 * 2 + 1][lane / 4];
            *values[lane] = matrix[lane % 4 * 2][lane / 4] | high << 16;
        }
    });
    return value;
}

uint64_t shuffle(uint64_t value, uint32_t source) {
    struct {
        uint64_t value;
        uint32_t source;
    } mine = {value, source};
    together(place::shuffle, mine, [](auto *const *lanes) {
        uint64_t values[32];
        for (int lane = 0; lane < 32; lane++) values[lane] = lanes[lane]->value;
        for (int lane = 0; lane < 32; lane++) lanes[lane]->value = values[lanes[lane]->source];
    });
    return mine.value;
}

uint32_t votes(bool value) {
    uint32_t mine = value;
    together(place::votes, mine, [](uint32_t *const *values) {
        uint32_t bits = 0;
        for (int lane = 0; lane < 32; lane++) bits |= *values[lane] << lane;
        for (int lane = 0; lane < 32; lane++) *values[lane] = bits;
    });
    return mine;
}

float sum(float value) {
    return butterfly(place::sum, value, [](float a, float b) { return a + b; });
}

float maximum(float value) {
    return butterfly(place::maximum, value, [](float a, float b) { return fmaxf(a, b); });
}

// MARK: Copies
//
// The destination is poisoned when the copy begins and written when it is waited for: whatever a device leaves open
// between the two is wrong at both ends.

void copy(void *shared, const void *global, bool valid) {
    if (reinterpret_cast<uintptr_t>(shared) % 16 != 0) misaligned(shared, 16);
    if (valid && reinterpret_cast<uintptr_t>(global) % 16 != 0) misaligned(global, 16);
    memset(shared, 0xFF, 16);
    current->copies.push_back({shared, global, valid, current->groups});
}

void copy_commit() { current->groups++; }

void copy_wait(uint32_t newest_groups) {
    fiber &mine = *current;
    while (mine.copies_done < mine.copies.size()) {
        const pending_copy &next = mine.copies[mine.copies_done];
        if (next.group + newest_groups >= mine.groups) return;
        if (next.valid) memcpy(next.shared, next.global, 16);
        else memset(next.shared, 0, 16);
        mine.copies_done++;
    }
    mine.copies.clear();
    mine.copies_done = 0;
}

void misaligned(const void *address, uint32_t bytes) {
    fail("thread %u accesses %u bytes at %p, which is not a multiple of that", current->thread, bytes, address);
}

uint16_t bf16_fma(float a, float b, float c) {
    // Exact in 64 bits: the product, and the error of its sum with c. Where bits are lost, the last kept is made 1, so
    // that the value is on its side of every tie of the coarser format ("rounding to odd").
    const double product = static_cast<double>(a) * b, sum = product + c;
    const double part = sum - product, error = (product - (sum - part)) + (c - part);
    uint64_t bits = __builtin_bit_cast(uint64_t, sum);
    if (error != 0 && error == error && bits % 2 == 0) bits += (error > 0) == (sum > 0) ? 1 : -1;
    const double odd = __builtin_bit_cast(double, bits);
    uint32_t narrow = __float_as_uint(static_cast<float>(odd));
    const double back = __uint_as_float(narrow);
    if (back != odd && back == back) narrow = (fabs(back) > fabs(odd) ? narrow - 1 : narrow) | 1;
    return float_to_bf16(__uint_as_float(narrow));
}

}  // namespace emulator
