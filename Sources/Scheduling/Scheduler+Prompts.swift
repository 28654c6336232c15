// The prompts of one step: which of them go on, which are admitted, and how much each gets.
//
// Half of what a step has for prompts goes to the first in the order of service. The rest goes on in that order too,
// except that one with at most half as much left as the next overtakes it. So a long prompt delays short ones little,
// short ones slow a long one down by at most half, prompts of like length are served as they come, and what nobody else
// can use goes to the first after all. Who waits for room in the pool is not overtaken by who waits too. Under fair
// sharing there are no halves: whose tenant was served least goes first, and what it gets is charged.
//
// A sequence whose next full block is being computed in this very step sits the step out and shares the block in the
// next one. The claim lasts one step, so whatever happens to its maker, nobody waits for it twice.

extension Scheduler {
    /// Most waiting sequences looked at in one step.
    private static let window = 64

    /// Goes on with prompts and admits new ones while budget, rows and pool allow.
    mutating func planPrompts(beside urgent: UrgentPrompt?, now: Duration) {
        gatherPrompts()
        if let urgent, urgent.isAlone { prompts = prompts.filter { !leavesStep($0.tenant, to: urgent) } }
        guard let first = prompts.first else { return }
        let rest = restOfBudget
        var isOpen = true
        // Alone, it gets everything; otherwise at least a block, so that it moves at all.
        let isShared = prompts.count > 1 && limits.policy != .fair
        let half = isShared ? max(rest / 2, min(rest, limits.blockSize)) : rest
        plan(prompt: first, share: half, isOpen: &isOpen, now: now)
        prompts.removeFirst()
        while !prompts.isEmpty, restOfBudget > 0 {
            let next = prompts.remove(at: overtaker ?? 0)
            if isOpen, next.stage == .waiting, let head = prompts.first(where: { $0.stage == .waiting }),
                head.order < next.order, !hasRoom(for: head)
            {
                isOpen = false
            }
            plan(prompt: next, share: restOfBudget, isOpen: &isOpen, now: now)
        }
        prompts.removeAll(keepingCapacity: true)
        if half < rest { topUp(first) }
    }

    private var restOfBudget: Int { limits.tokenBudget - max(plannedTokenCount, plannedWork) }

    /// Collects the running prompts and the next of the queue, in the order of service.
    private mutating func gatherPrompts() {
        prompts.removeAll(keepingCapacity: true)
        for sequence in running where sequence.stage == .running && sequence.remainingTokenCount > 1 {
            if sequence.scheduledTokenCount == 0, !sequence.awaitsToken { prompts.append(sequence) }
        }
        let runningCount = prompts.count
        if isAdmitting, !waiting.isEmpty, !freeSlots.isEmpty {
            waiting.appendNext(min(limits.maxSequences, Self.window), shares: shares, to: &prompts)
        }
        if limits.policy == .fair { return sortByShares(runningCount) }
        // Both parts are in order; who overtook somebody may run while the other waits.
        guard runningCount > 0, runningCount < prompts.count else { return }
        if prompts[runningCount].order < prompts[runningCount - 1].order { prompts.sort { $0.order < $1.order } }
    }

    /// Under fair sharing prompts go on by what their tenants were served. The first `runningCount` run; those that
    /// wait behind them stay in their order.
    private mutating func sortByShares(_ runningCount: Int) {
        guard runningCount > 0, prompts.count > 1 else { return }
        func comes(_ one: SequenceState, before other: SequenceState) -> Bool {
            one.tenant == other.tenant ? one.order < other.order : shares.comes(one.tenant, before: other.tenant)
        }
        prompts[..<runningCount].sort(by: comes)
        var (running, new) = (0, runningCount)
        var merged: [SequenceState] = []
        merged.reserveCapacity(prompts.count)
        while merged.count < prompts.count {
            let takesRunning =
                new == prompts.count || running < runningCount && !comes(prompts[new], before: prompts[running])
            merged.append(prompts[takesRunning ? running : new])
            if takesRunning { running += 1 } else { new += 1 }
        }
        prompts = merged
    }

    /// Whoever just lost its blocks would only win them back by taking them from another.
    var isAdmitting: Bool { preempted.count == yieldCount && !isShortOfBlocks }

    /// The prompt with least left, when that is at most half of what the next one has.
    private var overtaker: Int? {
        guard limits.policy != .fair, prompts.count > 1 else { return nil }
        var best: Int?
        var least = (prompts[0].tokens.count - prompts[0].reachedTokenCount) / 2
        for (index, sequence) in prompts.enumerated() {
            let left = sequence.tokens.count - sequence.reachedTokenCount
            if left <= least, best == nil || left < least {
                best = index
                least = left
            }
        }
        return best
    }

