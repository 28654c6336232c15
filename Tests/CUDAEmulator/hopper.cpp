// What compute capability 9.0 does on its own while threads go on: copies that count on barriers, and products of a
// warpgroup. Both happen late: a copy when threads can do nothing else (or, in other orders than 0, at any moment before,
// in any order), a product when it is waited for. Meanwhile the destination is NaN.
//
// Descriptors, swizzles, fragments and counts are decoded as the PTX manual describes them, from the bits; nothing is
// shared with the code that makes them but the constants of the instructions.

#include "../../Kernels/cuda/hopper.cuh"
#include "threads.h"

#include "tensor_map.h"

#include <stdlib.h>
#include <string.h>

#include <map>

namespace emulator {

namespace {

// MARK: Barriers in shared memory

/// The eight bytes of an `mbarrier`. Memory that is none has another mark.
struct mbarrier {
    uint64_t mark : 12, phase : 1, expected : 10, pending : 10;
    /// Bytes announced less bytes arrived: copies may be faster than the announcement.
    int64_t bytes : 31;
};
static_assert(sizeof(mbarrier) == 8, "eight bytes");
constexpr uint64_t barrier_mark = 0xA91;

mbarrier *checked(const uint64_t *barrier) {
    if (reinterpret_cast<uintptr_t>(barrier) % 8 != 0) misaligned(barrier, 8);
    mbarrier *const found = reinterpret_cast<mbarrier *>(const_cast<uint64_t *>(barrier));
    if (found->mark != barrier_mark) fail("thread %u uses memory as a barrier that is none", current->thread);
    return found;
}

/// Ends the phase if nothing is missing.
void settle(mbarrier &barrier) {
    if (barrier.pending != 0 || barrier.bytes != 0) return;
    barrier.phase ^= 1;
    barrier.pending = barrier.expected;
    wake_watchers();
}

// MARK: Copies

struct transfer {
    unsigned char *shared;
    const unsigned char *global;
    uint32_t bytes;
    shared_place barrier;
    /// Of a box: its matrix and where it begins.
    bool is_box;
    tensor_map map;
    int32_t column, row;
};
std::vector<transfer> transfers;

/// Refuses a copy to bytes that it may not write.
void check_room(void *shared, uint32_t bytes, uint32_t alignment) {
    if (reinterpret_cast<uintptr_t>(shared) % alignment != 0) misaligned(shared, alignment);
    const unsigned char *const start = static_cast<unsigned char *>(shared);
    if (start < dynamic_shared || start + bytes > dynamic_shared + shared_bytes()) {
        fail("a copy of %u bytes leaves the block's shared memory", bytes);
    }
}

/// A box's rows of 128 bytes, whose 16-byte pieces are exchanged by the bits 7–9 of their address.
void copy_rows(const transfer &copy) {
    const tensor_map &map = copy.map;
    for (uint32_t row = 0; row < map.box[1]; row++) {
        for (uint32_t column = 0; column < map.box[0]; column++) {
            const int64_t x = copy.column + static_cast<int64_t>(column), y = copy.row + static_cast<int64_t>(row);
            const bool is_inside = x >= 0 && y >= 0 && x < static_cast<int64_t>(map.size[0])
                && y < static_cast<int64_t>(map.size[1]);
            uint16_t value = 0;
            const unsigned char *const start = reinterpret_cast<unsigned char *>(map.address);
            if (is_inside) memcpy(&value, start + static_cast<uint64_t>(y) * map.stride + 2 * x, 2);
            uintptr_t place = reinterpret_cast<uintptr_t>(copy.shared) + (row * map.box[0] + column) * 2;
            if (map.swizzle == 3) place ^= (place >> 7 & 7) << 4;
            memcpy(reinterpret_cast<void *>(place), &value, 2);
        }
    }
}

// MARK: Products

/// Sums that products are being added to, of a warp: by lane, where they belong, and what they are so far.
struct sums {
    float *places[32];
    std::vector<float> values;
    int uses;
};

struct product {
    uint64_t a, b;
    int columns;
    bool adds;
    float *key;
    uint32_t group;
    /// By lane, where the fragments of a are; b's columns then lie side by side. Null where `a` describes it.
    const uint32_t *fragments[32];
    /// Of 8-bit floats, 32 along k.
    bool is_e4m3;
};

struct warp_products {
    std::vector<product> waiting;
    std::map<float *, sums> pending;
    uint32_t groups;
    bool is_fenced;
};
warp_products products[most_threads / 32];

struct operand {
    unsigned char *start;
    uint32_t address, stride;
    /// Of tiles of 64 columns, where columns lie side by side.
    uint32_t distance;
};

/// What a descriptor of rows of 128 swizzled bytes says; any other is refused.
operand decode(uint64_t descriptor, const char *name) {
    const uint64_t swizzle = descriptor >> 62, base_offset = descriptor >> 49 & 7;
    const uint64_t unused = descriptor & (0x3ull << 14 | 0x3ull << 30 | 0x7ull << 46 | 0x3FFull << 52);
    if (swizzle != 1 || base_offset != 0 || unused != 0) {
        fail("the descriptor of %s is %016llx: not of a tile swizzled by 128 bytes", name,
             static_cast<unsigned long long>(descriptor));
    }
    const uint32_t address = static_cast<uint32_t>(descriptor & 0x3FFF) << 4;
    const uint32_t stride = static_cast<uint32_t>(descriptor >> 32 & 0x3FFF) << 4;
    const uint32_t distance = static_cast<uint32_t>(descriptor >> 16 & 0x3FFF) << 4;
    return {dynamic_shared - shared_address(dynamic_shared), address, stride, distance};
}

void check_inside(const operand &from, uint32_t end, const char *name) {
    const uint32_t first = shared_address(dynamic_shared);
    if (from.address < first || end > first + shared_bytes()) {
        fail("the operand %s lies outside of shared memory", name);
    }
}

/// An operand whose rows go along k.
operand decode_rows(uint64_t descriptor, int rows, const char *name) {
    const operand found = decode(descriptor, name);
    check_inside(found, (found.address & ~1023u) + static_cast<uint32_t>((rows - 1) / 8) * found.stride + 1024, name);
    return found;
}

/// An operand of sixteen along k whose columns lie side by side.
operand decode_columns(uint64_t descriptor, int columns, const char *name) {
    const operand found = decode(descriptor, name);
    if (found.address % 1024 != 0) fail("the columns of %s do not begin with eight rows of 128 bytes", name);
    const uint32_t tiles = static_cast<uint32_t>(columns - 1) / 64;
    check_inside(found, found.address + tiles * found.distance + found.stride + 1024, name);
    return found;
}

/// Row `row` of sixteen neighbours along k.
void read_row(const operand &from, int row, float (&values)[16]) {
    for (uint32_t k = 0; k < 16; k++) {
        const uint32_t byte = from.address + static_cast<uint32_t>(row / 8) * from.stride
            + static_cast<uint32_t>(row % 8) * 128 + 2 * k;
        uint16_t bits;
        memcpy(&bits, from.start + (byte ^ (byte >> 7 & 7) << 4), 2);
        values[k] = bf16_to_float(bits);
    }
}

/// Eight columns from `first` on, of sixteen along k, which lie side by side.
void read_columns(const operand &from, int first, double (&values)[16][8]) {
    for (uint32_t k = 0; k < 16; k++) {
        for (uint32_t column = 0; column < 8; column++) {
            const uint32_t own = static_cast<uint32_t>(first) + column;
            const uint32_t byte = from.address + own / 64 * from.distance + own % 64 * 2 + k / 8 * from.stride + k % 8 * 128;
            uint16_t bits;
            memcpy(&bits, from.start + (byte ^ (byte >> 7 & 7) << 4), 2);
            values[k][column] = bf16_to_float(bits);
        }
    }
}

typedef double eight __attribute__((vector_size(64)));

/// A warp's sixteen rows of a product, added to `sums` as `mma` adds.
__attribute__((target_clones("avx2", "default"))) void multiply(
    const product &product, int first_row, std::vector<float> &sums) {
    const bool is_of_fragments = product.fragments[0] != nullptr;
    const operand b =
        is_of_fragments ? decode_columns(product.b, product.columns, "b") : decode_rows(product.b, product.columns, "b");
    const int share = product.columns / 2;
    float left[16][16];
    if (!is_of_fragments) {
        const operand a = decode_rows(product.a, 64, "a");
        for (int row = 0; row < 16; row++) read_row(a, first_row + row, left[row]);
    } else {
        for (int lane = 0; lane < 32; lane++) {
            for (int i = 0; i < 4; i++) {
                float *const pair = &left[lane / 4 + i % 2 * 8][lane % 4 * 2 + i / 2 * 8];
                pair[0] = bf16_low(product.fragments[lane][i]);
                pair[1] = bf16_high(product.fragments[lane][i]);
            }
        }
    }
    for (int j = 0; j < product.columns / 8; j++) {
        double right[16][8];
        if (is_of_fragments) read_columns(b, 8 * j, right);
        for (int column = 0; column < 8 && !is_of_fragments; column++) {
            float values[16];
            read_row(b, 8 * j + column, values);
            for (int k = 0; k < 16; k++) right[k][column] = values[k];
        }
        for (int row = 0; row < 16; row++) {
            eight line = {};
            for (int k = 0; k < 16; k++) {
                eight part;
                memcpy(&part, right[k], sizeof(part));
                line += static_cast<double>(left[row][k]) * part;
            }
            for (int column = 0; column < 8; column++) {
                const int lane = row % 8 * 4 + column / 2, index = 4 * j + row / 8 * 2 + column % 2;
                float &sum = sums[static_cast<size_t>(lane * share + index)];
                const float added = static_cast<float>(line[column]);
                sum = product.adds ? sum + added : added;
            }
        }
    }
}

/// What 8 bits (E4M3) mean.
float e4m3_value(uint8_t bits) {
    if ((bits & 0x7F) == 0x7F) return __builtin_nanf("");
    const float magnitude =
        bits & 0x78 ? ldexpf(static_cast<float>(8 + (bits & 7)), (bits >> 3 & 15) - 10) : ldexpf(bits & 7, -9);
    return bits & 0x80 ? -magnitude : magnitude;
}

struct e4m3_values {
    float of[256];
    e4m3_values() {
        for (int bits = 0; bits < 256; bits++) of[bits] = e4m3_value(static_cast<uint8_t>(bits));
    }
};

/// `sum` and 32 products as Hopper adds them: aligned to the largest, cut off 13 bits below its first, and then added.
float add_with_14_bits(const float (&left)[32], const float (&right)[32], float sum) {
    float products[33];
    products[32] = sum;
    float largest = fabsf(sum);
    for (int k = 0; k < 32; k++) {
        products[k] = left[k] * right[k];
        largest = fmaxf(largest, fabsf(products[k]));
        if (products[k] != products[k]) return products[k];
    }
    if (sum != sum || largest == 0 || largest > 3e38f) return sum;
    const double unit = ldexp(1, ilogbf(largest) - 13);
    double total = 0;
    for (float product : products) total += trunc(product / unit);
    return static_cast<float>(total * unit);
}

/// The bytes of a row of an operand: 32 along k.
void read_row(const operand &from, int row, const e4m3_values &meaning, float (&values)[32]) {
    for (uint32_t k = 0; k < 32; k++) {
        const uint32_t byte = from.address + static_cast<uint32_t>(row / 8) * from.stride
            + static_cast<uint32_t>(row % 8) * 128 + k;
        values[k] = meaning.of[from.start[byte ^ (byte >> 7 & 7) << 4]];
    }
}

void multiply_e4m3(const product &product, int first_row, std::vector<float> &sums) {
    static const e4m3_values meaning;
    const operand a = decode_rows(product.a, 64, "a"), b = decode_rows(product.b, product.columns, "b");
    const int share = product.columns / 2;
    float left[16][32], right[32];
    for (int row = 0; row < 16; row++) read_row(a, first_row + row, meaning, left[row]);
    for (int column = 0; column < product.columns; column++) {
        read_row(b, column, meaning, right);
        for (int row = 0; row < 16; row++) {
            const int lane = row % 8 * 4 + column % 8 / 2, index = column / 8 * 4 + row / 8 * 2 + column % 2;
            float &sum = sums[static_cast<size_t>(lane * share + index)];
            sum = add_with_14_bits(left[row], right, product.adds ? sum : 0);
        }
    }
}

/// Arrivals of this round, and the number of rounds: of named barriers, and of all blocks that run together.
struct meeting {
    uint32_t arrived, rounds;

