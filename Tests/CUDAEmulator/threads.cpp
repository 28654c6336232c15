// Blocks and their threads: stack switching, whose turn it is, barriers and launches.

#include "threads.h"

#include "CUDAEmulator.h"
#include "sanitizer.h"

#include <sys/mman.h>
#include <unistd.h>

#include <mutex>

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

emulated_index threadIdx, blockIdx, blockDim, gridDim;

#ifdef EMULATOR_IS_SANITIZED
// Threads change stacks, of which a second kind would be one too many. Whoever forgets the device leaks on purpose.
extern "C" const char *__asan_default_options() { return "detect_stack_use_after_return=0:detect_leaks=0"; }
#endif

// The static shared memory of all kernels; absent when none has any.
extern "C" unsigned char __start_apus_shared[] __attribute__((weak));
extern "C" unsigned char __stop_apus_shared[] __attribute__((weak));

namespace emulator {

unsigned char *dynamic_shared;
fiber *current;
warp *current_warp;

namespace {

constexpr size_t stack_bytes = 128 << 10;
constexpr size_t page_bytes = 4096;
constexpr size_t shared_pages = (most_shared_bytes + page_bytes - 1) / page_bytes * page_bytes;
/// NaN as bf16, f16 and f32, −1 as an integer.
constexpr int poison = 0xFF;

const kernel *first_kernel;

struct {
    const kernel *entry;
    const void *arguments;
    uint32_t shared_bytes;
    bool has_failed;
    char reason[400];
} launch;

fiber fibers[most_threads];
warp warps[most_threads / 32];
uint32_t warp_count;

struct block {
    uint32_t index;
    /// Threads that have not returned, and those of them at the block's barrier.
    uint32_t live, at_barrier;
    unsigned char *dynamic;
    /// Its static shared memory while another one runs: kernels' variables can only be in one place.
    std::vector<unsigned char> statics;
};
block blocks[most_together];
uint32_t together_count, threads_each;
/// The block whose static shared memory is in place.
uint32_t loaded;
void *main_stack;
/// Of the stack that launches: known once a thread has been entered from there.
const void *main_bottom;
size_t main_bytes;
unsigned char *shared_end;

uint64_t order;
uint64_t random_state;
std::mutex launch_lock;

uint32_t random_bits() {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return static_cast<uint32_t>(random_state >> 32);
}

/// Saves what a call preserves on the stack, leaves its pointer in *from, and goes on at `to`.
__attribute__((naked, noinline)) void switch_stack(void **, void *) {
    asm("pushq %rbp\n pushq %rbx\n pushq %r12\n pushq %r13\n pushq %r14\n pushq %r15\n"
        "movq %rsp, (%rdi)\n movq %rsi, %rsp\n"
        "popq %r15\n popq %r14\n popq %r13\n popq %r12\n popq %rbx\n popq %rbp\n ret");
}

/// The thread whose turn it is, which leaves its warp's ready lanes; null if all wait or have returned. In order 0 a
/// warp runs until all its lanes wait, in ascending order.
fiber *next_ready() {
    uint32_t start = static_cast<uint32_t>(current_warp - warps);
    if (order != 0 && random_bits() % 16 == 0) start = random_bits() % warp_count;
    for (uint32_t i = 0; i < warp_count; i++) {
        const uint32_t index = start + i < warp_count ? start + i : start + i - warp_count;
        warp &candidate = warps[index];
        if (candidate.ready == 0) continue;
        const uint32_t turn = order == 0 ? 0 : random_bits() % 32;
        const uint32_t rotated = candidate.ready >> turn | candidate.ready << (-turn & 31);
        const uint32_t lane = (static_cast<uint32_t>(__builtin_ctz(rotated)) + turn) & 31;
        candidate.ready &= ~(1u << lane);
        current_warp = &candidate;
        return &fibers[32 * index + lane];
    }
    return nullptr;
}

/// The same, after copies under way have arrived that the threads wait for: in order 0 not before all wait.
fiber *next() {
    if (order != 0 && has_copies() && random_bits() % 8 == 0) deliver(random_bits());
    while (true) {
        fiber *const found = next_ready();
        if (found != nullptr || !deliver(random_bits())) return found;
    }
}

size_t static_bytes() {
    return __start_apus_shared == nullptr ? 0 : static_cast<size_t>(__stop_apus_shared - __start_apus_shared);
}

/// Puts a block's shared memory and index where its threads look for them.
void load(uint32_t index) {
    if (index != loaded) {
        if (static_bytes() > 0) {
            memcpy(blocks[loaded].statics.data(), __start_apus_shared, static_bytes());
            memcpy(__start_apus_shared, blocks[index].statics.data(), static_bytes());
        }
        loaded = index;
    }
    dynamic_shared = blocks[index].dynamic;
    blockIdx.x = blocks[index].index;
}

/// Makes it a thread's turn.
void begin_turn(fiber *next) {
    current = next;
    load(next->block);
    threadIdx.x = next->thread - next->block * threads_each;
}

/// Where a thread's stack lies, without the page that cannot be touched.
unsigned char *stack_bottom(uint32_t thread) {
    return shared_end - shared_pages - (most_threads - thread) * stack_bytes + page_bytes;
}

/// Saves where the caller is and goes on with a thread, or with the launch if there is none.
void switch_to(void **from, const fiber *to) {
    if (to == nullptr) begin_switch(main_bottom, main_bytes);
    else begin_switch(stack_bottom(to->thread), stack_bytes - page_bytes);
    switch_stack(from, to == nullptr ? main_stack : to->stack_pointer);
    end_switch(nullptr, nullptr);
}

/// Lets another thread run, or the launch if there is none. Returns when it is the caller's turn again.
void give_way() {
    fiber *const from = current;
    fiber *const to = next();
    if (to == from) return;
    if (to == nullptr) current = nullptr;
    else begin_turn(to);
    switch_to(&from->stack_pointer, to);
}

void release_block(uint32_t index) {
    const uint32_t each = warp_count / together_count;
    for (uint32_t i = index * each; i < (index + 1) * each; i++) {
        warps[i].ready |= warps[i].at_barrier;
        warps[i].at_barrier = 0;
    }
    blocks[index].at_barrier = 0;
}

void run_thread() {
    if (main_bottom == nullptr) end_switch(&main_bottom, &main_bytes);
    else end_switch(nullptr, nullptr);
    launch.entry->body(launch.arguments);
    block &mine = blocks[current->block];
    mine.live--;
    if (mine.live > 0 && mine.at_barrier == mine.live) release_block(current->block);
    give_way();
    abort();
}

/// Where a block's dynamic shared memory ends; the first is last before a page that cannot be touched, and so is each.
unsigned char *shared_end_of(uint32_t index) { return shared_end + index * (shared_pages + page_bytes); }

void allocate_memory() {
    const size_t bytes = most_threads * stack_bytes + most_together * (shared_pages + page_bytes);
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    void *const memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (memory == MAP_FAILED) abort();
    unsigned char *const start = static_cast<unsigned char *>(memory);
    // Below each stack and after the shared memory, pages that cannot be touched.
    for (uint32_t i = 0; i < most_threads; i++) mprotect(start + i * stack_bytes, page_bytes, PROT_NONE);
    shared_end = start + most_threads * stack_bytes + shared_pages;
    for (uint32_t i = 0; i < most_together; i++) mprotect(shared_end_of(i), page_bytes, PROT_NONE);
}

/// Where a thread's stack begins. Stacks start at different offsets, or their first lines would share a cache set.
void *stack_top(uint32_t thread) {
    return stack_bottom(thread) + (stack_bytes - page_bytes) - thread % 64 * 320;
}

/// Blocks from the one of index `first` on, with nothing in their shared memory.
void prepare_memory(uint32_t first, uint32_t shared_bytes) {
    if (static_bytes() > 0) memset(__start_apus_shared, poison, static_bytes());
    for (uint32_t i = 0; i < together_count; i++) {
        blocks[i].index = first + i;
        blocks[i].live = threads_each;
        blocks[i].at_barrier = 0;
        blocks[i].dynamic = shared_end_of(i) - (shared_bytes + 1023) / 1024 * 1024;
        memset(blocks[i].dynamic, poison, shared_bytes);
        if (together_count > 1) blocks[i].statics.assign(static_bytes(), poison);
    }
    loaded = 0;
}

void prepare_threads(uint32_t threads) {
    warp_count = (threads + 31) / 32;
    for (uint32_t i = 0; i < warp_count; i++) {
        const uint32_t count = threads - 32 * i;
        warps[i] = {};
        warps[i].lanes = warps[i].ready = count >= 32 ? ~0u : (1u << count) - 1;
    }
    for (uint32_t i = 0; i < threads; i++) {
        fiber &thread = fibers[i];
        thread.thread = i;
        thread.block = i / threads_each;
        thread.copies.clear();
        thread.copies_done = 0;
        thread.groups = 0;
        thread.has_waited = false;
        // The six saved registers, the address `switch_stack` returns to, and one that keeps the alignment of a call.
        void **const stack = static_cast<void **>(stack_top(i)) - 8;
        memset(stack, 0, 8 * sizeof(void *));
        stack[6] = reinterpret_cast<void *>(&run_thread);
        thread.stack_pointer = stack;
    }
}

const char *name_of(place where) {
    switch (where) {
        case place::nowhere: return "nothing";
        case place::warp_sync: return "warp_sync";
        case place::shuffle: return "shuffle";
        case place::votes: return "ballot";
        case place::sum: return "warp_sum";
        case place::maximum: return "warp_max";
        case place::mma: return "mma_bf16";
        case place::transpose: return "transpose_8x8";
        case place::block_sync: return "block_sync";
        case place::wgmma: return "wgmma";
        case place::registers: return "a change of registers";
    }
    return "nothing";
}

uint32_t live_threads() {
    uint32_t count = 0;
    for (uint32_t i = 0; i < together_count; i++) count += blocks[i].live;
    return count;
}

void describe_deadlock() {
    int length = snprintf(
        launch.reason, sizeof(launch.reason), "%u of %u threads wait for ever", live_threads(), threads_together());
    for (uint32_t i = 0; i < warp_count; i++) {
        const warp &stuck = warps[i];
        const size_t room = sizeof(launch.reason) - static_cast<size_t>(length);
        if (stuck.watching != 0 && room >= 80) {
            length += snprintf(
                launch.reason + length, room, "; warp %u: %d lanes wait for %s", i,
                __builtin_popcount(stuck.watching), stuck.watched);
            continue;
        }
        if (stuck.arrived == 0 || room < 80) continue;
        length += snprintf(
            launch.reason + length, room, "; warp %u: %d lanes at %s, %d at block_sync", i,
            __builtin_popcount(stuck.arrived), name_of(stuck.where), __builtin_popcount(stuck.at_barrier));
    }
    launch.has_failed = true;
}

/// A sentence if a block never waited for the kernels in front, or left something unfinished.
const char *complaint() {
    for (uint32_t i = 0; i < together_count; i++) {
        bool has_waited = false;
        for (uint32_t j = 0; j < threads_each; j++) has_waited |= fibers[i * threads_each + j].has_waited;
        if (!has_waited) return "the block ended before it waited for the kernels in front";
    }
    return end_block();
}

/// Runs `count` blocks together, from the one of index `first` on.
void run_blocks(uint32_t first, uint32_t count, uint32_t threads, uint32_t shared_bytes) {
    together_count = count;
    threads_each = threads;
    prepare_memory(first, shared_bytes);
    prepare_threads(count * threads);
    begin_block();
    current_warp = &warps[0];
    load(0);
    threadIdx = {0, 0, 0};
    begin_turn(next());
    // A launch may come from another thread of the process than the last.
    main_bottom = nullptr;
    switch_to(&main_stack, current);
    if (launch.has_failed) return;
    if (live_threads() > 0) return describe_deadlock();
    const char *const reason = complaint();
    if (reason != nullptr) {
        snprintf(launch.reason, sizeof(launch.reason), "%s", reason);
        launch.has_failed = true;
    }
}

int32_t refuse(const char *name, const char *reason, uint64_t value, int32_t error) {
    fprintf(stderr, "%s: %s (%llu)\n", name, reason, static_cast<unsigned long long>(value));
    return error;
}

}  // namespace

kernel::kernel(
    const char *name, uint32_t max_threads, size_t argument_bytes, void (*body)(const void *), uint32_t together)
    : name(name), max_threads(max_threads), argument_bytes(argument_bytes), body(body), together(together),
      next(first_kernel) {
    first_kernel = this;
}

void fail(const char *format, ...) {
    va_list values;
    va_start(values, format);
    vsnprintf(launch.reason, sizeof(launch.reason), format, values);
    va_end(values);
    launch.has_failed = true;
    switch_to(&current->stack_pointer, nullptr);
    abort();
}

bool arrive(place where, void *operand) {
    warp &mine = *current_warp;
    const uint32_t lane = current->thread % 32;
    if (mine.lanes != ~0u) fail("%s in a warp of %d lanes", name_of(where), __builtin_popcount(mine.lanes));
    if (mine.arrived != 0 && mine.where != where) {
        fail("thread %u is at %s, others of its warp at %s", current->thread, name_of(where), name_of(mine.where));
    }
    mine.where = where;
    mine.operands[lane] = operand;
    mine.arrived |= 1u << lane;
    if (mine.arrived == ~0u) return true;
    give_way();
    return false;
}

void release() {
    warp &mine = *current_warp;
    mine.arrived = 0;
    mine.ready = ~(1u << current->thread % 32);
    if (order != 0 && random_bits() % 4 == 0) {
        mine.ready = ~0u;
        give_way();
    }
}

void block_sync() {
    warp &mine = *current_warp;
    mine.at_barrier |= 1u << current->thread % 32;
    block &own = blocks[current->block];
    own.at_barrier++;
    if (own.at_barrier == own.live) release_block(current->block);
    give_way();
}

void watch(const char *name) {
    warp &mine = *current_warp;
    mine.watching |= 1u << current->thread % 32;
    mine.watched = name;
    give_way();
}

void wake_watchers() {
    for (uint32_t i = 0; i < warp_count; i++) {
        warps[i].ready |= warps[i].watching;
        warps[i].watching = 0;
    }
}

uint32_t warp_number() { return current->thread / 32; }

uint32_t shared_bytes() { return launch.shared_bytes; }

unsigned char *shared_place::address() const {
    if (!is_static) return blocks[block].dynamic + offset;
    return (block == loaded ? __start_apus_shared : blocks[block].statics.data()) + offset;
}

shared_place place_in(uint32_t block, const void *pointer) {
    const unsigned char *const place = static_cast<const unsigned char *>(pointer);
    if (static_bytes() > 0 && place >= __start_apus_shared && place < __stop_apus_shared) {
        return {block, true, static_cast<size_t>(place - __start_apus_shared)};
    }
    if (place < dynamic_shared || place >= dynamic_shared + shared_bytes()) {
        fail("thread %u means something that is not in its block's shared memory", current->thread);
    }
    return {block, false, static_cast<size_t>(place - dynamic_shared)};
}

uint32_t blocks_together() { return together_count; }
uint32_t threads_together() { return together_count * threads_each; }
bool has_ended(uint32_t block) { return blocks[block].live == 0; }

void wait_for_dependencies() { current->has_waited = true; }

void waits_in_vain(int rank) { fail("waits for rank %d, and no other rank runs meanwhile", rank); }

const kernel *find(const char *name) {
    const kernel *entry = first_kernel;
    while (entry != nullptr && strcmp(entry->name, name) != 0) entry = entry->next;
    return entry;
}

int32_t check(const char *name, const kernel *entry, const cuda_launch &shape) {
    if (entry == nullptr) return refuse(name, "no such kernel is compiled in", 0, 500);
    if (shape.threads == 0 || shape.threads > most_threads) return refuse(name, "threads of a block", shape.threads, 1);
    if (shape.threads > entry->max_threads) return refuse(name, "more threads than declared", shape.threads, 1);
    if (shape.grid_x == 0 || shape.grid_x > INT32_MAX) return refuse(name, "grid's x", shape.grid_x, 1);
    if (shape.grid_y == 0 || shape.grid_y > UINT16_MAX) return refuse(name, "grid's y", shape.grid_y, 1);
    if (shape.grid_z == 0 || shape.grid_z > UINT16_MAX) return refuse(name, "grid's z", shape.grid_z, 1);
    if (shape.grid_x % entry->together != 0) return refuse(name, "grid's x, of blocks in pairs", shape.grid_x, 1);
    if (shape.threads * entry->together > most_threads) return refuse(name, "threads of a pair", shape.threads, 1);
    if (entry->together > 1 && shape.threads % 32 != 0) return refuse(name, "threads, in pairs", shape.threads, 1);
    if (shape.shared_bytes > most_shared_bytes) return refuse(name, "bytes of shared memory", shape.shared_bytes, 1);
    return 0;
}

}  // namespace emulator

