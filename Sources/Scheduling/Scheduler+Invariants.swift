// The deep check: walks everything and compares it with the counts. The simulation calls it after every move; the
// cheap half of it is always on, as preconditions where the counts change.

extension Scheduler {
    /// Throws the first broken invariant, with the numbers.
    package func checkInvariants() throws(InvariantViolation) {
        try checkQueues()
        var holders = Array(repeating: 0, count: limits.blockCount)
        for sequence in running {
            for block in sequence.table.heldBlocks { holders[block.index] += 1 }
            guard limits.layerGroups != nil else { continue }
            for block in sequence.windowedTable.heldBlocks { holders[block.index] += 1 }
        }
        try pool.checkInvariants(holders: holders)
        for sequence in running { try check(sequence, holders: holders) }
        if limits.policy == .fair { try checkShares() }
        if totals.accepted != totals.finished + sequences.count {
            throw InvariantViolation(
                "\(totals.accepted) accepted, \(totals.finished) finished and \(sequences.count) in the engine")
        }
    }

    /// Tables that hold a block; a step in flight may only touch blocks that are held.
    package func referenceCount(of block: BlockID) -> Int { pool.referenceCount(of: block) }

    /// Who has this row; a step in flight may only write rows of whoever it was planned for.
    package func owner(ofRow row: Int) -> RequestID? { slots[row]?.id }

    /// Whether a prefix lookup can find this block; free blocks that it cannot find hold nothing of value.
    package func isPublished(_ block: BlockID) -> Bool { pool.isPublished(block) }

    /// The free blocks in the order in which they would be taken.
    package var freeBlocks: [BlockID] { pool.freeBlocks }

    private func checkQueues() throws(InvariantViolation) {
        var live = waiting.count
        try waiting.check()
        for (index, sequence) in running.enumerated() {
            if sequence.stage != .finished { live += 1 }
            if sequence.stage != .running, !sequence.isInFlight {
                throw InvariantViolation("\(sequence.id) has ended or given way and still runs")
            }
            if sequence.scheduledTokenCount != 0 || sequence.pendingTokenCount > stepsInFlight.count {
                throw InvariantViolation(
                    "\(sequence.id) has \(sequence.scheduledTokenCount) tokens planned and waits for "
                        + "\(sequence.pendingTokenCount) from \(stepsInFlight.count) steps")
            }
            if index > 0, running[index - 1].order >= sequence.order {
                throw InvariantViolation("\(sequence.id) runs out of turn")
            }
            if !slots.indices.contains(sequence.slot) || slots[sequence.slot] !== sequence {
                throw InvariantViolation("\(sequence.id) has row \(sequence.slot), which belongs to another")
            }
        }
        if live != sequences.count {
            throw InvariantViolation("\(sequences.count) requests are in the engine and \(live) wait or run")
        }
        if freeSlots.count + running.count != limits.maxSequences {
            throw InvariantViolation(
                "\(freeSlots.count) rows are free and \(running.count) taken of \(limits.maxSequences)")
        }
    }

    /// Every tenant counts what it has, and they have all there is, so nobody is at work without a counter.
    private func checkShares() throws(InvariantViolation) {
        var counted = (live: 0, running: 0)
        try shares.check { (tenant, live, rows) throws(InvariantViolation) in
            var own = (live: waiting.count(of: tenant), running: 0)
            for sequence in running where sequence.tenant == tenant {
                own.running += 1
                if sequence.stage != .finished { own.live += 1 }
            }
            if (live, rows) != own {
                throw InvariantViolation(
                    "tenant \(tenant) counts \(live) requests and \(rows) rows and has \(own.live) and \(own.running)")
            }
            counted.live += live
            counted.running += rows
        }
        if counted.live != sequences.count || counted.running != running.count {
            throw InvariantViolation(
                "all tenants count \(counted.live) requests and \(counted.running) rows of \(sequences.count) and "
                    + "\(running.count)")
        }
    }

    private func check(_ sequence: SequenceState, holders: [Int]) throws(InvariantViolation) {
        let blockSize = limits.blockSize
        let size = sequence.table.count
        let written = sequence.reachedTokenCount
        if size != limits.blocks(forTokens: written) {
            throw InvariantViolation("\(sequence.id) holds \(size) blocks for \(written) tokens")
        }
        if sequence.stage == .running, sequence.remainingTokenCount < 1, sequence.pendingTokenCount == 0 {
            throw InvariantViolation("\(sequence.id) has nothing left to compute")
        }
        let hiddenFromAll = limits.layerGroups == nil ? limits.hiddenBlocks(at: sequence.computedTokenCount) : 0
        try check(sequence.table, of: sequence, hidden: hiddenFromAll, holders: holders)
        guard let groups = limits.layerGroups else { return }
        if sequence.windowedTable.count != size {
            throw InvariantViolation("\(sequence.id) has \(sequence.windowedTable.count) windowed entries of \(size)")
        }
        let most = groups.entriesSeen(of: size, chunk: limits.tokenBudget, blockSize: blockSize)
        if sequence.windowedTable.heldCount > most {
            let held = sequence.windowedTable.heldCount
            throw InvariantViolation("\(sequence.id) holds \(held) windowed entries, promised were \(most)")
        }
        try check(
            sequence.windowedTable, of: sequence, hidden: limits.hiddenBlocks(at: sequence.computedTokenCount),
            holders: holders)
    }

    /// Nothing is given up that rows still see, and what is held is filled by one and found by what it holds.
    private func check(
        _ table: borrowing BlockTable, of sequence: SequenceState, hidden: Int, holders: [Int]
    ) throws(InvariantViolation) {
        let blockSize = limits.blockSize
        if table.hiddenCount > hidden {
            throw InvariantViolation(
                "\(sequence.id) has given up \(table.hiddenCount) blocks, some that rows still see")
        }
        var (index, place) = (table.hiddenCount, 0)
        for block in table.heldBlocks {
            defer {
                place += 1
                if place == table.width { (index, place) = (index + 1, 0) }
            }
            let isFull = (index + 1) * blockSize <= sequence.computedTokenCount
            if !isFull, holders[block.index] != 1 {
                throw InvariantViolation("\(block) is still being filled and \(holders[block.index]) tables hold it")
            }
            guard let published = pool.publishedTokens(of: block) else { continue }
            let start = index * blockSize
            if !isFull || !published.elementsEqual(sequence.tokens[start..<start + blockSize]) {
                throw InvariantViolation("\(block) of \(sequence.id) is published as something it does not hold")
            }
        }
    }
}