    /// Counts an arrival. Returns the round that it belongs to.
    uint32_t arrive(uint32_t threads) {
        const uint32_t round = rounds;
        if (++arrived == threads) {
            arrived = 0;
            rounds++;
            wake_watchers();
        }
        return round;
    }
    void wait(uint32_t threads, const char *name) {
        const uint32_t round = arrive(threads);
        while (rounds == round) watch(name);
    }
};
meeting named[most_together][16], pair;
/// Whether blocks have touched one another's shared memory since they met.
bool is_pair_open;

/// Refuses to touch the shared memory of a block that may not have begun, or is gone.
void expect_running(uint32_t block) {
    if (block == current->block) return;
    if (pair.rounds == 0) fail("thread %u touches the other block before they have met", current->thread);
    if (has_ended(block)) fail("thread %u touches the other block, which has ended", current->thread);
    is_pair_open = true;
}

}  // namespace

// MARK: Blocks

void begin_block() {
    transfers.clear();
    for (warp_products &warp : products) {
        warp.waiting.clear();
        warp.pending.clear();
        warp.groups = 0;
        warp.is_fenced = false;
    }
    memset(named, 0, sizeof(named));
    pair = {};
    is_pair_open = false;
}

const char *end_block() {
    if (is_pair_open) return "blocks of a pair ended without waiting for one another";
    if (!transfers.empty()) return "the block ended while copies were under way";
    for (const warp_products &warp : products) {
        if (!warp.waiting.empty()) return "the block ended while products were under way";
    }
    for (const auto &barriers : named) {
        for (const meeting &barrier : barriers) {
            if (barrier.arrived != 0) return "the block ended while a named barrier was short of threads";
        }
    }
    return nullptr;
}

bool has_copies() { return !transfers.empty(); }

bool deliver(uint32_t random) {
    if (transfers.empty()) return false;
    const size_t index = random % transfers.size();
    const transfer copy = transfers[index];
    transfers.erase(transfers.begin() + static_cast<ptrdiff_t>(index));
    if (copy.is_box) copy_rows(copy);
    else memcpy(copy.shared, copy.global, copy.bytes);
    mbarrier &barrier = *reinterpret_cast<mbarrier *>(copy.barrier.address());
    barrier.bytes -= copy.bytes;
    settle(barrier);
    return true;
}

// MARK: Words of hopper.cuh

void barrier_init(uint64_t *barrier, uint32_t arrivals) {
    if (reinterpret_cast<uintptr_t>(barrier) % 8 != 0) misaligned(barrier, 8);
    mbarrier fresh = {};
    fresh.mark = barrier_mark;
    fresh.expected = fresh.pending = arrivals & 0x3FF;
    memcpy(barrier, &fresh, sizeof(fresh));
}

void barrier_arrive(uint64_t *barrier, uint32_t bytes) {
    mbarrier &mine = *checked(barrier);
    if (mine.pending == 0) fail("thread %u arrives at a barrier once too often", current->thread);
    mine.bytes += bytes;
    mine.pending--;
    settle(mine);
}

void barrier_wait(const uint64_t *barrier, uint32_t parity, const char *name) {
    while (checked(barrier)->phase == (parity & 1)) watch(name);
}

namespace {

meeting &named_meeting(uint32_t barrier, uint32_t threads) {
    if (barrier == 0 || barrier > 15 || threads % 32 != 0) fail("barrier %u for %u threads", barrier, threads);
    return named[current->block][barrier];
}

}  // namespace

void named_barrier(uint32_t barrier, uint32_t threads) {
    named_meeting(barrier, threads).wait(threads, "a named barrier");
}

void named_barrier_arrive(uint32_t barrier, uint32_t threads) { (void)named_meeting(barrier, threads).arrive(threads); }

void pair_sync() {
    if (blocks_together() != 2) fail("thread %u waits for a pair of blocks in a launch without", current->thread);
    is_pair_open = false;
    pair.wait(threads_together(), "the other block");
}

void barrier_arrive_in(uint64_t *barrier, uint32_t rank) {
    if (rank >= blocks_together()) fail("thread %u arrives in block %u of a pair", current->thread, rank);
    expect_running(rank);
    barrier_arrive(reinterpret_cast<uint64_t *>(place_in(rank, barrier).address()), 0);
}

void copy_bytes(void *shared, const void *global, uint32_t bytes, uint64_t *barrier) {
    if (reinterpret_cast<uintptr_t>(global) % 16 != 0) misaligned(global, 16);
    if (bytes % 16 != 0) fail("a copy of %u bytes, which is no multiple of 16", bytes);
    check_room(shared, bytes, 16);
    // What lies there is lost as soon as the copy begins.
    memset(shared, 0xFF, bytes);
    (void)checked(barrier);
    transfers.push_back(
        {static_cast<unsigned char *>(shared), static_cast<const unsigned char *>(global), bytes,
         place_in(current->block, barrier), false, {}, 0, 0});
}

namespace {

/// A box's way into the shared memory of a block.
void begin_box(uint32_t block, void *shared, const tensor_map &map, int32_t column, int32_t row, uint64_t *barrier) {
    expect_running(block);
    const uint32_t bytes = map.box[0] * map.box[1] * 2;
    check_room(shared, bytes, map.swizzle == 3 ? 1024 : 128);
    unsigned char *const there = place_in(block, shared).address();
    memset(there, 0xFF, bytes);
    const shared_place counted = place_in(block, barrier);
    (void)checked(reinterpret_cast<const uint64_t *>(counted.address()));
    transfers.push_back({there, nullptr, bytes, counted, true, map, column, row});
}

tensor_map described(const void *map) {
    if (!current->has_waited) {
        fail("thread %u copies what the kernels in front may still write: it has not waited for them", current->thread);
    }
    tensor_map result;
    memcpy(&result, map, sizeof(result));
    if (result.mark != tensor_map_mark) fail("thread %u copies by a map that the driver did not make", current->thread);
    return result;
}

}  // namespace

void copy_box(void *shared, const void *map, int32_t column, int32_t row, uint64_t *barrier) {
    begin_box(current->block, shared, described(map), column, row, barrier);
}

void copy_box_to_pair(void *shared, const void *map, int32_t column, int32_t row, uint64_t *barrier) {
    if (blocks_together() != 2) fail("thread %u copies to a pair of blocks in a launch without", current->thread);
    for (uint32_t block = 0; block < 2; block++) begin_box(block, shared, described(map), column, row, barrier);
}

/// As on a device, where the dynamic part comes after the static one.
uint32_t shared_address(const void *pointer) {
    return static_cast<uint32_t>(static_cast<const unsigned char *>(pointer) - dynamic_shared) + 1024;
}

void wgmma_fence() {
    char nothing = 0;
    together(place::wgmma, nothing, [](char *const *) { products[warp_number()].is_fenced = true; });
}

namespace {

struct wgmma_operands {
    float *d;
    uint64_t a, b;
    int columns;
    bool adds;
    const uint32_t *fragment;
    bool is_e4m3;
};

void begin_product(wgmma_operands mine) {
    together(place::wgmma, mine, [](wgmma_operands *const *lanes) {
        warp_products &warp = products[warp_number()];
        const wgmma_operands &first = *lanes[0];
        if (!warp.is_fenced) fail("a product without a fence before it");
        for (int lane = 1; lane < 32; lane++) {
            const wgmma_operands &other = *lanes[lane];
            if (other.a != first.a || other.b != first.b || other.columns != first.columns || other.adds != first.adds) {
                fail("lanes of a warp multiply different operands");
            }
        }
        const size_t share = static_cast<size_t>(first.columns / 2);
        sums &own = warp.pending[first.d];
        if (own.uses++ == 0) {
            own.values.resize(32 * share);
            for (size_t lane = 0; lane < 32; lane++) {
                own.places[lane] = lanes[lane]->d;
                memcpy(&own.values[lane * share], lanes[lane]->d, share * sizeof(float));
                memset(lanes[lane]->d, 0xFF, share * sizeof(float));
            }
        }
        product made = {first.a, first.b, first.columns, first.adds, first.d, warp.groups, {}, first.is_e4m3};
        for (int lane = 0; lane < 32; lane++) made.fragments[lane] = lanes[lane]->fragment;
        warp.waiting.push_back(made);
    });
}

}  // namespace

void wgmma(float *d, int columns, uint64_t a, uint64_t b, bool adds) {
    begin_product({d, a, b, columns, adds, nullptr, false});
}

void wgmma_e4m3(float *d, int columns, uint64_t a, uint64_t b, bool adds) {
    begin_product({d, a, b, columns, adds, nullptr, true});
}

void wgmma_fragments(float *d, int columns, const uint32_t *a, uint64_t b, bool adds) {
    begin_product({d, 0, b, columns, adds, a, false});
}

void wgmma_commit() {
    char nothing = 0;
    together(place::wgmma, nothing, [](char *const *) { products[warp_number()].groups++; });
}

void wgmma_wait(uint32_t newest_groups) {
    char nothing = 0;
    together(place::wgmma, nothing, [newest_groups](char *const *) {
        warp_products &warp = products[warp_number()];
        size_t done = 0;
        for (; done < warp.waiting.size(); done++) {
            const product &next = warp.waiting[done];
            if (next.group + newest_groups >= warp.groups) break;
            sums &own = warp.pending[next.key];
            const int first_row = static_cast<int>(warp_number() % 4 * 16);
            if (next.is_e4m3) multiply_e4m3(next, first_row, own.values);
            else multiply(next, first_row, own.values);
            if (--own.uses > 0) continue;
            const size_t share = static_cast<size_t>(next.columns / 2);
            for (size_t lane = 0; lane < 32; lane++) {
                memcpy(own.places[lane], &own.values[lane * share], share * sizeof(float));
            }
            warp.pending.erase(next.key);
        }
        warp.waiting.erase(warp.waiting.begin(), warp.waiting.begin() + static_cast<ptrdiff_t>(done));
        // Whoever reads or writes sums now has to fence before the next product.
        warp.is_fenced = false;
    });
}

void change_registers(uint32_t count) {
    uint32_t mine = count;
    together(place::registers, mine, [](uint32_t *const *) {});
}

}  // namespace emulator
