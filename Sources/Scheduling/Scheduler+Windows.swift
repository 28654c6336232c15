// Models that look back on a window only: blocks that no later row can see are given back while the sequence runs.
//
// Their entries stay in the table, which is addressed by position, and name blocks that may be others' by now;
// attention does not look at them. What was published stays findable until somebody takes the block. Nothing is given
// back before a finite sample says that what the blocks hold can be trusted: a prompt keeps its blocks until its first
// token.

extension SchedulerLimits {
    /// Leading blocks of which a row at `position`, and all after it, see nothing.
    package func hiddenBlocks(at position: Int) -> Int {
        guard let slidingWindow else { return 0 }
        return max(0, position + 1 - slidingWindow) / blockSize
    }
}

extension Scheduler {
    /// Gives back what lies behind the window of the next row to compute. Steps in flight begin there or later.
    mutating func releaseHiddenBlocks(of sequence: SequenceState) {
        guard limits.slidingWindow != nil, sequence.stage == .running, !sequence.isTainted else { return }
        var count = limits.hiddenBlocks(at: sequence.computedTokenCount)
        if faults.contains(.hidesEarly) { count = min(count + 1, sequence.table.count) }
        pool.releaseLeading(count, of: &sequence.table)
    }
}
