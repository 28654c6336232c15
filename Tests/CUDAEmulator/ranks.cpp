// The kernels of collectives.cuh as ranks truly run them, at the same time: a thread of the host for each rank takes the
// place of all threads of all its blocks, and waits where a block would.

#include "../../Kernels/cuda/collectives.cuh"
#include "CUDAEmulator.h"

#include <sched.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

namespace {

using seconds = std::chrono::duration<double>;

/// A block of one thread.
struct host_block {
    int its_index, its_count;
    std::atomic<bool> *is_late;

    int index() const { return its_index; }
    int count() const { return its_count; }
    int thread() const { return 0; }
    int threads() const { return 1; }
    void sync() const {}

    void wait(const uint32_t *arrival, uint32_t call, const cuda_peers &peers, int) const {
        const auto start = std::chrono::steady_clock::now();
        while (!has_come(load_acquire_system(arrival), call)) {
            if (is_given_up(peers)) return;
            if (seconds(std::chrono::steady_clock::now() - start).count() > 20) {
                is_late->store(true);
                return;
            }
            sched_yield();
        }
    }
};

uint64_t mixed(uint64_t x) {
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9;
    x = (x ^ x >> 27) * 0x94D049BB133111EB;
    return x ^ x >> 31;
}

/// What a rank brings to a call.
float value(uint64_t seed, int call, int rank, int64_t i) {
    const uint64_t who = seed + static_cast<uint64_t>(call) * 8 + static_cast<uint64_t>(rank);
    const uint64_t bits = mixed(who + mixed(static_cast<uint64_t>(i)));
    return static_cast<float>(static_cast<int32_t>(bits)) * 0x1p-20f;
}

cuda_address address_of(const void *pointer) { return reinterpret_cast<cuda_address>(pointer); }

/// Memory of one rank, aligned as a device's.
struct rank_memory {
    std::vector<uint4> staging;
    collective_signals signals = {};
    uint32_t notice[2] = {};
};

}  // namespace

int64_t cuda_example_meet(int32_t ranks, int32_t calls, int64_t most, uint64_t seed, int32_t missing) {
    const int64_t staging_count = (most + 3) / 4 * 4;
    std::vector<rank_memory> memory(static_cast<size_t>(ranks));
    for (rank_memory &one : memory) one.staging.resize(static_cast<size_t>(2 * staging_count / 4));
    std::atomic<int64_t> wrong{0};
    std::atomic<bool> is_late{false};
    const auto live = [&](int rank) {
        cuda_peers peers = {};
        for (int i = 0; i < ranks; i++) {
            peers.staging[i] = address_of(memory[static_cast<size_t>(i)].staging.data());
            peers.signals[i] = address_of(&memory[static_cast<size_t>(i)].signals);
        }
        peers.notice = address_of(memory[static_cast<size_t>(rank)].notice);
        peers.staging_count = staging_count;
        peers.rank = rank;
        peers.ranks = ranks;
        std::vector<uint4> aligned(static_cast<size_t>(staging_count / 4));
        float *const x = reinterpret_cast<float *>(aligned.data());
        std::vector<float> output(static_cast<size_t>(staging_count * ranks));
        for (int call = 0; call < calls; call++) {
            const bool is_last = call == calls - 1;
            if (is_last && missing == rank) return;
            const uint64_t random = mixed(seed ^ static_cast<uint64_t>(call) << 20);
            const int64_t count = 1 + static_cast<int64_t>(random % static_cast<uint64_t>(most));
            const bool is_gather = call % 3 == 2, is_rows = call % 3 == 1 && count >= 4;
            const int64_t wanted = static_cast<int64_t>(random >> 40);
            const int64_t columns = is_gather ? 1 + wanted % count : is_rows ? 4 * (1 + wanted % (count / 4)) : count;
            const int64_t rows = is_rows && count / columns > 64 ? 64 : count / columns;
            const int64_t summed = is_gather ? 0 : rows * columns;
            for (int64_t i = 0; i < count; i++) x[i] = value(seed, call, rank, i);
            if (mixed(random + static_cast<uint64_t>(rank)) % 4 == 0) sched_yield();
            const int blocks = is_rows ? static_cast<int>(rows) : collective_blocks(rows * columns);
            host_block block = {0, blocks, &is_late};
            for (; block.its_index < block.its_count; block.its_index++) {
                if (is_gather) {
                    all_gather(
                        cuda_all_gather_arguments{
                            peers, address_of(x), address_of(output.data()), static_cast<int32_t>(rows),
                            static_cast<int32_t>(columns)},
                        block);
                } else if (is_rows) {
                    all_reduce_rows(
                        cuda_all_reduce_arguments{peers, address_of(x), summed}, static_cast<int>(columns), block,
                        [](int) {});
                } else {
                    all_reduce(cuda_all_reduce_arguments{peers, address_of(x), summed}, block);
                }
            }
            if (is_last && missing >= 0) return;
            for (int64_t i = 0; i < summed; i++) {
                float sum = value(seed, call, 0, i);
                for (int other = 1; other < ranks; other++) sum += value(seed, call, other, i);
                wrong += __float_as_uint(sum) != __float_as_uint(x[i]);
            }
            for (int64_t i = 0; is_gather && i < rows * columns * ranks; i++) {
                const int64_t row = i / (columns * ranks), other = i / columns % ranks;
                const float expected = value(seed, call, static_cast<int>(other), row * columns + i % columns);
                wrong += __float_as_uint(expected) != __float_as_uint(output[static_cast<size_t>(i)]);
            }
        }
    };
    std::vector<std::thread> threads;
    for (int rank = 0; rank < ranks; rank++) threads.emplace_back(live, rank);
    if (missing >= 0) {
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
        for (rank_memory &one : memory) __atomic_store_n(&one.notice[1], 1u, __ATOMIC_RELEASE);
    }
    for (std::thread &thread : threads) thread.join();
    return is_late ? -1 : wrong.load();
}

