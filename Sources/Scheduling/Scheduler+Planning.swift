// Hands out the tokens of one step.
//
// Running sequences first: those that extend by one token, then prefills, both in the order of service. Then waiting
// ones, while budget, rows and pool allow. Planning only counts; the output is written at the end, so a sequence that
// was planned can still be preempted by an older one.
//
// A sequence whose next full block is being computed in this very step sits the step out and shares the block in the
// next one. The claim lasts one step, so whatever happens to its maker, nobody waits for it twice.
//
// While a step is in flight, every sequence of it counts as having reached its end. What it samples has a position but
// no id yet: the next step names it by its row. Blocks that it writes stay where they are until it completes, so who
// must give way only leaves then, and who needs those blocks sits this step out.

extension Scheduler {
    /// Makes the next step, which must be completed even when it is empty. At most one other may be in flight.
    package mutating func schedule(now: Duration) -> SchedulerOutput {
        precondition(stepsInFlight.count < 2, "\(stepsInFlight.count) steps are in flight")
        plannedTokenCount = 0
        plannedWork = 0
        plannedScoreCount = 0
        isShortOfBlocks = false
        preempted.removeAll(keepingCapacity: true)
        if !faults.contains(.keepsClaims) {
            swap(&claims, &claimsInFlight)
            claims.removeAll(keepingCapacity: true)
            if stepsInFlight.isEmpty { claimsInFlight.removeAll(keepingCapacity: true) }
        }

        extendRunning { $0.remainingTokenCount == 1 }
        extendRunning { $0.remainingTokenCount > 1 }
        growthReserve.adapt(preempted: !preempted.isEmpty)
        // Whoever just lost its blocks would only win them back by taking them from another.
        if preempted.isEmpty, !isShortOfBlocks { admitWaiting(now: now) }

        precondition(plannedTokenCount <= limits.tokenBudget, "\(plannedTokenCount) of \(limits.tokenBudget) tokens")
        precondition(running.count <= limits.maxSequences, "\(running.count) of \(limits.maxSequences) sequences")
        return makeOutput()
    }

    /// Plans the running sequences that `isDue` picks, preempting from the end of the line when blocks run out.
    private mutating func extendRunning(where isDue: (SequenceState) -> Bool) {
        var position = 0
        while position < running.count {
            let sequence = running[position]
            position += 1
            guard sequence.stage == .running, sequence.scheduledTokenCount == 0, !sequence.awaitsToken, isDue(sequence)
            else { continue }
            shareComputedBlocks(with: sequence)
            if isNextBlockClaimed(sequence, at: sequence.reachedTokenCount) { continue }
            let count = chunk(of: sequence)
            if count > 0, reserve(count, for: sequence) { plan(count, for: sequence) }
        }
    }

    /// The tokens this step has for a sequence.
    private func chunk(of sequence: SequenceState) -> Int {
        var count = sequence.remainingTokenCount
        if !faults.contains(.ignoresBudget) { count = min(count, limits.tokenBudget - plannedTokenCount) }
        let threshold = limits.longPrefillTokenThreshold
        if threshold > 0 { count = min(count, threshold) }
        // Every running sequence may need a row of logits; a prompt that is scored takes what is left besides its own.
        if sequence.hasUnscoredTokens {
            count = min(count, 1 + limits.maxSequences - running.count - plannedScoreCount)
        }
        return affordable(count, at: sequence.reachedTokenCount)
    }

    /// As many of `count` tokens from `position` on as the rest of the step pays for; a single one is always paid for.
    private func affordable(_ count: Int, at position: Int) -> Int {
        guard count > 1, limits.attentionScale > 0 else { return count }
        let rest = limits.tokenBudget - plannedWork
        guard rest > 0 else { return 0 }
        // Both factors fit 31 bits, and so does each term of the sum.
        return max(1, min(count, rest * limits.attentionScale / (limits.attentionScale + position + count)))
    }

    /// What `count` tokens from `position` on cost, in tokens at position 0.
    private func work(_ count: Int, at position: Int) -> Int {
        guard count > 1, limits.attentionScale > 0 else { return count }
        return count + count * (position + count) / limits.attentionScale
    }

