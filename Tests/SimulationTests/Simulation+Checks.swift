// What must be true of every step and of every end, whatever the scheduler thinks.

import Scheduling

extension Simulation {
    /// The scheduler's own deep check.
    mutating func checkInvariants() throws {
        guard checksDeeply else { return }
        do { try scheduler.checkInvariants(counting: &holders) } catch { throw failure(error.description) }
    }

    /// A step in flight writes blocks that somebody holds, for whoever still has the row.
    func checkBlocks(of output: borrowing SchedulerOutput) throws {
        for index in output.sequences.indices {
            let id = output.sequences[index].id
            if scheduler.owner(ofRow: output.sequences[index].slot) != id {
                throw failure("\(id) lost its row while a step in flight computes for it")
            }
            let hidden = scenario.limits.hiddenBlocks(at: output.sequences[index].start)
            let groups = scenario.limits.layerGroups
            try checkHeld(output.sequences[index].blockRange.dropFirst(groups == nil ? hidden : 0), of: output)
            guard let groups else { continue }
            let behind = (hidden - output.sequences[index].firstWindowedEntry) * groups.windowedCount
            try checkHeld(output.sequences[index].windowedRange.dropFirst(behind), of: output)
        }
    }

    private func checkHeld(_ places: Range<Int>, of output: borrowing SchedulerOutput) throws {
        for place in places where scheduler.referenceCount(of: output.blocks[place]) == 0 {
            throw failure("\(output.blocks[place]) is written by a step in flight and nobody holds it")
        }
    }

    /// What must be true of every step.
    mutating func check(_ output: borrowing SchedulerOutput) throws {
        try checkInvariants()
        let limits = scenario.limits
        if output.isEmpty, !areRowsInFlight { throw failure("work is left and the step is empty") }
        if output.tokenCount > limits.tokenBudget { throw failure("\(output.tokenCount) tokens are over budget") }
        if output.sequences.count > limits.maxSequences { throw failure("\(output.sequences.count) sequences") }
        if output.sampleCount > limits.maxSequences { throw failure("\(output.sampleCount) samples") }
        for id in output.preempted { try checkPreemption(of: id, by: output) }
        var slots: UInt64 = 0
        var nextToken = 0
        for sequence in output.sequences {
            guard let track = track(sequence.id), track.ending == nil else {
                throw failure("\(sequence.id) is scheduled and does not live")
            }
            if !(0..<limits.maxSequences).contains(sequence.slot) || slots & 1 << sequence.slot != 0 {
                throw failure("row \(sequence.slot) is given twice")
            }
            slots |= 1 << sequence.slot
            if let owner = rowsInFlight[sequence.slot], owner != sequence.id {
                throw failure("\(sequence.id) has row \(sequence.slot) while a step in flight computes \(owner) there")
            }
            if let slot = track.slot, slot != sequence.slot { throw failure("\(sequence.id) changed its row") }
            if sequence.tokenRange.lowerBound != nextToken || sequence.tokenRange.isEmpty {
                throw failure("token ranges have gaps")
            }
            if sequence.blockRange.count != limits.blocks(forTokens: sequence.contextLength) {
                throw failure("\(sequence.id) shows \(sequence.blockRange.count) blocks")
            }
            if let groups = limits.layerGroups {
                let entries = sequence.blockRange.count - sequence.firstWindowedEntry
                if sequence.windowedRange.count != entries * groups.windowedCount
                    || sequence.firstWindowedEntry > limits.hiddenBlocks(at: sequence.start)
                {
                    throw failure("\(sequence.id) shows windowed groups \(sequence.windowedRange.count) blocks")
                }
                if sequence.firstWindowedEntry > 0 {
                    coverage.windowedShares += 1
                    if sequence.start % limits.blockSize == 0, track.slot == nil { coverage.windowedHits += 1 }
                }
            }
            let isForced = track.forcedTokenCount > 0
            let guesses = limits.speculation
            let mostDrafts = !sequence.samples ? 0 : isForced ? guesses.forcedTokenCount : guesses.draftTokenCount
            if sequence.draftCount > mostDrafts {
                throw failure("\(sequence.id) guesses \(sequence.draftCount) tokens")
            }
            nextToken = sequence.tokenRange.upperBound
            fold(Int(sequence.id.rawValue) << 32 | sequence.start << 16 | sequence.tokenRange.count)
            track.slot = sequence.slot
        }
    }

    private mutating func checkPreemption(of id: RequestID, by output: borrowing SchedulerOutput) throws {
        guard let victim = track(id) else { throw failure("\(id) was preempted and is unknown") }
        coverage.preemptions += 1
        if victim.flights > 0 { coverage.lateWithdrawals += 1 }
        if victim.preemptions >= scenario.limits.maxPreemptions {
            throw failure("\(id) was preempted \(victim.preemptions + 1) times")
        }
        victim.preemptions += 1
        victim.slot = nil
        // Under fair sharing whoever holds most gives way.
        if scenario.limits.policy != .fair {
            for sequence in output.sequences {
                if let other = track(sequence.id), other.order > victim.order {
                    throw failure("\(id) was preempted while \(sequence.id), which comes later, runs")
                }
            }
        }
        if victim.preemptions == scenario.limits.maxPreemptions {
            victim.order.unprotected = 0
            coverage.protections += 1
        }
    }

    func isAtLength(_ track: Track) -> Bool {
        track.tokens == track.maxNewTokens || track.tokens + track.promptCount == scenario.limits.maxModelLength
    }

    mutating func check(_ reason: FinishReason, _ usage: RequestUsage, of track: Track) throws {
        let id = track.id
        let isExpected =
            switch reason {
            case .stop(let token): track.stopTokens.contains(token)
            case .length: isAtLength(track)
            case .repetition, .complete: false
            case .abort: track.isAborted
            case .deadline: track.deadline.map { $0 <= now } ?? false
            case .error(.nonFiniteLogits): track.isBroken
            case .error(.stepFailed): isFailing
            case .error: false
            }
        if !isExpected { throw failure("\(id) ended with \(reason) after \(track.tokens) tokens") }
        if usage.generatedTokens != track.tokens || usage.promptTokens != track.promptCount {
            throw failure("\(id) reports \(usage) after \(track.tokens) tokens")
        }
        if usage.cachedTokens < 0 || usage.cachedTokens >= usage.promptTokens {
            throw failure("\(id) took \(usage.cachedTokens) of \(usage.promptTokens) tokens from the cache")
        }
        if usage.preemptions > track.preemptions {
            throw failure("\(id) reports \(usage.preemptions) preemptions of \(track.preemptions)")
        }
        coverage.count(reason)
    }
}
