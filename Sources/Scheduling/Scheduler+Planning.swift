// Hands out the tokens of one step.
//
// Running sequences that extend by one token come first, then prompts (Scheduler+Prompts), and guesses get what is left
// (Scheduler+Drafts). Planning only counts; the output is written at the end, so a sequence that was planned can still
// be preempted by an older one.
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
        yieldCount = 0
        preempted.removeAll(keepingCapacity: true)
        if !faults.contains(.keepsClaims) {
            swap(&claims, &claimsInFlight)
            claims.removeAll(keepingCapacity: true)
            if stepsInFlight.isEmpty { claimsInFlight.removeAll(keepingCapacity: true) }
        }

        if limits.policy == .fair { planFairly(now: now) } else { planAll(beside: nil, now: now) }
        growthReserve.adapt(preempted: preempted.count > yieldCount)
        planDrafts()

        precondition(plannedTokenCount <= limits.tokenBudget, "\(plannedTokenCount) of \(limits.tokenBudget) tokens")
        precondition(running.count <= limits.maxSequences, "\(running.count) of \(limits.maxSequences) sequences")
        return makeOutput()
    }

    /// Plans one token for all that generate, then prompts.
    mutating func planAll(beside urgent: UrgentPrompt?, now: Duration) {
        extendRunning(beside: urgent)
        planPrompts(beside: urgent, now: now)
    }

    /// Plans the running sequences that extend by one token, but for those that leave their token to a prompt.
    mutating func extendRunning(beside urgent: UrgentPrompt?) {
        var position = 0
        while position < running.count {
            let sequence = running[position]
            position += 1
            guard sequence.stage == .running, sequence.remainingTokenCount == 1, !sequence.awaitsToken,
                sequence.scheduledTokenCount == 0, !awaitsDraft(sequence)
            else { continue }
            if let urgent, sitsOut(sequence, for: urgent) { continue }
            extend(sequence, share: limits.tokenBudget)
        }
    }

    /// Plans the next tokens of a running sequence, preempting from the end of the line when blocks run out.
    mutating func extend(_ sequence: SequenceState, share: Int) {
        shareComputedBlocks(with: sequence)
        if isNextBlockClaimed(sequence, at: sequence.reachedTokenCount) { return }
        let count = chunk(of: sequence, share: share)
        if count > 0, reserve(count, for: sequence) { plan(count, for: sequence) }
    }

    /// The tokens this step has for a sequence that may take `share` tokens' worth of it.
    func chunk(of sequence: SequenceState, share: Int) -> Int {
        var count = sequence.remainingTokenCount
        if !faults.contains(.ignoresBudget) { count = min(count, share, limits.tokenBudget - plannedTokenCount) }
        let threshold = limits.longPrefillTokenThreshold
        if threshold > 0 { count = min(count, threshold) }
        // Every running sequence may need a row of logits; a prompt that is scored takes what is left besides its own.
        if sequence.hasUnscoredTokens {
            count = min(count, 1 + limits.maxSequences - running.count - plannedScoreCount)
        }
        return affordable(count, at: sequence.reachedTokenCount, share: share)
    }

    /// As many of `count` tokens from `position` on as the rest of the step pays for; a single one is always paid for.
    private func affordable(_ count: Int, at position: Int, share: Int) -> Int {
        guard count > 1, limits.attentionScale > 0 else { return count }
        let rest = min(share, limits.tokenBudget - plannedWork)
        guard rest > 0 else { return 0 }
        // Both factors fit 31 bits, and so does each term of the sum.
        return max(1, min(count, rest * limits.attentionScale / (limits.attentionScale + position + count)))
    }

    /// What `count` tokens from `position` on cost, in tokens at position 0.
    func work(_ count: Int, at position: Int) -> Int {
        guard count > 1, limits.attentionScale > 0 else { return count }
        return count + count * (position + count) / limits.attentionScale
    }

    /// Grows the table for `count` more tokens. False: the sequence itself was the one to give way, or must wait for
    /// blocks that a step in flight still writes.
    private mutating func reserve(_ count: Int, for sequence: SequenceState) -> Bool {
        let blocks = limits.blocks(forTokens: sequence.reachedTokenCount + count)
        if isShortOfBlocks, blocks > sequence.table.count { return false }
        while !extendTables(of: sequence, to: blocks) {
            // Some are coming already: of those who ended or gave way while a step was in flight.
            isShortOfBlocks = running.contains { $0.stage != .running }
            if isShortOfBlocks { return false }
            let victim = faults.contains(.preemptsOldest) ? running[0] : running[running.count - 1]
            preempt(victim)
            if victim === sequence { return false }
        }
        return true
    }

    mutating func plan(_ count: Int, for sequence: SequenceState) {
        sequence.scheduledTokenCount = count
        plannedTokenCount += count
        plannedWork += work(count, at: sequence.reachedTokenCount)
        if sequence.hasUnscoredTokens { plannedScoreCount += count - 1 }
        claimBlocks(of: sequence)
    }

    /// Takes back what the step being planned holds for a sequence; its blocks stay.
    mutating func unplan(_ sequence: SequenceState) {
        guard sequence.scheduledTokenCount > 0 else { return }
        plannedTokenCount -= sequence.scheduledTokenCount
        plannedWork -= work(sequence.scheduledTokenCount, at: sequence.reachedTokenCount)
        if sequence.hasUnscoredTokens { plannedScoreCount -= sequence.scheduledTokenCount - 1 }
        sequence.scheduledTokenCount = 0
    }

    /// Makes a running sequence give way: at once, or when the step in flight completes that writes its blocks.
    mutating func preempt(_ sequence: SequenceState) {
        unplan(sequence)
        preempted.append(sequence.id)
        if sequence.isInFlight, !faults.contains(.withdrawsInFlight) {
            sequence.stage = .leaving
            // Blocks that it was given for this step, no step writes.
            trimTables(of: sequence, to: limits.blocks(forTokens: sequence.reachedTokenCount))
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
        if sequence.preemptionCount >= limits.maxPreemptions, !faults.contains(.preemptsForEver) { sequence.protect() }
        if !faults.contains(.keepsComputedCount) { sequence.computedTokenCount = 0 }
        if faults.contains(.resamples) { sequence.tokens.removeLast(sequence.generatedTokenCount) }
        sequence.publishedBlockCount = 0
        sequence.lastPublication = 0
        sequence.stage = .waiting
        retire(sequence)
        if !faults.contains(.losesPreempted) { waiting.insert(sequence) }
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
        output.scrubbedBlocks = pool.takeScrubs()
        var rowCount = 0
        var someTakeMore = false
        for sequence in running where sequence.scheduledTokenCount > 0 {
            if sequence.scheduledTokenCount > 1 { someTakeMore = true; continue }
            append(sequence, to: &output, rowCount: &rowCount)
            members.append(sequence)
        }
        for sequence in running where someTakeMore && sequence.scheduledTokenCount > 1 {
            append(sequence, to: &output, rowCount: &rowCount)
            members.append(sequence)
        }
        stepsInFlight.append(StepInFlight(index: stepIndex, members: members))
        stepIndex += 1
        return output
    }

    /// Writes the planned share of a sequence down; from here on it is in flight.
    private mutating func append(_ sequence: SequenceState, to output: inout SchedulerOutput, rowCount: inout Int) {
        let start = sequence.reachedTokenCount
        let end = start + sequence.scheduledTokenCount
        let drafts = sequence.drafts
        let samples = end - drafts.count == sequence.expectedTokenCount || faults.contains(.samplesEarly)
        let firstToken = output.tokens.count
        let firstBlock = output.blocks.count
        if start == sequence.tokens.count {
            output.tokens.append(-1 - TokenID(sequence.pendingRow))
        } else if end - drafts.count == start + 1 {
            output.tokens.append(sequence.tokens[start])
            output.tokens.append(contentsOf: drafts)
        } else {
            output.tokens.append(contentsOf: sequence.tokens[start..<end])
        }
        output.blocks.append(contentsOf: sequence.table.blocks)
        let firstWindowed = output.blocks.count
        if limits.layerGroups != nil { output.blocks.append(contentsOf: sequence.windowedTable.heldBlocks) }
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
        let tokenRange = firstToken..<output.tokens.count
        let pooledRows = sequence.rowsToPool(tokenRange, start: start, samples: samples)
        if !pooledRows.isEmpty { sequence.pooledTokenCount = end }
        output.sequences.append(
            ScheduledSequence(
                id: sequence.id, slot: sequence.slot, start: start, tokenRange: tokenRange,
                blockRange: firstBlock..<firstWindowed, windowedRange: firstWindowed..<output.blocks.count,
                firstWindowedEntry: sequence.windowedTable.hiddenCount, samples: samples, sampling: sequence.sampling,
                logitChange: samples ? sequence.logitChange : nil,
                scoredRange: firstScored..<output.scoredTokens.count, scoredStart: scoredStart,
                promptLogprobCount: sequence.promptLogprobCount ?? 0, draftCount: drafts.count, pooledRows: pooledRows,
                pooling: sequence.pooling, adapterPlace: sequence.adapter?.place ?? -1))
        if limits.policy == .fair { charge(sequence, to: end) }
        rowCount += output.scoredTokens.count - firstScored
        sequence.inFlightTokenCount += sequence.scheduledTokenCount
        sequence.scheduledTokenCount = 0
        if samples {
            sequence.pendingTokenCount += 1
            sequence.pendingRow = rowCount
            rowCount += 1 + drafts.count
        }
    }

    /// Charges the tenant for the prompt tokens before `end`, each once.
    private mutating func charge(_ sequence: SequenceState, to end: Int) {
        let new = min(end, sequence.promptTokenCount) - sequence.chargedTokenCount
        guard new > 0 else { return }
        shares.charge(sequence.tenant, promptTokens: new)
        sequence.chargedTokenCount += new
    }
}
