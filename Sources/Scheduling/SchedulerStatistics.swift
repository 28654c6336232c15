// What the scheduler counts, for metrics and for the throughput line.
//
// Gauges describe now; totals only grow.

/// A reading of the scheduler's gauges and totals.
package struct SchedulerStatistics: Sendable, Equatable {
    /// Sequences that hold a row, those aborted during the current step included until it completes.
    package var running = 0
    /// Sequences that wait for one.
    package var waiting = 0
    /// Blocks held by at least one sequence.
    package var usedBlocks = 0
    /// Blocks held by none, whether or not they keep a cached prefix.
    package var freeBlocks = 0
    /// Those of the free blocks that keep a cached prefix and can be found again.
    package var cachedBlocks = 0
    /// [0, 1] usedBlocks over all blocks.
    package var kvUsage = 0.0
    /// Total of sequences that lost their blocks to another.
    package var preemptions = 0
    /// Total of tokens that had been computed and were given up by preemption.
    package var recomputedTokens = 0
    /// Total of prompt tokens looked up in the prefix cache.
    package var prefixQueries = 0
    /// Total of prompt tokens found there.
    package var prefixHits = 0
    /// Total of times a sequence sat out a step to share a block that another was computing.
    package var sharedWaits = 0
    /// Total of prompt tokens of requests that produced their first token.
    package var promptTokens = 0
    /// Total of generated tokens.
    package var generatedTokens = 0
    /// Total of tokens computed, recomputation included.
    package var computedTokens = 0
    /// Total of requests accepted by `add`.
    package var accepted = 0
    /// Total of requests that ended, in any way.
    package var finished = 0
    /// Total of rows given back by requests that ended.
    package var rowsReleased = 0
    /// Total of steps that tenants with many rows left to the prompt of one with few.
    package var stepsLeft = 0
    /// Total of rows that they gave up for one.
    package var rowsYielded = 0
    /// Totals of guessing ahead.
    package var speculation = SpeculationStatistics()
    /// The same of what constraints force.
    package var jumpForward = SpeculationStatistics()

    /// All zero.
    package init() {}
}
