// A step that could not be executed, on a device that is sound: what it would have computed is planned again.
//
// Nobody knows what the step wrote, so its sequences give their blocks back, to be cleared, and wait for their turn as
// preempted ones do. What they generated they keep, and what was published before the step they find again.

extension Scheduler {
    /// Takes a step back; stands in for `complete`. The step planned behind it, if any, must be taken back next:
    /// the counts of its sequences are only right again after that.
    ///
    /// - Parameter endsSuspect: end the sequence that is served last of those in the step, because the step may have
    ///   failed for its sake; those served before it have mostly been in steps that succeeded.
    package mutating func rollBack(
        _ output: consuming SchedulerOutput, endsSuspect: Bool
    ) -> [SchedulerEvent] {
        let step = takeStep(output.stepIndex)
        var events: [SchedulerEvent] = []
        if endsSuspect, let suspect = step.members.filter({ $0.stage != .finished }).max(by: { $0.order < $1.order }) {
            events.append(finish(suspect, .error(.stepFailed)))
        }
        // They were to be cleared by this step.
        pool.taint(output.scrubbedBlocks[...])
        for (scheduled, sequence) in zip(output.sequences, step.members) {
            leave(scheduled, sequence)
            let firstEntry = scheduled.start / limits.blockSize
            pool.taint(output.blocks[scheduled.blockRange].dropFirst(firstEntry))
            if let groups = limits.layerGroups {
                let before = (firstEntry - scheduled.firstWindowedEntry) * groups.windowedCount
                pool.taint(output.blocks[scheduled.windowedRange].dropFirst(before))
            }
            sequence.drafts.removeAll(keepingCapacity: true)
            if !scheduled.scoredRange.isEmpty {
                sequence.scoredTokenCount = min(sequence.scoredTokenCount, scheduled.scoredStart + 1)
            }
            if !scheduled.pooledRows.isEmpty {
                let first = scheduled.start + scheduled.pooledRows.lowerBound - scheduled.tokenRange.lowerBound
                sequence.pooledTokenCount = min(sequence.pooledTokenCount, first)
            }
            if sequence.stage == .running { sequence.stage = .leaving }
            if sequence.isInFlight { continue }
            if sequence.stage == .leaving { withdraw(sequence) } else { retire(sequence) }
        }
        running.removeAll { $0.slot < 0 }
        return events
    }
}
