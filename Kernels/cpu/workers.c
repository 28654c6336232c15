// Math:    none; a team of threads that runs one task at a time, the caller included as worker 0.
// Shapes:  n/a
// Launch:  threads wait by spinning for SPIN_NANOSECONDS, then sleep in the kernel (futex), so that an idle server
//          uses no processor time and a busy one does not keep the HTTP threads from theirs.
// Bound:   latency of one cache line between cores; a run of an empty task is recorded in docs/benchmarks.
// Checked: WorkerPoolTests
// Source:  Drepper, "Futexes Are Tricky" (2011).

#if defined(__linux__)
#define _GNU_SOURCE
#endif

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

#include "kernels.h"

#if defined(__linux__)
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

/// How long a thread spins before it sleeps: longer than the gaps between the operations of a step (a few µs),
/// shorter than what a waiting HTTP thread would notice.
enum { SPIN_NANOSECONDS = 40000 };

/// Set in `entry` when the caller has done all the work there was: who comes later need not begin.
#define ENTRY_CLOSED ((uint64_t)1 << 31)

struct worker_pool {
    /// Number of the current run; workers wait for it to change.
    gate run;
    /// Workers that have finished the current run; the caller waits for as many as entered.
    gate finished;
    /// Number of the current run in the upper half; below it whether the run is closed, and how many entered.
    alignas(64) _Atomic uint64_t entry;
    /// Number of the current barrier within runs.
    gate phase;
    alignas(64) _Atomic uint32_t arrived;
    alignas(64) int count;
    worker_task task;
    void *arguments;
    _Atomic bool stops;
    int started;
    pthread_t threads[];
};

typedef struct {
    worker_pool *pool;
    int worker;
} worker_identity;

static inline void pause_briefly(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb");
#endif
}