int64_t cuda_example_meet_alone(int32_t ranks, int32_t rank, int64_t count, int32_t missing) {
    const int64_t staging_count = (count + 3) / 4 * 4, part = collective_part(count, ranks);
    const bool is_whole = collective_is_whole(count, ranks) != 0;
    const auto sum = [&](int64_t i) {
        float sum = value(1, 0, 0, i);
        for (int other = 1; other < ranks; other++) sum += value(1, 0, other, i);
        return sum;
    };
    std::vector<rank_memory> memory(static_cast<size_t>(ranks));
    cuda_peers peers = {};
    for (int other = 0; other < ranks; other++) {
        rank_memory &one = memory[static_cast<size_t>(other)];
        one.staging.resize(static_cast<size_t>(2 * staging_count / 4));
        peers.staging[other] = address_of(one.staging.data());
        peers.signals[other] = address_of(&one.signals);
        if (other == rank) continue;
        // Calls are 1 and 2. Of a long message the other's part holds sums already.
        float *const first = reinterpret_cast<float *>(one.staging.data()) + staging_count;
        for (int64_t i = 0; i < count; i++) {
            first[i] = !is_whole && i / part == other ? sum(i) : value(1, 0, other, i);
            first[i - staging_count] = value(1, 1, other, i);
        }
    }
    rank_memory &mine = memory[static_cast<size_t>(rank)];
    for (auto &meeting : mine.signals.arrivals) {
        for (auto &block : meeting) {
            for (int other = 0; other < ranks; other++) block[other] = other == missing ? 0 : 2;
        }
    }
    peers.notice = address_of(mine.notice);
    peers.staging_count = staging_count;
    peers.rank = rank;
    peers.ranks = ranks;
    std::vector<uint4> aligned(static_cast<size_t>(staging_count / 4));
    float *const x = reinterpret_cast<float *>(aligned.data());
    for (int64_t i = 0; i < count; i++) x[i] = value(1, 0, rank, i);
    const cuda_all_reduce_arguments reduce = {peers, address_of(x), count};
    const cuda_launch reduce_launch = cuda_all_reduce_launch(&reduce);
    if (cuda_emulator_launch(&reduce_launch, &reduce) != 0) return -static_cast<int64_t>(mine.notice[0]);
    int64_t wrong = 0;
    for (int64_t i = 0; i < count; i++) wrong += __float_as_uint(x[i]) != __float_as_uint(sum(i));
    const int32_t columns = static_cast<int32_t>(count % 5 == 0 ? count / 5 : count);
    const int32_t rows = static_cast<int32_t>(count / columns);
    std::vector<float> output(static_cast<size_t>(count * ranks));
    for (int64_t i = 0; i < count; i++) x[i] = value(1, 1, rank, i);
    const cuda_all_gather_arguments gather = {peers, address_of(x), address_of(output.data()), rows, columns};
    const cuda_launch gather_launch = cuda_all_gather_launch(&gather);
    if (cuda_emulator_launch(&gather_launch, &gather) != 0) return -static_cast<int64_t>(mine.notice[0]);
    for (int64_t i = 0; i < count * ranks; i++) {
        const int64_t row = i / (columns * ranks), other = i / columns % ranks;
        const float expected = value(1, 1, static_cast<int>(other), row * columns + i % columns);
        wrong += __float_as_uint(expected) != __float_as_uint(output[static_cast<size_t>(i)]);
    }
    // Every other rank has been told that this one came.
    for (int other = 0; other < ranks; other++) {
        if (other != rank) wrong += memory[static_cast<size_t>(other)].signals.arrivals[0][0][rank] != 2;
    }
    return wrong + (mine.signals.calls != 2);
}

