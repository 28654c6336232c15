// Takes in what a step computed.
//
// Counts advance, full blocks become findable, sampled tokens are appended, and sequences end. Rows and blocks of
// sequences that were aborted while the step ran are released here, because only now nothing writes them any more.

extension Scheduler {
    /// Completes a step. `samples` has one entry for each sequence of the output that samples, in order.
    package mutating func complete(
        _ output: consuming SchedulerOutput, samples: [TokenSample], now: Duration
    ) -> [SchedulerEvent] {
        var events: [SchedulerEvent] = []
        complete(output, samples: samples, now: now, into: &events)
        return events
    }

    /// Completes a step and appends its events to an array that the caller reuses.
    package mutating func complete(
        _ output: consuming SchedulerOutput, samples: [TokenSample], now: Duration, into events: inout [SchedulerEvent]
    ) {
        precondition(isStepInFlight && output.stepIndex == stepIndex, "step \(output.stepIndex) is not in flight")
        var sampleCount = 0
        var someFinished = false
        for scheduled in output.sequences {
            guard let sequence = slots[scheduled.slot] else {
                preconditionFailure("row \(scheduled.slot) of step \(stepIndex) belongs to nobody")
            }
            var sample: TokenSample?
            if scheduled.samples {
                precondition(sampleCount < samples.count, "step \(stepIndex) has only \(samples.count) samples")
                sample = samples[sampleCount]
                sampleCount += 1
            }
            advance(sequence, sample: sample, into: &events)
            if sequence.stage == .finished {
                retire(sequence)
                someFinished = true
            }
        }
        precondition(sampleCount == samples.count, "\(samples.count) samples for \(sampleCount) sequences")
        if someFinished { running.removeAll { $0.stage == .finished } }
        isStepInFlight = false
        stepIndex += 1
        recycle(output)
    }

    /// Counts what one sequence computed and appends what it sampled.
    private mutating func advance(
        _ sequence: SequenceState, sample: TokenSample?, into events: inout [SchedulerEvent]
    ) {
        totals.computedTokens += sequence.scheduledTokenCount
        sequence.computedTokenCount += sequence.scheduledTokenCount
        sequence.scheduledTokenCount = 0
        if let sample, !sample.isFinite {
            // What these blocks hold has poisoned a row; neither they nor what was built on them may be found again.
            if faults.contains(.publishesNonFinite) { publishFullBlocks(of: sequence) }
            if !faults.contains(.publishesNonFinite) { pool.unpublish(sequence.table) }
            if sequence.stage == .running { events.append(finish(sequence, .error(.nonFiniteLogits))) }
            return
        }
        publishFullBlocks(of: sequence)
        if let sample, sequence.stage == .running { append(sample, to: sequence, into: &events) }
    }

    private mutating func append(
        _ sample: TokenSample, to sequence: SequenceState, into events: inout [SchedulerEvent]
    ) {
        if sequence.generatedTokenCount == 0 { totals.promptTokens += sequence.promptTokenCount }
        totals.generatedTokens += 1
        sequence.tokens.append(sample.token)
        events.append(SchedulerEvent(id: sequence.id, kind: .token(sample)))
        if sequence.stopTokens.contains(sample.token) {
            events.append(finish(sequence, .stop(sample.token)))
        } else if sequence.tokens.count >= sequence.lengthLimit {
            events.append(finish(sequence, .length))
        }
    }

    private mutating func publishFullBlocks(of sequence: SequenceState) {
        guard limits.enablePrefixCaching else { return }
        var full = sequence.computedTokenCount / limits.blockSize
        if faults.contains(.publishesUnfilled) {
            full = min(sequence.table.count, sequence.tokens.count / limits.blockSize)
        }
        guard sequence.publishedBlockCount < full else { return }
        sequence.extendKeys(to: full, blockSize: limits.blockSize, hasher: hasher)
        while sequence.publishedBlockCount < full {
            let index = sequence.publishedBlockCount
            sequence.lastPublication = pool.publish(
                sequence.table.blocks[index],
                sequence.contents(ofBlock: index, parent: sequence.lastPublication, blockSize: limits.blockSize))
            sequence.publishedBlockCount += 1
        }
    }

    /// Keeps the arrays of an output for the next one.
    private mutating func recycle(_ output: consuming SchedulerOutput) {
        spareSequences = output.sequences
        spareTokens = output.tokens
        spareBlocks = output.blocks
        _ = consume output
        spareSequences.removeAll(keepingCapacity: true)
        spareTokens.removeAll(keepingCapacity: true)
        spareBlocks.removeAll(keepingCapacity: true)
    }
}
