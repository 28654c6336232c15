// What a recorded step is made of: its operations, the threads' parts, and the stages of one whose operations threads
// divide between them. Private.

#ifndef CPU_STEP_H
#define CPU_STEP_H

#include "rows.h"

/// Rows up to which threads divide each operation between them without leaving the step (together.c): with two threads
/// and 8 rows 13 % faster than 4 rows each, which would have both read all weights; with 9 to 14 alike, with 16 slower.
#define TOGETHER_ROWS 8

/// Neighbouring rows that one thread takes through the step.
typedef struct {
    int64_t begin;
    int64_t end;
    /// The first of the earlier parts that write keys and values this one reads.
    int64_t first_needed;
    cpu_context *context;
    /// Starts of the queries within these rows.
    int32_t *starts;
    /// How many times keys and values have been stored.
    gate stored;
    /// How many times keys and values have been asked for.
    int64_t fetched;
    bool has_failed;
} step_part;

/// Operations between two places where threads that divide them wait for each other; they are cut into units.
typedef struct {
    enum { STAGE_LINEAR, STAGE_SEQUENCES, STAGE_ROWS, STAGE_ALL } kind;
    int32_t units;
    /// Units of the stages before.
    int64_t base;
    int64_t first;
    int64_t end;
    /// Sequences of a unit.
    int64_t share;
    /// Pairs of row groups of a linear layer; the first unit of each thread has `long_run` of them, the others fewer.
    int64_t pairs;
    int64_t long_run;
    int64_t short_run;
} step_stage;

struct recorded_step {
    bool is_recording;
    bool has_failed;
    /// Whether rows are too few for each thread to have its own.
    bool is_together;
    int64_t rows;
    int64_t count;
    int64_t capacity;
    operation *operations;
    /// Operations that have been written, this step or before.
    int64_t written;
    /// Work before each row; room for `row_capacity` of them, and for as many starts in each part.
    double *work;
    int64_t row_capacity;
    work_counter next;
    int part_count;
    step_part *parts;
    step_stage *stages;
    int64_t stage_capacity;
    /// Those between `first_stage` and `end_stage` are being run; units of them that are finished.
    int64_t first_stage;
    int64_t end_stage;
    gate finished;
};

/// Runs one operation on the part's rows; false when it could not get its memory.
bool run_operation(const recorded_step *step, step_part *part, const operation *o);
/// Runs operations `first` to `end` one after the other, all threads on each.
void run_one_by_one(cpu_context *context, recorded_step *step, int64_t first, int64_t end);
/// Runs all operations, threads dividing each between them.
void run_together(cpu_context *context, recorded_step *step);

#endif