int64_t cuda_example_sum_and_norm(int32_t ranks, int32_t rank, int32_t rows, int32_t columns) {
    const int64_t count = static_cast<int64_t>(rows) * columns;
    std::vector<rank_memory> memory(static_cast<size_t>(ranks));
    cuda_peers peers = {};
    for (int other = 0; other < ranks; other++) {
        rank_memory &one = memory[static_cast<size_t>(other)];
        one.staging.resize(static_cast<size_t>(2 * count / 4));
        peers.staging[other] = address_of(one.staging.data());
        peers.signals[other] = address_of(&one.signals);
        // The same in calls 1 and 2.
        float *const first = reinterpret_cast<float *>(one.staging.data());
        for (int64_t i = 0; i < 2 * count; i++) first[i] = value(3, 0, other, i % count);
    }
    for (auto &meeting : memory[static_cast<size_t>(rank)].signals.arrivals) {
        for (auto &block : meeting) {
            for (int other = 0; other < ranks; other++) block[other] = 2;
        }
    }
    peers.notice = address_of(memory[static_cast<size_t>(rank)].notice);
    peers.staging_count = count;
    peers.rank = rank;
    peers.ranks = ranks;
    struct result {
        std::vector<uint4> x, normed, codes, scales;
    };
    std::vector<float> weight(static_cast<size_t>(columns + 4));
    float *const weights = reinterpret_cast<float *>(address_of(weight.data() + 3) / 16 * 16);
    for (int32_t i = 0; i < columns; i++) weights[i] = value(3, 1, 0, i);
    const auto run = [&](bool is_one) {
        result r;
        for (auto *words : {&r.x, &r.normed, &r.codes, &r.scales}) words->resize(static_cast<size_t>(count / 4 + 1));
        float *const x = reinterpret_cast<float *>(r.x.data());
        for (int64_t i = 0; i < count; i++) x[i] = value(3, 0, rank, i);
        const cuda_all_reduce_arguments sum = {peers, address_of(x), count};
        cuda_all_reduce_norm_arguments both = {sum, {}, rows, columns};
        both.ending.norm_weight = address_of(weights);
        both.ending.normed = address_of(r.normed.data());
        both.ending.codes = address_of(r.codes.data());
        both.ending.code_scales = address_of(r.scales.data());
        both.ending.epsilon = 1e-5f;
        int failed = 0;
        if (is_one) {
            const cuda_launch launch = cuda_all_reduce_norm_launch(&both);
            failed = cuda_emulator_launch(&launch, &both);
        } else {
            cuda_rms_norm_arguments norm = {};
            norm.x = sum.x, norm.weight = both.ending.norm_weight, norm.output = both.ending.normed;
            norm.codes = both.ending.codes, norm.code_scales = both.ending.code_scales;
            norm.row_count = rows, norm.columns = columns, norm.epsilon = both.ending.epsilon;
            const cuda_launch first = cuda_all_reduce_launch(&sum), second = cuda_rms_norm_launch(&norm);
            failed = cuda_emulator_launch(&first, &sum) | cuda_emulator_launch(&second, &norm);
        }
        if (failed != 0) r.x.clear();
        return r;
    };
    const result two = run(false), one = run(true);
    if (one.x.empty() || two.x.empty()) return -1;
    const auto differences = [](const std::vector<uint4> &a, const std::vector<uint4> &b) {
        const uint32_t *const left = &a[0].x, *const right = &b[0].x;
        int64_t wrong = 0;
        for (size_t i = 0; i < 4 * a.size(); i++) wrong += left[i] != right[i];
        return wrong;
    };
    return differences(one.x, two.x) + differences(one.normed, two.normed) + differences(one.codes, two.codes)
        + differences(one.scales, two.scales);
}