    private mutating func plan(prompt sequence: SequenceState, share: Int, isOpen: inout Bool, now: Duration) {
        switch sequence.stage {
        case .running: extend(sequence, share: share)
        // One that was preempted a moment ago waits too; it finds the door closed.
        case .waiting: if isOpen, isAdmitting { isOpen = admit(sequence, share: share, now: now) }
        case .leaving, .finished: break
        }
    }

    /// Gives the first prompt what the others left.
    private mutating func topUp(_ sequence: SequenceState) {
        let planned = sequence.scheduledTokenCount
        guard sequence.stage == .running, planned > 0, planned < sequence.remainingTokenCount, restOfBudget > 0,
            !isNextBlockClaimed(sequence, at: sequence.reachedTokenCount + planned)
        else { return }
        unplan(sequence)
        let count = max(planned, chunk(of: sequence, share: limits.tokenBudget))
        let blocks = limits.blocks(forTokens: sequence.reachedTokenCount + count)
        plan(extendTables(of: sequence, to: blocks) ? count : planned, for: sequence)
    }

    /// Admits a sequence if there is room for it. False: there is none, and nobody behind it may be admitted in its
    /// place. One that waits for a claimed block is only passed over.
    private mutating func admit(_ sequence: SequenceState, share: Int, now: Duration) -> Bool {
        guard !freeSlots.isEmpty, running.count + plannedScoreCount < limits.maxSequences else { return false }
        let hasRoom = hasRoom(for: sequence)
        if isNextBlockClaimed(sequence, at: matches.count * limits.blockSize) { return true }
        if !hasRoom {
            if limits.policy == .fair, !running.contains(where: { $0.stage != .running }) { yield(to: sequence) }
            return false
        }
        waiting.remove(sequence)
        start(sequence, share: share, now: now)
        return true
    }

    /// Whether the whole of what is known of a waiting sequence fits beside what the running ones are promised. Leaves
    /// its cached prefix in `matches`.
    private mutating func hasRoom(for sequence: SequenceState) -> Bool {
        let freeMatches = findCachedPrefix(of: sequence)
        let tokens = sequence.isProtected ? sequence.lengthLimit - 1 : sequence.tokens.count
        let promised = running.reduce(0) { $0 + promisedBlocks(to: $1) }
        let reserved = running.isEmpty ? 0 : promised + limits.watermarkBlocks
        let entries = limits.blocks(forTokens: tokens)
        let windowed = windowedBlocks(toStart: entries, freeMatches: freeMatches.windowedEntries)
        return entries - matches.count + freeMatches.blocks + windowed + reserved <= pool.freeCount
    }

    /// Blocks that a running sequence will still take: those for its known tokens, and room to grow.
    private func promisedBlocks(to sequence: SequenceState) -> Int {
        guard sequence.stage == .running else { return 0 }
        let most = limits.blocks(forTokens: sequence.lengthLimit - 1)
        let known = limits.blocks(forTokens: sequence.wantedTokenCount)
        let entries = sequence.isProtected ? most : min(known + growthReserve.blocks, max(known, most))
        return max(0, entries - sequence.table.count) + windowedBlocks(toExtend: sequence, to: entries)
    }

    /// Gives a waiting sequence a row, its cached prefix and its first chunk.
    private mutating func start(_ sequence: SequenceState, share: Int, now: Duration) {
        sequence.stage = .running
        sequence.slot = faults.contains(.sharesSlot) ? 0 : freeSlots[freeSlots.count - 1]
        freeSlots.removeLast()
        slots[sequence.slot] = sequence
        let position = running.lastIndex { $0.order < sequence.order }.map { $0 + 1 } ?? 0
        running.insert(sequence, at: position)
        if limits.policy == .fair { shares.start(sequence.tenant) }
        let isNew = sequence.firstScheduled == nil
        if isNew {
            sequence.firstScheduled = now
            totals.prefixQueries += limits.enablePrefixCaching ? sequence.promptTokenCount : 0
        }
        for match in matches { self.share(match, with: sequence) }
        if limits.layerGroups != nil {
            let hidden = limits.hiddenBlocks(at: sequence.computedTokenCount)
            sequence.windowedTable.skip(hidden)
            for match in matches[hidden...] { shareCompany(of: match, with: sequence) }
        }
        if isNew { sequence.chargedTokenCount = sequence.cachedTokenCount }
        let count = chunk(of: sequence, share: share)
        let fits = extendTables(of: sequence, to: limits.blocks(forTokens: sequence.computedTokenCount + count))
        precondition(fits, "\(sequence.id) was admitted without blocks")
        plan(count, for: sequence)
    }
}
