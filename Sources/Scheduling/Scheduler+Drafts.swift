// Guessing ahead within a step: drafts are planned last, from what is left of budget, rows and blocks, and verified
// when the step completes.
//
// Where a step is planned while another is in flight, the last token is not known yet and nothing can be guessed from
// it. A sequence that would guess as things stand sits such a step out: a run of accepted guesses is worth more.

extension Scheduler {
    /// Says what must follow the known tokens of a request. It holds until the next token is known, and is verified as
    /// any guess is.
    package mutating func force(_ tokens: [TokenID], of id: RequestID) { sequences[id]?.forced = tokens }

    /// Whether a sequence whose last token is being sampled should wait for it, to guess what follows.
    mutating func awaitsDraft(_ sequence: SequenceState) -> Bool {
        guard sequence.pendingTokenCount > 0, proposer != nil, sequence.wantedDraftCount > 1 else { return false }
        guess(1, for: sequence)
        defer { sequence.drafts.removeAll(keepingCapacity: true) }
        return !sequence.drafts.isEmpty
    }

    /// Adds guesses to the sequences that extend by one token, in the order of service.
    mutating func planDrafts() {
        for sequence in running where proposer != nil || !sequence.forced.isEmpty {
            // One row and one token each; neither keeps anybody else from anything.
            let room = min(
                limits.tokenBudget - max(plannedTokenCount, plannedWork),
                limits.maxSequences - running.count - plannedScoreCount)
            guard room > 0 else { return }
            guard sequence.scheduledTokenCount == 1, sequence.pendingTokenCount == 0, sequence.generatedTokenCount > 0,
                sequence.remainingTokenCount == 1, !sequence.hasUnscoredTokens
            else { continue }
            guess(room, for: sequence)
            let drafted = sequence.drafts.count
            let blocks = limits.blocks(forTokens: sequence.reachedTokenCount + 1 + drafted)
            if drafted == 0 || !extendTables(of: sequence, to: blocks) {
                sequence.drafts.removeAll(keepingCapacity: true)
                continue
            }
            sequence.scheduledTokenCount += drafted
            plannedTokenCount += drafted
            plannedWork += drafted
            plannedScoreCount += drafted
        }
    }

    /// Guesses at most `room` tokens: what must come, or else what may.
    private mutating func guess(_ room: Int, for sequence: SequenceState) {
        sequence.draftsAreForced = !sequence.forced.isEmpty
        if sequence.draftsAreForced {
            sequence.drafts.append(contentsOf: sequence.forced.prefix(min(room, sequence.wantedForcedCount)))
            return
        }
        let count = min(room, sequence.wantedDraftCount)
        guard count > 0 else { return }
        proposer?.propose(count, after: sequence.tokens, for: sequence.id, into: &sequence.drafts)
        if sequence.drafts.count > count { sequence.drafts.removeLast(sequence.drafts.count - count) }
    }

    /// Takes in the samples after the last known token and after each guess: those up to the first that differs from
    /// the guess are what the sequence generates. What was computed for later guesses is forgotten.
    mutating func verify(
        _ sequence: SequenceState, _ samples: ArraySlice<TokenSample>, into events: inout [SchedulerEvent]
    ) {
        let drafts = sequence.drafts
        sequence.drafts.removeAll(keepingCapacity: true)
        totals.computedTokens += samples.count
        var taken = 0
        // The last sample that is taken was not guessed.
        var unguessed = 1
        if samples.allSatisfy(\.isFinite) { sequence.isProven = true } else { taint(sequence) }
        for (place, sample) in samples.enumerated() {
            if sequence.stage == .finished, taken == 0 || !faults.contains(.runsPastEnd) { break }
            // What its constraint left open here is for the next step to find out.
            if sample.token == TokenSample.undecided {
                unguessed = 0
                break
            }
            if !sample.isFinite {
                events.append(finish(sequence, .error(.nonFiniteLogits)))
                break
            }
            append(sample, to: sequence, into: &events)
            taken += 1
            if place < drafts.count, sample.token != drafts[place], !faults.contains(.acceptsWrongDrafts) {
                // Behind a wrong guess too: what it left behind would poison the rows after it.
                if sequence.isTainted, sequence.stage != .finished {
                    events.append(finish(sequence, .error(.nonFiniteLogits)))
                }
                break
            }
        }
        // Each sample follows one token that was computed; nobody knows what follows for one that has ended.
        sequence.computedTokenCount += faults.contains(.countsRejected) ? samples.count : max(1, taken)
        if sequence.stage != .finished {
            publishFullBlocks(of: sequence)
            if !faults.contains(.keepsRejectedBlocks) {
                trimTables(of: sequence, to: limits.blocks(forTokens: sequence.computedTokenCount))
            }
        }
        if taken > 0 { count(drafted: drafts.count, accepted: taken - unguessed, of: sequence) }
    }

    /// Counts a verified draft, and lets it decide about the next ones.
    private mutating func count(drafted: Int, accepted: Int, of sequence: SequenceState) {
        if sequence.draftsAreForced { return totals.jumpForward.record(drafted: drafted, accepted: accepted) }
        totals.speculation.record(drafted: drafted, accepted: accepted)
        let pauses = sequence.draftControl.record(
            drafted: drafted, accepted: accepted, generatedTokenCount: sequence.generatedTokenCount)
        if pauses { totals.speculation.pauses += 1 }
    }
}