using namespace emulator;

int32_t cuda_emulator_launch_named(const char *name, const cuda_launch *shape, const void *arguments) {
    const std::lock_guard<std::mutex> guard(launch_lock);
    const kernel *const entry = find(name);
    const int32_t refused = check(name, entry, *shape);
    if (refused != 0) return refused;
    if (shared_end == nullptr) allocate_memory();
    launch = {entry, arguments, shape->shared_bytes, false, ""};
    blockDim = {shape->threads, 1, 1};
    gridDim = {shape->grid_x, shape->grid_y, shape->grid_z};
    for (uint32_t i = 0; i < most_together; i++) {
        forbid(shared_end_of(i) - shared_pages, shared_pages);
        permit(shared_end_of(i) - (shape->shared_bytes + 1023) / 1024 * 1024, shape->shared_bytes);
    }
    // Of those that run together, the first.
    const uint32_t columns = shape->grid_x / entry->together;
    const uint64_t groups = static_cast<uint64_t>(columns) * shape->grid_y * shape->grid_z;
    random_state = order * 0x9E3779B97F4A7C15 + 1;
    // Blocks of other orders begin anywhere and may descend.
    for (int i = 0; i < 8; i++) random_bits();
    const uint64_t first = order == 0 ? 0 : random_bits() % groups;
    const bool descends = order != 0 && random_bits() % 2 == 1;
    for (uint64_t i = 0; i < groups; i++) {
        const uint64_t group = (first + (descends ? groups - i : i)) % groups;
        blockIdx.y = static_cast<uint32_t>(group / columns % shape->grid_y);
        blockIdx.z = static_cast<uint32_t>(group / columns / shape->grid_y);
        const uint32_t index = static_cast<uint32_t>(group % columns) * entry->together;
        run_blocks(index, entry->together, shape->threads, shape->shared_bytes);
        if (launch.has_failed) {
            // Its threads never return from the frames they are in.
            permit(shared_end - shared_pages - most_threads * stack_bytes, most_threads * stack_bytes);
            fprintf(stderr, "%s, block (%u, %u, %u): %s\n", name, blockIdx.x, blockIdx.y, blockIdx.z, launch.reason);
            return 719;
        }
    }
    return 0;
}

int32_t cuda_emulator_launch(const cuda_launch *launch, const void *arguments) {
    const char *const name = cuda_kernel_name(launch->kernel);
    return cuda_emulator_launch_named(name == nullptr ? "no kernel" : name, launch, arguments);
}

void cuda_emulator_set_order(uint64_t seed) {
    const std::lock_guard<std::mutex> guard(launch_lock);
    order = seed;
}

bool cuda_emulator_is_sanitized(void) { return is_sanitized; }

bool cuda_emulator_has_kernel(const char *name) { return find(name) != nullptr; }