static int64_t now_nanoseconds(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

void gate_init(gate *gate) {
    atomic_init(&gate->value, 0);
    atomic_init(&gate->sleepers, 0);
#if !defined(__linux__)
    pthread_mutex_init(&gate->mutex, NULL);
    pthread_cond_init(&gate->changed, NULL);
#endif
}

/// Sleeps unless the value is no longer `seen`. May return early.
static void gate_sleep(gate *gate, uint32_t seen) {
    // Sequentially consistent: either this thread sees the new value, or the one who changed it sees the sleeper.
    atomic_fetch_add(&gate->sleepers, 1);
#if defined(__linux__)
    syscall(SYS_futex, &gate->value, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
#else
    pthread_mutex_lock(&gate->mutex);
    while (atomic_load(&gate->value) == seen) pthread_cond_wait(&gate->changed, &gate->mutex);
    pthread_mutex_unlock(&gate->mutex);
#endif
    atomic_fetch_sub(&gate->sleepers, 1);
}

void gate_wake(gate *gate) {
    if (atomic_load(&gate->sleepers) == 0) return;
#if defined(__linux__)
    syscall(SYS_futex, &gate->value, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
#else
    pthread_mutex_lock(&gate->mutex);
    pthread_cond_broadcast(&gate->changed);
    pthread_mutex_unlock(&gate->mutex);
#endif
}

uint32_t gate_await_change(gate *gate, uint32_t seen) {
    uint32_t value = atomic_load_explicit(&gate->value, memory_order_acquire);
    if (value != seen) return value;
    int64_t deadline = now_nanoseconds() + SPIN_NANOSECONDS;
    do {
        for (int i = 0; i < 16; i++) {
            pause_briefly();
            value = atomic_load_explicit(&gate->value, memory_order_acquire);
            if (value != seen) return value;
        }
    } while (now_nanoseconds() < deadline);
    while ((value = atomic_load(&gate->value)) == seen) gate_sleep(gate, seen);
    return value;
}

/// Enters the current run unless it is closed or is `last`. Returns its number, or `last`.
static uint32_t enter_run(worker_pool *pool, uint32_t last) {
    uint64_t entry = atomic_load(&pool->entry);
    do {
        if ((entry & ENTRY_CLOSED) != 0 || (uint32_t)(entry >> 32) == last) return last;
    } while (!atomic_compare_exchange_weak(&pool->entry, &entry, entry + 1));
    return (uint32_t)(entry >> 32);
}

static void *worker_main(void *argument) {
    worker_identity identity = *(worker_identity *)argument;
    free(argument);
    worker_pool *pool = identity.pool;
    uint32_t seen = 0, last = 0;
    for (;;) {
        seen = gate_await_change(&pool->run, seen);
        if (atomic_load(&pool->stops)) return NULL;
        uint32_t run = enter_run(pool, last);
        if (run == last) continue;
        last = run;
        pool->task(pool->arguments, &(team){ pool, pool->count }, identity.worker);
        atomic_fetch_add(&pool->finished.value, 1);
        gate_wake(&pool->finished);
    }
}

static bool start_worker(worker_pool *pool, int worker) {
    worker_identity *identity = malloc(sizeof *identity);
    if (identity == NULL) return false;
    *identity = (worker_identity){ pool, worker };
    if (pthread_create(&pool->threads[worker - 1], NULL, worker_main, identity) != 0) {
        free(identity);
        return false;
    }
#if defined(__linux__)
    (void)pthread_setname_np(pool->threads[worker - 1], "apus-worker");
#endif
    return true;
}

worker_pool *worker_pool_create(int threads) {
    size_t bytes = sizeof(worker_pool) + (size_t)(threads - 1) * sizeof(pthread_t);
    worker_pool *pool = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (pool == NULL) return NULL;
    memset(pool, 0, bytes);
    gate_init(&pool->run);
    gate_init(&pool->finished);
    atomic_init(&pool->entry, ENTRY_CLOSED);
    gate_init(&pool->phase);
    pool->count = threads;
    // Signals are for the server's own threads.
    sigset_t all, previous;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &previous);
    while (pool->started < threads - 1 && start_worker(pool, pool->started + 1)) pool->started += 1;
    pthread_sigmask(SIG_SETMASK, &previous, NULL);
    if (pool->started < threads - 1) {
        worker_pool_destroy(pool);
        return NULL;
    }
    return pool;
}

void worker_pool_destroy(worker_pool *pool) {
    atomic_store(&pool->stops, true);
    atomic_fetch_add(&pool->run.value, 1);
    gate_wake(&pool->run);
    for (int i = 0; i < pool->started; i++) pthread_join(pool->threads[i], NULL);
    free(pool);
}

int worker_pool_threads(const worker_pool *pool) {
    return pool->count;
}

static void run(cpu_context *context, worker_task task, void *arguments, bool needs_all) {
    // An operation that is not recorded comes after those that were.
    run_recorded(context);
    worker_pool *pool = context->pool;
    if (pool->count == 1) {
        run_alone(context, task, arguments);
        return;
    }
    pool->task = task;
    pool->arguments = arguments;
    uint32_t number = atomic_load(&pool->run.value) + 1;
    atomic_store(&pool->finished.value, 0);
    atomic_store(&pool->entry, (uint64_t)number << 32);
    atomic_store(&pool->run.value, number);
    gate_wake(&pool->run);
    task(arguments, &(team){ pool, pool->count }, 0);
    uint32_t entered = (uint32_t)(pool->count - 1);
    if (!needs_all) entered = (uint32_t)atomic_fetch_or(&pool->entry, ENTRY_CLOSED);
    uint32_t finished = atomic_load_explicit(&pool->finished.value, memory_order_acquire);
    while (finished != entered) finished = gate_await_change(&pool->finished, finished);
}

void run_on_all(cpu_context *context, worker_task task, void *arguments) {
    run(context, task, arguments, true);
}

void run_on_available(cpu_context *context, worker_task task, void *arguments) {
    run(context, task, arguments, false);
}

void run_alone(cpu_context *context, worker_task task, void *arguments) {
    run_recorded(context);
    task(arguments, &(team){ context->pool, 1 }, 0);
}

void team_barrier(const team *team) {
    if (team->count == 1) return;
    worker_pool *pool = team->pool;
    uint32_t phase = atomic_load_explicit(&pool->phase.value, memory_order_acquire);
    if (atomic_fetch_add(&pool->arrived, 1) == (uint32_t)(team->count - 1)) {
        atomic_store(&pool->arrived, 0);
        atomic_fetch_add(&pool->phase.value, 1);
        gate_wake(&pool->phase);
    } else {
        (void)gate_await_change(&pool->phase, phase);
    }
}

static void visit(void *arguments, const team *team, int worker) {
    int64_t *visits = arguments;
    visits[worker] += 1;
    team_barrier(team);
}

void cpu_visit(cpu_context *context, int64_t *visits) {
    run_on_all(context, visit, visits);
}
