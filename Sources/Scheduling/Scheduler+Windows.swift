// Layers that look back on a window only: blocks that no later row can see are given back while the sequence runs.
//
// Where all layers have the window, that is the one table of the sequence. A prompt keeps its blocks until its first
// token then, because only a finite sample says that what they hold can be trusted. Where others see everything,
// windowed groups have a table of their own, and give back during the prompt too: whoever is given such a block has it
// cleared first. Entries stay in their table, which is addressed by position, and name blocks that may be others' by
// now; attention does not look at them. What was published stays findable until somebody takes the block.

extension SchedulerLimits {
    /// Leading entries of which a row at `position`, and all after it, see nothing in the layers with a window.
    package func hiddenBlocks(at position: Int) -> Int {
        guard let window = slidingWindow ?? layerGroups?.window else { return 0 }
        return max(0, position + 1 - window) / blockSize
    }
}

extension Scheduler {
    /// Gives back what lies behind the window of the next row to compute. Steps in flight begin there or later.
    mutating func releaseHiddenBlocks(of sequence: SequenceState, hasSampled: Bool) {
        guard limits.layerGroups != nil || limits.slidingWindow != nil, sequence.stage == .running, !sequence.isTainted
        else { return }
        var count = limits.hiddenBlocks(at: sequence.computedTokenCount)
        if faults.contains(.hidesEarly) { count = min(count + 1, sequence.table.count) }
        if limits.slidingWindow != nil {
            if hasSampled { pool.releaseLeading(count, of: &sequence.table) }
        } else if faults.contains(.hidesWrongGroup) {
            pool.releaseLeading(count, of: &sequence.table)
        } else {
            pool.releaseLeading(count, of: &sequence.windowedTable, isTrusted: faults.contains(.trustsHidden))
        }
    }
}

// Tables of two kinds. Both have the same entries; those of the windowed groups are mostly hidden.
extension Scheduler {
    /// Grows a sequence's tables to `count` entries, or leaves everything as it is when too few blocks are free.
    mutating func extendTables(of sequence: SequenceState, to count: Int) -> Bool {
        guard let groups = limits.layerGroups else { return pool.extend(&sequence.table, to: count) }
        let missing = (count - sequence.table.count) * (1 + groups.windowedCount)
        guard missing <= pool.freeCount else { return false }
        return pool.extend(&sequence.windowedTable, to: count) && pool.extend(&sequence.table, to: count)
    }

    /// Gives up a sequence's entries after the first `count`.
    mutating func trimTables(of sequence: SequenceState, to count: Int) {
        pool.trim(&sequence.table, to: count)
        if limits.layerGroups != nil { pool.trim(&sequence.windowedTable, to: count) }
    }

    /// Drops what was matched behind the last place from which windowed groups can go on: where all blocks of the
    /// window before it are there. Returns how many entries of that window nobody holds.
    mutating func trimMatchesToWindows() -> Int {
        guard limits.layerGroups != nil else { return 0 }
        var (usable, unbroken) = (0, 0)
        for (index, match) in matches.enumerated() {
            unbroken = pool.hasCompany(match.block) ? unbroken + 1 : 0
            let count = index + 1
            if unbroken >= count - limits.hiddenBlocks(at: count * limits.blockSize) { usable = count }
        }
        if !faults.contains(.matchesHoles) { matches.removeLast(matches.count - usable) }
        let first = limits.hiddenBlocks(at: matches.count * limits.blockSize)
        return matches[first...].reduce(0) { free, match in
            free + (pool.hasCompany(match.block) && pool.isCompanyFree(match.block) ? 1 : 0)
        }
    }

    /// What windowed groups hold for the same tokens as a block of a sequence's table, to be published with it.
    func company(ofBlock index: Int, of sequence: SequenceState) -> ArraySlice<BlockID> {
        guard limits.layerGroups != nil, index >= sequence.windowedTable.hiddenCount else { return [] }
        return sequence.windowedTable.entry(index)
    }

    /// Adds what windowed groups hold for the same tokens as a block of the cache.
    mutating func shareCompany(of match: CachedBlock, with sequence: SequenceState) {
        if pool.hasCompany(match.block) {
            pool.shareCompany(of: match.block, with: &sequence.windowedTable)
        } else {
            // Only planted bugs come here.
            _ = pool.extend(&sequence.windowedTable, to: sequence.windowedTable.count + 1)
        }
    }

    /// Blocks that windowed groups still take when a waiting sequence starts with what was matched, of which nobody
    /// holds `freeMatches` entries, and grows to `entries`.
    func windowedBlocks(toStart entries: Int, freeMatches: Int) -> Int {
        guard let groups = limits.layerGroups, !faults.contains(.ignoresGroups) else { return 0 }
        let held = groups.entriesSeen(of: entries, chunk: limits.tokenBudget, blockSize: limits.blockSize)
        return groups.windowedCount * min(held, entries - matches.count + freeMatches)
    }

    /// Blocks that windowed groups still take when a running sequence grows to `entries`.
    func windowedBlocks(toExtend sequence: SequenceState, to entries: Int) -> Int {
        guard let groups = limits.layerGroups else { return 0 }
        let guesses = max(limits.speculation.draftTokenCount, limits.speculation.forcedTokenCount)
        let chunk = min(limits.tokenBudget, max(1, sequence.remainingTokenCount) + guesses)
        let held = groups.entriesSeen(of: entries, chunk: chunk, blockSize: limits.blockSize)
        let missing = min(entries - sequence.windowedTable.count, held - sequence.windowedTable.heldCount)
        return groups.windowedCount * max(0, missing)
    }
}