    /// Grows the table for `count` more tokens. False: the sequence itself was the one to give way, or must wait for
    /// blocks that a step in flight still writes.
    private mutating func reserve(_ count: Int, for sequence: SequenceState) -> Bool {
        let blocks = limits.blocks(forTokens: sequence.reachedTokenCount + count)
        if isShortOfBlocks, blocks > sequence.table.count { return false }
        while !pool.extend(&sequence.table, to: blocks) {
            // Some are coming already: of those who ended or gave way while a step was in flight.
            isShortOfBlocks = running.contains { $0.stage != .running }
            if isShortOfBlocks { return false }
            let victim = faults.contains(.preemptsOldest) ? running[0] : running[running.count - 1]
            preempt(victim)
            if victim === sequence { return false }
        }
        return true
    }

    private mutating func plan(_ count: Int, for sequence: SequenceState) {
        sequence.scheduledTokenCount = count
        plannedTokenCount += count
        plannedWork += work(count, at: sequence.reachedTokenCount)
        if sequence.hasUnscoredTokens { plannedScoreCount += count - 1 }
        claimBlocks(of: sequence)
    }

    /// Makes a running sequence give way: at once, or when the step in flight completes that writes its blocks.
    private mutating func preempt(_ sequence: SequenceState) {
        plannedTokenCount -= sequence.scheduledTokenCount
        plannedWork -= work(sequence.scheduledTokenCount, at: sequence.reachedTokenCount)
        if sequence.hasUnscoredTokens, sequence.scheduledTokenCount > 0 {
            plannedScoreCount -= sequence.scheduledTokenCount - 1
        }
        sequence.scheduledTokenCount = 0
        preempted.append(sequence.id)
        if sequence.isInFlight, !faults.contains(.withdrawsInFlight) {
            sequence.stage = .leaving
        } else {
            withdraw(sequence)
            running.removeAll { $0 === sequence }
        }
    }

    /// Takes everything from a sequence but what it has generated, and puts it back at the head of the queue. A token
    /// sampled by the step that was in flight is among what it keeps. The caller takes it out of `running`.
    mutating func withdraw(_ sequence: SequenceState) {
        totals.preemptions += 1
        totals.recomputedTokens += sequence.computedTokenCount
        sequence.preemptionCount += 1
        if !faults.contains(.keepsComputedCount) { sequence.computedTokenCount = 0 }
        if faults.contains(.resamples) { sequence.tokens.removeLast(sequence.generatedTokenCount) }
        sequence.publishedBlockCount = 0
        sequence.lastPublication = 0
        sequence.stage = .waiting
        retire(sequence)
        if !faults.contains(.losesPreempted) { waiting.insert(sequence) }
    }

    /// Admits from the head of the queue while the whole known part of the next sequence fits beside what the running
    /// ones are promised. Sequences that wait for a claimed block are passed over; nothing else is.
    private mutating func admitWaiting(now: Duration) {
        var promised = running.reduce(0) { $0 + promisedBlocks(to: $1) }
        var passed = 0
        while passed < min(waiting.count, limits.maxSequences), !freeSlots.isEmpty,
            running.count + plannedScoreCount < limits.maxSequences,
            max(plannedTokenCount, plannedWork) < limits.tokenBudget
        {
            let sequence = waiting[passed]
            let freeMatches = findCachedPrefix(of: sequence)
            if isNextBlockClaimed(sequence, at: matches.count * limits.blockSize) {
                passed += 1
                continue
            }
            let knownBlocks = limits.blocks(forTokens: sequence.tokens.count)
            let reserved = running.isEmpty ? 0 : promised + limits.watermarkBlocks
            guard knownBlocks - matches.count + freeMatches + reserved <= pool.freeCount else { return }
            waiting.remove(at: passed)
            admit(sequence, now: now)
            promised += promisedBlocks(to: sequence)
        }
    }

    /// Blocks that a running sequence will still take: those for its known tokens, and room to grow.
    private func promisedBlocks(to sequence: SequenceState) -> Int {
        guard sequence.stage == .running else { return 0 }
        let known = limits.blocks(forTokens: sequence.wantedTokenCount)
        let most = limits.blocks(forTokens: sequence.lengthLimit - 1)
        return min(known + growthReserve.blocks, max(known, most)) - sequence.table.count
    }

