// Who holds which block of the KV cache.
//
// A block is free when no table holds it. Free blocks form one list: those without a cached prefix are taken first,
// then the least recently freed. A table is released from its end, so the head of a prefix, which most others share,
// is the last to be taken. Allocation, sharing and release are O(1) per block and never touch the heap.
// With groups of layers a block belongs to one group while a table holds it, and to whichever comes next afterwards.

/// The reference counts, the free list and the prefix index of all blocks.
package struct BlockPool: ~Copyable {
    /// Blocks in the pool.
    package let blockCount: Int
    /// Tokens per block.
    package let blockSize: Int
    /// Blocks that no table holds.
    package private(set) var freeCount: Int
    /// Blocks that at least one table holds.
    package private(set) var heldCount = 0
    /// Free blocks that a lookup can still find.
    package private(set) var cachedCount = 0

    private let faults: SchedulerFaults
    /// Groups of layers with a window, beside the one that sees everything.
    private let windowedGroupCount: Int
    private var prefixes: PrefixCache
    /// [blocks] Tables that hold the block.
    private var referenceCounts: [Int32]
    /// [blocks + 1] The free list as a ring; the last entry is its anchor, whose next is the first block to take.
    private var next: [Int32]
    private var previous: [Int32]
    /// [blocks] Whether the block must be cleared before it is used again.
    private var isTainted: [Bool]
    private var taintedCount = 0
    private var scrubs: [BlockID] = []

    /// A pool in which everything is free.
    package init(blockCount: Int, blockSize: Int, windowedGroupCount: Int = 0, faults: SchedulerFaults = []) {
        self.blockCount = blockCount
        self.blockSize = blockSize
        self.windowedGroupCount = windowedGroupCount
        self.faults = faults
        freeCount = blockCount
        prefixes = PrefixCache(
            blockCount: blockCount, blockSize: blockSize, companySize: windowedGroupCount, faults: faults)
        referenceCounts = Array(repeating: 0, count: blockCount)
        isTainted = Array(repeating: false, count: blockCount)
        next = (0...blockCount).map { Int32($0 == blockCount ? 0 : $0 + 1) }
        previous = (0...blockCount).map { Int32($0 == 0 ? blockCount : $0 - 1) }
    }

    /// Tables that hold this block.
    package func referenceCount(of block: BlockID) -> Int { Int(referenceCounts[block.index]) }

    /// Whether a lookup can find this block.
    package func isPublished(_ block: BlockID) -> Bool { prefixes.contains(block) }

    /// Grows a table to `count` entries, or leaves everything as it is when too few are free.
    package mutating func extend(_ table: inout BlockTable, to count: Int) -> Bool {
        let missing = (count - table.count) * table.width
        guard missing > 0 else { return true }
        guard missing <= freeCount else { return false }
        for _ in 0..<missing {
            let block = BlockID(next[blockCount])
            take(block)
            referenceCounts[block.index] = 1
            if windowedGroupCount > 0 { dropCompany(around: block) }
            if !faults.contains(.keepsStaleIndex) { prefixes.remove(block) }
            table.append(block)
            if taintedCount > 0, isTainted[block.index] { scrub(block) }
        }
        return true
    }

    /// Adds a block found in the cache to a table. It is full, so nobody writes to it again.
    package mutating func share(_ block: BlockID, with table: inout BlockTable) {
        if referenceCounts[block.index] == 0 {
            take(block)
            referenceCounts[block.index] = 1
        } else if !faults.contains(.missesReference) {
            referenceCounts[block.index] += 1
        }
        table.append(block)
    }

    /// Gives up all blocks of a table, the last one first. A table without blocks is left alone.
    package mutating func release(_ table: inout BlockTable) {
        for block in table.heldBlocks.reversed() { dropReference(to: block) }
        if faults.contains(.releasesTwice), let first = table.heldBlocks.first { dropReference(to: first) }
        table.removeAll()
        precondition(freeCount + heldCount == blockCount, "\(freeCount) free and \(heldCount) held of \(blockCount)")
    }

    /// Gives up the blocks of the first `count` entries of a table, the last of them first, and keeps the entries.
    /// - Parameter isTrusted: whether what they hold is known to be numbers.
    mutating func releaseLeading(_ count: Int, of table: inout BlockTable, isTrusted: Bool = true) {
        guard count > table.hiddenCount else { return }
        let blocks = table.blocks[table.hiddenCount * table.width..<count * table.width]
        if !isTrusted { taint(blocks) }
        for block in blocks.reversed() { dropReference(to: block) }
        table.hide(count)
    }

    /// Gives up the entries of a table after the first `count`, which hold nothing that is known.
    package mutating func trim(_ table: inout BlockTable, to count: Int) {
        while table.blocks.count > count * table.width { dropReference(to: table.removeLast()) }
    }

    /// Remembers that the blocks of a table hold something that is not a number. Whoever is given one later finds it in
    /// `scrubs`.
    package mutating func taint(_ table: borrowing BlockTable) { taint(table.heldBlocks) }

    /// The same for some blocks.
    mutating func taint(_ blocks: ArraySlice<BlockID>) {
        for block in blocks where !isTainted[block.index] {
            isTainted[block.index] = true
            taintedCount += 1
        }
    }

    /// Takes the list of tainted blocks given out since the last call.
    package mutating func takeScrubs() -> [BlockID] {
        if scrubs.isEmpty { return [] }
        defer { scrubs.removeAll(keepingCapacity: true) }
        return scrubs
    }

    /// Loses a table's references; only the simulation plants this.
    mutating func leak(_ table: inout BlockTable) { table.removeAll() }

    /// The block that holds these contents, free or held.
    package func find(_ contents: BlockContents) -> CachedBlock? { prefixes.find(contents) }

    /// Makes a full block findable, with those that hold the same tokens for windowed groups; returns the publication
    /// that the next block of the sequence names as its parent.
    package mutating func publish(
        _ block: BlockID, _ contents: BlockContents, company: ArraySlice<BlockID> = []
    ) -> UInt64 {
        let (publication, displaced) = prefixes.publish(block, contents, company: company)
        if let displaced {
            dropCompany(of: displaced)
            becomeUnfindable(displaced)
        }
        return publication
    }

    /// Whether what a published block holds is there for windowed groups too.
    func hasCompany(_ block: BlockID) -> Bool { prefixes.hasCompany(block) }

    /// Whether nobody holds the company of a published block. Its blocks are held together or not at all.
    func isCompanyFree(_ block: BlockID) -> Bool { referenceCount(of: prefixes.companion(0, of: block)) == 0 }

    /// Adds the company of a published block to a table, as its next entry.
    mutating func shareCompany(of block: BlockID, with table: inout BlockTable) {
        for place in 0..<windowedGroupCount { share(prefixes.companion(place, of: block), with: &table) }
    }

    /// The company that a block leads, and the one it is of, can be found no more.
    private mutating func dropCompany(around block: BlockID) {
        if let leader = prefixes.leader(of: block), !faults.contains(.keepsCompany) { dropCompany(of: leader) }
        dropCompany(of: block)
    }

    private mutating func dropCompany(of leader: BlockID) {
        guard prefixes.hasCompany(leader) else { return }
        for place in 0..<windowedGroupCount { becomeUnfindable(prefixes.removeCompanion(place, of: leader)) }
    }

    /// Makes all blocks of a table, and with them everything built upon them, unfindable.
    package mutating func unpublish(_ table: borrowing BlockTable) {
        for block in table.heldBlocks where prefixes.contains(block) {
            dropCompany(of: block)
            prefixes.remove(block)
            becomeUnfindable(block)
        }
    }

    private mutating func dropReference(to block: BlockID) {
        precondition(referenceCounts[block.index] > 0, "\(block) was released more often than it was taken")
        referenceCounts[block.index] -= 1
        guard referenceCounts[block.index] == 0 else { return }
        heldCount -= 1
        freeCount += 1
        if prefixes.contains(block) {
            cachedCount += 1
            link(block, after: previous[blockCount])
        } else {
            link(block, after: Int32(blockCount))
        }
    }

    /// A free block without a prefix is worth nothing: it moves to the front.
    private mutating func becomeUnfindable(_ block: BlockID) {
        guard referenceCounts[block.index] == 0 else { return }
        cachedCount -= 1
        unlink(block)
        link(block, after: Int32(blockCount))
    }

    private mutating func scrub(_ block: BlockID) {
        isTainted[block.index] = false
        taintedCount -= 1
        if !faults.contains(.skipsScrub) { scrubs.append(block) }
    }

    /// Takes a block off the free list.
    private mutating func take(_ block: BlockID) {
        unlink(block)
        freeCount -= 1
        heldCount += 1
        if prefixes.contains(block) { cachedCount -= 1 }
    }

    private mutating func unlink(_ block: BlockID) {
        let before = previous[block.index]
        let after = next[block.index]
        next[Int(before)] = after
        previous[Int(after)] = before
    }

    private mutating func link(_ block: BlockID, after before: Int32) {
        let after = next[Int(before)]
        next[Int(before)] = block.rawValue
        previous[block.index] = before
        next[block.index] = after
        previous[Int(after)] = block.rawValue
    }

    /// The free blocks in the order in which they would be taken. Walks the list.
    package var freeBlocks: [BlockID] {
        var blocks: [BlockID] = []
        var block = next[blockCount]
        while Int(block) != blockCount {
            blocks.append(BlockID(block))
            block = next[Int(block)]
        }
        return blocks
    }

    /// Walks the free list and compares it with the counts. `holders` [blocks] are the references seen in tables.
    package func checkInvariants(holders: [Int]) throws(InvariantViolation) {
        for block in 0..<blockCount where Int(referenceCounts[block]) != holders[block] {
            throw InvariantViolation(
                "block \(block) counts \(referenceCounts[block]) references and \(holders[block]) tables hold it")
        }
        var free = 0
        var cached = 0
        var block = next[blockCount]
        while Int(block) != blockCount, free <= blockCount {
            if referenceCounts[Int(block)] != 0 { throw InvariantViolation("block \(block) is free and held") }
            if previous[Int(next[Int(block)])] != block {
                throw InvariantViolation("the free list is torn at \(block)")
            }
            free += 1
            if prefixes.contains(BlockID(block)) { cached += 1 }
            block = next[Int(block)]
        }
        let held = holders.reduce(0) { $0 + ($1 > 0 ? 1 : 0) }
        if free != freeCount || cached != cachedCount || held != heldCount || free + held != blockCount {
            throw InvariantViolation(
                "of \(blockCount) blocks \(free) are free (count \(freeCount)), \(cached) of them cached (count "
                    + "\(cachedCount)), \(held) are held (count \(heldCount))")
        }
        try prefixes.checkCompanies()
    }

    /// The tokens under which a block was published; nil when it is not. For the deep check.
    func publishedTokens(of block: BlockID) -> ArraySlice<TokenID>? { prefixes.publishedTokens(of: block) }
}
