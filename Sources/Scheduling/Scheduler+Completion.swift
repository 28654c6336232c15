// Takes in what a step computed.
//
// Counts advance, full blocks become findable, sampled tokens are appended, and sequences end. Rows and blocks are
// released here when no step in flight writes them any more: those of sequences that ended or had to give way while
// the step ran, and those that end now unless the next step, planned before anyone knew, computes for them in vain.

/// A step that was planned and not completed.
struct StepInFlight {
    let index: Int
    /// [sequences] Whose shares the output holds, in its order. By reference: a row may have a new owner by now.
    let members: [SequenceState]
}

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
        let step = takeStep(output.stepIndex)
        var sampleCount = 0
        var someLeft = false
        for (place, sequence) in step.members.enumerated() {
            let scheduled = output.sequences[place]
            let first = sampleCount
            sampleCount += scheduled.sampleCount
            precondition(sampleCount <= samples.count, "step \(step.index) has only \(samples.count) samples")
            leave(scheduled, sequence)
            if scheduled.draftCount > 0 {
                verify(sequence, samples[first..<sampleCount], into: &events)
            } else {
                advance(
                    sequence, by: scheduled.tokenRange.count, sample: scheduled.samples ? samples[first] : nil,
                    into: &events)
            }
            releaseHiddenBlocks(of: sequence, hasSampled: scheduled.samples)
            if sequence.isInFlight || sequence.stage == .running { continue }
            someLeft = true
            if sequence.stage == .leaving { withdraw(sequence) } else { retire(sequence) }
        }
        precondition(sampleCount == samples.count, "\(samples.count) samples for \(sampleCount) sequences")
        if someLeft { running.removeAll { $0.slot < 0 } }
        recycle(output, step)
    }

    /// Takes the oldest step off the list; it must be the one with this number.
    mutating func takeStep(_ index: Int) -> StepInFlight {
        precondition(stepsInFlight.first?.index == index, "step \(index) is not the oldest in flight")
        return stepsInFlight.removeFirst()
    }

    /// Takes the share of one sequence out of what is in flight.
    func leave(_ scheduled: ScheduledSequence, _ sequence: SequenceState) {
        sequence.inFlightTokenCount -= scheduled.tokenRange.count
        if scheduled.samples { sequence.pendingTokenCount -= 1 }
    }

    /// Counts what one sequence computed and appends what it sampled. Nothing is sampled for one that has ended.
    private mutating func advance(
        _ sequence: SequenceState, by count: Int, sample: TokenSample?, into events: inout [SchedulerEvent]
    ) {
        totals.computedTokens += count
        sequence.computedTokenCount += count
        let lives = sequence.stage != .finished || faults.contains(.keepsLateTokens)
        if let sample, !sample.isFinite, sequence.allowsNothing {
            publishFullBlocks(of: sequence)
            if lives { events.append(finish(sequence, .error(.nothingAllowed))) }
            return
        }
        if let sample, !sample.isFinite {
            if faults.contains(.publishesNonFinite) { publishFullBlocks(of: sequence) } else { taint(sequence) }
            if lives { events.append(finish(sequence, .error(.nonFiniteLogits))) }
            return
        }
        publishFullBlocks(of: sequence)
        if sample != nil { sequence.isProven = true }
        if let sample, lives { append(sample, to: sequence, into: &events) }
    }

    mutating func append(
        _ sample: TokenSample, to sequence: SequenceState, into events: inout [SchedulerEvent]
    ) {
        if sequence.generatedTokenCount == 0 { totals.promptTokens += sequence.promptTokenCount }
        if sequence.pooling != nil {
            // The row was only needed for its state.
            events.append(finish(sequence, .complete))
            return
        }
        totals.generatedTokens += 1
        if limits.policy == .fair { shares.charge(sequence.tenant, generatedTokens: 1) }
        sequence.tokens.append(sample.token)
        sequence.history?.append(sample.token)
        if !sequence.forced.isEmpty { sequence.forced.removeAll(keepingCapacity: true) }
        events.append(SchedulerEvent(id: sequence.id, kind: .token(sample)))
        if sequence.stopTokens.contains(sample.token) {
            events.append(finish(sequence, .stop(sample.token)))
        } else if sequence.tokens.count >= sequence.lengthLimit {
            events.append(finish(sequence, .length))
        } else if let repetition = sequence.repetition,
            repetition.finds(in: sequence.tokens[sequence.promptTokenCount...])
        {
            events.append(finish(sequence, .repetition))
        }
    }

    mutating func publishFullBlocks(of sequence: SequenceState) {
        guard limits.enablePrefixCaching, !sequence.isTainted else { return }
        // A token that was computed for a sequence that had ended is known to nobody.
        var full = min(sequence.computedTokenCount, sequence.tokens.count) / limits.blockSize
        if faults.contains(.publishesUnfilled) {
            full = min(sequence.table.count, sequence.tokens.count / limits.blockSize)
        }
        guard sequence.publishedBlockCount < full else { return }
        sequence.extendKeys(to: full, blockSize: limits.blockSize, hasher: hasher)
        while sequence.publishedBlockCount < full {
            let index = sequence.publishedBlockCount
            sequence.lastPublication = pool.publish(
                sequence.table.blocks[index],
                sequence.contents(ofBlock: index, parent: sequence.lastPublication, blockSize: limits.blockSize),
                company: company(ofBlock: index, of: sequence))
            sequence.publishedBlockCount += 1
        }
    }

    /// Keeps the arrays of a step for the next one.
    private mutating func recycle(_ output: consuming SchedulerOutput, _ step: consuming StepInFlight) {
        spareMembers = step.members
        _ = consume step
        spareMembers.removeAll(keepingCapacity: true)
        spareSequences = output.sequences
        spareTokens = output.tokens
        spareBlocks = output.blocks
        _ = consume output
        spareSequences.removeAll(keepingCapacity: true)
        spareTokens.removeAll(keepingCapacity: true)
        spareBlocks.removeAll(keepingCapacity: true)
    }
}
