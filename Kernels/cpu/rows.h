// What operations share whose rows need nothing but themselves: one argument, one way to be recorded and to run. Private.

#ifndef CPU_ROWS_H
#define CPU_ROWS_H

#include "kernels.h"

/// Rows on their way through a task.
typedef struct {
    row_arguments a;
    int64_t rows;
    work_counter next;
} row_task;

/// Runs a family's task over `rows` rows, or keeps it for the step that is being recorded.
void apply_to_rows(cpu_context *context, const worker_task *tasks, int64_t rows, row_arguments arguments);

#endif