    /// Gives a waiting sequence a row, its cached prefix and its first chunk.
    private mutating func admit(_ sequence: SequenceState, now: Duration) {
        sequence.stage = .running
        sequence.slot = faults.contains(.sharesSlot) ? 0 : freeSlots[freeSlots.count - 1]
        freeSlots.removeLast()
        slots[sequence.slot] = sequence
        let position = running.lastIndex { $0.order < sequence.order }.map { $0 + 1 } ?? 0
        running.insert(sequence, at: position)
        if sequence.firstScheduled == nil {
            sequence.firstScheduled = now
            totals.prefixQueries += limits.enablePrefixCaching ? sequence.promptTokenCount : 0
        }
        for match in matches { share(match, with: sequence) }
        let count = chunk(of: sequence)
        let fits = pool.extend(&sequence.table, to: limits.blocks(forTokens: sequence.computedTokenCount + count))
        precondition(fits, "\(sequence.id) was admitted without blocks")
        plan(count, for: sequence)
    }

    private mutating func makeOutput() -> SchedulerOutput {
        var output = SchedulerOutput(
            stepIndex: stepIndex, sequences: spareSequences, tokens: spareTokens, blocks: spareBlocks,
            preempted: preempted)
        spareSequences = []
        spareTokens = []
        spareBlocks = []
        var members = spareMembers
        spareMembers = []
        var sampleCount = 0
        for sequence in running where sequence.scheduledTokenCount == 1 {
            append(sequence, to: &output, sampleCount: &sampleCount)
            members.append(sequence)
        }
        for sequence in running where sequence.scheduledTokenCount > 1 {
            append(sequence, to: &output, sampleCount: &sampleCount)
            members.append(sequence)
        }
        stepsInFlight.append(StepInFlight(index: stepIndex, members: members))
        stepIndex += 1
        return output
    }

    /// Writes the planned share of a sequence down; from here on it is in flight.
    private func append(_ sequence: SequenceState, to output: inout SchedulerOutput, sampleCount: inout Int) {
        let start = sequence.reachedTokenCount
        let end = start + sequence.scheduledTokenCount
        let samples = end == sequence.expectedTokenCount || faults.contains(.samplesEarly)
        let firstToken = output.tokens.count
        let firstBlock = output.blocks.count
        if start == sequence.tokens.count {
            output.tokens.append(-1 - TokenID(sequence.pendingRow))
        } else if end == start + 1 {
            output.tokens.append(sequence.tokens[start])
        } else {
            output.tokens.append(contentsOf: sequence.tokens[start..<end])
        }
        output.blocks.append(contentsOf: sequence.table.blocks)
        let firstScored = output.scoredTokens.count
        var scoredStart = start
        if sequence.hasUnscoredTokens {
            // A preempted prompt is computed again, but not scored again.
            scoredStart = max(start, sequence.scoredTokenCount - 1)
            let scoredEnd = min(end + 1, sequence.promptTokenCount)
            if scoredStart + 1 < scoredEnd {
                output.scoredTokens.append(contentsOf: sequence.tokens[scoredStart + 1..<scoredEnd])
                sequence.scoredTokenCount = scoredEnd
            }
        }
        output.sequences.append(
            ScheduledSequence(
                id: sequence.id, slot: sequence.slot, start: start, tokenRange: firstToken..<output.tokens.count,
                blockRange: firstBlock..<output.blocks.count, samples: samples, sampling: sequence.sampling,
                logitChange: samples ? sequence.logitChange : nil,
                scoredRange: firstScored..<output.scoredTokens.count, scoredStart: scoredStart,
                promptLogprobCount: sequence.promptLogprobCount ?? 0))
        sequence.inFlightTokenCount += sequence.scheduledTokenCount
        sequence.scheduledTokenCount = 0
        if samples {
            sequence.pendingTokenCount += 1
            sequence.pendingRow = sampleCount
            sampleCount += 1
        }
    }
}
