// What the kernel families share: the context, running a task on its threads, and scratch memory. Private.

#ifndef KERNELS_H
#define KERNELS_H

#include <stdalign.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if !defined(__linux__)
#include <pthread.h>
#endif

#include "CPUKernels.h"
#include "fetch_ahead.h"

/// Rows of scratch memory that are kept for reuse, by use.
typedef enum {
    SCRATCH_ACTIVATIONS,
    SCRATCH_INPUT,
    SCRATCH_PATCH,
    SCRATCH_ROTARY,
    SCRATCH_ATTENTION,
    SCRATCH_PARTIALS,
    SCRATCH_ITEMS,
    SCRATCH_SAMPLING,
    SCRATCH_EXPERTS,
    SCRATCH_ROUTES,
    SCRATCH_COUNT,
} scratch_use;

typedef struct {
    void *address;
    uint64_t bytes;
} scratch_area;

/// What `cpu_rotate` remembers of its last table of cosines and sines; the table is in SCRATCH_ROTARY.
typedef struct {
    int64_t tokens;
    int64_t frequency_count;
    float magnitude;
} rotary_cache;

typedef struct worker_pool worker_pool;
typedef struct recorded_step recorded_step;

struct cpu_context {
    int isa;
    worker_pool *pool;
    /// What `cpu_begin_step` records into; NULL where threads are few.
    recorded_step *step;
    scratch_area scratch[SCRATCH_COUNT];
    rotary_cache rotary;
    /// What this thread's linear layers ask for on behalf of its attention; see step.c.
    fetch_list fetch;
};

/// A counter that threads take work from; alone on its cache line.
typedef struct {
    alignas(64) _Atomic int64_t next;
    char padding[56];
} work_counter;

static inline int64_t take_work(work_counter *counter, int64_t count) {
    return atomic_fetch_add_explicit(&counter->next, count, memory_order_relaxed);
}

/// A word that threads wait on to change.
typedef struct {
    alignas(64) _Atomic uint32_t value;
    _Atomic uint32_t sleepers;
#if !defined(__linux__)
    pthread_mutex_t mutex;
    pthread_cond_t changed;
#endif
} gate;

void gate_init(gate *gate);
/// Wakes the sleepers after a change of the value.
void gate_wake(gate *gate);
/// Waits until the value is not `seen` and returns it.
uint32_t gate_await_change(gate *gate, uint32_t seen);

/// The threads that run a task together.
typedef struct {
    worker_pool *pool;
    int count;
} team;

typedef void (*worker_task)(void *arguments, const team *team, int worker);

worker_pool *worker_pool_create(int threads);
void worker_pool_destroy(worker_pool *pool);
int worker_pool_threads(const worker_pool *pool);

/// Runs `task` once on every thread, the caller's as worker 0; returns when all have finished.
void run_on_all(cpu_context *context, worker_task task, void *arguments);
/// The same for a task whose threads take work from a counter and never wait for each other: a thread that is still
/// asleep when the work is done is not waited for.
void run_on_available(cpu_context *context, worker_task task, void *arguments);
/// Runs `task` on the caller alone, waking nobody: for work shorter than a wake-up.
void run_alone(cpu_context *context, worker_task task, void *arguments);
/// Inside a task: waits until every thread of the team has come here.
void team_barrier(const team *team);

/// The contiguous share of `count` items that `worker` of `workers` gets.
static inline void static_share(int64_t count, int worker, int workers, int64_t *begin, int64_t *end) {
    *begin = count * worker / workers;
    *end = count * (worker + 1) / workers;
}

/// Rows that a thread takes at a time, so that each has several turns and one that sleeps leaves them to the others.
static inline int64_t rows_at_a_time(int64_t rows, const team *team) {
    return (rows + 4 * team->count - 1) / (4 * team->count);
}

/// Takes the next of `rows` rows, `at_a_time` of them; false when none is left.
static inline bool take_rows(work_counter *counter, int64_t rows, int64_t at_a_time, int64_t *begin, int64_t *end) {
    *begin = take_work(counter, at_a_time);
    *end = *begin + at_a_time < rows ? *begin + at_a_time : rows;
    return *begin < rows;
}

/// At least `bytes` bytes, 64-byte aligned, kept until a larger request of the same use; NULL when out of memory.
/// The content survives as long as no larger request comes.
void *scratch(cpu_context *context, scratch_use use, uint64_t bytes);

/// What an operation works on whose rows need nothing but themselves (rows.h); each says what it makes of it.
typedef struct {
    float *x;
    int64_t x_stride;
    const float *weight;
    float *output;
    int64_t output_stride;
    /// A row's parts, side by side, and their width.
    int64_t parts;
    int64_t width;
    float number;
    int32_t kind;
    /// Of low-rank changes (lora.c): which each row takes, and the second matrices.
    const int32_t *choices;
    const float *up;
    const int32_t *ranks;
    int64_t output_width;
} row_arguments;

/// One operation over the rows of a step.
typedef struct operation {
    enum { OPERATION_EMBED, OPERATION_NORM, OPERATION_LINEAR, OPERATION_ROTATE, OPERATION_STORE, OPERATION_ATTEND,
        OPERATION_GATE, OPERATION_ROWS } kind;
    int64_t rows;
    union {
        struct { const int32_t *tokens; cpu_weight table; float *output; } embed;
        struct { const float *x; int64_t hidden; const float *weight; float epsilon; float *output; } norm;
        struct { const float *x; int64_t stride; cpu_weight weight; float *output; int64_t output_stride;
            bool accumulate; } linear;
        struct { float *x; int64_t stride, heads, head_dim; const int32_t *positions; const float *frequencies;
            int64_t frequency_count; float magnitude; bool interleaved; } rotate;
        struct { const float *qkv; int64_t stride, key_offset, value_offset; const int32_t *slots;
            cpu_kv_layer layer; } store;
        struct { cpu_attention_batch batch; cpu_kv_layer layer; } attend;
        struct { const float *x; int64_t ffn; float *output; } gate;
        struct { const worker_task *tasks; row_arguments arguments; } each_row;
    };
} operation;

/// Keeps an operation for later if a step is being recorded and it has the step's rows. False: it is to be run now, and
/// whatever was recorded before it has been.
bool record(cpu_context *context, operation operation);
/// Runs what was recorded; what follows is run at once.
void run_recorded(cpu_context *context);
recorded_step *recorded_step_create(int isa, int threads);
void recorded_step_destroy(recorded_step *step);

/// Gates the rows of a part of a layer: x [tokens, 2 × width], side by side; the caller's thread alone.
void gate_patch(
    const cpu_context *context, const float *x, int64_t tokens, int64_t width, float *output, int64_t output_stride);

static inline int64_t round_up(int64_t value, int64_t multiple) {
    return (value + multiple - 1) / multiple * multiple;
}

#endif
